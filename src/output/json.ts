import { checkArgument } from '../arguments.ts';
import type { Bucket, MapValue, PrintedMap, Printer, Sinks, Value, WarningInfo } from './model.ts';
import { SINKS } from './model.ts';
import { formatBuf, formatStack, formatValue } from './values.ts';

/** bpftrace's NDJSON: one object a line, `{"type": …, "data": …}`. Everything but progress goes to the data sink. */
export class JsonPrinter implements Printer {
  readonly #sinks: Sinks;

  constructor(sinks: Sinks) {
    checkArgument('new JsonPrinter()', 'sinks', sinks, SINKS);
    this.#sinks = sinks;
  }

  attachedProbes(count: number): void {
    this.#emit('attached_probes', `{"probes": ${count}}`);
  }

  printf(text: string): void {
    this.#emit('printf', JSON.stringify(text));
  }

  time(text: string): void {
    this.#emit('time', JSON.stringify(text));
  }

  syscall(text: string): void {
    this.#emit('syscall', JSON.stringify(text));
  }

  value(value: Value): void {
    this.#emit('value', valueJson(value));
  }

  map({ name, type, entries }: PrintedMap): void {
    if (entries.length === 0) return;
    const keyed = entries[0]!.key.length > 0;
    const body = keyed
      ? `{${entries.map(({ key, value }) => `${keyJson(key)}: ${mapValueJson(value)}`).join(', ')}}`
      : mapValueJson(entries[0]!.value);
    this.#emit(type, `{${JSON.stringify(name)}: ${body}}`);
  }

  lostEvents(count: number): void {
    this.#emit('lost_events', `{"events": ${count}}`);
  }

  warning({ message, file, line, column }: WarningInfo): void {
    this.#emit(
      'warning',
      `{"message": ${JSON.stringify(message)}, "filename": ${JSON.stringify(file)}, "line": ${line}, "col": ${column}}`,
    );
  }

  end(): void {}

  #emit(type: string, data: string): void {
    this.#sinks.data(`{"type": "${type}", "data": ${data}}\n`);
  }
}

/** A number where a double holds it exactly, else its digits as a string. */
function integerJson(value: bigint): string {
  return BigInt(Number(value)) === value ? String(value) : `"${value}"`;
}

function valueJson(value: Value): string {
  switch (value.kind) {
    case 'int':
      return integerJson(value.value);
    case 'number':
      return Number.isFinite(value.value) ? JSON.stringify(value.value) : `"${value.value}"`;
    case 'boolean':
      return String(value.value);
    case 'null':
    case 'undefined':
      return 'null';
    case 'text':
      return JSON.stringify(value.text);
    case 'buf':
      return JSON.stringify(formatBuf(value.bytes));
    case 'stack':
      return JSON.stringify(formatStack(value.frames, 8));
    case 'tuple':
      return `[${value.fields.map(valueJson).join(',')}]`;
  }
}

/** Keys are one string, parts joined by commas; a stack's lines are not indented further. */
function keyJson(key: readonly Value[]): string {
  return JSON.stringify(key.map(keyText).join(','));
}

function keyText(value: Value): string {
  return value.kind === 'tuple' ? `(${value.fields.map(keyText).join(',')})` : formatValue(value, 4);
}

function mapValueJson(value: MapValue): string {
  if (value.kind === 'hist') return `[${value.buckets.map(bucketJson).join(', ')}]`;
  if (value.kind === 'stats') {
    const [count, average, total] = [value.count, value.average, value.total].map(integerJson);
    return `{"count": ${count}, "average": ${average}, "total": ${total}}`;
  }
  return valueJson(value);
}

/** Bounds are inclusive in JSON. */
function bucketJson({ low, high, count }: Bucket): string {
  const min = low === undefined ? '' : `"min": ${integerJson(low)}, `;
  const max = high === undefined ? '' : `"max": ${integerJson(high - 1n)}, `;
  return `{${min}${max}"count": ${integerJson(count)}}`;
}
