/** A trace event whose tracepoint is in another process: what its records hold is fetched there, as that of probe events. */

import type { HitConsumers } from '../trace/hit-plan.ts';
import { hitPlan } from '../trace/hit-plan.ts';
import { endFetch, type FetchInsn, fetchInsn } from '../trace/probe/fetch-insn.ts';
import { commonFieldSource, decidePredicate } from '../trace/probe/field-source.ts';
import type { ArmedProbe, ProbeContext, ProbeHit } from '../trace/trace-arch.ts';
import { writeEntry } from '../trace/trace-entry.ts';
import { TRACE_EVENT_FL_TRACEPOINT, TraceEventCall } from '../trace/trace-event.ts';
import type { Tracing } from '../trace/tracing.ts';
import type { EventDescription, EventField } from './runtime-events.ts';
import { RecordLayout, type TracepointFields } from './trace-event.ts';

/** A field, and what loads it. */
interface Fetched {
  readonly field: EventField;
  readonly code: readonly FetchInsn[];
}

/** The event's call; `address` is where TraceArch.armProbe() finds the tracepoint. */
export function tracedEventCall(
  tracing: Tracing,
  description: EventDescription,
  address: bigint,
): TraceEventCall {
  const { arch } = tracing;
  const layout = new RecordLayout(
    Object.fromEntries(description.fields.map(({ name, type }) => [name, type])) as TracepointFields,
  );
  const fetched = description.fields.map((field): Fetched => ({ field, code: codeOf(field) }));
  let armed: ArmedProbe | undefined;
  const hit: ProbeHit = (context, cpu, ts, pid, counted) => {
    const data = layout.record(valuesOf(context, fetched));
    writeEntry(data, call.id, pid);
    const { stack } = context;
    tracing.commit(call, stack === undefined ? { cpu, ts, data } : { cpu, ts, data, stack }, counted);
  };
  const consumers = (): HitConsumers => ({
    call,
    plan: () => hitPlan(call),
    field: (field) => {
      const common = commonFieldSource(tracing, call, field);
      if (common !== undefined) return common;
      const arg = call.fields.indexOf(field);
      return arg < 0 ? undefined : { arg };
    },
    decide: (predicate) => decidePredicate(tracing, predicate, arch.ncpu),
  });
  const call: TraceEventCall = new TraceEventCall({
    name: description.name,
    class: {
      system: description.system,
      reg: (_, on) => {
        if (on) {
          const code = fetched.map((one) => one.code);
          armed = arch.armProbe({ address, ret: false, maxactive: 0, code, consumers: consumers() }, hit);
        } else {
          armed?.();
          armed = undefined;
        }
      },
    },
    fields: layout.fields,
    printFmt: layout.printFmt,
    flags: TRACE_EVENT_FL_TRACEPOINT,
    data: description,
  });
  return call;
}

/** As the fetch argument `$argN->path:type` of a probe event. */
function codeOf({ type, arg, path }: EventField): FetchInsn[] {
  const load = { ...fetchInsn('prop'), param: arg, path };
  const store = type === 'string' ? fetchInsn('st_string') : { ...fetchInsn('st_raw'), size: 8 };
  return [load, store, endFetch()];
}

function valuesOf(context: ProbeContext, fetched: readonly Fetched[]): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  for (const { field, code } of fetched)
    values[field.name] = context.property?.(field.arg, field.path, code[0] as FetchInsn);
  return values;
}
