/** A synthetic event: fields that a hist trigger's action fills (kernel/trace/trace_events_synth.c). */
import { cStringOf } from '../byte-string.ts';
import { symbolText } from '../symbols.ts';
import { dataView, type TraceRecord, writeEntry } from '../trace-entry.ts';
import { TRACE_EVENT_FL_DYNAMIC, TRACE_EVENT_FL_TRACEPOINT, TraceEventCall } from '../trace-event.ts';
import { filterTypeOf, type TraceField } from '../trace-field.ts';
import type { Tracing } from '../tracing.ts';
import { busyError, type DynEvent, type DynEventOps, type DynEvents } from './dynevent.ts';
import { MAX_STRING_SIZE, stringBytes } from './fetch.ts';
import { gfpFlagsText } from './gfp-flags.ts';
import { STR_VAR_LEN_MAX, type SynthField, synthFieldFmt } from './synth-field.ts';

export const SYNTH_SYSTEM = 'synthetic';

const ENTRY_SIZE = 8;

/** A field's value: a number, a string's text or bytes, addresses of a stack (the innermost first). */
export type SynthValue = bigint | string | Uint8Array | readonly bigint[];

export class SynthEvent implements DynEvent {
  readonly ops: DynEventOps;
  readonly name: string;
  readonly fields: readonly SynthField[];
  readonly call: TraceEventCall;
  /** Hist triggers that fire it: it cannot be removed. */
  ref = 0;
  readonly #dynEvents: DynEvents;
  /** Bytes from the record's start to what stands behind the fixed part. */
  readonly #end: number;
  readonly #offsets: readonly number[];

  constructor(dynEvents: DynEvents, ops: DynEventOps, name: string, fields: readonly SynthField[]) {
    this.ops = ops;
    this.name = name;
    this.fields = fields;
    this.#dynEvents = dynEvents;
    let end = ENTRY_SIZE;
    this.#offsets = fields.map((field) => {
      const offset = end;
      end += isStaticString(field) ? STR_VAR_LEN_MAX : 8;
      return offset;
    });
    this.#end = end;
    this.call = new TraceEventCall({
      name,
      class: { system: SYNTH_SYSTEM },
      fields: fields.map((field, i) => traceField(field, this.#offsets[i] as number)),
      printFmt: synthPrintFmt(fields),
      flags: TRACE_EVENT_FL_TRACEPOINT | TRACE_EVENT_FL_DYNAMIC,
      print: (record, tracing, tr) => this.#print(record, tracing, tr.options.has('verbose')),
      data: this,
    });
  }

  /** As `synthetic_events` shows it. */
  showFields(): string {
    const fields = this.fields.map(({ type, name }) => `${type.replace('__data_loc ', '')} ${name}`);
    return `${this.name}\t${fields.join('; ')}\n`;
  }

  show(): string {
    return `s:${SYNTH_SYSTEM}/${this.showFields()}`;
  }

  isBusy(): boolean {
    return this.ref > 0;
  }

  match(system: string | undefined, event: string): boolean {
    return event === this.name && (system === undefined || system === SYNTH_SYSTEM);
  }

  release(): void {
    if (this.ref > 0 || this.call.refs > 0 || this.call.users > 0) throw busyError(this.call);
    this.#dynEvents.tracing.removeEvent(this.call);
    this.#dynEvents.remove(this);
  }

  /** trace_synth(): a record with a value for each field, at the place, time and stack of the record that led to it. */
  trace(
    values: readonly SynthValue[],
    { pid, ...at }: Pick<TraceRecord, 'cpu' | 'ts' | 'stack'> & { readonly pid: number },
  ): void {
    const dynamic = this.fields.map((field, i) => (field.isDynamic ? dynamicBytes(values[i]) : undefined));
    let end = this.#end;
    const data = new Uint8Array(end + dynamic.reduce((sum, bytes) => sum + (bytes?.length ?? 0), 0));
    const view = dataView(data);
    writeEntry(data, this.call.id, pid);
    for (const [i, field] of this.fields.entries()) {
      const offset = this.#offsets[i] as number;
      const bytes = dynamic[i];
      if (bytes !== undefined) {
        view.setUint32(offset, ((bytes.length << 16) | (end & 0xffff)) >>> 0, true);
        data.set(bytes, end);
        end += bytes.length;
      } else if (field.kind === 'string') {
        data.set(valueBytes(values[i]).subarray(0, STR_VAR_LEN_MAX - 1), offset);
      } else if (typeof values[i] === 'bigint') writeNumber(view, offset, field.size, values[i] as bigint);
    }
    this.#dynEvents.tracing.commit(this.call, { ...at, data });
  }

  /** print_synth_event() */
  #print({ data }: TraceRecord, tracing: Tracing, verbose: boolean): string {
    const view = dataView(data);
    let text = '';
    for (const [i, field] of this.fields.entries()) {
      const offset = this.#offsets[i] as number;
      const fmt = synthFieldFmt(field.type);
      if (verbose) text += `${fmt} `;
      if (field.kind === 'stack') {
        text += `${field.name}=STACK:\n${stackText(tracing, view, view.getUint32(offset, true))}`;
        continue;
      }
      const space = i === this.fields.length - 1 ? '' : ' ';
      if (field.kind === 'string') {
        const start = field.isDynamic ? view.getUint32(offset, true) & 0xffff : offset;
        text += `${field.name}=${textAt(data, start)}${space}`;
        continue;
      }
      const value = readNumber(view, offset, field.size);
      text += `${field.name}=${numberText(value, fmt, field.size)}${space}`;
      // trace_print_flags_seq() ends what it makes with a NUL, also where that is in the middle of a text.
      if (field.type === 'gfp_t') text += ` (${gfpFlagsText(value)}\0)`;
    }
    return text;
  }
}

function isStaticString(field: SynthField): boolean {
  return field.kind === 'string' && !field.isDynamic;
}

/** synth_event_define_fields() */
function traceField({ name, type, size, isSigned, kind }: SynthField, offset: number): TraceField {
  const filterType = kind === 'stack' ? 'stacktrace' : filterTypeOf(type);
  return { name, type, offset, size, isSigned, filterType, len: 0 };
}

/** __set_synth_event_print_fmt() */
function synthPrintFmt(fields: readonly SynthField[]): string {
  const fmt = fields.map(({ name, type }) => `${name}=${synthFieldFmt(type)}`).join(', ');
  const values = fields.map(({ name, kind, isDynamic }) => {
    if (kind === 'string' && isDynamic) return `, __get_str(${name})`;
    return kind === 'stack' ? `, __get_stacktrace(${name})` : `, REC->${name}`;
  });
  return `"${fmt}"${values.join('')}`;
}

function valueBytes(value: SynthValue | undefined): Uint8Array {
  if (value instanceof Uint8Array) {
    const nul = value.indexOf(0);
    return nul < 0 ? value : value.subarray(0, nul);
  }
  return typeof value === 'string' ? stringBytes(value).subarray(0, -1) : new Uint8Array(0);
}

/** A string with its NUL, or a stack's depth and addresses. */
function dynamicBytes(value: SynthValue | undefined): Uint8Array {
  if (typeof value === 'object' && !(value instanceof Uint8Array)) {
    const bytes = new Uint8Array(8 * (value.length + 1));
    const view = dataView(bytes);
    for (const [i, address] of [BigInt(value.length), ...value].entries())
      view.setBigUint64(8 * i, address, true);
    return bytes;
  }
  const text = valueBytes(value).subarray(0, MAX_STRING_SIZE - 1);
  const bytes = new Uint8Array(text.length + 1);
  bytes.set(text);
  return bytes;
}

function writeNumber(view: DataView, offset: number, size: number, value: bigint): void {
  if (size === 1) view.setUint8(offset, Number(BigInt.asUintN(8, value)));
  else if (size === 2) view.setUint16(offset, Number(BigInt.asUintN(16, value)), true);
  else if (size === 4) view.setUint32(offset, Number(BigInt.asUintN(32, value)), true);
  else view.setBigUint64(offset, BigInt.asUintN(64, value), true);
}

function readNumber(view: DataView, offset: number, size: number): bigint {
  if (size === 1) return BigInt(view.getUint8(offset));
  if (size === 2) return BigInt(view.getUint16(offset, true));
  return size === 4 ? BigInt(view.getUint32(offset, true)) : view.getBigUint64(offset, true);
}

/** printf of an unsigned number that C has made an int on the way where it is smaller. */
function numberText(value: bigint, fmt: string, size: number): string {
  if (fmt === '%x') return value.toString(16);
  return fmt.endsWith('d')
    ? String(size === 8 ? BigInt.asIntN(64, value) : BigInt.asIntN(32, value))
    : String(value);
}

function textAt(data: Uint8Array, start: number): string {
  return cStringOf(data.subarray(start));
}

function stackText(tracing: Tracing, view: DataView, location: number): string {
  let text = '';
  const start = location & 0xffff;
  const end = Math.min(start + (location >>> 16), view.byteLength);
  // The first word is the depth.
  for (let at = start + 8; at + 8 <= end; at += 8)
    text += `=> ${symbolText(tracing, view.getBigUint64(at, true), true)}\n`;
  return text;
}
