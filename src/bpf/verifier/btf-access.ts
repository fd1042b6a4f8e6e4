/** Reads through pointers to kernel structures (btf_struct_walk of kernel/bpf/btf.c, check_ptr_to_btf_access). */
import type { Btf } from '../btf/btf.ts';
import { sizeOf, skipModifiers, structName } from './btf-types.ts';
import type { Env } from './env.ts';
import { reject } from './error.ts';
import { fieldTypeName } from './field-names.ts';
import { pointer, type Reg } from './reg.ts';
import { F_ALLOC, F_NON_OWN, F_PERCPU, F_RCU, F_TRUSTED, F_UNTRUSTED, F_USER } from './reg-type.ts';
import { tnumString } from './tnum.ts';

/** What is at an offset in a structure. */
export type Walked =
  | { readonly kind: 'scalar'; readonly field: string }
  | { readonly kind: 'pointer'; readonly typeId: number; readonly flags: number; readonly field: string }
  | { readonly kind: 'struct'; readonly typeId: number; readonly field: string };

const TAG_FLAGS: Readonly<Record<string, number>> = { user: F_USER, percpu: F_PERCPU, rcu: F_RCU };

/** btf_struct_walk: which member `size` bytes at `off` belong to. */
export function walkStruct(btf: Btf, typeId: number, off: number, size: number): Walked {
  const type = btf.type(typeId);
  if (type.kind !== 'STRUCT' && type.kind !== 'UNION')
    return reject('EINVAL', `Type '${btf.name(typeId)}' is not a struct`);
  const name = type.name === '' ? '(anon)' : type.name;
  if (off + size > type.size) {
    // A flexible array at the end may go on.
    const last = type.members.at(-1);
    const lastType = last === undefined ? undefined : btf.type(skipModifiers(btf, last.type));
    if (last !== undefined && lastType?.kind === 'ARRAY' && lastType.nelems === 0 && type.kind === 'STRUCT') {
      const element = skipModifiers(btf, lastType.type);
      const elementSize = sizeOf(btf, element);
      const start = last.bitOffset / 8;
      if (off >= start && elementSize > 0) {
        const at = (off - start) % elementSize;
        const inner = btf.type(element);
        if (inner.kind === 'STRUCT' || inner.kind === 'UNION') return walkStruct(btf, element, at, size);
        if (inner.kind === 'INT' && at + size <= elementSize) return { kind: 'scalar', field: last.name };
      }
    }
    reject('EACCES', `access beyond struct ${name} at off ${off} size ${size}`);
  }
  for (const member of type.members) {
    if (member.bitSize !== 0) {
      const start = Math.floor(member.bitOffset / 8);
      const end = Math.ceil((member.bitOffset + member.bitSize) / 8);
      if (off >= start && off + size <= Math.max(end, start + 8) && off < end)
        return { kind: 'scalar', field: member.name };
      continue;
    }
    const start = member.bitOffset / 8;
    if (off + size <= start) break;
    const tags: string[] = [];
    let memberType = skipModifiers(btf, member.type, tags);
    const whole = sizeOf(btf, memberType);
    if (off >= start + whole) continue;
    let at = off - start;
    let shape = btf.type(memberType);
    let elementStart = start;
    while (shape.kind === 'ARRAY') {
      const element = skipModifiers(btf, shape.type, tags);
      const elementSize = sizeOf(btf, element);
      if (elementSize === 0) break;
      elementStart = start + Math.floor(at / elementSize) * elementSize;
      at %= elementSize;
      memberType = element;
      shape = btf.type(element);
    }
    if (shape.kind === 'STRUCT' || shape.kind === 'UNION') {
      const inner = walkStruct(btf, memberType, at, size);
      // Which member of a union is in use nobody knows.
      if (type.kind === 'UNION' && type.members.length !== 1 && inner.kind === 'pointer')
        return { ...inner, flags: inner.flags | F_UNTRUSTED };
      return inner;
    }
    if (shape.kind === 'PTR') {
      if (size !== 8 || at !== 0) {
        reject(
          'EACCES',
          `cannot access ptr member ${member.name} with moff ${elementStart} in struct ${name} with off ${off} size ${size}`,
        );
      }
      const pointeeTags: string[] = [];
      const pointee = skipModifiers(btf, shape.type, pointeeTags);
      const target = btf.type(pointee);
      if (target.kind !== 'STRUCT' && target.kind !== 'UNION') return { kind: 'scalar', field: member.name };
      let flags = type.kind === 'UNION' && type.members.length !== 1 ? F_UNTRUSTED : 0;
      for (const tag of pointeeTags) flags |= TAG_FLAGS[tag] ?? 0;
      return { kind: 'pointer', typeId: pointee, flags, field: member.name };
    }
    const memberEnd = start + whole;
    if (off + size > memberEnd) {
      reject(
        'EACCES',
        `access beyond the end of member ${member.name} (mend:${memberEnd}) in struct ${name} with off ${off} size ${size}`,
      );
    }
    return { kind: 'scalar', field: member.name };
  }
  return reject('EINVAL', `struct ${name} doesn't have field at offset ${off}`);
}

/** __btf_type_is_scalar_struct: numbers only, in structures and arrays of any depth. */
export function btfIsScalarStruct(btf: Btf, id: number, depth = 0): boolean {
  const type = btf.type(skipModifiers(btf, id));
  if (type.kind !== 'STRUCT' || depth > 4) return false;
  return type.members.every((member) => {
    let inner = btf.type(skipModifiers(btf, member.type));
    if (inner.kind === 'ARRAY') inner = btf.type(skipModifiers(btf, inner.type));
    if (inner.kind === 'STRUCT') return btfIsScalarStruct(btf, inner.id, depth + 1);
    return inner.kind === 'INT' || inner.kind === 'ENUM' || inner.kind === 'ENUM64';
  });
}

/** Fields that are as valid as what they are read from (BTF_TYPE_SAFE_TRUSTED, _RCU, _RCU_OR_NULL of verifier.c). */
const SAFE_TRUSTED: Readonly<Record<string, readonly string[]>> = {
  bpf_iter_meta: ['seq'],
  bpf_iter__task: ['meta', 'task'],
  linux_binprm: ['file'],
  file: ['f_inode'],
};
const SAFE_TRUSTED_OR_NULL: Readonly<Record<string, readonly string[]>> = {
  socket: ['sk'],
  dentry: ['d_inode'],
};
const SAFE_RCU: Readonly<Record<string, readonly string[]>> = {
  task_struct: ['cpus_ptr', 'css_set', 'real_parent', 'group_leader'],
  cgroup: ['kn'],
  css_set: ['dfl_cgrp'],
};
const SAFE_RCU_OR_NULL: Readonly<Record<string, readonly string[]>> = {
  mm_struct: ['exe_file'],
  sk_buff: ['sk'],
  request_sock: ['sk'],
};

const inCriticalSection = (env: Env): boolean => env.state.rcuLock || !env.state.isSleepable;

/** Whether a pointer's target cannot go away while the program runs. */
export const isTrusted = (reg: Reg): boolean =>
  reg.refObjId !== 0 ||
  ((reg.flags & (F_TRUSTED | F_ALLOC)) !== 0 && (reg.flags & (F_UNTRUSTED | F_RCU)) === 0);
export const isRcu = (reg: Reg): boolean => (reg.flags & F_RCU) !== 0;

/** Structures of the kernel are read by privileged programs only. */
export function demandPerfmon(env: Env, name: string): void {
  if (env.allowPtrLeaks) return;
  reject('EPERM', `'struct ${name}' access is allowed only to CAP_PERFMON and CAP_SYS_ADMIN`);
}

/** Gives the pointer that was loaded; undefined for a number. */
export function checkBtfAccess(
  env: Env,
  reg: Reg,
  regno: number,
  off: number,
  size: number,
  write: boolean,
): Reg | undefined {
  const name = structName(reg);
  if (reg.btf === undefined) return reject('EACCES', `R${regno} invalid mem access '${reg.typeName}'`);
  demandPerfmon(env, name);
  const { license = 'GPL' } = env.input;
  if (!reg.btf.isLocal && !/GPL/.test(license))
    reject('EINVAL', `Cannot access kernel 'struct ${name}' from non-GPL compatible program`);
  if (off < 0) reject('EACCES', `R${regno} is ptr_${name} invalid negative access: off=${off}`);
  if (!reg.isConst || reg.varOff.value !== 0n) {
    reject(
      'EACCES',
      `R${regno} is ptr_${name} invalid variable offset: off=${off}, var_off=${tnumString(reg.varOff)}`,
    );
  }
  if ((reg.flags & F_USER) !== 0) reject('EACCES', `R${regno} is ptr_${name} access user memory: off=${off}`);
  if ((reg.flags & F_PERCPU) !== 0)
    reject('EACCES', `R${regno} is ptr_${name} access percpu memory: off=${off}`);
  const isAlloc = (reg.flags & F_ALLOC) !== 0;
  if (write && !isAlloc) reject('EACCES', 'only read is supported');
  if (
    isAlloc &&
    (reg.flags & F_UNTRUSTED) === 0 &&
    reg.refObjId === 0 &&
    (reg.flags & (F_NON_OWN | F_RCU)) === 0
  ) {
    reject('EFAULT', 'verifier internal error: ref_obj_id for allocated object must be non-zero');
  }
  if (isAlloc) {
    for (const field of env.localRecord(reg.btfId)?.fields ?? []) {
      if (off < field.offset + field.size && off + size > field.offset)
        reject('EACCES', `direct access to ${fieldTypeName(field.kind)} is disallowed`);
    }
  }
  const walked = walkStruct(reg.btf.btf, reg.btfId, off, size);
  if (isAlloc || walked.kind !== 'pointer') return undefined;
  let { flags } = walked;
  let nullable = false;
  const has = (table: Readonly<Record<string, readonly string[]>>): boolean =>
    table[name]?.includes(walked.field) === true;
  if ((reg.flags & F_UNTRUSTED) !== 0) {
    flags = F_UNTRUSTED;
  } else if (isTrusted(reg) || isRcu(reg)) {
    if (has(SAFE_TRUSTED)) flags |= F_TRUSTED;
    else if (has(SAFE_TRUSTED_OR_NULL)) {
      flags |= F_TRUSTED;
      nullable = true;
    } else if (inCriticalSection(env)) {
      if (has(SAFE_RCU)) flags |= F_RCU;
      else if ((flags & F_RCU) !== 0 || has(SAFE_RCU_OR_NULL)) {
        flags = (flags | F_RCU) & ~F_UNTRUSTED;
        nullable = true;
      } else if ((flags & (F_PERCPU | F_USER)) === 0) flags &= ~(F_TRUSTED | F_RCU);
    } else flags = F_UNTRUSTED;
  } else {
    flags &= ~(F_TRUSTED | F_RCU);
  }
  const result = pointer('ptr_');
  result.btf = reg.btf;
  result.btfId = walked.typeId;
  result.flags = flags;
  result.nullable = nullable;
  if (nullable) result.id = env.newId();
  return result;
}
