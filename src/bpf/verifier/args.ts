/** Arguments of helpers against their declarations (check_func_arg, check_reg_type of kernel/bpf/verifier.c). */

import type { ArgType, HelperProto } from '../helpers/proto.ts';
import { mayAccessPacket } from '../prog-types/index.ts';
import { skipModifiers, structName } from './btf-types.ts';
import type { CallMeta } from './call-meta.ts';
import { checkDynptrArg } from './dynptr.ts';
import type { Env } from './env.ts';
import { reject } from './error.ts';
import { checkHelperMem, type HelperAccess } from './helper-memory.ts';
import { checkHasBtf, fieldOf, processSpinLock, recordOf } from './locks.ts';
import { checkKptrMatch, kptrTarget } from './map-access.ts';
import { checkAlignment, checkPlainPointer } from './memory.ts';
import { markPrecise } from './precision.ts';
import { isPacket, type Reg } from './reg.ts';
import { isPointerValue, readReg } from './reg-access.ts';
import { F_ALLOC, F_NON_OWN, F_PERCPU, F_RDONLY, type RegType, typeString } from './reg-type.ts';

/** BPF_MAX_VAR_SIZ */
export const MAX_SIZE = 1n << 29n;

const MEMORY = ['fp', 'pkt', 'pkt_meta', 'map_key', 'map_value', 'mem', 'ringbuf_mem', 'buf', 'trusted_ptr_'];
const SOCKETS = ['sock_common', 'sock', 'tcp_sock', 'xdp_sock'];
/** Pointers to structures of the kernel (btf_ptr_types). */
export const KERNEL_POINTERS: readonly string[] = ['ptr_', 'trusted_ptr_', 'rcu_ptr_'];
const BTF_SOCKETS = [...SOCKETS, 'ptr_', 'trusted_ptr_'];

/** Compatible register types, as messages list them (compatible_reg_types). */
const COMPATIBLE: Readonly<Partial<Record<ArgType, readonly string[]>>> = {
  map_key: MEMORY,
  map_value: MEMORY,
  map_value_or_null: MEMORY,
  uninit_map_value: MEMORY,
  scalar: ['scalar'],
  const_size: ['scalar'],
  const_size_or_zero: ['scalar'],
  const_alloc_size_or_zero: ['scalar'],
  const_map_ptr: ['map_ptr'],
  ctx: ['ctx'],
  ctx_or_null: ['ctx'],
  ptr_to_sock_common: SOCKETS,
  btf_id_sock_common: BTF_SOCKETS,
  btf_id_sock_common_or_null: BTF_SOCKETS,
  btf_id_sock_common_release: BTF_SOCKETS,
  ptr_to_socket: ['sock'],
  ptr_to_socket_or_null: ['sock'],
  ptr_to_btf_id: KERNEL_POINTERS,
  ptr_to_btf_id_or_null: KERNEL_POINTERS,
  btf_id_or_null_release: KERNEL_POINTERS,
  ptr_to_percpu_btf_id: ['percpu_ptr_', 'percpu_rcu_ptr_', 'percpu_trusted_ptr_'],
  ptr_to_spin_lock: ['map_value', 'ptr_'],
  ptr_to_timer: ['map_value'],
  kptr_xchg_dest: ['map_value', 'ptr_'],
  mem: MEMORY,
  mem_or_null: MEMORY,
  mem_rw: MEMORY,
  mem_fixed: MEMORY,
  uninit_mem: MEMORY,
  uninit_mem_fixed: MEMORY,
  ringbuf_mem_release: ['ringbuf_mem'],
  func: ['func'],
  stack_or_null: ['fp'],
  const_str: ['map_value'],
  ptr_to_dynptr: ['fp', 'dynptr_ptr'],
  ptr_to_dynptr_rdonly: ['fp', 'dynptr_ptr'],
  ptr_to_dynptr_uninit: ['fp', 'dynptr_ptr'],
  ptr_to_dynptr_release: ['fp', 'dynptr_ptr'],
};

const NULLABLE: ReadonlySet<ArgType> = new Set<ArgType>([
  'mem_or_null',
  'stack_or_null',
  'ctx_or_null',
  'map_value_or_null',
  'btf_id_sock_common_or_null',
  'ptr_to_socket_or_null',
  'ptr_to_btf_id_or_null',
  'btf_id_or_null_release',
]);
const RELEASES: ReadonlySet<ArgType> = new Set<ArgType>([
  'ringbuf_mem_release',
  'btf_id_sock_common_release',
  'btf_id_or_null_release',
  'ptr_to_dynptr_release',
]);
/** Arguments that are only read may be read-only memory. */
const READS: ReadonlySet<ArgType> = new Set<ArgType>([
  'mem',
  'mem_or_null',
  'mem_fixed',
  'map_key',
  'map_value',
]);

/** Those that a helper never writes to (MEM_RDONLY). */
const READ_ONLY: ReadonlySet<ArgType> = new Set<ArgType>(['mem', 'mem_or_null', 'mem_fixed']);

function checkType(reg: Reg, regno: number, arg: ArgType, proto: HelperProto): void {
  const allowed = COMPATIBLE[arg] ?? [];
  let flags = reg.flags;
  if (READS.has(arg)) flags &= ~F_RDONLY;
  // Of an allocated object only what is owned or borrowed.
  const isKptr = proto.name === 'kptr_xchg' && regno === 2;
  if (isKptr && (flags & F_ALLOC) !== 0) flags &= ~(F_ALLOC | F_PERCPU);
  const isNull = reg.nullable && !NULLABLE.has(arg);
  const name = typeString(reg.type, flags, isNull, reg.ringbuf);
  const isObject = arg === 'kptr_xchg_dest' && reg.type === 'ptr_';
  const plain =
    arg === 'ptr_to_spin_lock' || (isObject ? flags === F_ALLOC : (flags & (F_ALLOC | F_NON_OWN)) === 0);
  if (!allowed.includes(name) || !plain) {
    reject('EACCES', `R${regno} type=${reg.typeName} expected=${allowed.join(', ')}`);
  }
  if (reg.type !== 'ptr_') return;
  if (allowed === MEMORY) {
    if (!READ_ONLY.has(arg)) {
      const text = `bpf_${proto.name}() may write into memory pointed by R${regno} type=${reg.typeName}`;
      reject('EACCES', text);
    }
    return;
  }
  const isRelease = RELEASES.has(arg);
  if (reg.nullable && isRelease && (reg.flags & F_ALLOC) === 0)
    reject('EACCES', `Possibly NULL pointer passed to helper arg${regno}`);
  if (arg === 'ptr_to_btf_id' || arg === 'ptr_to_btf_id_or_null') checkStruct(reg, regno, proto);
}

/** The structure a helper wants, or one that starts with it. */
function checkStruct(reg: Reg, regno: number, proto: HelperProto): void {
  const wanted = proto.structs?.[0];
  if (wanted === undefined || reg.btf === undefined) return;
  if (!startsWith(reg, wanted)) {
    reject('EACCES', `R${regno} is of type ${structName(reg)} but ${wanted} is expected`);
  }
}

/** btf_struct_ids_match: the type itself, or what is at the register's offset in it. */
export function startsWith(reg: Reg, wanted: string): boolean {
  const { btf } = reg.btf!;
  let id = skipModifiers(btf, reg.btfId);
  let off = reg.off;
  for (;;) {
    const type = btf.type(id);
    if (type.kind !== 'STRUCT') return false;
    if (off === 0 && type.name === wanted) return true;
    const member = type.members.find((one, i) => {
      const next = type.members[i + 1];
      return one.bitOffset / 8 <= off && (next === undefined || next.bitOffset / 8 > off);
    });
    if (member === undefined) return false;
    off -= member.bitOffset / 8;
    id = skipModifiers(btf, member.type);
  }
}

/** Pointers whose fixed and variable offset the access check sees to (check_func_arg_reg_off). */
const FREE_OFFSET: ReadonlySet<RegType> = new Set<RegType>([
  'fp',
  'pkt',
  'pkt_meta',
  'map_key',
  'map_value',
  'mem',
  'buf',
  'arena',
  'scalar',
]);

export function checkOffset(reg: Reg, regno: number, isRelease: boolean, isDynptr: boolean): void {
  if (isRelease) {
    if (isDynptr) return;
    if (reg.off !== 0) {
      reject('EINVAL', `R${regno} must have zero offset when passed to release func or trusted arg to kfunc`);
    }
    checkPlainPointer(reg, regno);
    return;
  }
  if (FREE_OFFSET.has(reg.type)) return;
  checkPlainPointer(reg, regno, reg.type === 'ptr_' && !reg.nullable);
}

/** check_func_arg */
export function checkArg(env: Env, proto: HelperProto, n: number, meta: CallMeta): void {
  const regno = n + 1;
  const type: ArgType = proto.args[n]!;
  const reg = readReg(env, regno);
  if (type === 'anything') {
    if (isPointerValue(env, reg)) reject('EACCES', `R${regno} leaks addr into helper function`);
    return;
  }
  if (isPacket(reg)) {
    const may = proto.pktAccess === true && mayAccessPacket(env.input.type, false);
    if (!may) reject('EACCES', 'helper access to the packet is not allowed');
  }
  const spec = env.maps[meta.map];
  let wanted: ArgType = type;
  if (type === 'map_value' && (spec?.type === 'sockmap' || spec?.type === 'sockhash')) {
    wanted = 'btf_id_sock_common';
  }
  const isNullHere = reg.isNull && NULLABLE.has(type);
  const isRelease = RELEASES.has(type);
  if (!isNullHere) {
    checkType(reg, regno, wanted, proto);
    checkOffset(reg, regno, isRelease, type === 'ptr_to_dynptr_release');
  }
  if (isRelease) {
    if (type === 'ptr_to_dynptr_release') checkDynptrArg(env, regno, 'release', meta);
    else if (reg.refObjId === 0 && !reg.isNull)
      reject('EINVAL', `R${regno} must be referenced when passed to release function`);
    meta.releaseReg = regno;
  }
  if (reg.refObjId !== 0 && type !== 'kptr_xchg_dest') {
    if (meta.refObjId !== 0) {
      reject('EFAULT', `more than one arg with ref_obj_id R${regno} ${reg.refObjId} ${meta.refObjId}`);
    }
    meta.refObjId = reg.refObjId;
  }
  if (wanted === 'btf_id_sock_common' && type === 'map_value') return;
  switch (type) {
    case 'const_map_ptr':
      // A timer and the map that is named beside it belong together.
      if (meta.map >= 0 && (meta.map !== reg.map || meta.mapUid !== reg.mapUid)) {
        const uids = `timer pointer in R1 map_uid=${meta.mapUid} doesn't match map pointer in R2 map_uid=${reg.mapUid}`;
        reject('EINVAL', uids);
      }
      meta.map = reg.map;
      meta.mapUid = reg.mapUid;
      return;
    case 'map_key':
      if (spec === undefined) reject('EACCES', 'invalid map_ptr to access map->key');
      checkHelperMem(env, regno, spec.keySize, false, 'read');
      return;
    case 'map_value':
    case 'uninit_map_value':
    case 'map_value_or_null': {
      if (isNullHere) return;
      if (spec === undefined) reject('EACCES', 'invalid map_ptr to access map->value');
      // A bloom filter's peek reads the value.
      const isWrite = type === 'uninit_map_value' && spec.type !== 'bloom_filter';
      checkMem(env, regno, spec.valueSize, false, isWrite ? 'uninit' : 'read', meta);
      return;
    }
    case 'mem':
    case 'mem_or_null':
      meta.access = 'read';
      return;
    case 'uninit_mem':
      meta.access = 'uninit';
      return;
    case 'mem_rw':
      meta.access = 'write';
      return;
    case 'mem_fixed':
      checkMem(env, regno, proto.fixedSize ?? 0, false, 'read', meta);
      return;
    case 'uninit_mem_fixed': {
      const size = (proto.fixedSize ?? 8) as 4 | 8;
      checkMem(env, regno, size, false, 'uninit', meta);
      checkAlignment(env, reg, { off: 0, size, aligned: true });
      return;
    }
    case 'const_size':
    case 'const_size_or_zero':
      checkSize(env, regno, type === 'const_size_or_zero', meta, MAX_SIZE);
      return;
    case 'const_alloc_size_or_zero':
      if (!reg.isConst) reject('EACCES', `R${regno} is not a known constant'`);
      meta.memSize = Number(BigInt.asUintN(32, reg.varOff.value));
      markPrecise(env, regno);
      return;
    case 'func':
      meta.subprog = reg.memSize;
      return;
    case 'const_str':
      checkConstString(env, regno);
      return;
    case 'ptr_to_spin_lock':
      processSpinLock(env, regno, proto.name === 'spin_lock');
      return;
    case 'ptr_to_timer':
      checkTimer(env, reg, regno);
      meta.map = reg.map;
      meta.mapUid = reg.mapUid;
      return;
    case 'ptr_to_dynptr':
    case 'ptr_to_dynptr_rdonly':
      checkDynptrArg(env, regno, 'init', meta);
      return;
    case 'ptr_to_dynptr_uninit':
      checkDynptrArg(env, regno, 'uninit', meta, proto.dynptr);
      return;
    case 'ptr_to_percpu_btf_id':
      meta.percpuType = reg;
      return;
    case 'btf_id_or_null_release':
      if (!isNullHere && meta.kptr !== undefined)
        checkKptrMatch(reg, regno, meta.kptr.kind, meta.kptr.typeName);
      return;
    case 'kptr_xchg_dest':
      processKptr(env, reg, regno, meta);
      return;
    default:
      return;
  }
}

function checkMem(
  env: Env,
  regno: number,
  size: number,
  zeroAllowed: boolean,
  access: HelperAccess,
  meta: CallMeta,
): void {
  if (checkHelperMem(env, regno, size, zeroAllowed, access))
    meta.raw.push({ reg: env.frame.regs[regno]!, size });
}

/** check_mem_size_reg: the memory in the register before, for the largest size that this one may have. */
export function checkSize(
  env: Env,
  regno: number,
  zeroAllowed: boolean,
  meta: CallMeta,
  limit: bigint,
): void {
  const reg = env.frame.regs[regno]!;
  meta.maxSize = reg.umax;
  // A helper that may fill only part of the memory leaves the rest as it was: then it has to be initialised.
  const access = reg.isConst || meta.access === 'read' ? meta.access : 'write';
  if (reg.smin < 0n) {
    reject('EACCES', `R${regno} min value is negative, either use unsigned or 'var &= const'`);
  }
  if (reg.umin === 0n && !zeroAllowed) {
    reject('EACCES', `R${regno} invalid zero-sized read: u64=[${reg.umin},${reg.umax}]`);
  }
  if (reg.umax >= limit) {
    reject('EACCES', `R${regno} unbounded memory access, use 'var &= const' or 'if (var < const)'`);
  }
  checkMem(env, regno - 1, Number(reg.umax), zeroAllowed, access, meta);
  markPrecise(env, regno);
}

/** check_reg_const_str */
export function checkConstString(env: Env, regno: number): void {
  const reg = env.frame.regs[regno]!;
  const { flags = 0, valueSize } = env.maps[reg.map]!;
  const contents = env.input.frozen?.get(reg.map);
  // BPF_F_RDONLY_PROG, and frozen
  if ((flags & 128) === 0 || contents === undefined)
    reject('EACCES', `R${regno} does not point to a readonly map'`);
  if (!reg.isConst) reject('EACCES', `R${regno} is not a constant address'`);
  const at = reg.off + Number(reg.smin);
  if (at < 0 || at >= valueSize)
    reject('EACCES', `invalid access to map value, value_size=${valueSize} off=${at} size=1`);
  if (!contents.subarray(at).includes(0)) reject('EINVAL', 'string is not zero-terminated');
}

/** process_timer_func */
export function checkTimer(env: Env, reg: Reg, regno: number, kind: 'timer' | 'wq' = 'timer'): void {
  const name = kind === 'timer' ? 'bpf_timer' : 'bpf_wq';
  if (!reg.isConst)
    reject('EINVAL', `R${regno} doesn't have constant offset. ${name} has to be at the constant offset`);
  const spec = env.maps[reg.map];
  const field = fieldOf(env, reg, [kind]);
  if (spec !== undefined) checkHasBtf(spec, name);
  if (field === undefined) reject('EINVAL', `map '${spec?.name ?? ''}' has no valid ${name}`);
  const at = reg.off + Number(reg.smin);
  if (field.offset !== at)
    reject('EINVAL', `off ${at} doesn't point to 'struct ${name}' that is at ${field.offset}`);
}

/** process_kptr_func */
function processKptr(env: Env, reg: Reg, regno: number, meta: CallMeta): void {
  if (!reg.isConst) {
    reject('EINVAL', `R${regno} doesn't have constant offset. kptr has to be at the constant offset`);
  }
  const spec = env.maps[reg.map];
  if (spec !== undefined) checkHasBtf(spec, 'bpf_kptr_xchg');
  const kptrs = recordOf(env, reg)?.fields.filter(({ kind }) => /^kptr/.test(kind)) ?? [];
  if (kptrs.length === 0) reject('EINVAL', `R${regno} has no valid kptr`);
  const at = reg.off + Number(reg.smin);
  const field = kptrs.find(({ offset }) => offset === at);
  if (field === undefined) reject('EACCES', `off=${at} doesn't point to kptr`);
  if (field.kind === 'kptr_unref') reject('EACCES', `off=${at} kptr isn't referenced kptr`);
  const { isLocal, typeId } = kptrTarget(env, field);
  meta.kptr = { typeId: typeId ?? 0, isLocal, kind: field.kind, typeName: field.typeName ?? '' };
}
