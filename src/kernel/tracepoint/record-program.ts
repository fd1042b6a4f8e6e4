/**
 * The eBPF programs that make a tracepoint program's context in a process: a record as the event's `format` describes it
 * (perf_trace_EVENT()), or the arguments of a raw tracepoint (`struct bpf_raw_tracepoint_args`).
 */
import { ProgramBuilder, R0, R1, R2, R3, R4, R6, R7, R10, type Reg } from '../../bpf/builder.ts';
import type { Insn } from '../../bpf/isa.ts';
import * as isa from '../../bpf/isa.ts';
import { JS_KFUNCS } from '../trace/js-kfuncs.ts';
import { ARG_REGS, argumentRef, PT_REGS } from '../trace/pt-regs.ts';
import type { EventField } from './runtime-events.ts';
import { RecordLayout, type TracepointFields } from './trace-event.ts';

export interface ContextProgramOptions {
  readonly fields: readonly EventField[];
  /** Index of the array whose only value is the context. */
  readonly map: number;
  /** Bytes of a string, its NUL among them; a multiple of 8. */
  readonly maxString: number;
  /** The number of a property path; 0 is the empty one. */
  readonly path: (keys: readonly string[]) => number;
  readonly pid: number;
}

export interface ContextProgram {
  /** For verifyProgram() as a kprobe program with the js_* kfuncs. */
  readonly insns: readonly Insn[];
  /** Bytes of the context: the map's value. */
  readonly size: number;
  /** Of them those that loads may read: strings are behind, for bpf_probe_read_kernel_str(). */
  readonly fixedSize: number;
}

/** The layout of an event's records, strings apart. */
export function recordLayout(fields: readonly EventField[]): RecordLayout {
  return new RecordLayout(
    Object.fromEntries(fields.map(({ name, type }) => [name, type])) as TracepointFields,
  );
}

/** A record of the event: strings have room of `maxString` bytes each behind its fields. */
export function recordProgram(options: ContextProgramOptions): ContextProgram {
  const { fields, maxString } = options;
  const layout = recordLayout(fields);
  const fixedSize = Math.ceil(layout.size / 8) * 8;
  const strings = fields.filter(({ type }) => type === 'string').length;
  const b = begin(options.map);
  b.st(4, R7, 0, 0).st(4, R7, 4, options.pid);
  let at = fixedSize;
  for (const [i, field] of fields.entries()) {
    const { offset, size } = layout.fields[i]!;
    if (field.type !== 'string') {
      value(b, field, options);
      b.stx(size as 1 | 2 | 4 | 8, R7, offset, R0);
      continue;
    }
    // The length with the NUL in the upper half; what cannot be read is an empty text.
    const known = b.newLabel('known');
    root(b, field, R3);
    b.mov(R1, R7).add(R1, at).mov(R2, maxString).mov(R4, options.path(field.path)).kcall(JS_KFUNCS.js_str.id);
    b.jcond('s>', R0, 0, known).mov(R0, 1).label(known);
    b.lsh(R0, 16).or(R0, at).stx(4, R7, offset, R0);
    at += maxString;
  }
  return { insns: end(b), size: fixedSize + strings * maxString, fixedSize };
}

/** Words: numbers, and handles of whatever is no number. */
export function argsProgram(options: ContextProgramOptions): ContextProgram {
  const { fields } = options;
  const b = begin(options.map);
  for (const [i, field] of fields.entries()) {
    value(b, field, options);
    b.stx(8, R7, i * 8, R0);
  }
  const size = Math.max(8, fields.length * 8);
  return { insns: end(b), size, fixedSize: fields.length * 8 };
}

function begin(map: number): ProgramBuilder {
  const b = new ProgramBuilder();
  b.mov(R6, R1).st(4, R10, -4, 0).ldMap(R1, map).mov(R2, R10).add(R2, -4).call(isa.BPF_FUNC_map_lookup_elem);
  return b.jcond('==', R0, 0, 'out').mov(R7, R0);
}

function end(b: ProgramBuilder): Insn[] {
  return b.label('out').mov(R0, 0).exit().build();
}

/** A field's value in R0, as registers hold values. */
function value(b: ProgramBuilder, field: EventField, { path }: ContextProgramOptions): void {
  const name = ARG_REGS[field.arg];
  if (name === undefined) b.mov(R1, field.arg).kcall(JS_KFUNCS.js_arg.id);
  else b.ldx(8, R0, R6, PT_REGS[name]);
  if (field.path.length > 0) b.mov(R1, R0).mov(R2, path(field.path)).kcall(JS_KFUNCS.js_path.id);
}

/** What a string is read from: the value of a bare argument is taken as it is, not as a register holds it. */
function root(b: ProgramBuilder, { arg, path }: EventField, into: Reg): void {
  const name = ARG_REGS[arg];
  if (path.length === 0) b.lddw(into, argumentRef(arg));
  else if (name !== undefined) b.ldx(8, into, R6, PT_REGS[name]);
  else b.mov(R1, arg).kcall(JS_KFUNCS.js_arg.id).mov(into, R0);
}
