/**
 * BPF_PROG_TEST_RUN (net/bpf/test_run.c, kernel/trace/bpf_trace.c, kernel/bpf/syscall.c): a program on a packet or a context that
 * the caller gives. Pointers in contexts are addresses in the machine's memory.
 */
import { percpuBlock } from '../layout.ts';
import { viewMemory } from '../maps/memory-view.ts';
import { refuse, repeatRun, slice, type TestProgram, withBlock } from './test-run-common.ts';
import { runFlowDissector, runSkb } from './test-run-skb.ts';
import { runXdp } from './test-run-xdp.ts';
import type { TestRunOptions, TestRunResult } from './types.ts';

const U16_MAX = 65535;
/** u64 arguments of a raw tracepoint. */
const MAX_RAW_TP_ARGS = 12;

/** Program types that see a packet through `struct __sk_buff`. */
export const SKB_TYPES: ReadonlySet<string> = new Set([
  'socket_filter',
  'sched_cls',
  'sched_act',
  'cgroup_skb',
  'lwt_in',
  'lwt_out',
  'lwt_xmit',
]);

const isGiven = (value: number | undefined): boolean => value !== undefined && value !== 0;

/** The context has what the program may read (max_ctx_offset), and no more than there can be. */
function checkContextSize(program: TestProgram, ctxIn: Uint8Array, most: number): void {
  const least = program.contextSize;
  if (ctxIn.length < least || ctxIn.length > most) {
    refuse('EINVAL', `context of ${ctxIn.length} bytes, not ${least} to ${most}`);
  }
}

/** bpf_prog_test_run_raw_tp */
function runRawTracepoint(program: TestProgram, options: TestRunOptions): TestRunResult {
  const { ctxIn = new Uint8Array(0), cpu = 0 } = options;
  const other = options.dataIn !== undefined || isGiven(options.repeat) || isGiven(options.batchSize);
  if (other) refuse('EINVAL', 'a raw tracepoint takes a context only');
  checkContextSize(program, ctxIn, MAX_RAW_TP_ARGS * 8);
  if (cpu >= program.machine.ncpu) refuse('ENXIO', `CPU ${cpu} is not one of ${program.machine.ncpu}`);
  const { ctx } = percpuBlock(program.machine.layout, cpu);
  const { u8 } = viewMemory(program.machine.memory);
  u8.fill(0, ctx, ctx + MAX_RAW_TP_ARGS * 8);
  u8.set(ctxIn, ctx);
  return repeatRun(program, { cpu, ...(options.execute && { execute: options.execute }) }, ctx);
}

/** bpf_prog_test_run_syscall */
function runSyscall(program: TestProgram, options: TestRunOptions): TestRunResult {
  const { ctxIn = new Uint8Array(0) } = options;
  const other = options.dataIn !== undefined || isGiven(options.repeat) || isGiven(options.flags);
  if (other) refuse('EINVAL', 'a syscall program takes a context only');
  checkContextSize(program, ctxIn, U16_MAX);
  const size = Math.max(8, ctxIn.length);
  return withBlock(program, size, (block) => {
    viewMemory(program.machine.memory).u8.set(ctxIn, block);
    const result = repeatRun(program, options, block);
    return { ...result, ctxOut: slice(program, block, block + ctxIn.length) };
  });
}

type Runner = (program: TestProgram, options: TestRunOptions) => TestRunResult;

const RUNNERS: ReadonlyMap<string, Runner> = new Map<string, Runner>([
  ...[...SKB_TYPES].map((type) => [type, runSkb] as const),
  ['xdp', runXdp],
  ['flow_dissector', runFlowDissector],
  ['raw_tracepoint', runRawTracepoint],
  ['raw_tracepoint_writable', runRawTracepoint],
  ['syscall', runSyscall],
]);

/** Whether programs of the type have test runs here. */
export const hasTestRun = (type: string): boolean => RUNNERS.has(type);

/** Throws BpfError ENOTSUPP where the type has none, else what the kernel answers. */
export function testRun(program: TestProgram, options: TestRunOptions): TestRunResult {
  const run = RUNNERS.get(program.type);
  return run?.(program, options) ?? refuse('ENOTSUPP', `programs of type ${program.type} have none`);
}
