/** What the kernel's messages call special fields of values and objects. */
const FIELD_NAMES: Readonly<Record<string, string>> = {
  spin_lock: 'bpf_spin_lock',
  res_spin_lock: 'bpf_res_spin_lock',
  timer: 'bpf_timer',
  wq: 'bpf_wq',
  task_work: 'bpf_task_work',
  kptr_unref: 'kptr',
  kptr_ref: 'kptr',
  kptr_percpu: 'percpu_kptr',
  uptr: 'uptr',
  list_head: 'bpf_list_head',
  list_node: 'bpf_list_node',
  rb_root: 'bpf_rb_root',
  rb_node: 'bpf_rb_node',
  refcount: 'bpf_refcount',
};

/** btf_field_type_name */
export const fieldTypeName = (kind: string): string => FIELD_NAMES[kind] ?? kind;
