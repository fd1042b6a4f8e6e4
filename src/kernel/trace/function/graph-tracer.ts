import { TRACE_GRAPH_ENT, TRACE_GRAPH_RET, TRACE_PRINT } from '../builtin-events.ts';
import { stringToBytes } from '../byte-string.ts';
import type { FunctionCall } from '../trace-arch.ts';
import type { TraceArray } from '../trace-array.ts';
import { dataView, writeEntry } from '../trace-entry.ts';
import { recordToBuffer } from '../trace-record.ts';
import type { Tracer } from '../tracer.ts';
import { CallStack } from './call-stack.ts';
import { FunctionUse } from './function-use.ts';
import { GraphPrinter, graphHeader } from './graph-output.ts';

const ENTRY_SIZE = 20;
const EXIT_SIZE = 48;
const PRINT_HEAD = 16;

/** Records that are being made: the buffer takes copies. */
const entryRecord = scratch(ENTRY_SIZE);
const exitRecord = scratch(EXIT_SIZE);

function scratch(bytes: number): { readonly data: Uint8Array; readonly view: DataView } {
  const data = new Uint8Array(bytes);
  return { data, view: dataView(data) };
}

/** What was decided when a call began. */
interface Call {
  /** Its end is recorded. */
  readonly traced: boolean;
  /** It is of `set_graph_notrace`: nothing within it is. */
  readonly hides: boolean;
  /** It is of `set_graph_function`, and the outermost one. */
  readonly shows: boolean;
}

interface TaskState {
  readonly stack: CallStack<Call>;
  hidden: boolean;
  shown: boolean;
}

/** The calls of one instance (trace_graph_entry(), trace_graph_return()). */
class GraphTrace {
  readonly #tr: TraceArray;
  readonly #tasks = new Map<number, TaskState>();
  readonly #use: FunctionUse;

  constructor(tr: TraceArray) {
    this.#tr = tr;
    const option = (name: string): boolean =>
      tr.tracerOption(tr.tracing.tracers.find((tracer) => tracer.name === NAME)!, name);
    this.#use = new FunctionUse(tr, {
      returns: true,
      settles: option(SETTLED),
      retvals: option(RETVAL),
      hit: (call) => this.#hit(call),
    });
  }

  stop(): void {
    this.#use.stop();
  }

  #hit(call: FunctionCall): void {
    let task = this.#tasks.get(call.cpu);
    if (task === undefined) {
      task = { stack: new CallStack(), hidden: false, shown: false };
      this.#tasks.set(call.cpu, task);
    }
    if (call.what === 'entry') this.#entry(call, task);
    else if (call.what === 'return') this.#return(call, task);
    else this.#settle(call);
  }

  #entry(call: FunctionCall, task: TaskState): void {
    const { globalTrace } = this.#tr.tracing;
    const { graph, graphNotrace, maxDepth } = globalTrace.functions;
    const { depth } = task.stack;
    const hides = !task.hidden && graphNotrace.has(call.address);
    const shows = !task.shown && graph.has(call.address);
    const wanted = task.shown || shows || graph.empty;
    const traced = !task.hidden && !hides && wanted && (maxDepth === 0 || depth < maxDepth);
    task.stack.begin(call, { traced, hides, shows });
    if (hides) task.hidden = true;
    if (shows) task.shown = true;
    if (!traced || this.#tr.tracing.tracingThresh > 0n) return;
    const { data, view } = entryRecord;
    writeEntry(data, TRACE_GRAPH_ENT, call.pid);
    view.setBigUint64(8, call.address, true);
    view.setInt32(16, depth, true);
    recordToBuffer(this.#tr, { cpu: call.cpu, ts: call.ts, data });
  }

  #return(call: FunctionCall, task: TaskState): void {
    const ended = task.stack.end(call);
    if (ended === undefined) return;
    const { frame, depth, overrun } = ended;
    if (frame.data.hides) task.hidden = false;
    if (frame.data.shows) task.shown = false;
    if (!frame.data.traced || call.ts - frame.calltime < this.#tr.tracing.tracingThresh) return;
    const { data, view } = exitRecord;
    writeEntry(data, TRACE_GRAPH_RET, call.pid);
    view.setBigUint64(8, call.address, true);
    view.setBigUint64(16, call.retval ?? 0n, true);
    view.setInt32(24, depth, true);
    view.setUint32(28, overrun, true);
    view.setBigUint64(32, frame.calltime, true);
    view.setBigUint64(40, call.ts, true);
    recordToBuffer(this.#tr, { cpu: call.cpu, ts: call.ts, data });
  }

  /** What an asynchronous call promised is there: a comment, as trace_printk() makes. */
  #settle(call: FunctionCall): void {
    const name = this.#tr.tracing.arch.lookupAddress(call.address)?.name ?? '?';
    const text = stringToBytes(`${name}() ${call.failed ? 'rejected' : 'settled'}\n\0`);
    const data = new Uint8Array(PRINT_HEAD + text.length);
    writeEntry(data, TRACE_PRINT, call.pid);
    dataView(data).setBigUint64(8, call.address, true);
    data.set(text, PRINT_HEAD);
    recordToBuffer(this.#tr, { cpu: call.cpu, ts: call.ts, data });
  }
}

const NAME = 'function_graph';
/** Not of Linux: the end of what an asynchronous call promised is shown too. */
const SETTLED = 'funcgraph-settled';
/** Return values are taken while it is on. */
const RETVAL = 'funcgraph-retval';

/** `function_graph`: calls with what they call and how long they took (kernel/trace/trace_functions_graph.c). */
export function graphTracer(): Tracer {
  const traces = new Map<TraceArray, GraphTrace>();
  const tracer: Tracer = {
    name: NAME,
    allowInstances: true,
    options: {
      'funcgraph-overrun': false,
      'funcgraph-cpu': true,
      'funcgraph-overhead': true,
      'funcgraph-proc': false,
      'funcgraph-duration': true,
      'funcgraph-abstime': false,
      'funcgraph-tail': false,
      [RETVAL]: false,
      'funcgraph-retval-hex': false,
      'graph-time': true,
      [SETTLED]: true,
    },
    init(tr) {
      traces.set(tr, new GraphTrace(tr));
    },
    reset(tr) {
      traces.get(tr)?.stop();
      traces.delete(tr);
    },
    optionChanged(tr, option) {
      if (option !== RETVAL && option !== SETTLED) return;
      const trace = traces.get(tr);
      if (trace === undefined) return;
      trace.stop();
      traces.set(tr, new GraphTrace(tr));
    },
    printHeader: (tr) => graphHeader(tr, (option) => tr.tracerOption(tracer, option)),
    open: (tr) => new GraphPrinter(tr, (option) => tr.tracerOption(tracer, option)),
  };
  return tracer;
}
