/** Calls of kernel functions (check_kfunc_call, check_kfunc_args of kernel/bpf/verifier.c). */
import type { KernelKfunc, KfuncDecl } from '../helpers/kfunc.ts';
import type * as isa from '../isa.ts';
import type { RecordField } from '../maps/map-spec.ts';
import { checkOffset, checkSize, checkTimer, newMeta, startsWith } from './args.ts';
import { isRcu, isTrusted, structName } from './btf-access.ts';
import { enterCallback } from './callbacks.ts';
import { clearCallerSaved } from './calls.ts';
import { checkDynptrArg, dynptrAt } from './dynptr.ts';
import { type Env, readReg, setReg } from './env.ts';
import { Rejection, reject } from './error.ts';
import { checkGraphArg, giveToGraph, graphResult, isGraphArg } from './graph.ts';
import { checkHelperMem } from './helper-memory.ts';
import { checkIterArg, type IterUse, nextIteration } from './iter.ts';
import { markPrecise } from './precision.ts';
import { acquireReference, releaseReference } from './refs.ts';
import {
  F_PERCPU,
  F_RCU,
  F_RDONLY,
  F_TRUSTED,
  F_UNTRUSTED,
  F_USER,
  pointer,
  type Reg,
  S32_MAX,
  S32_MIN,
  UNKNOWN,
} from './reg.ts';
import { markHelperWrite } from './stack.ts';
import { mapRegs } from './state.ts';

const KFUNC_MAX_SIZE = 1n << 20n;

/** What the arguments of one call said (`struct bpf_kfunc_call_arg_meta`). */
export interface KfuncMeta {
  readonly kfunc: KernelKfunc;
  refObjId: number;
  releaseReg: number;
  iter: { frame: number; spi: number } | undefined;
  /** Last constant argument. */
  constant: bigint | undefined;
  subprog: number;
  dynptr: ReturnType<typeof dynptrAt>;
  sliceSize: number;
  raw: { reg: Reg; size: number }[];
  /** Of an allocated object: its type in the program's BTF. */
  objectType: number;
  /** List or tree of the call, and the node it takes. */
  root: RecordField | undefined;
  given: Reg | undefined;
  /** bpf_refcount_acquire of what the program owns. */
  isOwned: boolean;
  map: number;
  mapUid: number;
}

/** bpf_throw: gives true where the program ends. */
export function checkKfuncCall(env: Env, insn: isa.Insn): boolean {
  // Left for dead by libbpf: the end of verification refuses it where it is not.
  if (insn.imm === 0 && insn.off === 0) return false;
  const decl = env.kfuncs.get(insn.imm);
  if (decl === undefined || insn.off !== 0)
    reject('EINVAL', `kernel function btf_id ${insn.imm} is not a kernel function`);
  env.kfuncsUsed.add(decl);
  if (decl.kernel === undefined) {
    checkOwnKfunc(env, decl);
    return false;
  }
  const { kernel } = decl;
  const { type } = env.input;
  if (kernel.progTypes !== undefined && !kernel.progTypes.includes(type))
    reject('EACCES', `calling kernel function ${kernel.name} is not allowed`);
  if (kernel.name === 'bpf_sock_destroy' && env.input.attachType !== 'trace_iter')
    reject('EACCES', `calling kernel function ${kernel.name} is not allowed`);
  if (/^bpf_session_/.test(kernel.name) && env.input.attachType !== 'trace_kprobe_session')
    reject('EACCES', `calling kernel function ${kernel.name} is not allowed`);
  const isSleepable = kernel.flags.includes('sleepable');
  if (isSleepable && !env.state.isSleepable)
    reject('EACCES', `program must be sleepable to call sleepable kfunc ${kernel.name}`);
  const meta: KfuncMeta = {
    kfunc: kernel,
    refObjId: 0,
    releaseReg: 0,
    iter: undefined,
    constant: undefined,
    subprog: -1,
    dynptr: undefined,
    sliceSize: 0,
    raw: [],
    objectType: 0,
    root: undefined,
    given: undefined,
    isOwned: false,
    map: -1,
    mapUid: 0,
  };
  for (const [n, arg] of kernel.args.entries()) checkKernelArg(env, meta, n, arg);
  if (kernel.flags.includes('release') && meta.releaseReg === 0)
    reject('EINVAL', `release kernel function ${kernel.name} expects refcounted PTR_TO_BTF_ID`);
  for (const { reg, size } of meta.raw) markHelperWrite(env, reg, size);
  checkRegions(env, kernel, isSleepable);
  if (meta.releaseReg !== 0 && kernel.flags.includes('release')) {
    const reg = env.frame.regs[meta.releaseReg]!;
    if (!releaseReference(env, reg.refObjId))
      reject('EINVAL', `kfunc ${kernel.name}#${insn.imm} reference has not been acquired before`);
  }
  if (meta.subprog >= 0) {
    enterCallback(env, kernel.name.replace(/^bpf_/, ''), {
      ...newMeta(),
      subprog: meta.subprog,
      map: meta.map,
      root: meta.root,
    });
  }
  giveToGraph(env, meta);
  if (kernel.name === 'bpf_throw') return true;
  if (kernel.name === 'bpf_dynptr_slice_rdwr') env.seenDirectWrite = true;
  clearCallerSaved(env);
  const result = resultOf(env, meta);
  if (result !== undefined) setReg(env, 0, result);
  if (kernel.flags.includes('iter_next')) nextIteration(env, meta.iter!);
  return false;
}

/** RCU sections, and sections without preemption. */
function checkRegions(env: Env, { name }: KernelKfunc, isSleepable: boolean): void {
  const { state } = env;
  const isLock = name === 'bpf_rcu_read_lock';
  const isUnlock = name === 'bpf_rcu_read_unlock';
  if (state.rcuLock) {
    if (isLock) reject('EINVAL', `nested rcu read lock (kernel function ${name})`);
    if (isUnlock) leaveRcu(env);
    else if (isSleepable) reject('EACCES', `kernel func ${name} is sleepable within rcu_read_lock region`);
  } else if (isLock) state.rcuLock = true;
  else if (isUnlock) reject('EINVAL', `unmatched rcu read unlock (kernel function ${name})`);
  const isEnable = name === 'bpf_preempt_enable';
  if (name === 'bpf_preempt_disable') state.preemptLocks++;
  else if (state.preemptLocks > 0) {
    if (isEnable) state.preemptLocks--;
    else if (isSleepable) reject('EACCES', `kernel func ${name} is sleepable within non-preemptible region`);
  } else if (isEnable) {
    reject('EINVAL', `unmatched attempt to enable preemption (kernel function ${name})`);
  }
}

/** What was protected by the section is no longer. */
function leaveRcu(env: Env): void {
  const { state } = env;
  state.rcuLock = false;
  mapRegs(state, (reg) => {
    if ((reg.flags & F_RCU) === 0) return reg;
    const copy = reg.copy();
    copy.flags = (copy.flags & ~F_RCU) | F_UNTRUSTED;
    copy.nullable = false;
    return copy;
  });
  for (const frame of state.frames) {
    for (const [spi, slot] of frame.stack.entries()) {
      if (slot.object?.is === 'iter' && slot.object.trust === 'rcu')
        frame.stack[spi] = { ...slot, object: { ...slot.object, trust: 'untrusted' } };
    }
  }
}

const NULLABLE = /\?$|_or_null$/;

function checkKernelArg(env: Env, meta: KfuncMeta, n: number, arg: string): void {
  const regno = n + 1;
  if (arg === 'any') return;
  const reg = readReg(env, regno);
  const { kfunc } = meta;
  const [kind, detail] = arg.replace(/\?$/, '').split(':') as [string, string | undefined];
  if (kind === 'int' || kind === 'const') {
    if (reg.type !== 'scalar') reject('EINVAL', `R${regno} is not a scalar`);
    if (kind === 'const') {
      if (!reg.isConst) reject('EINVAL', `R${regno} must be a known constant`);
      markPrecise(env, regno);
      meta.constant = reg.varOff.value;
    }
    return;
  }
  if (kind === 'size' || kind === 'size_const') {
    checkPair(env, meta, n, kind === 'size_const');
    return;
  }
  const isStrict = ['trusted_args', 'rcu', 'release'].some((flag) => kfunc.flags.includes(flag));
  if (isStrict && (reg.isNull || reg.nullable) && !NULLABLE.test(arg))
    reject('EACCES', `Possibly NULL pointer passed to trusted arg${n}`);
  if (reg.refObjId !== 0) {
    meta.refObjId = reg.refObjId;
    if (kfunc.flags.includes('release')) meta.releaseReg = regno;
  }
  if (NULLABLE.test(arg) && reg.isNull) return;
  const isRelease = kfunc.flags.includes('release') && reg.refObjId !== 0;
  switch (kind) {
    case 'ctx': {
      const struct = PROJECTED[kfunc.name];
      if (reg.type === 'ptr_' && struct !== undefined && !TYPED_CONTEXT.has(env.input.type)) {
        checkStructArg(meta, n, reg, struct, isRelease);
        return;
      }
      if (reg.type !== 'ctx') reject('EINVAL', `arg#${n} expected pointer to ctx, but got ${reg.typeName}`);
      checkOffset(reg, regno, false, false);
      return;
    }
    case 'map':
      // `struct bpf_map *` is one too.
      if (reg.type === 'ptr_' && structName(reg) === 'bpf_map') {
        checkStructArg(meta, n, reg, 'bpf_map', isRelease);
        return;
      }
      if (reg.type !== 'map_ptr') {
        if (reg.map < 0 && reg.type !== 'ptr_' && reg.type !== 'mem')
          reject('EINVAL', `pointer in R${regno} isn't map pointer`);
        const has = `R${regno} has a pointer to ${reg.type === 'ptr_' ? `STRUCT ${structName(reg)}` : reg.typeName}`;
        reject(
          'EINVAL',
          `kernel function ${kfunc.name} args#${n} expected pointer to STRUCT bpf_map but ${has}`,
        );
      }
      checkWorkqueueMap(env, meta, reg);
      meta.map = reg.map;
      meta.mapUid = reg.mapUid;
      return;
    case 'iter':
      if (kfunc.name === 'bpf_iter_css_task_new' && !mayIterateTasks(env)) {
        reject('EINVAL', 'css_task_iter is only allowed in bpf_lsm, bpf_iter and sleepable progs');
      }
      meta.iter = checkIterArg(env, kfunc, regno, detail!, iterUse(kfunc));
      return;
    case 'dynptr':
      checkDynptrArg(env, regno, 'init', newMeta());
      meta.dynptr = dynptrAt(env, reg);
      return;
    case 'dynptr_uninit': {
      const from =
        kfunc.name === 'bpf_dynptr_from_skb'
          ? 'skb'
          : kfunc.name === 'bpf_dynptr_from_xdp'
            ? 'xdp'
            : undefined;
      checkDynptrArg(env, regno, 'uninit', newMeta(), from ?? meta.dynptr?.kind, meta.dynptr);
      return;
    }
    case 'ptr':
      checkStructArg(meta, n, reg, detail!, isRelease);
      return;
    case 'mem':
    case 'mem_or_null':
      if (detail !== undefined && checkHelperMem(env, regno, Number(detail), false, 'write'))
        meta.raw.push({ reg, size: Number(detail) });
      return;
    case 'func':
      if (reg.type !== 'func') reject('EINVAL', `arg${n} expected pointer to func`);
      meta.subprog = reg.memSize;
      return;
    case 'wq':
      if (reg.type !== 'map_value') reject('EINVAL', `arg#${n} doesn't point to a map value`);
      checkTimer(env, reg, regno, 'wq');
      if (meta.map < 0) {
        meta.map = reg.map;
        meta.mapUid = reg.mapUid;
      }
      return;
    default:
      if (!isGraphArg(kind)) return;
      checkOffset(reg, regno, isRelease, false);
      checkGraphArg(env, meta, n, kind, reg);
  }
}

/** check_css_task_iter_allowlist */
function mayIterateTasks(env: Env): boolean {
  const { type, attachType } = env.input;
  return type === 'lsm' || (type === 'tracing' && attachType === 'trace_iter') || env.state.isSleepable;
}

/** The kernel's structure behind a context argument, for programs whose own context is another (btf_is_projection_of). */
const PROJECTED: Readonly<Record<string, string>> = {
  bpf_dynptr_from_skb: 'sk_buff',
  bpf_dynptr_from_xdp: 'xdp_buff',
};
/** What the kernel has as the context of a program type (kern_ctx_type of include/linux/bpf_types.h), where it is a structure. */
const KERNEL_CONTEXTS: Readonly<Record<string, string>> = {
  socket_filter: 'sk_buff',
  sched_cls: 'sk_buff',
  sched_act: 'sk_buff',
  xdp: 'xdp_buff',
  cgroup_skb: 'sk_buff',
  cgroup_sock: 'sock',
  cgroup_sock_addr: 'bpf_sock_addr_kern',
  lwt_in: 'sk_buff',
  lwt_out: 'sk_buff',
  lwt_xmit: 'sk_buff',
  lwt_seg6local: 'sk_buff',
  sock_ops: 'bpf_sock_ops_kern',
  sk_skb: 'sk_buff',
  sk_msg: 'sk_msg',
  flow_dissector: 'bpf_flow_dissector',
  kprobe: 'pt_regs',
  perf_event: 'bpf_perf_event_data_kern',
  cgroup_device: 'bpf_cgroup_dev_ctx',
  cgroup_sysctl: 'bpf_sysctl_kern',
  cgroup_sockopt: 'bpf_sockopt_kern',
  sk_reuseport: 'sk_reuseport_kern',
  sk_lookup: 'bpf_sk_lookup_kern',
  netfilter: 'bpf_nf_ctx',
};

/** Program types whose context is a packet. */
const TYPED_CONTEXT: ReadonlySet<string> = new Set([
  'socket_filter',
  'sched_cls',
  'sched_act',
  'cgroup_skb',
  'lwt_in',
  'lwt_out',
  'lwt_xmit',
  'lwt_seg6local',
  'sk_skb',
  'flow_dissector',
  'xdp',
]);

/** A work queue and the map that is named beside it belong together. */
function checkWorkqueueMap(env: Env, meta: KfuncMeta, reg: Reg): void {
  const hasQueue = env.maps[reg.map]?.record?.fields.some(({ kind }) => kind === 'wq') === true;
  if (meta.map < 0 || !hasQueue || (meta.map === reg.map && meta.mapUid === reg.mapUid)) return;
  reject(
    'EINVAL',
    `workqueue pointer in R1 map_uid=${meta.mapUid} doesn't match map pointer in R2 map_uid=${reg.mapUid}`,
  );
}

function iterUse({ flags }: KernelKfunc): IterUse {
  return flags.includes('iter_new') ? 'new' : flags.includes('iter_destroy') ? 'destroy' : 'next';
}

/** Memory and its size (KF_ARG_PTR_TO_MEM_SIZE). */
function checkPair(env: Env, meta: KfuncMeta, n: number, isConst: boolean): void {
  const regno = n + 1;
  const reg = readReg(env, regno);
  if (reg.type !== 'scalar') reject('EINVAL', `R${regno} is not a scalar`);
  const buffer = env.frame.regs[n]!;
  const isOptional = meta.kfunc.args[n - 1] === 'mem_or_null' && buffer.isNull;
  if (!isOptional) {
    const pair = newMeta();
    pair.access = 'write';
    try {
      checkSize(env, regno, true, pair, KFUNC_MAX_SIZE << 9n);
    } catch (error) {
      if (!(error instanceof Rejection)) throw error;
      const text = `arg#${n - 1} arg#${n} memory, len pair leads to invalid memory access`;
      reject(error.errno, `${error.message}\n${text}`);
    }
    meta.raw.push(...pair.raw);
  }
  if (isConst) {
    if (!reg.isConst) reject('EINVAL', `R${regno} must be a known constant`);
    meta.sliceSize = Number(reg.varOff.value);
    markPrecise(env, regno);
  }
}

/** Kernel structures that sockets are (reg2btf_ids). */
const SOCKET_STRUCTS: Readonly<Record<string, string>> = {
  sock: 'sock',
  sock_common: 'sock_common',
  tcp_sock: 'tcp_sock',
};

/** KF_ARG_PTR_TO_BTF_ID */
function checkStructArg(meta: KfuncMeta, n: number, reg: Reg, wanted: string, isRelease: boolean): void {
  const regno = n + 1;
  const { kfunc } = meta;
  const socket = SOCKET_STRUCTS[reg.type];
  if (reg.type !== 'ptr_' && socket === undefined) {
    reject('EINVAL', `arg#${n} pointer type STRUCT ${wanted} must point to scalar, or struct with scalar`);
  }
  const isStrict =
    kfunc.flags.includes('trusted_args') || kfunc.flags.includes('rcu') || kfunc.flags.includes('release');
  if (isStrict && !isTrusted(reg) && socket === undefined) {
    if (!kfunc.flags.includes('rcu')) reject('EINVAL', `R${regno} must be referenced or trusted`);
    if (!isRcu(reg)) reject('EINVAL', `R${regno} must be a rcu pointer`);
  }
  checkOffset(reg, regno, isRelease, false);
  const unsafe = (reg.flags & (F_UNTRUSTED | F_PERCPU | F_USER)) !== 0;
  if (unsafe) {
    reject('EINVAL', `arg#${n} is ${reg.typeName} expected ptr_ or socket`);
  }
  const has = socket ?? structName(reg);
  const fits = has === wanted || (reg.btf !== undefined && startsWith(reg, wanted));
  if (!fits) {
    reject(
      'EINVAL',
      `kernel function ${kfunc.name} args#${n} expected pointer to STRUCT ${wanted} but R${regno} has a pointer to STRUCT ${has}`,
    );
  }
}

function resultOf(env: Env, meta: KfuncMeta): Reg | undefined {
  const { kfunc } = meta;
  const [kind, detail] = kfunc.ret.split(':') as [string, string | undefined];
  let result: Reg;
  switch (kind) {
    case 'void':
      return undefined;
    case 'int':
      return UNKNOWN;
    case 'arena':
      return pointer('arena');
    case 'kern_ctx':
      return kernelContext(env);
    case 'rdonly_cast':
      return castTo(env, meta.constant ?? 0n);
    case 'mem':
      result = pointer('mem');
      result.memSize = Number(detail);
      if (
        (!kfunc.flags.includes('iter_next') && kfunc.name !== 'bpf_session_cookie') ||
        kfunc.args[0] === 'iter:num' ||
        kfunc.args[0] === 'iter:bits'
      )
        result.flags = F_RDONLY;
      break;
    case 'slice':
      result = pointer('mem');
      result.memSize = meta.sliceSize;
      if (kfunc.name === 'bpf_dynptr_slice') result.flags = F_RDONLY;
      else if (!mayWriteSlice(env, meta)) {
        reject('EINVAL', 'the prog does not allow writes to packet data');
      }
      result.dynptr = meta.dynptr?.kind;
      result.dynptrId = meta.dynptr?.id ?? 0;
      break;
    case 'obj':
    case 'node':
      result = graphResult(env, meta);
      break;
    default: {
      const id = env.targetBtf?.btf.byName(detail!, 'STRUCT');
      result = pointer('ptr_');
      result.btf = env.targetBtf;
      result.btfId = id ?? 0;
      if (kfunc.flags.includes('iter_next')) {
        const { frame, spi } = meta.iter!;
        const object = env.state.frames[frame]!.stack[spi]!.object;
        result.flags = object?.is === 'iter' && object.trust === 'rcu' ? F_RCU : F_TRUSTED;
      }
    }
  }
  if (kfunc.flags.includes('ret_null') && !(kind === 'obj' && meta.isOwned)) {
    result.nullable = true;
    result.id = env.newId();
  }
  if (kfunc.flags.includes('acquire')) {
    const id = acquireReference(env);
    if (result.nullable) result.id = id;
    result.refObjId = id;
  }
  return result;
}

/** bpf_cast_to_kern_ctx */
function kernelContext(env: Env): Reg {
  const struct = KERNEL_CONTEXTS[env.input.type];
  const id = struct === undefined ? undefined : env.targetBtf?.btf.byName(struct, 'STRUCT');
  if (id === undefined) {
    // Without the target's types the result is a number that nothing can be read through.
    return env.targetBtf === undefined ? UNKNOWN : reject('EINVAL', 'invalid kernel context type');
  }
  const result = pointer('ptr_');
  result.flags = F_TRUSTED;
  result.btf = env.targetBtf;
  result.btfId = id;
  return result;
}

/** bpf_rdonly_cast */
function castTo(env: Env, typeId: bigint): Reg {
  const { targetBtf } = env;
  const type =
    targetBtf !== undefined && typeId < BigInt(targetBtf.btf.typeCount)
      ? targetBtf.btf.type(Number(typeId))
      : undefined;
  if (type?.kind !== 'STRUCT' && type?.kind !== 'UNION')
    reject('EINVAL', 'kfunc bpf_rdonly_cast type ID argument must be of a struct');
  const result = pointer('ptr_');
  result.flags = F_UNTRUSTED;
  result.btf = targetBtf;
  result.btfId = Number(typeId);
  return result;
}

/** A slice for writing is a write to the packet. */
function mayWriteSlice(env: Env, { dynptr }: KfuncMeta): boolean {
  if (dynptr?.kind !== 'skb' && dynptr?.kind !== 'xdp') return true;
  return ['sched_cls', 'sched_act', 'xdp', 'lwt_xmit', 'sk_skb', 'sk_msg'].includes(env.input.type);
}

/** Kfuncs of helpers/kfunc.ts: this engine's own. */
function checkOwnKfunc(env: Env, decl: KfuncDecl): void {
  const raw: { reg: Reg; size: number }[] = [];
  for (const [n, type] of decl.args.entries()) {
    const regno = n + 1;
    const reg = readReg(env, regno);
    switch (type) {
      case 'u64':
      case 'u32':
        if (reg.type !== 'scalar') reject('EINVAL', `R${regno} is not a scalar`);
        break;
      case 'const':
        if (reg.type !== 'scalar') reject('EINVAL', `R${regno} is not a scalar`);
        if (!reg.isConst) reject('EINVAL', `R${regno} must be a known constant`);
        markPrecise(env, regno);
        break;
      case 'mem_out':
        if (!['fp', 'map_key', 'map_value', 'mem'].includes(reg.type) || reg.nullable) {
          reject(
            'EACCES',
            `R${regno} type=${reg.typeName} expected=fp, map_key, map_value, mem, ringbuf_mem`,
          );
        }
        break;
      case 'size': {
        if (reg.type !== 'scalar') reject('EINVAL', `R${regno} is not a scalar`);
        const meta = newMeta();
        meta.access = 'uninit';
        checkSize(env, regno, false, meta, KFUNC_MAX_SIZE + 1n);
        raw.push(...meta.raw);
      }
    }
  }
  for (const { reg, size } of raw) markHelperWrite(env, reg, size);
  clearCallerSaved(env);
  if (decl.result === 'void') return;
  let result = UNKNOWN;
  if (decl.inline === 'clz64') {
    result = UNKNOWN.copy();
    result.umin = 0n;
    result.umax = 64n;
    result.sync();
  } else if (decl.result === 's32') {
    result = UNKNOWN.copy();
    result.smin = BigInt(S32_MIN);
    result.smax = BigInt(S32_MAX);
    result.sync();
  } else if (decl.result === 'f64') {
    result = UNKNOWN.copy();
    result.smin = -(1n << 53n);
    result.smax = 1n << 53n;
    result.sync();
  }
  setReg(env, 0, result);
}
