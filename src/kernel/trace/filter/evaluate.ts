/** What the kfunc `trace_filter_pred` answers: the predicates that need more than the record's numbers. */

import { stringAt, toByteString } from '../byte-string.ts';
import type { TraceRecord } from '../trace-entry.ts';
import { dataView } from '../trace-entry.ts';
import type { TraceField } from '../trace-field.ts';
import type { Tracing } from '../tracing.ts';
import type { FilterOp, FilterPredicate } from './predicate.ts';

/** TASK_COMM_LEN, and the longest string behind a pointer (USTRING_BUF_SIZE). */
const TASK_COMM_LEN = 16;
const USTRING_BUF_SIZE = 1024;

export function evaluatePredicate(
  tracing: Tracing,
  predicate: FilterPredicate,
  record: TraceRecord,
): boolean {
  switch (predicate.kind) {
    case 'string': {
      const found = stringOf(tracing, predicate.field, record, predicate.user);
      if (found === undefined) return false;
      return predicate.regex.match(found.text, found.length) !== predicate.not;
    }
    case 'cpu':
      return compareCpu(predicate.op, BigInt(record.cpu), predicate.value);
    case 'cpu_cpus':
      return scalarInMask(predicate.op, BigInt(record.cpu), predicate.mask);
    case 'number_cpus': {
      const cpu = BigInt.asUintN(32, readUnsigned(record.data, predicate.field));
      if (cpu >= BigInt(tracing.arch.ncpu)) return false;
      return scalarInMask(predicate.op, cpu, predicate.mask);
    }
    case 'cpumask': {
      const mask = cpumaskOf(record.data, predicate.field, tracing.arch.ncpu);
      if (predicate.op === '==') return mask === predicate.mask;
      if (predicate.op === '!=') return mask !== predicate.mask;
      return (mask & predicate.mask) !== 0n;
    }
    case 'cpumask_cpu': {
      const mask = cpumaskOf(record.data, predicate.field, tracing.arch.ncpu);
      const bit = 1n << predicate.cpu;
      if (predicate.op === '==') return mask === bit;
      if (predicate.op === '!=') return mask !== bit;
      return (mask & bit) !== 0n;
    }
    default:
      return false;
  }
}

/** do_filter_scalar_cpumask(): several CPUs are never equal to one. */
function scalarInMask(op: FilterOp, cpu: bigint, mask: bigint): boolean {
  if (op === '==') return false;
  if (op === '!=') return true;
  return ((mask >> cpu) & 1n) === 1n;
}

function compareCpu(op: FilterOp, cpu: bigint, value: bigint): boolean {
  switch (op) {
    case '==':
      return cpu === value;
    case '!=':
      return cpu !== value;
    case '<':
      return cpu < value;
    case '<=':
      return cpu <= value;
    case '>':
      return cpu > value;
    case '>=':
      return cpu >= value;
    default:
      return false;
  }
}

function readUnsigned(data: Uint8Array, field: TraceField): bigint {
  let value = 0n;
  for (let i = field.size - 1; i >= 0; i--) value = (value << 8n) | BigInt(data[field.offset + i] ?? 0);
  return value;
}

/** The string of a field, and the length that the kernel takes it to have. Undefined where it cannot be read. */
function stringOf(
  tracing: Tracing,
  field: TraceField,
  record: TraceRecord,
  user: boolean,
): { text: string; length: number } | undefined {
  const { data } = record;
  switch (field.filterType) {
    case 'comm':
      return { text: toByteString(tracing.arch.current().comm), length: TASK_COMM_LEN };
    case 'static_string':
      // A text at the record's end (`char buf[]`) has no size of its own.
      return { text: stringAt(data, field.offset, field.size || data.length), length: field.size };
    case 'dyn_string':
    case 'rdyn_string': {
      const location = locationOf(data, field);
      return { text: stringAt(data, location.offset), length: location.length };
    }
    default: {
      if (field.offset + 8 > data.length) return undefined;
      const address = dataView(data).getBigUint64(field.offset, true);
      const bytes = tracing.arch.readString?.(address, USTRING_BUF_SIZE, user);
      if (bytes === undefined) return undefined;
      const text = stringAt(bytes, 0);
      return { text, length: text.length + 1 };
    }
  }
}

/** Where a `__data_loc` or `__rel_loc` field's data is. */
export function locationOf(data: Uint8Array, field: TraceField): { offset: number; length: number } {
  if (field.offset + 4 > data.length) return { offset: data.length, length: 0 };
  const item = dataView(data).getUint32(field.offset, true);
  const offset = item & 0xffff;
  return {
    offset: field.filterType === 'rdyn_string' ? field.offset + 4 + offset : offset,
    length: item >>> 16,
  };
}

function cpumaskOf(data: Uint8Array, field: TraceField, ncpu: number): bigint {
  const { offset, length } = locationOf(data, field);
  let mask = 0n;
  for (let i = Math.min(length, data.length - offset) - 1; i >= 0; i--)
    mask = (mask << 8n) | BigInt(data[offset + i] as number);
  return mask & ((1n << BigInt(ncpu)) - 1n);
}
