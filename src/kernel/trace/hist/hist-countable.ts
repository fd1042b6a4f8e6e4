/** Hists that can be counted where their event happens (hit-plan.ts). */
import type { CountedHist, CountedKey } from '../hit-plan.ts';
import type { EventTrigger, TraceEventFile } from '../trace-event-file.ts';
import type { TraceField } from '../trace-field.ts';
import { FL, type HistField } from './hist-field.ts';
import { commOfCurrent, HistTrigger } from './hist-trigger.ts';

/**
 * What counting needs to know of a hist on `file`. Undefined of other triggers, of hists with variables, actions, expressions or stacks,
 * and of those that share a table by a name.
 */
export function countableHist(trigger: EventTrigger, file: TraceEventFile): CountedHist | undefined {
  if (!(trigger instanceof HistTrigger) || trigger.histName !== undefined) return undefined;
  if (trigger.filter !== undefined && trigger.filter.steps === undefined) return undefined;
  const { histData } = trigger;
  const { map, nVals, nVars, varRefs, actions, fieldVars } = histData;
  if (nVars + varRefs.length + actions.length + fieldVars.length > 0) return undefined;
  const keys = histData.keys.map(countedKey);
  const values = histData.fields.slice(1, nVals).map(countedValue);
  if (!keys.every(isDefined) || !values.every(isDefined)) return undefined;
  return {
    trigger,
    filter: trigger.filter?.steps,
    keys,
    values,
    maxEntries: 1 << map.mapBits,
    isGone: () => !file.triggers.includes(trigger),
    generation: () => map.generation,
    add: (key, hits, sums) => {
      map.add(key, hits, sums, () => commOfCurrent(file));
      file.tr.wakeHists();
    },
    drop: (hits) => {
      map.drops += hits;
      file.tr.wakeHists();
    },
  };
}

function isDefined<T>(value: T | undefined): value is T {
  return value !== undefined;
}

function countedKey(field: HistField): CountedKey | undefined {
  const { offset, size } = field;
  if (field.has(FL.STACKTRACE)) return undefined;
  const of = (from: TraceField | 'cpu' | undefined, as: CountedKey['as']): CountedKey | undefined =>
    from === undefined ? undefined : { offset, size, from, as };
  switch (field.fn) {
    case 'cpu':
      return of('cpu', 'number');
    case 'number':
      return of(field.field, 'number');
    case 'string':
      return field.field?.filterType === 'dyn_string' ? of(field.field, 'string') : undefined;
    case 'log2':
      return of(operandField(field), 'log2');
    case 'bucket':
      return field.buckets === 0n ? undefined : of(operandField(field), { multipleOf: field.buckets });
    default:
      return undefined;
  }
}

function operandField({ operands: [operand] }: HistField): TraceField | undefined {
  return operand?.fn === 'number' ? operand.field : undefined;
}

function countedValue(field: HistField): TraceField | bigint | undefined {
  if (field.fn === 'const') return BigInt.asUintN(64, field.constant);
  return field.fn === 'number' ? field.field : undefined;
}
