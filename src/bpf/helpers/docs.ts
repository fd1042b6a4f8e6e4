/** docs/helpers.md, made of the tables: `npm run generate` writes it, a test keeps it true. */
import {
  EMITTED_KFUNCS,
  fileOf,
  HELPER_IMPLS,
  KFUNC_IMPLS,
  REFUSED_HELPERS,
  refusedKfunc,
} from './impl/index.ts';
import { KERNEL_KFUNCS } from './kernel-kfuncs.ts';
import { kernelProto } from './kernel-protos.ts';
import { HELPER_NAMES } from './names.ts';

/** Where user space gives another answer than a kernel would, or a constant one. */
const NOTES: Readonly<Record<string, string>> = {
  probe_read: 'one address space, the memory: every other address is -EFAULT, and the destination zero',
  ktime_get_ns: 'the machine option `clock`; default `performance.now()`',
  ktime_get_boot_ns: 'the same clock as ktime_get_ns',
  ktime_get_coarse_ns: 'whole milliseconds',
  ktime_get_tai_ns: 'CLOCK_REALTIME and 37 seconds',
  jiffies64: '1000 a second',
  trace_printk:
    'lines go to `runtime.traceBuffer` and the option `tracePrintk`; addresses of %p are not hashed, %ps and %pB print numbers',
  snprintf: 'as trace_printk',
  snprintf_btf:
    "types of the target BTF, without one of the program's own; addresses are not hashed. `showValue()` is the same as a function",
  seq_printf_btf: 'as snprintf_btf; told to the option `effect`',
  get_prandom_u32: 'the machine option `random`',
  get_smp_processor_id: 'the thread',
  get_numa_node_id: '0',
  get_current_pid_tgid: 'the machine option `task`; default the Node process',
  get_current_uid_gid: 'as above',
  get_current_comm: 'as above',
  get_current_task: 'a task_struct with the fields of the option `task`, as the target BTF has it',
  get_ns_current_pid_tgid: 'for `task.pidNamespace`; -EINVAL for any other',
  send_signal: 'told to the option `effect`',
  send_signal_thread: 'told to the option `effect`',
  redirect: 'told to the option `effect`; there are no devices',
  redirect_map: 'told to the option `effect`',
  redirect_neigh: 'told to the option `effect`',
  redirect_peer: 'told to the option `effect`',
  skb_change_proto: 'up to the room of a test run, then -ENOMEM',
  tcp_raw_gen_syncookie_ipv4:
    "cookies that this machine accepts for two minutes; its secret is not the kernel's",
  tcp_raw_gen_syncookie_ipv6: 'as tcp_raw_gen_syncookie_ipv4',
  clone_redirect: '-EINVAL: no device has the number; told to the option `effect`',
  override_return: 'sets ax of the context and is told to the option `effect`',
  seq_write: 'told to the option `effect`',
  seq_printf: 'told to the option `effect`',
  get_stackid: 'frames of the option `stack`; without any -EFAULT',
  get_stack: 'as get_stackid',
  get_task_stack: 'as get_stackid',
  perf_event_read: '-ENOENT: there are no counters',
  perf_event_read_value: '-ENOENT: there are no counters',
  get_branch_snapshot: '-ENOENT: no processor records',
  read_branch_records: '-ENOENT: no processor records',
  get_current_cgroup_id: '1, the root',
  get_current_ancestor_cgroup_id: '1 for level 0, else 0',
  get_cgroup_classid: '0',
  current_task_under_cgroup: '-EAGAIN: no control group can be in the map',
  skb_under_cgroup: '-ENOENT: no socket sent the packet',
  get_route_realm: '0',
  get_hash_recalc: 'another hash than the kernel, whose key is secret',
  skb_get_tunnel_key: '-EINVAL: no tunnel brought the packet',
  skb_get_tunnel_opt: '-ENOENT: no tunnel brought the packet',
  skb_get_xfrm_state: '-EINVAL: there is none',
  csum_update: '-ENOTSUPP: packets of test runs have CHECKSUM_NONE',
  csum_diff: '32 bits, as Linux 6.12 on x86',
  get_socket_cookie: '0: there is no socket',
  get_socket_uid: '65534: there is no socket',
  get_netns_cookie: '1',
  fib_lookup: '-ENODEV: there are no routes and devices',
  check_mtu: '-ENODEV: there are no devices',
  find_vma: '-ENOENT: there are no mappings',
  kallsyms_lookup_name: '-ENOENT: there are no kernel symbols',
  get_attach_cookie: '`runtime.cookies`, by program',
  get_func_ip: 'ip of the context, or `runtime.functionAddresses`, by program',
  task_storage_get: 'a task is a thread',
  timer_init:
    'timers run by setTimeout on the thread that started them, or with `timers: "virtual"` by `runtime.timers.advance()`',
  spin_lock: 'a lock of the machine: the field holds 1 + the CPU',
  skb_change_tail: 'up to the room of a test run, then -ENOMEM',
  skb_change_head: 'up to the room of a test run, then -ENOMEM',
  bpf_obj_new_impl: 'lists and trees are for the thread that made them',
  bpf_rcu_read_lock: 'nothing to do',
  bpf_rcu_read_unlock: 'nothing to do',
  bpf_preempt_disable: 'nothing to do',
  bpf_preempt_enable: 'nothing to do',
};
const SOCKET_NOTE = 'nothing: there are no sockets, inodes and control groups';

const cell = (text: string): string => text.replaceAll('|', '\\|');

function helperRow(name: string, id: number): string {
  const reason = REFUSED_HELPERS.get(name);
  if (reason !== undefined) return `| ${id} | \`${name}\` | refused | ${cell(reason)} |`;
  const file = fileOf(name);
  const has = Object.hasOwn(HELPER_IMPLS, name);
  // The rest is in the JIT's own code, or the machine's.
  const where = has ? `impl/${file}.ts` : 'machine';
  const note = NOTES[name] ?? (file === 'sockets' ? SOCKET_NOTE : '');
  return `| ${id} | \`${name}\` | ${where} | ${cell(note)} |`;
}

function kfuncRow(name: string): string {
  if (EMITTED_KFUNCS.has(name)) return `| \`${name}\` | machine |  |`;
  return Object.hasOwn(KFUNC_IMPLS, name)
    ? `| \`${name}\` | impl/${fileOf(name)}.ts | ${cell(NOTES[name] ?? '')} |`
    : `| \`${name}\` | refused | ${cell(refusedKfunc(name))} |`;
}

export function helpersPage(): string {
  const helpers = HELPER_NAMES.map((name, id) => ({ name, id })).filter(
    ({ id }) => kernelProto(id) !== undefined,
  );
  const refused = helpers.filter(({ name }) => REFUSED_HELPERS.has(name)).length;
  const kfuncs = [...KERNEL_KFUNCS.keys()];
  const missing = kfuncs.filter(
    (name) => !Object.hasOwn(KFUNC_IMPLS, name) && !EMITTED_KFUNCS.has(name),
  ).length;
  return [
    '# Helpers and kernel functions',
    '',
    '<!-- made from src/bpf/helpers by `npm run generate` -->',
    '',
    'What programs in a machine (`createMachine()`) may call: every helper of Linux 6.12 and the kernel functions that the verifier',
    `knows. Of ${helpers.length} helpers ${helpers.length - refused} are here and ${refused} are refused when a program that calls them is loaded; of ${kfuncs.length} kernel`,
    `functions ${kfuncs.length - missing} are here. Errors and edges are those of Linux 6.12. Files are in \`src/bpf/helpers\`; \`machine\` is what the`,
    'compiler emits in place or `src/bpf/machine/imports.ts` gives. `LoadInput.imports` replaces or adds any of them. Programs on a',
    'running process have [some of them](objects.md#on-a-running-process).',
    '',
    '## Helpers',
    '',
    '| number | helper | here | note |',
    '| --- | --- | --- | --- |',
    ...helpers.map(({ name, id }) => helperRow(name, id)),
    '',
    '## Kernel functions',
    '',
    '| function | here | note |',
    '| --- | --- | --- |',
    ...kfuncs.map(kfuncRow),
    '',
  ].join('\n');
}
