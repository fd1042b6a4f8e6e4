/**
 * Arguments of raw tracepoints that may be NULL, or an error number in the place of a pointer, as Linux 6.12 knows them
 * (raw_tp_null_args of kernel/bpf/btf.c): `tracepoint argument,argument`, counted from 0.
 */
const NULLABLE = `
sched_pi_setprio 1
sched_process_wait 0
sched_stick_numa 2
sched_swap_numa 2
afs_make_fs_call 1
afs_make_fs_calli 1
afs_make_fs_call1 1
afs_make_fs_call2 1
afs_protocol_error 0
afs_flock_ev 1
cachefiles_unlink 0
cachefiles_rename 0
cachefiles_prep_read 0
cachefiles_mark_active 0
cachefiles_mark_failed 0
cachefiles_mark_inactive 0
cachefiles_vfs_error 0
cachefiles_io_error 0
cachefiles_ondemand_open 0
cachefiles_ondemand_copen 0
cachefiles_ondemand_close 0
cachefiles_ondemand_read 0
cachefiles_ondemand_cread 0
cachefiles_ondemand_fd_write 0
cachefiles_ondemand_fd_release 0
ext4_mballoc_discard 1
ext4_mballoc_free 1
fib_table_lookup 2
posix_lock_inode 1
fcntl_setlk 1
locks_remove_posix 1
flock_lock_inode 1
break_lease_noblock 1
break_lease_block 1
break_lease_unblock 1
generic_delete_lease 1
time_out_leases 1
host1x_cdma_push_gather 4
mm_khugepaged_scan_pmd 1
mm_collapse_huge_page_isolate 0
mm_khugepaged_scan_file 1
mm_khugepaged_collapse_file 1
mm_page_alloc 0
mm_page_pcpu_drain 0
mm_page_alloc_zone_locked 0
netfs_failure 1
device_pm_callback_start 1
qdisc_dequeue 3
rxrpc_recvdata 0
rxrpc_resend 1
kfree_skb 3
xs_stream_read_data 0
xprt_reserve_cong 1
xprt_release_cong 1
xprt_get_cong 1
xprt_put_cong 1
tcp_send_reset 0,1
tegra_dma_tx_status 2
tmigr_update_events 0
writeback_dirty_folio 1
folio_wait_writeback 1`;

const ERRORS = `
signal_generate 1
signal_deliver 1
mr_integ_alloc 3`;

function parse(text: string): ReadonlyMap<string, ReadonlySet<number>> {
  const lines = text.trim().split('\n');
  return new Map(
    lines.map((line) => {
      const [name = '', args = ''] = line.split(' ');
      return [name, new Set(args.split(',').map(Number))];
    }),
  );
}

let nullable: ReadonlyMap<string, ReadonlySet<number>> | undefined;
let errors: ReadonlyMap<string, ReadonlySet<number>> | undefined;

/** Whether argument `n` of a raw tracepoint may be NULL. */
export function mayBeNull(tracepoint: string, n: number): boolean {
  nullable ??= parse(NULLABLE);
  return nullable.get(tracepoint)?.has(n) === true;
}

/** Whether argument `n` may be an error number: then nothing is known about it. */
export function mayBeError(tracepoint: string, n: number): boolean {
  errors ??= parse(ERRORS);
  return errors.get(tracepoint)?.has(n) === true;
}
