import {
  TRACE_BPRINT,
  TRACE_BPUTS,
  TRACE_FN,
  TRACE_GRAPH_ENT,
  TRACE_GRAPH_RET,
  TRACE_PRINT,
  TRACE_STACK,
} from '../builtin-events.ts';
import { builtinLine } from '../builtin-output.ts';
import { utf8String } from '../byte-string.ts';
import { ipText } from '../symbols.ts';
import type { TraceArray } from '../trace-array.ts';
import { dataView, entryPid, entryType, type TraceRecord } from '../trace-entry.ts';
import { delayMark, eventText, flagsText } from '../trace-line.ts';
import type { LinePrinter } from '../tracer.ts';

const INDENT = 2;
/** Deepest call whose function is kept to tell whether its end belongs to it (FTRACE_RETFUNC_DEPTH). */
const DEPTH_MAX = 50;
const PROC_WIDTH = 14;
const NO_DURATION = '              |  ';
/** Numbers of errors reach down to its negative. */
const MAX_ERRNO = 4095n;
const RETVAL = 'funcgraph-retval';
const RULE = ' ------------------------------------------\n';

type Option = (name: string) => boolean;

/** trace_print_graph_duration(): microseconds in a column of eight, seven digits at most. */
export function graphDuration(ns: bigint): string {
  let text = String(ns / 1000n);
  if (text.length < 7)
    text += `.${String(ns % 1000n)
      .padStart(3, '0')
      .slice(0, 7 - text.length)}`;
  return `${text} us ${' '.repeat(Math.max(0, 8 - text.length))}`;
}

/** print_graph_headers_flags() */
export function graphHeader(tr: TraceArray, option: Option): string {
  if (!tr.options.has('context-info')) return '';
  const columns: readonly (readonly [boolean, string, string])[] = [
    [option('funcgraph-abstime'), '     TIME       ', '      |         '],
    [option('funcgraph-cpu'), ' CPU', ' |  '],
    [option('funcgraph-proc'), '  TASK/PID       ', '   |    |        '],
    [tr.options.has('latency-format'), '||||   ', '||||   '],
    [option('funcgraph-duration'), '  DURATION   ', '   |   |      '],
    [true, '               FUNCTION CALLS', '               |   |   |   |'],
  ];
  const shown = columns.filter(([on]) => on);
  return `#${shown.map(([, head]) => head).join('')}\n#${shown.map(([, , bars]) => bars).join('')}\n`;
}

interface CpuState {
  pid: number | undefined;
  depth: number;
  readonly functions: bigint[];
}

/** One reading of a graph (print_graph_function_flags()). */
export class GraphPrinter implements LinePrinter {
  readonly #tr: TraceArray;
  readonly #option: Option;
  readonly #cpus = new Map<number, CpuState>();

  constructor(tr: TraceArray, option: Option) {
    this.#tr = tr;
    this.#option = option;
  }

  print(record: TraceRecord, next: TraceRecord | undefined): ReturnType<LinePrinter['print']> {
    const type = entryType(record.data);
    switch (type) {
      case TRACE_GRAPH_ENT:
        return this.#entry(record, next);
      case TRACE_GRAPH_RET:
        return { text: this.#return(record), tookNext: false };
      case TRACE_FN:
      case TRACE_STACK:
        return undefined;
      default: {
        const text = this.#comment(record, type);
        return text === undefined ? undefined : { text, tookNext: false };
      }
    }
  }

  #cpu({ cpu }: TraceRecord): CpuState {
    let state = this.#cpus.get(cpu);
    if (state === undefined) {
      state = { pid: undefined, depth: 0, functions: [] };
      this.#cpus.set(cpu, state);
    }
    return state;
  }

  #entry(record: TraceRecord, next: TraceRecord | undefined) {
    const state = this.#cpu(record);
    const view = dataView(record.data);
    const address = view.getBigUint64(8, true);
    const depth = view.getInt32(16, true);
    const prologue = this.#prologue(record, state);
    const indent = ' '.repeat(Math.max(0, depth) * INDENT);
    const name = ipText(this.#tr, address);
    if (next !== undefined && isEndOf(record, next, address)) {
      state.depth = depth - 1;
      if (depth < DEPTH_MAX) state.functions[depth] = 0n;
      const text = `${prologue}${this.#duration(tookNs(next))}${indent}${name}();${this.#leafEnd(next)}\n`;
      return { text, tookNext: true };
    }
    state.depth = depth;
    if (depth < DEPTH_MAX) state.functions[depth] = address;
    return { text: `${prologue}${this.#noDuration()}${indent}${name}() {\n`, tookNext: false };
  }

  #return(record: TraceRecord): string {
    const state = this.#cpu(record);
    const view = dataView(record.data);
    const address = view.getBigUint64(8, true);
    const depth = view.getInt32(24, true);
    state.depth = depth - 1;
    let known = true;
    if (depth < DEPTH_MAX) {
      known = state.functions[depth] === address;
      state.functions[depth] = 0n;
    }
    const indent = ' '.repeat(Math.max(0, depth) * INDENT);
    const name = ipText(this.#tr, address);
    let tail = known && !this.#option('funcgraph-tail') ? '' : ` /* ${name} */`;
    if (this.#option(RETVAL)) tail = ` /* ${name} = ${this.#retval(record)} */`;
    const overrun = this.#option('funcgraph-overrun') ? ` (Overruns: ${view.getUint32(28, true)})\n` : '';
    return `${this.#prologue(record, state)}${this.#duration(tookNs(record))}${indent}}${tail}\n${overrun}`;
  }

  #leafEnd(end: TraceRecord): string {
    return this.#option(RETVAL) ? ` /* = ${this.#retval(end)} */` : '';
  }

  /** print_graph_retval(): an error's number in decimal, anything else in hexadecimal. */
  #retval({ data }: TraceRecord): string {
    const value = dataView(data).getBigUint64(16, true);
    // A negative number of 32 bits counts as one of 64.
    const number = value >> 31n === 1n ? BigInt.asIntN(32, value) : BigInt.asIntN(64, value);
    const isError = number < 0n && number >= -MAX_ERRNO;
    return isError && !this.#option('funcgraph-retval-hex') ? String(number) : `0x${value.toString(16)}`;
  }

  #comment(record: TraceRecord, type: number): string | undefined {
    const tr = this.#tr;
    const state = this.#cpu(record);
    const call = tr.tracing.events.byId(type);
    let text: string | undefined;
    if (type === TRACE_PRINT || type === TRACE_BPRINT || type === TRACE_BPUTS)
      text = builtinLine(tr, record, type, true);
    else if (call !== undefined)
      text = builtinLine(tr, record, type) ?? `${call.name}: ${eventText(tr, call, record)}`;
    if (text === undefined) return undefined;
    const indent = state.depth > 0 ? ' '.repeat((state.depth + 1) * INDENT) : '';
    const prologue = this.#prologue(record, state);
    return `${prologue}${this.#noDuration()}${indent}/* ${text.replace(/\n$/, '')} */\n`;
  }

  #prologue(record: TraceRecord, state: CpuState): string {
    const tr = this.#tr;
    const pid = entryPid(record.data);
    let text = '';
    if (state.pid !== undefined && state.pid !== pid)
      text += `${RULE}${this.#cpuText(record)}${this.#proc(state.pid)} => ${this.#proc(pid)}\n${RULE}\n`;
    state.pid = pid;
    if (!tr.options.has('context-info')) return text;
    if (this.#option('funcgraph-abstime')) {
      const seconds = String(record.ts / 1_000_000_000n).padStart(5);
      text += `${seconds}.${String((record.ts % 1_000_000_000n) / 1000n).padStart(6, '0')} |  `;
    }
    if (this.#option('funcgraph-cpu')) text += this.#cpuText(record);
    if (this.#option('funcgraph-proc')) text += `${this.#proc(pid)} | `;
    if (tr.options.has('latency-format')) text += ` ${flagsText(record.data)} | `;
    return text;
  }

  #cpuText({ cpu }: TraceRecord): string {
    return ` ${String(cpu).padStart(String(this.#tr.buffer.ncpu - 1).length)}) `;
  }

  #proc(pid: number): string {
    const text = `${utf8String(this.#tr.tracing.savedCmdlines.find(pid)).slice(0, 7)}-${pid}`;
    const spaces = Math.max(0, PROC_WIDTH - text.length);
    return ' '.repeat(spaces >> 1) + text + ' '.repeat(spaces - (spaces >> 1));
  }

  get #showsDuration(): boolean {
    return this.#option('funcgraph-duration') && this.#tr.options.has('context-info');
  }

  #duration(ns: bigint): string {
    if (!this.#showsDuration) return '';
    return `${this.#option('funcgraph-overhead') ? delayMark(ns) : ' '} ${graphDuration(ns)}|  `;
  }

  #noDuration(): string {
    return this.#showsDuration ? NO_DURATION : '';
  }
}

function isEndOf(entry: TraceRecord, next: TraceRecord, address: bigint): boolean {
  return (
    next.cpu === entry.cpu &&
    entryType(next.data) === TRACE_GRAPH_RET &&
    entryPid(next.data) === entryPid(entry.data) &&
    dataView(next.data).getBigUint64(8, true) === address
  );
}

function tookNs({ data }: TraceRecord): bigint {
  const view = dataView(data);
  return view.getBigUint64(40, true) - view.getBigUint64(32, true);
}
