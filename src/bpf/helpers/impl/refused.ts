/** Helpers that a program cannot be loaded with, and why: there is nothing in user space that they could work on. */

const REASONS: readonly (readonly [reason: string, names: string])[] = [
  ['it writes to the memory of a process', 'probe_write_user'],
  [
    'the system call stands over the machine: give `helper.sys_bpf` and `helper.sys_close` with the imports',
    'sys_bpf sys_close',
  ],
  ['there is no kernel packet (struct sk_buff, struct xdp_buff) in the memory', 'skb_output xdp_output'],
  ['there are no files, paths and inodes', 'd_path ima_inode_hash ima_file_hash bprm_opts_set'],
  ['there are no registers of a kernel entry', 'task_pt_regs'],
  ['there is no perf event that ran the program', 'perf_prog_read_value'],
  [
    'there is no TCP connection',
    `setsockopt getsockopt sock_ops_cb_flags_set load_hdr_opt store_hdr_opt reserve_hdr_opt tcp_send_ack
     tcp_check_syncookie tcp_gen_syncookie`,
  ],
  [
    'there are no sockets to move data between',
    `sk_redirect_map sk_redirect_hash msg_redirect_map msg_redirect_hash sock_map_update sock_hash_update
     sk_select_reuseport sk_assign bind`,
  ],
  [
    'there is no message being sent',
    'msg_apply_bytes msg_cork_bytes msg_pull_data msg_push_data msg_pop_data',
  ],
  ['there are no tunnels', 'skb_set_tunnel_key skb_set_tunnel_opt'],
  ['there are no routes', 'lwt_push_encap lwt_seg6_store_bytes lwt_seg6_adjust_srh lwt_seg6_action'],
  ['there is no infrared receiver', 'rc_repeat rc_keydown rc_pointer_rel'],
  [
    'there is no sysctl',
    'sysctl_get_name sysctl_get_current_value sysctl_get_new_value sysctl_set_new_value',
  ],
];

/** Reasons by the helper's name. */
export const REFUSED_HELPERS: ReadonlyMap<string, string> = new Map(
  REASONS.flatMap(([reason, names]) =>
    names
      .trim()
      .split(/\s+/)
      .map((name) => [name, reason] as const),
  ),
);

const KFUNC_REASONS: readonly (readonly [reason: string, names: RegExp])[] = [
  ['there are no control groups', /cgroup|_css_/],
  ['there are no keys', /_key|pkcs7/],
  ['there are no files', /_file|path_d_path|xattr/],
  ['there is no kernel to crash', /crash_kexec/],
  ['there is no device', /xdp_metadata/],
  ['there are no sockets', /sock/],
];

/** Why a kfunc is not there. */
export function refusedKfunc(name: string): string {
  return KFUNC_REASONS.find(([, names]) => names.test(name))?.[0] ?? 'nothing of it is in user space';
}
