/** Results of LSM hooks (kernel/bpf/bpf_lsm.c). */
import type { ProgramInput } from './types.ts';

type Range = readonly [number, number];

/** LSM hooks whose result is more than an error number (lsm_bool of kernel/bpf/bpf_lsm.c). */
const BOOLEAN_HOOKS: ReadonlySet<string> = new Set(['audit_rule_known', 'inode_xattr_skipcap']);
/** Hooks with a result of any kind. */
const FREE_HOOKS: ReadonlySet<string> = new Set([
  'getprocattr',
  'setprocattr',
  'inode_getsecurity',
  'inode_listsecurity',
  'ismaclabel',
  'getselfattr',
  'setselfattr',
  'key_getsecurity',
  'inode_copy_up_xattr',
  'xfrm_state_pol_flow_match',
]);

/** bpf_lsm_get_retval_range: what the hook of prototype `proto` gives; undefined for anything. */
export function lsmResultRange(input: ProgramInput, proto: number | undefined): Range | undefined {
  const { attachTo, targetBtf } = input;
  const type = proto === undefined ? undefined : targetBtf?.type(proto);
  const isVoid = type?.kind === 'FUNC_PROTO' && type.type === 0;
  if (isVoid || attachTo === undefined || FREE_HOOKS.has(attachTo)) return undefined;
  return BOOLEAN_HOOKS.has(attachTo) ? [0, 1] : [-4095, 0];
}

/** What a program on the hook may return. */
export function lsmRange(input: ProgramInput, proto: number | undefined): Range | undefined {
  if (input.attachType !== 'lsm_cgroup') return lsmResultRange(input, proto);
  const type = proto === undefined ? undefined : input.targetBtf?.type(proto);
  return type?.kind === 'FUNC_PROTO' && type.type === 0 ? [1, 1] : [0, 1];
}
