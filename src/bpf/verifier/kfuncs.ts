/** Calls of kernel functions (check_kfunc_call, check_kfunc_args of kernel/bpf/verifier.c). */
import type { KernelKfunc, KfuncDecl } from '../helpers/kfunc.ts';
import type * as isa from '../isa.ts';
import { checkSize } from './args.ts';
import { type KfuncMeta, newMeta } from './call-meta.ts';
import { enterCallback } from './callbacks.ts';
import type { Env } from './env.ts';
import { reject } from './error.ts';
import { giveToGraph, graphResult } from './graph.ts';
import { nextIteration } from './iter.ts';
import { checkKernelArg, KFUNC_MAX_SIZE } from './kfunc-args.ts';
import { markPrecise } from './precision.ts';
import { acquireReference, releaseReference } from './refs.ts';
import { pointer, type Reg, UNKNOWN } from './reg.ts';
import { clearCallerSaved, readReg, setReg } from './reg-access.ts';
import { S32_MAX, S32_MIN } from './reg-bounds.ts';
import { F_RCU, F_RDONLY, F_TRUSTED, F_UNTRUSTED } from './reg-type.ts';
import { markHelperWrite } from './stack.ts';
import { mapRegs } from './state.ts';

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

function resultOf(env: Env, meta: KfuncMeta): Reg | undefined {
  const { kfunc } = meta;
  const [kind, detail] = kfunc.ret.split(':') as [string, string | undefined];
  let result: Reg;
  switch (kind) {
    case 'void':
      return undefined;
    case 'int':
    case 'int64':
      return UNKNOWN;
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
