/**
 * Global functions: checked once each, apart from their callers, by what BTF says of their arguments (btf_prepare_func_args,
 * btf_check_func_arg_match of kernel/bpf).
 */
import type { Btf } from '../btf/btf.ts';
import type { BtfType } from '../btf/types.ts';
import { essentialName } from '../core-relo/compat.ts';
import { checkOffset, KERNEL_POINTERS, startsWith } from './args.ts';
import { sizeOf, skipModifiers, structName } from './btf-types.ts';
import { dynptrAt } from './dynptr.ts';
import type { Env } from './env.ts';
import { Rejection, reject } from './error.ts';
import { checkHelperMem } from './helper-memory.ts';
import { pointer, type Reg, UNKNOWN } from './reg.ts';
import { readReg } from './reg-access.ts';
import { F_TRUSTED, typeString } from './reg-type.ts';
import { Frame, VerifierState } from './state.ts';
import type { GlobalArg, GlobalFunc } from './subprog.ts';

/** Context structures by program type, as programs name them (bpf_ctx_convert_map). */
const CTX_NAMES: Readonly<Record<string, readonly string[]>> = {
  socket_filter: ['__sk_buff'],
  sched_cls: ['__sk_buff'],
  sched_act: ['__sk_buff'],
  cgroup_skb: ['__sk_buff'],
  lwt_in: ['__sk_buff'],
  lwt_out: ['__sk_buff'],
  lwt_xmit: ['__sk_buff'],
  sk_skb: ['__sk_buff'],
  flow_dissector: ['__sk_buff'],
  xdp: ['xdp_md'],
  cgroup_sock: ['bpf_sock'],
  cgroup_sock_addr: ['bpf_sock_addr'],
  sock_ops: ['bpf_sock_ops'],
  sk_msg: ['sk_msg_md'],
  sk_reuseport: ['sk_reuseport_md'],
  sk_lookup: ['bpf_sk_lookup'],
  cgroup_sysctl: ['bpf_sysctl'],
  cgroup_sockopt: ['bpf_sockopt'],
  cgroup_device: ['bpf_cgroup_dev_ctx'],
  kprobe: ['bpf_user_pt_regs_t', 'pt_regs', 'user_pt_regs'],
  perf_event: ['bpf_perf_event_data'],
  raw_tracepoint: ['bpf_raw_tracepoint_args'],
  raw_tracepoint_writable: ['bpf_raw_tracepoint_args'],
  netfilter: ['bpf_nf_ctx'],
};

function isContext(env: Env, btf: Btf, typeId: number): boolean {
  const names = CTX_NAMES[env.input.type] ?? [];
  let id = typeId;
  for (;;) {
    const type = btf.type(id);
    if (type.name !== '' && names.includes(type.name)) return true;
    if (
      type.kind === 'TYPEDEF' ||
      type.kind === 'CONST' ||
      type.kind === 'VOLATILE' ||
      type.kind === 'RESTRICT'
    )
      id = type.type;
    else return false;
  }
}

const ARG_TAGS: ReadonlySet<string> = new Set(['ctx', 'trusted', 'nonnull', 'nullable', 'arena']);

/** `arg:…` tags of a function's parameters, without the prefix. */
function argumentTags(btf: Btf, funcId: number): Map<number, Set<string>> {
  const tags = new Map<number, Set<string>>();
  for (let id = 1; id < btf.typeCount; id++) {
    if (btf.kindName(id) !== 'DECL_TAG') continue;
    const tag = btf.type(id);
    if (tag.kind !== 'DECL_TAG' || tag.type !== funcId || tag.componentIndex < 0) continue;
    if (!tag.name.startsWith('arg:')) continue;
    const set = tags.get(tag.componentIndex) ?? new Set<string>();
    tags.set(tag.componentIndex, set.add(tag.name.slice('arg:'.length)));
  }
  return tags;
}

const isNumber = (kind: string): boolean => kind === 'INT' || kind === 'ENUM' || kind === 'ENUM64';

/**
 * What BTF says of the global function `funcId`. A function that no caller could be checked against is refused where it is called or
 * checked, not before: `refused` says why.
 */
export function globalFunction(env: Env, btf: Btf, funcId: number): GlobalFunc {
  const { name } = btf.type(funcId);
  try {
    return { name, args: argumentsOf(env, btf, funcId) };
  } catch (error) {
    if (!(error instanceof Rejection)) throw error;
    return { name, args: [], refused: error };
  }
}

/** btf_prepare_func_args */
function argumentsOf(env: Env, btf: Btf, funcId: number): GlobalArg[] {
  const func = btf.type(funcId);
  if (func.kind !== 'FUNC') return reject('EINVAL', 'Invalid type id in func_info');
  const proto = btf.type(func.type);
  if (proto.kind !== 'FUNC_PROTO') return reject('EFAULT', `Invalid BTF of func ${func.name}`);
  if (proto.params.length > 5) {
    reject('EINVAL', `Global function ${func.name}() with ${proto.params.length} > 5 args. Buggy compiler.`);
  }
  if (!isNumber(btf.type(skipModifiers(btf, proto.type)).kind)) {
    reject('EINVAL', `Global function ${func.name}() doesn't return scalar. Only those are supported.`);
  }
  const tags = argumentTags(btf, funcId);
  return proto.params.map(({ type }, i) =>
    argumentOf(env, btf, func.name, i, type, tags.get(i) ?? new Set()),
  );
}

function argumentOf(
  env: Env,
  btf: Btf,
  name: string,
  i: number,
  typeId: number,
  tags: ReadonlySet<string>,
): GlobalArg {
  for (const tag of tags) {
    if (!ARG_TAGS.has(tag)) reject('EOPNOTSUPP', `arg#${i} has unsupported set of tags`);
  }
  const only = (...allowed: string[]): void => {
    for (const tag of tags) {
      if (allowed.includes(tag)) continue;
      const text = allowed[0] === 'arena' ? 'arena cannot be combined with any other tags' : undefined;
      reject('EINVAL', `arg#${i} ${text ?? 'has invalid combination of tags'}`);
    }
  };
  const type = btf.type(skipModifiers(btf, typeId));
  if (type.kind !== 'PTR') {
    if (tags.size > 0) reject('EINVAL', `arg#${i} has pointer tag, but is not a pointer type`);
    if (isNumber(type.kind)) return { kind: 'scalar' };
    return reject('EINVAL', `Arg#${i} type ${type.kind} in ${name}() is not supported yet.`);
  }
  if (tags.has('ctx') || isContext(env, btf, type.type)) {
    only('ctx');
    return { kind: 'ctx' };
  }
  const target = btf.type(skipModifiers(btf, type.type));
  if (target.kind === 'STRUCT' && target.name === 'bpf_dynptr') {
    only();
    return { kind: 'dynptr' };
  }
  if (tags.has('trusted')) {
    only('trusted', 'nullable');
    return { kind: 'btf', struct: kernelStruct(env, i, target), nullable: tags.has('nullable') };
  }
  if (tags.has('arena')) {
    only('arena');
    return { kind: 'arena' };
  }
  only('nonnull');
  const size = sizeOf(btf, type.type);
  if (size === 0) {
    reject(
      'EINVAL',
      `arg#${i} reference type('${target.kind} ${target.name}') size cannot be determined: -22`,
    );
  }
  return { kind: 'mem', size, nullable: !tags.has('nonnull') };
}

/** btf_get_ptr_to_btf_id: the target's structure of that name, which may have a flavour (`task_struct___local`). */
function kernelStruct(env: Env, i: number, { kind, name }: BtfType): string {
  const essential = essentialName(name);
  const text = `arg#${i} reference type('${kind} ${name}')`;
  const found = env.targetBtf?.btf.byName(essential, kind === 'UNION' ? 'UNION' : 'STRUCT');
  if (found === undefined && env.targetBtf !== undefined) reject('ENOENT', `${text} has no matches`);
  return essential;
}

/** btf_check_subprog_call: what a caller gives a global function. */
export function checkGlobalArguments(env: Env, subprog: number, func: GlobalFunc): void {
  try {
    if (func.refused !== undefined) throw func.refused;
    for (const [i, arg] of func.args.entries()) checkOne(env, i, arg);
  } catch (error) {
    if (!(error instanceof Rejection)) throw error;
    const text = `Caller passes invalid args into func#${subprog} ('${func.name}')`;
    reject(error.errno, `${error.message}\n${text}`);
  }
}

function checkOne(env: Env, i: number, arg: GlobalArg): void {
  const regno = i + 1;
  const given = env.frame.regs[regno]!;
  // What was never written is refused as what it is not.
  const reg = given.type === 'not_init' ? given : readReg(env, regno);
  switch (arg.kind) {
    case 'scalar':
      if (reg.type !== 'scalar') reject('EINVAL', `R${regno} is not a scalar`);
      return;
    case 'ctx':
      checkOffset(reg, regno, false, false);
      if (reg.type !== 'ctx') reject('EINVAL', `arg#${i} expects pointer to ctx`);
      return;
    case 'mem': {
      checkOffset(reg, regno, false, false);
      // The kernel lets a constant 0 pass (check_mem_reg), and the function then reads what is there.
      if (reg.isNull && arg.nullable) return;
      if (!reg.isNull) checkMemory(env, regno, arg.size);
      if (!arg.nullable && (reg.nullable || reg.isNull))
        reject('EINVAL', `arg#${i} is expected to be non-NULL`);
      return;
    }
    case 'dynptr': {
      if (reg.type !== 'fp' && reg.type !== 'dynptr_ptr')
        reject('EINVAL', `arg#${i} expected pointer to stack or const struct bpf_dynptr`);
      checkOffset(reg, regno, false, true);
      if (dynptrAt(env, reg) === undefined)
        reject('EINVAL', `Expected an initialized dynptr as arg #${regno - 1}`);
      return;
    }
    case 'arena':
      if (reg.type !== 'arena' && reg.type !== 'scalar') {
        reject('EINVAL', `R${regno} is not a pointer to arena or scalar.`);
      }
      return;
    case 'btf':
      if (arg.nullable && reg.isNull) return;
      checkTrusted(reg, regno, arg.struct, arg.nullable);
  }
}

/** check_mem_reg: memory that the function may read and write; NULL is for the function to check. Every failure is EINVAL. */
function checkMemory(env: Env, regno: number, size: number): void {
  const { regs } = env.frame;
  const before = regs[regno]!;
  if (before.nullable) {
    const copy = before.copy();
    copy.nullable = false;
    regs[regno] = copy;
  }
  try {
    checkHelperMem(env, regno, size, true, 'read');
    checkHelperMem(env, regno, size, true, 'write');
  } catch (error) {
    if (error instanceof Rejection) reject('EINVAL', error.message);
    throw error;
  } finally {
    regs[regno] = before;
  }
}

/** check_reg_type, check_func_arg_reg_off */
function checkTrusted(reg: Reg, regno: number, struct: string, nullable: boolean): void {
  const name = typeString(reg.type, reg.flags, reg.nullable && !nullable, reg.ringbuf);
  if (!KERNEL_POINTERS.includes(name))
    reject('EACCES', `R${regno} type=${reg.typeName} expected=${KERNEL_POINTERS.join(', ')}`);
  if (reg.btf !== undefined && !startsWith(reg, struct))
    reject('EACCES', `R${regno} is of type ${structName(reg)} but ${struct} is expected`);
  checkOffset(reg, regno, false, false);
}

/** The state that a global function is checked from. */
export function globalState(env: Env, subprog: number, func: GlobalFunc): VerifierState {
  if (func.refused !== undefined) throw func.refused;
  if (subprog === env.exceptionCallback && (func.args.length !== 1 || func.args[0]!.kind !== 'scalar'))
    reject('EINVAL', 'exception cb only supports single integer argument');
  const state = new VerifierState();
  state.isSleepable = env.isSleepable;
  const frame = new Frame(-1, 0, subprog);
  for (const [i, arg] of func.args.entries()) frame.regs[i + 1] = argumentReg(env, arg);
  state.frames.push(frame);
  return state;
}

function argumentReg(env: Env, arg: GlobalArg): Reg {
  switch (arg.kind) {
    case 'scalar':
      return UNKNOWN;
    case 'ctx':
      return pointer('ctx');
    case 'mem': {
      const reg = pointer('mem');
      reg.memSize = arg.size;
      reg.nullable = arg.nullable;
      if (arg.nullable) reg.id = env.newId();
      return reg;
    }
    case 'dynptr': {
      const reg = pointer('dynptr_ptr');
      reg.dynptr = 'local';
      reg.dynptrId = env.newId();
      return reg;
    }
    case 'arena':
      return UNKNOWN;
    case 'btf': {
      const reg = pointer('ptr_');
      reg.flags = F_TRUSTED;
      reg.btf = env.targetBtf;
      reg.btfId = env.targetBtf?.btf.byName(arg.struct, 'STRUCT') ?? 0;
      reg.nullable = arg.nullable;
      if (arg.nullable) reg.id = env.newId();
      return reg;
    }
  }
}
