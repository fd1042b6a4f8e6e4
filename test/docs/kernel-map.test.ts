import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { HELPERS } from '../../src/bpf/helpers/helpers.ts';

const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));

/** Rows of every table of a page: its cells. */
function rows(page: string): string[][] {
  const lines = readFileSync(path.join(root, page), 'utf8').split('\n');
  return lines
    .filter((line) => /^\|(?!\s*-)/.test(line))
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

/** Paths of this repository that a text names between backticks. */
function pathsIn(text: string): string[] {
  const found = text.matchAll(/`((?:src|test|bench|docs|scripts|examples)\/[^`*\s]*)`/g);
  return [...found].map((match) => match[1]!);
}

test('every path that the kernel map names is there', () => {
  const paths = rows('docs/kernel-map.md').flatMap((cells) => cells.flatMap(pathsIn));
  expect(paths.length).toBeGreaterThan(200);
  expect(paths.filter((name) => !existsSync(path.join(root, name)))).toEqual([]);
});

/** The text of a file, or of all sources in a folder. */
function textAt(place: string): string {
  const at = path.join(root, place);
  if (!statSync(at).isDirectory()) return readFileSync(at, 'utf8');
  const files = readdirSync(at).filter((name) => name.endsWith('.ts'));
  return files.map((name) => readFileSync(path.join(at, name), 'utf8')).join('\n');
}

const hasWord = (text: string, word: string): boolean =>
  new RegExp(`(?<![\\w$])${word}(?![\\w$])`).test(text);

test('what the kernel map says of a place is found in it', () => {
  const missing: string[] = [];
  let checked = 0;
  for (const [kernel = '', here = ''] of rows('docs/kernel-map.md')) {
    const text = pathsIn(here).map(textAt).join('\n');
    if (text === '') continue;
    for (const [, name = ''] of here.matchAll(/`((?:\w+\.)?#?\w+)`/g)) {
      checked++;
      for (const word of name.split('.')) if (!hasWord(text, word)) missing.push(`${kernel}: ${name}`);
    }
  }
  expect(checked).toBeGreaterThan(80);
  expect(missing).toEqual([]);
});

test('every row of the kernel map that is not planned names a file and a test', () => {
  const all = rows('docs/kernel-map.md').filter(([kernel]) => !/^(kernel|helper)$/.test(kernel ?? ''));
  const bare = all.filter(([, here = '', tests = '']) => {
    if (here === 'planned') return false;
    return pathsIn(here).length === 0 || !pathsIn(tests).some((name) => name.endsWith('.test.ts'));
  });
  expect(bare.map(([kernel]) => kernel)).toEqual([]);
  expect(all.filter(({ length }) => length !== 4)).toEqual([]);
});

test('the titles that the kernel map gives of tests are in their files', () => {
  const missing: string[] = [];
  for (const [, , tests = ''] of rows('docs/kernel-map.md')) {
    for (const [, file = '', titles = ''] of tests.matchAll(/`(test\/[^`]+)`: ([^;`]+)/g)) {
      const text = textAt(file);
      for (const title of titles
        .split(', ')
        .map((one) => one.trim())
        .filter((one) => one !== ''))
        if (!text.includes(title)) missing.push(`${title} in ${file}`);
    }
  }
  expect(missing).toEqual([]);
});

/** What the map is to have a row for: structures, functions and helpers of the parts of the kernel that Trapline follows. */
const KERNEL =
  `patch_text unregister_kprobe tracing_record_cmdline __trace_bprintk __trace_printk bpf_trace_module raw_tp_prog_func_proto
  bpf_prog_array_copy bpf_prog_array_copy_info dyn_event dyn_event_operations fetch_insn static_key bpf_func_proto bpf_insn bpf_prog
  bpf_prog_array __BPF_PROG_RUN_ARRAY perf_event file_operations bpf_get_trace_printk_proto bpf_get_probe_write_proto sk_buff
  bpf_skb_get_pay_offset skb_get_poff __skb_get_poff kprobe enable_kprobe __arm_kprobe get_optimized_kprobe arch_arm_kprobe
  optimize_kprobe kick_kprobe_optimizer schedule_delayed_work do_optimize_kprobes arch_optimize_kprobes register_kprobe get_kprobe
  prepare_kprobe hlist_add_head_rcu arm_kprobe try_to_optimize_kprobe register_kretprobe pre_handler_kretprobe arch_prepare_kretprobe
  kretprobe_inst_table trace_entry trace_iterator trace_event trace_event_class trace_event_call trace_event_file event_trace_printk
  bpf_get_raw_tracepoint_module tracing_func_proto kprobe_prog_func_proto pe_prog_func_proto tracing_prog_func_proto
  pe_prog_convert_ctx_access perf_event_attach_bpf_prog perf_event_query_prog_array __bpf_trace_run __bpf_probe_register
  bpf_event_notify bpf_module_nb bpf_event_init trace_probe_event trace_probe event_file_link trace_kprobe trace_kprobe_ops
  __enable_trace_kprobe enable_trace_kprobe trace_probe_primary_from_call trace_probe_add_file trace_probe_set_flag
  trace_probe_probe_list register_trace_kprobe register_kprobe_event __register_trace_kprobe dyn_event_add kprobe_events_ops probes_write
  create_or_delete_trace_kprobe trace_kprobe_create alloc_trace_kprobe kprobe_dispatcher kprobe_perf_func bpf_prog_array_valid
  trace_call_bpf BPF_PROG_RUN_ARRAY perf_trace_buf_alloc store_trace_args perf_trace_buf_submit __kprobe_trace_func
  trace_event_buffer_lock_reserve ring_buffer_event_data event_trigger_unlock_commit_regs kprobe_event_define_fields tracepoint_func
  tracepoint bpf_raw_event_map tracepoint_probe_register tracepoint_probe_register_prio tracepoint_add_func kprobe_ftrace_handler
  bpf_map_lookup_elem bpf_map_update_elem bpf_map_delete_elem bpf_map_push_elem bpf_map_pop_elem bpf_map_peek_elem bpf_ktime_get_ns
  bpf_tail_call bpf_get_current_pid_tgid bpf_get_current_task bpf_get_current_uid_gid bpf_get_current_comm bpf_trace_printk
  bpf_get_smp_processor_id bpf_get_numa_node_id bpf_perf_event_read bpf_probe_write_user bpf_current_task_under_cgroup
  bpf_get_prandom_u32 bpf_probe_read_user bpf_probe_read_kernel bpf_probe_read bpf_probe_read_user_str bpf_probe_read_kernel_str
  bpf_probe_read_str bpf_get_current_cgroup_id bpf_send_signal bpf_perf_event_output bpf_get_stackid bpf_get_stack
  bpf_perf_event_read_value bpf_override_return bpf_perf_prog_read_value bpf_skb_output bpf_probe_read_compat bpf_probe_read_compat_str
  event_filter trace_subsystem_dir trace_event_functions bpf_perf_event_data trace_kprobe_show trace_kprobe_is_busy
  trace_kprobe_release trace_kprobe_match`.split(/\s+/);

test('the kernel map has a row for each structure, function and helper, with a place or planned', () => {
  const table = rows('docs/kernel-map.md');
  const names = new Map(
    table.flatMap(([kernel = '', here = '']) =>
      [...kernel.matchAll(/`(?:struct )?(\w+)/g)].map((match) => [match[1]!, here] as const),
    ),
  );
  expect(KERNEL.filter((name) => !names.has(name))).toEqual([]);
  expect(KERNEL.filter((name) => names.get(name) === '')).toEqual([]);
});

test('helpers that the kernel map has a place for are declared', () => {
  const helpers = rows('docs/kernel-map.md').filter(([, here]) => here === '`src/bpf/helpers/helpers.ts`');
  expect(helpers.length).toBeGreaterThan(10);
  for (const [kernel = ''] of helpers)
    expect(Object.keys(HELPERS)).toContain(/`bpf_(\w+)`/.exec(kernel)?.[1]);
});

const PAGES = [
  'README.md',
  'ROADMAP.md',
  'CHANGELOG.md',
  'bench/RESULTS.md',
  ...readdirSync(path.join(root, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];

test.each(PAGES)('links of %s lead somewhere', (page) => {
  const text = readFileSync(path.join(root, page), 'utf8');
  const links = [...text.matchAll(/\]\((?!https?:)([^)#]+)/g)].map((match) => match[1]!);
  const folder = path.dirname(path.join(root, page));
  expect(links.filter((link) => !existsSync(path.join(folder, link)))).toEqual([]);
  expect(pathsIn(text).filter((name) => !existsSync(path.join(root, name)))).toEqual([]);
});
