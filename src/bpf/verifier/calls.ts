/** Calls of helpers by their declarations (check_helper_call of kernel/bpf/verifier.c). */

import { protoFor } from '../helpers/kernel-protos.ts';
import { HELPER_NAMES } from '../helpers/names.ts';
import type { HelperProto } from '../helpers/proto.ts';
import type * as isa from '../isa.ts';
import { MAX_CPUS } from '../layout.ts';
import { mayCallHelper } from '../prog-types/helpers.ts';
import { checkArg } from './args.ts';
import { sizeOf, skipModifiers } from './btf-types.ts';
import { type CallMeta, newMeta } from './call-meta.ts';
import { enterCallback } from './callbacks.ts';
import { dynptrAt, releaseDynptr } from './dynptr.ts';
import { type Env, pushState } from './env.ts';
import { reject } from './error.ts';
import { checkFormat } from './format.ts';
import { leaveFunction } from './funcs.ts';
import { checkMapHelper } from './map-rules.ts';
import { acquireReference, checkSections, leakedReferences, releaseReference } from './refs.ts';
import { NOT_INIT, pointer, type Reg, UNKNOWN } from './reg.ts';
import { clearCallerSaved, forgetPackets, setReg } from './reg-access.ts';
import { F_ALLOC, F_PERCPU, F_RCU, F_RDONLY, F_TRUSTED, type RegType } from './reg-type.ts';
import { markHelperWrite } from './stack.ts';

const MAX_ERRNO = 4095n;

/** How the log names a helper: `bpf_map_lookup_elem#1`. */
const helperName = (id: number): string => `bpf_${HELPER_NAMES[id]}#${id}`;

export const isGplCompatible = (license: string): boolean =>
  /^(GPL|GPL v2|GPL and additional rights|Dual BSD\/GPL|Dual MIT\/GPL|Dual MPL\/GPL)$/.test(license);

/** Functions that hold no lock which resolving a path takes (btf_allowlist_d_path of kernel/trace/bpf_trace.c). */
const PATH_TARGETS: ReadonlySet<string> = new Set([
  'security_file_permission',
  'security_inode_getattr',
  'security_file_open',
  'security_path_truncate',
  'vfs_truncate',
  'vfs_fallocate',
  'dentry_open',
  'vfs_getattr',
  'filp_close',
]);

/** bpf_d_path_allowed; which LSM hooks may sleep is up to the kernel. */
function mayResolvePaths({ input }: Env): boolean {
  const { type, attachType, attachTo } = input;
  if (type === 'syscall') return false;
  if (type === 'lsm' || attachType === 'trace_iter' || attachTo === undefined) return true;
  return PATH_TARGETS.has(attachTo);
}

/** bpf_sk_storage_tracing_allowed: not in the functions that do it. */
function tracesStorage({ input: { type, attachType, attachTo = '' } }: Env): boolean {
  return (
    type === 'syscall' ||
    (type === 'tracing' && /^trace_f(entry|exit)$/.test(attachType ?? '') && /^bpf_sk_storage/.test(attachTo))
  );
}

function findHelper(env: Env, id: number): HelperProto {
  const proto = protoFor(id, env.input.type);
  if (proto === undefined) {
    reject(
      'EINVAL',
      HELPER_NAMES[id] === undefined
        ? `invalid func unknown#${id}`
        : `program of this type cannot use helper ${helperName(id)}`,
    );
  }
  const { type, attachType, attachTo } = env.input;
  if (!mayCallHelper(type, attachType, proto.name, env.isBpfCapable, attachTo))
    reject('EINVAL', `program of this type cannot use helper ${helperName(id)}`);
  if (proto.name === 'd_path' && !mayResolvePaths(env))
    reject('EINVAL', 'helper call is not allowed in probe');
  if (/^sk_storage_(get|delete)$/.test(proto.name) && tracesStorage(env))
    reject('EINVAL', 'helper call is not allowed in probe');
  const { license = 'GPL' } = env.input;
  if (proto.gplOnly === true && !isGplCompatible(license)) {
    reject('EINVAL', 'cannot call GPL-restricted function from non-GPL compatible program');
  }
  if (proto.maySleep === true) {
    if (!env.state.isSleepable) reject('EINVAL', 'helper call might sleep in a non-sleepable prog');
    if (env.state.rcuLock) reject('EINVAL', `sleepable helper ${helperName(id)} in rcu_read_lock region`);
    if (env.state.preemptLocks > 0)
      reject('EINVAL', `sleepable helper ${helperName(id)} in non-preemptible region`);
  }
  return proto;
}

/** Helpers whose result has to be given back; a socket out of a map too. */
const ACQUIRES: ReadonlySet<string> = new Set([
  'sk_lookup_tcp',
  'sk_lookup_udp',
  'skc_lookup_tcp',
  'ringbuf_reserve',
  'kptr_xchg',
]);

function isAcquire(env: Env, proto: HelperProto, meta: CallMeta): boolean {
  if (ACQUIRES.has(proto.name)) return true;
  const type = env.maps[meta.map]?.type;
  return proto.name === 'map_lookup_elem' && (type === 'sockmap' || type === 'sockhash');
}

/** is_ptr_cast_function */
const CASTS: ReadonlySet<string> = new Set(['tcp_sock', 'sk_fullsock']);
const isCast = (name: string): boolean => CASTS.has(name) || name.startsWith('skc_to_');

/** Gives where to go on: behind the call, or where a tail call went back to. */
export function checkHelperCall(env: Env, insn: isa.Insn): number {
  const proto = findHelper(env, insn.imm);
  const meta = newMeta();
  for (let n = 0; n < proto.args.length; n++) checkArg(env, proto, n, meta);
  const spec = env.maps[meta.map];
  if (spec !== undefined) checkMapUse(env, proto, meta);
  if (proto.name === 'tail_call' && spec?.type !== 'prog_array')
    reject('EINVAL', 'expected prog array map for tail call');
  for (const { reg, size } of meta.raw) markHelperWrite(env, reg, size);
  if (meta.releaseReg !== 0) release(env, proto, meta);
  env.helpersUsed.add(proto.name);
  const movesPacket = special(env, proto, meta);
  clearCallerSaved(env);
  setReg(env, 0, returnValue(env, proto, meta));
  if (spec !== undefined) checkMapHelper(env, spec, proto.id, proto.name);
  if (proto.changesPacket === true || movesPacket) forgetPackets(env);
  return proto.name === 'tail_call' ? leaveEarly(env, UNKNOWN) : env.insn + 1;
}

/**
 * A tail call that goes through, and LD_ABS outside of the packet, end the function: then its caller goes on with this result.
 * Otherwise the function does.
 */
export function leaveEarly(env: Env, result: Reg): number {
  if (env.state.curframe === 0) return env.insn + 1;
  pushState(env, env.insn + 1);
  setReg(env, 0, result);
  if (result === UNKNOWN) forgetPackets(env);
  return leaveFunction(env);
}

/** record_func_map: unprivileged tail calls have to know their map. */
function checkMapUse(env: Env, proto: HelperProto, meta: CallMeta): void {
  const before = env.mapOfInsn.get(env.insn);
  const same = before === undefined || before === meta.map;
  env.mapOfInsn.set(env.insn, same ? meta.map : -2);
  if (!same && proto.name === 'tail_call' && !env.isBpfCapable) reject('EINVAL', 'tail_call abusing map_ptr');
}

function release(env: Env, proto: HelperProto, meta: CallMeta): void {
  const regno = meta.releaseReg;
  const reg = env.frame.regs[regno]!;
  if (proto.args[regno - 1] === 'ptr_to_dynptr_release') {
    releaseDynptr(env, regno);
    return;
  }
  if (reg.isNull) return;
  if (meta.refObjId === 0 || !releaseReference(env, meta.refObjId)) {
    reject('EINVAL', `func ${helperName(proto.id)} reference has not been acquired before`);
  }
}

/** What single helpers ask for; gives whether the packet may have moved. */
function special(env: Env, proto: HelperProto, meta: CallMeta): boolean {
  const { regs } = env.frame;
  switch (proto.name) {
    case 'tail_call': {
      const leaked = leakedReferences(env.state);
      if (leaked !== undefined) reject('EINVAL', `${leaked}\ntail_call would lead to reference leak`);
      checkSections(env, 'tail_call');
      return false;
    }
    case 'get_local_storage':
      if (!regs[2]!.isNull) reject('EINVAL', "get_local_storage() doesn't support non-zero flags");
      return false;
    case 'dynptr_from_mem':
      if (regs[1]!.type !== 'map_value') {
        reject('EACCES', `Unsupported reg type ${regs[1]!.typeName} for bpf_dynptr_from_mem data`);
      }
      return false;
    case 'dynptr_write':
      return dynptrAt(env, regs[meta.dynptrReg]!)?.kind === 'skb';
    case 'snprintf':
      checkFormat(env);
      return false;
    case 'loop':
    case 'for_each_map_elem':
    case 'find_vma':
    case 'user_ringbuf_drain':
    case 'timer_set_callback':
      enterCallback(env, proto.name, meta);
      return false;
    default:
      return false;
  }
}

const SOCKET_RESULTS: Readonly<Record<string, RegType>> = {
  socket_or_null: 'sock',
  sock_common_or_null: 'sock_common',
  tcp_sock_or_null: 'tcp_sock',
};

/** Result pointers, with what they hold. */
function returnValue(env: Env, proto: HelperProto, meta: CallMeta): Reg {
  const result = resultType(env, proto, meta);
  if (result.type === 'scalar' || result.type === 'not_init') return result;
  if (result.nullable) result.id = env.newId();
  if (isCast(proto.name)) result.refObjId = meta.refObjId;
  if (isAcquire(env, proto, meta)) {
    result.id = acquireReference(env);
    result.refObjId = result.id;
  }
  return result;
}

function resultType(env: Env, proto: HelperProto, meta: CallMeta): Reg {
  switch (proto.ret) {
    case 'void':
      return NOT_INIT;
    case 'integer':
      return integer(proto, meta);
    case 'map_value':
    case 'map_value_or_null': {
      const spec = env.maps[meta.map];
      if (spec === undefined) reject('EINVAL', 'kernel subsystem misconfigured verifier');
      const reg = pointer('map_value');
      reg.nullable = proto.ret === 'map_value_or_null';
      reg.map = meta.map;
      reg.mapUid = meta.mapUid;
      if (!reg.nullable && spec.record?.fields.some(({ kind }) => kind === 'spin_lock') === true)
        reg.id = env.newId();
      return reg;
    }
    case 'ringbuf_mem_or_null':
    case 'dynptr_mem_or_null': {
      const reg = pointer('mem');
      reg.nullable = true;
      reg.ringbuf = proto.ret === 'ringbuf_mem_or_null';
      reg.memSize = meta.memSize;
      if (!reg.ringbuf) {
        const dynptr = dynptrAt(env, env.savedArgs[meta.dynptrReg]!);
        if (dynptr !== undefined) {
          reg.dynptrId = dynptr.id;
          reg.refObjId = dynptr.refObjId;
        }
      }
      return reg;
    }
    case 'socket_or_null':
    case 'sock_common_or_null':
    case 'tcp_sock_or_null': {
      const reg = pointer(SOCKET_RESULTS[proto.ret]!);
      reg.nullable = true;
      return reg;
    }
    case 'mem_or_btf_id':
    case 'mem_or_btf_id_or_null':
      return percpuResult(proto, meta);
    case 'btf_id':
    case 'btf_id_trusted':
    case 'btf_id_or_null': {
      const reg = pointer('ptr_');
      reg.nullable = proto.ret === 'btf_id_or_null';
      if (proto.ret === 'btf_id_trusted') reg.flags = F_TRUSTED;
      if (meta.kptr !== undefined) {
        const { isLocal, typeId, kind } = meta.kptr;
        reg.btf = isLocal ? env.localBtf : env.targetBtf;
        reg.btfId = typeId;
        if (isLocal) reg.flags |= F_ALLOC;
        if (kind === 'kptr_percpu') reg.flags |= F_PERCPU;
        return reg;
      }
      reg.btf = env.targetBtf;
      reg.btfId = env.targetBtf?.btf.byName(proto.retStruct ?? '', 'STRUCT') ?? 0;
      return reg;
    }
  }
}

/** bpf_per_cpu_ptr, bpf_this_cpu_ptr: what the per-CPU pointer points to on one processor. */
function percpuResult(proto: HelperProto, meta: CallMeta): Reg {
  const nullable = proto.ret === 'mem_or_btf_id_or_null';
  const type = meta.percpuType;
  if (type?.btf === undefined) return UNKNOWN;
  const { btf } = type.btf;
  const id = skipModifiers(btf, type.btfId);
  if (btf.type(id).kind === 'STRUCT') {
    const reg = pointer('ptr_');
    reg.btf = type.btf;
    reg.btfId = id;
    reg.nullable = nullable;
    reg.flags = (type.flags & F_RCU) !== 0 && type.btf.isLocal ? F_ALLOC | F_RCU : 0;
    reg.refObjId = type.refObjId;
    return reg;
  }
  const reg = pointer('mem');
  reg.memSize = sizeOf(btf, id);
  reg.nullable = nullable;
  // A helper that names no processor lets nobody write.
  reg.flags = F_RDONLY;
  return reg;
}

/** do_refine_retval_range: the number of a processor; an error, or at most the size. */
function integer(proto: HelperProto, meta: CallMeta): Reg {
  if (proto.name === 'get_smp_processor_id') {
    const reg = UNKNOWN.copy();
    reg.umin = 0n;
    reg.umax = BigInt(MAX_CPUS - 1);
    return reg.sync();
  }
  if (proto.boundedBySize !== true) return UNKNOWN;
  const reg = UNKNOWN.copy();
  reg.smin = -MAX_ERRNO;
  reg.smax = meta.maxSize;
  reg.s32min = -Number(MAX_ERRNO);
  reg.s32max = Number(meta.maxSize);
  return reg.sync();
}
