import type { MapValueType, ScriptMap } from '../lang/script.ts';
import { histBuckets, lhistBuckets } from './histogram.ts';
import type { MapEntry, MapValue, PrintedMap, Value } from './model.ts';
import { type DecodeContext, formatValue, readValue } from './values.ts';

/**
 * An entry as a session reads it: key bytes, and one value per CPU (one for a map that is not per-CPU). `context` is the
 * process's it comes from; entries of several processes with the same key are merged as more CPUs are.
 */
export interface RawMapEntry {
  readonly key: Uint8Array;
  readonly values: readonly Uint8Array[];
  readonly context: DecodeContext;
}

export interface MapPrintOptions {
  /** Only the last (largest) so many entries; 0 is all. */
  readonly top?: number;
  /** Values are divided by this; 0 and 1 are the values themselves. */
  readonly div?: number;
  /** Integers of the same key add up, as counts do; else the first is taken. */
  readonly additive?: boolean;
}

/** Merges the CPUs' cells, sorts as bpftrace does (ascending by value, else by key) and cuts to `top`. */
export function printedMap(
  map: ScriptMap,
  entries: readonly RawMapEntry[],
  { top = 0, div = 0, additive = false }: MapPrintOptions = {},
): PrintedMap {
  const divisor = BigInt(div === 0 ? 1 : div);
  const joined = joinEntries(map, entries, additive).filter(
    ({ values }) => map.key.length > 0 || wasHit(map.value, values),
  );
  const rows = joined.map(({ key, values, context }) => {
    const { value, order } = mergeValue(map.value, values, context, divisor, additive);
    return { key, value, order };
  });
  rows.sort((a, b) => compareOrder(a.order, b.order) || compareKeys(a.key, b.key));
  const kept = top > 0 ? rows.slice(-top) : rows;
  const { kind } = map.value;
  return {
    name: map.name ?? map.spec.name,
    type: kind === 'hist' || kind === 'lhist' ? 'hist' : kind === 'stats' || kind === 'avg' ? 'stats' : 'map',
    entries: kept.map(({ key, value }): MapEntry => ({ key, value })),
  };
}

interface JoinedEntry {
  readonly key: readonly Value[];
  readonly values: Uint8Array[];
  readonly context: DecodeContext;
}

/**
 * Decodes keys, and joins the values of entries whose keys read the same: of several processes, stacks cut alike, or functions
 * with one name (`<anonymous>`) where what is kept of them adds up.
 */
function joinEntries(map: ScriptMap, entries: readonly RawMapEntry[], additive: boolean): JoinedEntry[] {
  const addsUp = additive || map.value.kind !== 'plain';
  const several =
    entries.some(({ context }) => context !== entries[0]!.context) ||
    map.key.some(({ type: { kind } }) => kind === 'stack' || kind === 'tuple' || (kind === 'func' && addsUp));
  const joined = new Map<string, JoinedEntry>();
  const all: JoinedEntry[] = [];
  for (const { key: bytes, values, context } of entries) {
    const view = viewOf(bytes);
    const key = map.key.map((field) => readValue(view, field.offset, field.type, context));
    const text = several ? key.map((value) => `${value.kind}:${formatValue(value)}`).join('\0') : '';
    const known = several ? joined.get(text) : undefined;
    if (known !== undefined) known.values.push(...values);
    else {
      const entry = { key, values: [...values], context };
      joined.set(text, entry);
      all.push(entry);
    }
  }
  return all;
}

/**
 * Whether a keyless aggregation was hit. It exists from the beginning, but bpftrace shows a count alone as 0: the others have no
 * entry yet there. (A sum of 0 cannot be told from none and is shown.)
 */
function wasHit({ kind }: MapValueType, values: readonly Uint8Array[]): boolean {
  switch (kind) {
    case 'avg':
    case 'stats':
    case 'min':
    case 'max':
      return values.some((cell) => viewOf(cell).getBigUint64(8, true) !== 0n);
    case 'hist':
    case 'lhist':
      return values.some((cell) => cell.some((byte) => byte !== 0));
    default:
      return true;
  }
}

interface Merged {
  readonly value: MapValue;
  /** What the entry is sorted by; undefined sorts by key. */
  readonly order: bigint | number | undefined;
}

function mergeValue(
  type: MapValueType,
  values: readonly Uint8Array[],
  context: DecodeContext,
  div: bigint,
  additive: boolean,
): Merged {
  const cells = values.map(viewOf);
  switch (type.kind) {
    case 'plain': {
      const value = readValue(cells[0]!, 0, type.type, context);
      if (value.kind === 'int') {
        const signed = type.type.kind === 'int' && type.type.signed;
        return integer(additive ? sumCells(cells, 0, signed) : value.value, div);
      }
      return { value, order: value.kind === 'number' ? value.value : undefined };
    }
    case 'count':
      return integer(sumCells(cells, 0, false), div);
    case 'sum':
      return integer(sumCells(cells, 0, type.signed), div);
    case 'min':
    case 'max': {
      let best: bigint | undefined;
      for (const cell of cells) {
        if (cell.getBigUint64(8, true) === 0n) continue;
        const value = readCell(cell, 0, type.signed);
        if (best === undefined || (type.kind === 'min' ? value < best : value > best)) best = value;
      }
      return integer(best ?? 0n, div);
    }
    case 'avg':
    case 'stats': {
      const total = sumCells(cells, 0, type.signed);
      const count = sumCells(cells, 8, false);
      const average = count === 0n ? 0n : total / count;
      if (type.kind === 'avg') return integer(average, div);
      return { value: { kind: 'stats', count, average, total }, order: average };
    }
    case 'hist':
    case 'lhist': {
      const counts = Array.from({ length: type.buckets }, (_, index) => sumCells(cells, index * 8, false));
      const order = counts.reduce((sum, count) => sum + count, 0n);
      const divided = counts.map((count) => count / div);
      const buckets =
        type.kind === 'hist'
          ? histBuckets(divided, type.bits)
          : lhistBuckets(divided, type.min, type.max, type.step);
      return { value: { kind: 'hist', buckets }, order };
    }
  }
}

function integer(value: bigint, div: bigint): Merged {
  return { value: { kind: 'int', value: value / div }, order: value };
}

function readCell(cell: DataView, offset: number, signed: boolean): bigint {
  return signed ? cell.getBigInt64(offset, true) : cell.getBigUint64(offset, true);
}

/** Sums wrap at 64 bits, as they would in one cell. */
function sumCells(cells: readonly DataView[], offset: number, signed: boolean): bigint {
  let sum = 0n;
  for (const cell of cells) sum += readCell(cell, offset, signed);
  return signed ? BigInt.asIntN(64, sum) : BigInt.asUintN(64, sum);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function compareOrder(a: bigint | number | undefined, b: bigint | number | undefined): number {
  if (a === undefined || b === undefined) return (a === undefined ? 0 : 1) - (b === undefined ? 0 : 1);
  return a < b ? -1 : a > b ? 1 : 0;
}

function compareKeys(a: readonly Value[], b: readonly Value[]): number {
  for (let index = 0; index < Math.min(a.length, b.length); index++) {
    const order = compareValues(a[index]!, b[index]!);
    if (order !== 0) return order;
  }
  return a.length - b.length;
}

const KIND_ORDER: readonly Value['kind'][] = [
  'undefined',
  'null',
  'boolean',
  'int',
  'number',
  'text',
  'buf',
  'stack',
  'tuple',
];

function compareValues(a: Value, b: Value): number {
  if ((a.kind === 'int' || a.kind === 'number') && (b.kind === 'int' || b.kind === 'number')) {
    return compareOrder(a.value, b.value);
  }
  if (a.kind !== b.kind) return KIND_ORDER.indexOf(a.kind) - KIND_ORDER.indexOf(b.kind);
  if (a.kind === 'tuple' && b.kind === 'tuple') return compareKeys(a.fields, b.fields);
  const [left, right] = [sortText(a), sortText(b)];
  return left < right ? -1 : left > right ? 1 : 0;
}

function sortText(value: Value): string {
  switch (value.kind) {
    case 'text':
      return value.text;
    case 'stack':
      return value.frames.join('\n');
    case 'buf':
      return String.fromCharCode(...value.bytes);
    case 'boolean':
      return value.value ? '1' : '0';
    default:
      return '';
  }
}
