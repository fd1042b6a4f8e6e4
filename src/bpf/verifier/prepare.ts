/** Before the first path: what a program's type and BTF demand (check_attach_btf_id, add_subprog_and_kfunc of kernel/bpf/verifier.c). */
import { kernelProto } from '../helpers/kernel-protos.ts';
import * as isa from '../isa.ts';
import { PROG_TYPES } from '../prog-types/attach.ts';
import { isGplCompatible } from './calls.ts';
import { calledFunction } from './cfg.ts';
import type { Env } from './env.ts';
import { reject } from './error.ts';
import { exceptionCallback } from './exceptions.ts';
import { globalFunction } from './globals.ts';

const CALL = isa.BPF_JMP | isa.BPF_CALL;

/** Program types that users without capabilities may load. */
const UNPRIVILEGED: ReadonlySet<string> = new Set(['socket_filter', 'cgroup_skb']);

export function checkProgramType(env: Env): void {
  const { type, unprivileged, targetBtf, attachTo, attachType } = env.input;
  const types: readonly unknown[] = PROG_TYPES;
  if (types.indexOf(type) <= 0) reject('EINVAL', `there is no program type ${String(type)}`);
  if (unprivileged === true && !UNPRIVILEGED.has(type))
    reject('EPERM', `programs of type ${type} are not for unprivileged users`);
  if (type === 'struct_ops') {
    reject('EINVAL', 'struct_ops programs are not supported: there is no kernel structure to put them in');
  }
  // Before all else where the kernel looks at attachment; of other types sleepable ones cannot be asked for.
  if (env.input.sleepable === true && type !== 'syscall' && !maySleep(type, attachType)) {
    const which = 'fentry/fexit/fmod_ret, lsm, iter, uprobe, and struct_ops';
    reject('EINVAL', `Only ${which} programs can be sleepable`);
  }
  if (type === 'lsm') checkLsm(env);
  if (type === 'lsm' && targetBtf !== undefined && attachTo !== undefined && attachType === 'lsm_mac') {
    if (targetBtf.byName(`bpf_lsm_${attachTo}`, 'FUNC') === undefined)
      reject('EINVAL', `attach_btf_id does not point to bpf_lsm_${attachTo}`);
  }
}

/** can_be_sleepable; programs that are attached to nothing yet may become anything. */
function maySleep(type: string, attachType: string | undefined): boolean {
  if (type === 'tracing') return attachType === undefined || attachType !== 'trace_raw_tp';
  if (type === 'lsm') return attachType !== 'lsm_cgroup';
  return type === 'kprobe' || type === 'struct_ops';
}

/** Hooks that no program may be attached to (bpf_lsm_disabled_hooks of kernel/bpf/bpf_lsm.c). */
const DISABLED_HOOKS: ReadonlySet<string> = new Set([
  'vm_enough_memory',
  'inode_need_killpriv',
  'inode_getsecurity',
  'inode_listsecurity',
  'inode_copy_up_xattr',
  'getselfattr',
  'getprocattr',
  'setprocattr',
  'key_getsecurity',
  'audit_rule_match',
  'xfrm_decode_session',
  'ismaclabel',
]);

/** bpf_lsm_verify_prog */
function checkLsm({ input }: Env): void {
  const { license = 'GPL', attachTo, targetBtf } = input;
  if (!isGplCompatible(license)) reject('EINVAL', 'LSM programs must have a GPL compatible license');
  if (attachTo === undefined || !DISABLED_HOOKS.has(attachTo)) return;
  const id = targetBtf?.byName(`bpf_lsm_${attachTo}`, 'FUNC') ?? 0;
  reject('EINVAL', `attach_btf_id ${id} points to disabled hook bpf_lsm_${attachTo}`);
}

/** Global functions, the exception callback, and which functions change packet data. */
export function prepareGlobals(env: Env): void {
  const { btf, funcInfo } = env.input;
  markPacketMovers(env);
  if (btf === undefined || funcInfo === undefined) return;
  for (const [n, { typeId }] of funcInfo.entries()) {
    const func = btf.type(typeId);
    if (n > 0 && func.kind === 'FUNC' && func.linkage === 'global')
      env.globals.set(n, globalFunction(env, btf, typeId));
  }
  const callback = exceptionCallback(env.input);
  if (callback === undefined) return;
  const n = funcInfo.indexOf(callback);
  if (!env.globals.has(n))
    reject('EINVAL', `exception callback '${btf.name(callback.typeId)}' must have global linkage`);
  env.exceptionCallback = n;
  env.calledGlobals.add(n);
}

/** Functions that call a helper that moves packet data, by themselves or by others. */
function markPacketMovers(env: Env): void {
  const movers = new Set<number>();
  const callees = env.subprogs.map(({ start, end }, n) => {
    const list: number[] = [];
    for (let i = start; i < end; i++) {
      const insn = env.insns[i]!;
      if (insn.code === CALL && insn.src === isa.BPF_PSEUDO_CALL)
        list.push(env.subprogAt(calledFunction(insn, i)));
      else if (insn.code === CALL && insn.src === 0) {
        if (insn.imm === 12 || kernelProto(insn.imm)?.changesPacket === true) movers.add(n);
      }
    }
    return list;
  });
  for (let before = -1; before !== movers.size; ) {
    before = movers.size;
    for (const [n, list] of callees.entries()) if (list.some((one) => movers.has(one))) movers.add(n);
  }
  env.packetMovers = movers;
}
