/** Kernel functions that programs call, as Linux 6.12 declares them (kernel/bpf/helpers.c, cpumask.c, map_iter.c, net/core/filter.c, fs/bpf_fs_kfuncs.c). */
import type { KernelKfunc } from './kfunc.ts';

const TRACING = ['tracing', 'tracepoint', 'perf_event', 'lsm'];
/** BTF_KFUNC_HOOK_CGROUP: what one of these may call all may. */
const CGROUP = [
  'cgroup_skb',
  'cgroup_sock',
  'cgroup_device',
  'cgroup_sock_addr',
  'cgroup_sockopt',
  'cgroup_sysctl',
];
const GENERIC = [...TRACING, ...CGROUP, 'sched_cls', 'xdp', 'struct_ops', 'syscall'];
const SKB = [
  'sched_cls',
  'sched_act',
  'sk_skb',
  'socket_filter',
  'lwt_in',
  'lwt_out',
  'lwt_xmit',
  'lwt_seg6local',
  'netfilter',
  ...CGROUP,
  ...TRACING,
];
const TRACING_SYSCALL = [...TRACING, 'syscall'];

/** `name result arguments flags` */
const COMMON = `
bpf_cast_to_kern_ctx kern_ctx ctx
bpf_rdonly_cast rdonly_cast any,const
bpf_rcu_read_lock void
bpf_rcu_read_unlock void
bpf_preempt_disable void
bpf_preempt_enable void
bpf_dynptr_slice slice dynptr,int,mem_or_null,size_const ret_null
bpf_dynptr_slice_rdwr slice dynptr,int,mem_or_null,size_const ret_null
bpf_dynptr_adjust int dynptr,int,int
bpf_dynptr_is_null int dynptr
bpf_dynptr_is_rdonly int dynptr
bpf_dynptr_size int dynptr
bpf_dynptr_clone int dynptr,dynptr_uninit
bpf_iter_num_new int iter:num,int,int iter_new
bpf_iter_num_next mem:4 iter:num iter_next,ret_null
bpf_iter_num_destroy void iter:num iter_destroy
bpf_iter_bits_new int iter:bits,any,int iter_new
bpf_iter_bits_next mem:4 iter:bits iter_next,ret_null
bpf_iter_bits_destroy void iter:bits iter_destroy
bpf_iter_css_task_new int iter:css_task,ptr:cgroup_subsys_state,int iter_new,trusted_args
bpf_iter_css_task_next ptr:task_struct iter:css_task iter_next,ret_null
bpf_iter_css_task_destroy void iter:css_task iter_destroy
bpf_iter_css_new int iter:css,ptr:cgroup_subsys_state,int iter_new,trusted_args,rcu_protected
bpf_iter_css_next ptr:cgroup_subsys_state iter:css iter_next,ret_null
bpf_iter_css_destroy void iter:css iter_destroy
bpf_iter_task_new int iter:task,ptr:task_struct?,int iter_new,trusted_args,rcu_protected
bpf_iter_task_next ptr:task_struct iter:task iter_next,ret_null
bpf_iter_task_destroy void iter:task iter_destroy
bpf_iter_task_vma_new int iter:task_vma,ptr:task_struct,int iter_new,rcu
bpf_iter_task_vma_next ptr:vm_area_struct iter:task_vma iter_next,ret_null
bpf_iter_task_vma_destroy void iter:task_vma iter_destroy
bpf_copy_from_user_str int mem,size,any,int sleepable
bpf_wq_init int wq,map,int
bpf_wq_set_callback_impl int wq,func,int,any
bpf_wq_start int wq,int
bpf_arena_alloc_pages int64 map,any64,int,int,int trusted_args,sleepable
bpf_arena_free_pages void map,any64,int trusted_args,sleepable
bpf_map_sum_elem_count int64 map trusted_args`;

const GENERIC_SET = `
bpf_obj_new_impl obj const,any acquire,ret_null
bpf_percpu_obj_new_impl obj const,any acquire,ret_null
bpf_obj_drop_impl void alloc,any release
bpf_percpu_obj_drop_impl void alloc_percpu,any release
bpf_refcount_acquire_impl obj refcounted,any acquire,ret_null,rcu
bpf_list_push_front_impl int list_head,list_node,any,int
bpf_list_push_back_impl int list_head,list_node,any,int
bpf_list_pop_front node list_head acquire,ret_null
bpf_list_pop_back node list_head acquire,ret_null
bpf_rbtree_add_impl int rb_root,rb_node,func,any,int
bpf_rbtree_remove node rb_root,rb_node acquire,ret_null
bpf_rbtree_first node rb_root ret_null
bpf_task_acquire ptr:task_struct ptr:task_struct acquire,rcu,ret_null
bpf_task_release void ptr:task_struct release
bpf_task_from_pid ptr:task_struct int acquire,ret_null
bpf_task_under_cgroup int ptr:task_struct,ptr:cgroup rcu
bpf_task_get_cgroup1 ptr:cgroup ptr:task_struct,int acquire,rcu,ret_null
bpf_cgroup_acquire ptr:cgroup ptr:cgroup acquire,rcu,ret_null
bpf_cgroup_release void ptr:cgroup release
bpf_cgroup_ancestor ptr:cgroup ptr:cgroup,int acquire,rcu,ret_null
bpf_cgroup_from_id ptr:cgroup int acquire,ret_null
crash_kexec void any destructive
bpf_throw void int`;

const CPUMASK_SET = `
bpf_cpumask_create ptr:bpf_cpumask _ acquire,ret_null
bpf_cpumask_release void ptr:bpf_cpumask release
bpf_cpumask_acquire ptr:bpf_cpumask ptr:bpf_cpumask acquire,trusted_args
bpf_cpumask_first int ptr:cpumask rcu
bpf_cpumask_first_zero int ptr:cpumask rcu
bpf_cpumask_first_and int ptr:cpumask,ptr:cpumask rcu
bpf_cpumask_set_cpu void int,ptr:bpf_cpumask rcu
bpf_cpumask_clear_cpu void int,ptr:bpf_cpumask rcu
bpf_cpumask_test_cpu int int,ptr:cpumask rcu
bpf_cpumask_test_and_set_cpu int int,ptr:bpf_cpumask rcu
bpf_cpumask_test_and_clear_cpu int int,ptr:bpf_cpumask rcu
bpf_cpumask_setall void ptr:bpf_cpumask rcu
bpf_cpumask_clear void ptr:bpf_cpumask rcu
bpf_cpumask_and int ptr:bpf_cpumask,ptr:cpumask,ptr:cpumask rcu
bpf_cpumask_or void ptr:bpf_cpumask,ptr:cpumask,ptr:cpumask rcu
bpf_cpumask_xor void ptr:bpf_cpumask,ptr:cpumask,ptr:cpumask rcu
bpf_cpumask_equal int ptr:cpumask,ptr:cpumask rcu
bpf_cpumask_intersects int ptr:cpumask,ptr:cpumask rcu
bpf_cpumask_subset int ptr:cpumask,ptr:cpumask rcu
bpf_cpumask_empty int ptr:cpumask rcu
bpf_cpumask_full int ptr:cpumask rcu
bpf_cpumask_copy void ptr:bpf_cpumask,ptr:cpumask rcu
bpf_cpumask_any_distribute int ptr:cpumask rcu
bpf_cpumask_any_and_distribute int ptr:cpumask,ptr:cpumask rcu
bpf_cpumask_weight int ptr:cpumask rcu`;

const KEY_SET = `
bpf_lookup_user_key ptr:bpf_key int,int acquire,ret_null,sleepable
bpf_lookup_system_key ptr:bpf_key int acquire,ret_null
bpf_key_put void ptr:bpf_key release
bpf_verify_pkcs7_signature int dynptr,dynptr,ptr:bpf_key sleepable`;

const CRYPTO_INIT_SET = `
bpf_crypto_ctx_create ptr:bpf_crypto_ctx mem,size,mem:4 acquire,ret_null,sleepable
bpf_crypto_ctx_release void ptr:bpf_crypto_ctx release
bpf_crypto_ctx_acquire ptr:bpf_crypto_ctx ptr:bpf_crypto_ctx acquire,rcu,ret_null`;

const CRYPTO_SET = `
bpf_crypto_decrypt int ptr:bpf_crypto_ctx,dynptr,dynptr,dynptr? rcu
bpf_crypto_encrypt int ptr:bpf_crypto_ctx,dynptr,dynptr,dynptr? rcu`;

const FS_SET = `
bpf_get_task_exe_file ptr:file ptr:task_struct acquire,trusted_args,ret_null
bpf_put_file void ptr:file release
bpf_path_d_path int ptr:path,mem,size trusted_args
bpf_get_file_xattr int ptr:file,str,dynptr sleepable,trusted_args
bpf_get_dentry_xattr int ptr:dentry,str,dynptr sleepable,trusted_args`;

const RSTAT_SET = `
cgroup_rstat_updated void ptr:cgroup,int
cgroup_rstat_flush void ptr:cgroup sleepable`;

const SESSION_SET = `
bpf_session_is_return int
bpf_session_cookie mem:8`;

const NET_SKB = `
bpf_dynptr_from_skb int ctx,int,dynptr_uninit trusted_args`;
const NET_XDP = `
bpf_dynptr_from_xdp int ctx,int,dynptr_uninit
bpf_xdp_metadata_rx_timestamp int ctx,mem:8
bpf_xdp_metadata_rx_hash int ctx,mem:4,mem:4`;
const NET_ADDR = `
bpf_sock_addr_set_sun_path int ptr:bpf_sock_addr_kern,mem,size`;
const SOCK_ITER = `
bpf_sock_destroy int ptr:sock_common trusted_args`;

function parse(text: string, progTypes: readonly string[] | undefined): KernelKfunc[] {
  return text
    .trim()
    .split('\n')
    .map((line) => {
      const [name, ret, args = '_', flags] = line.split(' ');
      const onlyFlags = flags === undefined && /^(acquire|release|ret_null|sleepable)/.test(args);
      return {
        name: name!,
        ret: ret!,
        args: args === '_' || onlyFlags ? [] : args.split(','),
        flags: (onlyFlags ? args : (flags ?? '')).split(',').filter((one) => one !== ''),
        ...(progTypes === undefined ? {} : { progTypes }),
      };
    });
}

/** By name. */
export const KERNEL_KFUNCS: ReadonlyMap<string, KernelKfunc> = new Map(
  [
    ...parse(COMMON, undefined),
    ...parse(GENERIC_SET, GENERIC),
    ...parse(CPUMASK_SET, [...TRACING, 'struct_ops', 'syscall']),
    ...parse(KEY_SET, TRACING),
    ...parse(CRYPTO_INIT_SET, ['syscall']),
    ...parse(CRYPTO_SET, ['sched_cls', 'sched_act', 'xdp']),
    ...parse(RSTAT_SET, TRACING),
    ...parse(SESSION_SET, ['kprobe']),
    ...parse(FS_SET, ['lsm']),
    ...parse(NET_SKB, SKB),
    ...parse(NET_XDP, ['xdp']),
    ...parse(NET_ADDR, CGROUP),
    ...parse(SOCK_ITER, TRACING_SYSCALL),
  ].map((one) => [one.name, one]),
);
