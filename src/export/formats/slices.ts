/**
 * Events as calls. An entry and a return of one function on one task are the begin and the end of a slice; slices of a task are nested,
 * as its stack is. Everything else is an instant, and so is an entry of a function whose returns were not recorded.
 */
import { checkArgument } from '../../arguments.ts';
import { aTraceEvents, fieldValue, type TraceEvent, type TraceEvents } from '../events.ts';

export type SliceItem =
  | { readonly kind: 'begin'; readonly event: TraceEvent; readonly name: string }
  /** `event` is undefined where the end was not seen: another one's end, or the end of the trace, ends it. */
  | {
      readonly kind: 'end';
      readonly pid: number;
      readonly ts: bigint;
      readonly event: TraceEvent | undefined;
      readonly name: string;
    }
  | { readonly kind: 'instant'; readonly event: TraceEvent };

interface Call {
  readonly begins: boolean;
  readonly address: bigint;
}

function addressOf(event: TraceEvent, name: string): bigint | undefined {
  const field = event.event?.fields.find((one) => one.name === name);
  const value = field === undefined ? undefined : fieldValue(field, event.data);
  return typeof value === 'bigint' ? BigInt.asUintN(64, value) : undefined;
}

/** What an event says of a call: those of kprobes, fprobes and the function graph tracer do. */
function callOf(event: TraceEvent): Call | undefined {
  if (event.event?.system === 'ftrace') {
    const begins = event.event.name === 'funcgraph_entry';
    if (!begins && event.event.name !== 'funcgraph_exit') return undefined;
    const address = addressOf(event, 'func');
    return address === undefined ? undefined : { begins, address };
  }
  const entry = addressOf(event, '__probe_ip');
  if (entry !== undefined) return { begins: true, address: entry };
  const exit = addressOf(event, '__probe_func');
  return exit === undefined ? undefined : { begins: false, address: exit };
}

interface Open {
  readonly address: bigint;
  readonly name: string;
}

/** Which events begin and end slices of a function: where several are recorded of it, the first of each kind that is seen. */
class CallEvents {
  readonly #entries = new Map<bigint, number>();
  readonly #returns = new Map<bigint, number>();

  add({ begins, address }: Call, id: number): void {
    const ids = begins ? this.#entries : this.#returns;
    if (!ids.has(address)) ids.set(address, id);
  }

  has({ begins, address }: Call, id: number): boolean {
    return this.#returns.has(address) && (begins ? this.#entries : this.#returns).get(address) === id;
  }
}

/** The file is gone through twice: first for the functions that return. */
export function* slices(events: TraceEvents): IterableIterator<SliceItem> {
  checkArgument('slices()', 'events', events, aTraceEvents);
  const known = new CallEvents();
  for (const event of events) {
    const call = callOf(event);
    if (call !== undefined) known.add(call, event.event?.id ?? 0);
  }
  const stacks = new Map<number, Open[]>();
  let last = 0n;
  for (const event of events) {
    last = event.ts;
    const call = callOf(event);
    if (call === undefined || !known.has(call, event.event?.id ?? 0)) {
      yield { kind: 'instant', event };
      continue;
    }
    let stack = stacks.get(event.pid);
    if (stack === undefined) {
      stack = [];
      stacks.set(event.pid, stack);
    }
    if (call.begins) {
      const name = events.symbols.find(call.address)?.name ?? event.event?.name ?? '?';
      stack.push({ address: call.address, name });
      yield { kind: 'begin', event, name };
      continue;
    }
    const at = stack.findLastIndex(({ address }) => address === call.address);
    if (at < 0) {
      yield { kind: 'instant', event };
      continue;
    }
    // What is above has ended unseen.
    for (let n = stack.length - 1; n > at; n--)
      yield { kind: 'end', pid: event.pid, ts: event.ts, event: undefined, name: (stack[n] as Open).name };
    yield { kind: 'end', pid: event.pid, ts: event.ts, event, name: (stack[at] as Open).name };
    stack.length = at;
  }
  for (const [pid, stack] of stacks)
    for (const { name } of stack.reverse()) yield { kind: 'end', pid, ts: last, event: undefined, name };
}
