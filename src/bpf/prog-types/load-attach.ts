/** Which attach types BPF_PROG_LOAD takes for a program type (bpf_prog_load_check_attach of kernel/bpf/syscall.c). */
import { ATTACH_TYPES, type AttachType, type ProgType } from './attach.ts';

/** Types not listed take any. */
const ALLOWED: Partial<Record<ProgType, RegExp>> = {
  cgroup_skb: /^cgroup_inet_(in|e)gress$/,
  cgroup_sock: /^cgroup_inet(_sock_create|_sock_release|[46]_post_bind)$/,
  cgroup_sock_addr:
    /^cgroup_(inet[46]_(bind|connect|getpeername|getsockname)|udp[46]_(send|recv)msg|unix_\w+)$/,
  cgroup_sockopt: /^cgroup_[gs]etsockopt$/,
  sk_lookup: /^sk_lookup$/,
  sk_reuseport: /^sk_reuseport_select(_or_migrate)?$/,
  netfilter: /^netfilter$/,
};

/** What number 0 or nothing at all means (bpf_prog_load_fixup_attach_type); of other types it means nothing. */
const FIRST: Partial<Record<ProgType, AttachType>> = {
  cgroup_skb: 'cgroup_inet_ingress',
  cgroup_sock: 'cgroup_inet_sock_create',
  sk_reuseport: 'sk_reuseport_select',
};

/** These know no attach type. */
const WITHOUT: ReadonlySet<ProgType> = new Set(['syscall', 'ext']);

/** The attach type that a program is loaded for, `'none'`, or undefined where it is refused (EINVAL). */
export function attachTypeAtLoad(
  type: ProgType,
  given: AttachType | undefined,
): AttachType | 'none' | undefined {
  const isFirst = given === undefined || given === ATTACH_TYPES[0];
  const attachType = isFirst ? (FIRST[type] ?? given ?? 'none') : given;
  if (WITHOUT.has(type) && !isFirst) return undefined;
  return ALLOWED[type]?.test(attachType) === false ? undefined : attachType;
}
