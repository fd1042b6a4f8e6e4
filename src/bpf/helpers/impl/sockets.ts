/** Sockets (net/core/filter.c, net/core/bpf_sk_storage.c): there are none, so nothing is found and nothing can be given. */
import { fail, type HelperImpl } from './context.ts';

const NONE = (): number => 0;

export const SOCKET_HELPERS: Readonly<Record<string, HelperImpl>> = {
  sk_lookup_tcp: NONE,
  sk_lookup_udp: NONE,
  skc_lookup_tcp: NONE,
  sk_fullsock: NONE,
  tcp_sock: NONE,
  get_listener_sock: NONE,
  skc_to_tcp6_sock: NONE,
  skc_to_tcp_sock: NONE,
  skc_to_tcp_timewait_sock: NONE,
  skc_to_tcp_request_sock: NONE,
  skc_to_udp6_sock: NONE,
  skc_to_unix_sock: NONE,
  skc_to_mptcp_sock: NONE,
  sock_from_file: NONE,
  sk_storage_get: NONE,
  inode_storage_get: NONE,
  cgrp_storage_get: NONE,
  sk_storage_delete: () => fail('ENOENT'),
  inode_storage_delete: () => fail('ENOENT'),
  cgrp_storage_delete: () => fail('ENOENT'),
  sk_release: () => 0n,
  sk_cgroup_id: () => 0n,
  sk_ancestor_cgroup_id: () => 0n,
};
