/**
 * What is done with an event's hits, put so that the event's source can do some of it where they happen: hists that need nothing
 * but the record are counted there, and a hit that every filter rejects makes no record. Whoever gets a record filters it all
 * the same, so a source that cannot tell may always send.
 */
import type { FilterPredicate, FilterStep } from './filter/predicate.ts';
import { countableHist } from './hist/hist-countable.ts';
import type { TraceEventCall } from './trace-event.ts';
import {
  EVENT_FILE_FL_ENABLED,
  EVENT_FILE_FL_SOFT_DISABLED,
  EVENT_FILE_FL_TRIGGER_MODE,
  type EventFilter,
  type EventTrigger,
  type TraceEventFile,
} from './trace-event-file.ts';
import type { TraceField } from './trace-field.ts';

/** A part of a hist's key. */
export interface CountedKey {
  /** Bytes from the key's start, and of this part. */
  readonly offset: number;
  readonly size: number;
  readonly from: TraceField | 'cpu';
  /** A string's bytes; a number as it is, as its order_base_2(), or rounded down to a multiple. */
  readonly as: 'string' | 'number' | 'log2' | { readonly multipleOf: bigint };
}

/** A hist that a source can count: sums by a key, and no variables. */
export interface CountedHist {
  readonly trigger: EventTrigger;
  readonly filter: readonly FilterStep[] | undefined;
  readonly keys: readonly CountedKey[];
  /** What is added up besides the hits: fields, or constants. */
  readonly values: readonly (TraceField | bigint)[];
  /** Keys that have room; hits of others are dropped. */
  readonly maxEntries: number;
  /** It was taken from its event. */
  readonly isGone: () => boolean;
  /** How often it was emptied. */
  readonly generation: () => number;
  /** Adds what was counted. `key` as `keys` lay it out; `sums` are u64. */
  readonly add: (key: Uint8Array, hits: number, sums: readonly bigint[]) => void;
  /** Hits whose keys had no room. */
  readonly drop: (hits: number) => void;
}

export interface HitPlan {
  /** Filters of those who want records: a hit that none lets pass need not be sent. Undefined: all are wanted. Empty: none is. */
  readonly wanted: readonly (readonly FilterStep[])[] | undefined;
  readonly hists: readonly CountedHist[];
  /** Somebody wants to know the stack of a record's hit. */
  readonly stack: boolean;
}

/** Where a source finds a field: it is an argument of the event, or the same in every record. */
export type FieldSource = { readonly arg: number } | { readonly constant: bigint };

/** What a source is told of who gets its hits. */
export interface HitConsumers {
  readonly call: TraceEventCall;
  /** As it is now; `call.watchers` hear of changes. */
  plan(): HitPlan;
  /** Undefined where only the record has it. */
  field(field: TraceField): FieldSource | undefined;
  /** The answer of a predicate that is the same for every hit; undefined of others. */
  decide(predicate: FilterPredicate): boolean | undefined;
}

/** Somebody looks at the stacks of an event, or of one that is made of its records. */
function wantsStack(call: TraceEventCall, seen = new Set<TraceEventCall>()): boolean {
  if (seen.has(call)) return false;
  seen.add(call);
  return call.files.some(
    ({ flags, tr, triggers }) =>
      (flags & EVENT_FILE_FL_ENABLED) !== 0 &&
      (tr.options.has('stacktrace') ||
        triggers.some(
          (trigger) => trigger.wantsStack === true || trigger.feeds?.some((fed) => wantsStack(fed, seen)),
        )),
  );
}

export function hitPlan(call: TraceEventCall): HitPlan {
  const wanted: (readonly FilterStep[])[] = [];
  const hists: CountedHist[] = [];
  let all = false;
  const want = (filter: EventFilter | undefined): void => {
    if (filter?.steps === undefined) all = true;
    else wanted.push(filter.steps);
  };
  let enabled = 0;
  for (const file of call.files) {
    if ((file.flags & EVENT_FILE_FL_ENABLED) === 0) continue;
    enabled++;
    if (isSwitched(file)) {
      all = true;
      continue;
    }
    const { pids, notracePids } = file.tr;
    const countable = pids === undefined && notracePids === undefined;
    for (const trigger of file.triggers) {
      if (trigger.paused) continue;
      const hist = countable ? countableHist(trigger, file) : undefined;
      if (hist === undefined) want(trigger.filter);
      else hists.push(hist);
    }
    if ((file.flags & EVENT_FILE_FL_SOFT_DISABLED) === 0) want(file.filter);
  }
  // Somebody beside the files.
  if (enabled < call.users) all = true;
  return { wanted: all ? undefined : wanted, hists, stack: wantsStack(call) };
}

/** Triggers of other events switch it, or its hists: what is done with a hit is known only when those before it were looked at. */
function isSwitched(file: TraceEventFile): boolean {
  return file.smRef > ((file.flags & EVENT_FILE_FL_TRIGGER_MODE) === 0 ? 0 : 1);
}
