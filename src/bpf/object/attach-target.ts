/** What a tracing program is attached to, among the types of the target (find_attach_btf_id of libbpf). */
import type { Btf, btfKinds } from '../btf/index.ts';
import { BpfError } from '../errors.ts';
import type { AttachType } from '../prog-types/index.ts';

/** How the kernel's types call a target: a prefix, and what kind of type it is. */
function naming(attachType: AttachType | undefined): { prefix: string; kind: btfKinds.KindName } {
  switch (attachType) {
    case 'trace_raw_tp':
      return { prefix: 'btf_trace_', kind: 'TYPEDEF' };
    case 'lsm_mac':
    case 'lsm_cgroup':
      return { prefix: 'bpf_lsm_', kind: 'FUNC' };
    case 'trace_iter':
      return { prefix: 'bpf_iter_', kind: 'FUNC' };
    default:
      return { prefix: '', kind: 'FUNC' };
  }
}

/** Throws BpfError ESRCH, as libbpf fails, where the target has no such function. */
export function checkAttachTarget(
  program: string,
  attachType: AttachType | undefined,
  attachTo: string,
  targetBtf: Btf,
): void {
  const { prefix, kind } = naming(attachType);
  if (targetBtf.byName(prefix + attachTo, kind) !== undefined) return;
  throw new BpfError('ESRCH', `program ${program}: ${prefix}${attachTo} is not in the target's types`, {
    hint: 'name another target with the option attachTo',
  });
}
