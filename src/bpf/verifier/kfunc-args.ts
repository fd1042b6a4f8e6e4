/** Arguments of kernel functions (check_kfunc_args of kernel/bpf/verifier.c). */
import type { KernelKfunc } from '../helpers/kfunc.ts';
import { checkOffset, checkSize, checkTimer, startsWith } from './args.ts';
import { isRcu, isTrusted } from './btf-access.ts';
import { structName } from './btf-types.ts';
import { type KfuncMeta, newMeta } from './call-meta.ts';
import { checkDynptrArg, dynptrAt } from './dynptr.ts';
import type { Env } from './env.ts';
import { Rejection, reject } from './error.ts';
import { checkGraphArg, isGraphArg } from './graph.ts';
import { checkHelperMem } from './helper-memory.ts';
import { checkIterArg, type IterUse } from './iter.ts';
import { markPrecise } from './precision.ts';
import type { Reg } from './reg.ts';
import { readReg } from './reg-access.ts';
import { F_PERCPU, F_UNTRUSTED, F_USER } from './reg-type.ts';

export const KFUNC_MAX_SIZE = 1n << 20n;

const NULLABLE = /\?$|_or_null$/;

export function checkKernelArg(env: Env, meta: KfuncMeta, n: number, arg: string): void {
  const regno = n + 1;
  if (arg === 'any' || arg === 'any64') return;
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
