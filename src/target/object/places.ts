/** Where the programs of an object run in a process: what their sections name. */

import { fileFilter, SymbolIndex } from '../../arch/v8/match.ts';
import type { ProgramSpec, VerifiedProgram } from '../../bpf/index.ts';
import { TraplineError } from '../../errors.ts';
import { CHANNEL_FIELDS, matchEvents, rawTracepoint } from '../../kernel/tracepoint/event-list.ts';
import type { EventField } from '../../kernel/tracepoint/runtime-events.ts';
import type { AttachRequest, EventPlace, ProcessEvents, TraceSession } from '../session.ts';
import { eventPlace } from '../trace-arch-events.ts';

/** Program types that have places in a process. */
const TYPES: ReadonlySet<string> = new Set(['kprobe', 'tracepoint', 'raw_tracepoint']);

/** What a program is to be attached to. */
export type Plan = { readonly spec: ProgramSpec; readonly verified: VerifiedProgram } & (
  | { readonly kind: 'function'; readonly event: 'entry' | 'return'; readonly target: string }
  | { readonly kind: 'tracepoint' | 'raw'; readonly event: 'entry'; readonly target: string }
  /** Its section names no place: tail calls of others lead to it. */
  | { readonly kind: 'called' }
);

/**
 * EINVAL for a section that names no place, unless programs of the object may be called by tail calls (`mayBeCalled`); ENOTSUP for one whose
 * place a process does not have.
 */
export function planOf(
  spec: ProgramSpec,
  verified: VerifiedProgram,
  attachTo: string | undefined,
  mayBeCalled: boolean,
): Plan {
  const { name, section } = spec;
  const base = { spec, verified };
  const isNowhere = attachTo === undefined || attachTo === '';
  if (isNowhere && mayBeCalled && TYPES.has(verified.type)) return { ...base, kind: 'called' };
  const target = (hint: string): string => {
    if (isNowhere)
      throw new TraplineError('EINVAL', `program ${name}: SEC("${section}") names no place`, { hint });
    return attachTo;
  };
  switch (verified.type) {
    case 'kprobe': {
      if (!/^k(ret)?probe(\.multi)?(\/|$)/.test(section)) break;
      const event = section.startsWith('kret') ? 'return' : 'entry';
      return { ...base, kind: 'function', event, target: target('such as SEC("kprobe/server.js:handle")') };
    }
    case 'tracepoint': {
      const place = target('such as SEC("tracepoint/http/server_request_start")').replace('/', ':');
      return { ...base, kind: 'tracepoint', event: 'entry', target: place };
    }
    case 'raw_tracepoint':
      return { ...base, kind: 'raw', event: 'entry', target: target('such as SEC("raw_tp/shop:checkout")') };
  }
  throw new TraplineError('ENOTSUP', `program ${name}: SEC("${section}") has no place in a process`, {
    hint: 'kprobe/FILE:FUNCTION, kretprobe/FILE:FUNCTION, tracepoint/SYSTEM/NAME and raw_tp/NAME have',
  });
}

type EventPlan = Extract<Plan, { kind: 'tracepoint' | 'raw' }>;

export interface Place {
  readonly name: string;
  readonly at: AttachRequest['at'];
  /** Of an event. */
  readonly fields: readonly EventField[];
}

/** The places of each plan: none of one that is called only. ENOENT, and what functions() and events() refuse. */
export async function findPlaces(
  session: TraceSession,
  plans: readonly Plan[],
  maxPauseMs: number,
): Promise<readonly (readonly Place[])[]> {
  const events = plans.some(({ kind }) => kind === 'tracepoint' || kind === 'raw')
    ? await session.events?.()
    : undefined;
  const functions = plans.filter((plan) => plan.kind === 'function');
  let index: SymbolIndex | undefined;
  if (functions.length > 0) {
    const filters = functions.map(({ target }) => fileFilter(target));
    const wanted = (path: string): boolean => filters.some((filter) => filter(path));
    const { cwd } = session.info;
    index = new SymbolIndex(await session.functions(wanted, { maxPauseMs }), { cwd });
  }
  return plans.map((plan) => {
    if (plan.kind === 'called') return [];
    if (plan.kind !== 'function') return [eventPlaceOf(plan, events ?? { events: [], channels: [] })];
    return index!.match(plan.target).map(({ name, symbol, at }): Place => {
      if (at !== undefined)
        throw new TraplineError(
          'ENOTSUP',
          `program ${plan.spec.name}: ${plan.target} is a line, no function`,
        );
      return { name, at: { kind: 'function', symbol }, fields: [] };
    });
  });
}

function eventPlaceOf({ kind, target, spec }: EventPlan, { events }: ProcessEvents): Place {
  const place = (event: EventPlace, fields: readonly EventField[]): Place => ({
    name: event.name,
    at: { kind: 'event', event },
    fields,
  });
  if (kind === 'tracepoint') {
    const [event, more] = matchEvents(events, target);
    if (event === undefined || more !== undefined)
      throw new TraplineError('EINVAL', `program ${spec.name}: ${target} is more than one tracepoint`);
    return place(eventPlace(event), event.fields);
  }
  const found = rawTracepoint(events, target);
  if (found === undefined) {
    throw new TraplineError('ENOENT', `program ${spec.name}: there is no raw tracepoint ${target}`, {
      hint: 'it is SYSTEM:NAME of an event, or a channel of node:diagnostics_channel (rawtracepoint:NAME)',
    });
  }
  return place(eventPlace(found), 'channel' in found ? CHANNEL_FIELDS : found.fields);
}
