/** Where the fields of a probe event come from, for systems that filter and count hits where they happen (../hit-plan.ts). */
import { evaluatePredicate } from '../filter/evaluate.ts';
import type { FilterPredicate } from '../filter/predicate.ts';
import type { FieldSource } from '../hit-plan.ts';
import type { TraceEventCall } from '../trace-event.ts';
import { COMMON_FIELDS, type TraceField } from '../trace-field.ts';
import type { Tracing } from '../tracing.ts';
import type { FunctionProbe } from './function-probe.ts';

/** A field of a probe's records whose probed address is `address`. */
export function fieldSource(
  { call, args, ret, tracing }: FunctionProbe,
  field: TraceField,
  address: bigint,
): FieldSource | undefined {
  const common = commonFieldSource(tracing, call, field);
  if (common !== undefined) return common;
  const index = call.fields.indexOf(field);
  if (index < 0) return undefined;
  if (index === 0) return { constant: address };
  const arg = index - (ret ? 2 : 1);
  return args[arg]?.count === 0 ? { arg } : undefined;
}

/** Of a field that every record has; undefined of others. */
export function commonFieldSource(
  tracing: Tracing,
  call: TraceEventCall,
  field: TraceField,
): { readonly constant: bigint } | undefined {
  if (!COMMON_FIELDS.includes(field)) return undefined;
  if (field.name === 'common_type') return { constant: BigInt(call.id) };
  if (field.name === 'common_pid') return { constant: BigInt(tracing.arch.current().pid) };
  return { constant: 0n };
}

const NO_DATA = new Uint8Array();

/** The task's name, and the CPU where there is but one, are the same for every hit. */
export function decidePredicate(
  tracing: Tracing,
  predicate: FilterPredicate,
  ncpu: number,
): boolean | undefined {
  switch (predicate.kind) {
    case 'never':
      return false;
    case 'cpu':
    case 'cpu_cpus':
      if (ncpu > 1) return undefined;
      break;
    case 'string':
      if (predicate.field.filterType !== 'comm') return undefined;
      break;
    default:
      return undefined;
  }
  return evaluatePredicate(tracing, predicate, { cpu: 0, ts: 0n, data: NO_DATA });
}
