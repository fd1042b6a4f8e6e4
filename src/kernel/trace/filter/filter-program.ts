/** Filters that run: one memory for all of them, a Wasm instance each, the interpreter where Wasm is not to be had. */
import { interpretProgram } from '../../../bpf/interpreter/program.ts';
import { jitProgram } from '../../../bpf/jit/jit.ts';
import { createMemory, layoutMemory, percpuBlock } from '../../../bpf/layout.ts';
import { initMemory } from '../../../bpf/maps/map.ts';
import type { VerifiedProgram } from '../../../bpf/verifier/types.ts';
import type { TraceRecord } from '../trace-entry.ts';
import type { Tracing } from '../tracing.ts';
import { compileFilter, contextRange } from './compile.ts';
import { evaluatePredicate } from './evaluate.ts';
import type { FilterStep } from './predicate.ts';

/** How filters run: `interpreter` is the reference. */
export type FilterEngine = 'jit' | 'interpreter';

const layout = layoutMemory([], { ncpu: 1 });

/** Made at the first filter: the context of the record that is looked at. */
let shared: { memory: WebAssembly.Memory; bytes: Uint8Array; context: number } | undefined;

function sharedMemory() {
  if (shared === undefined) {
    const memory = createMemory(layout);
    initMemory(memory, layout);
    shared = { memory, bytes: new Uint8Array(memory.buffer), context: percpuBlock(layout, 0).scratch };
  }
  return shared;
}

/** filter_match_preds() of a parsed filter. Compiled at the first record. */
export function filterMatcher(
  tracing: Tracing,
  steps: readonly FilterStep[],
  engine: FilterEngine = 'jit',
): (record: TraceRecord) => boolean {
  const [begin, end] = contextRange(steps);
  let current: TraceRecord | undefined;
  const answer = (index: number): number => {
    const step = steps[index];
    if (step === undefined || current === undefined) return 0;
    return evaluatePredicate(tracing, step.predicate, current) ? 1 : 0;
  };
  let run: ((context: number) => number) | undefined;
  return (record) => {
    const { memory, bytes, context } = sharedMemory();
    run ??= instantiate(compileFilter(steps), memory, answer, engine);
    const { data } = record;
    // A loop beats set() of a subarray for the few bytes that a filter reads.
    for (let i = begin; i < end; i++) bytes[context + i] = i < data.length ? (data[i] as number) : 0;
    current = record;
    const passed = run(context) !== 0;
    current = undefined;
    return passed;
  };
}

function instantiate(
  program: VerifiedProgram,
  memory: WebAssembly.Memory,
  answer: (index: number) => number,
  engine: FilterEngine,
): (context: number) => number {
  const imports = { kfunc: { trace_filter_pred: answer } };
  if (engine === 'jit') {
    const { wasm } = jitProgram(program, layout);
    const module = new WebAssembly.Module(wasm as Uint8Array<ArrayBuffer>);
    const instance = new WebAssembly.Instance(module, { env: { memory, cpu: 0 }, ...imports });
    return instance.exports.run as (context: number) => number;
  }
  return (context) => Number(interpretProgram(program, layout, memory, BigInt(context), { imports }).run());
}
