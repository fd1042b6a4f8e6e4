/** The tracepoints of a process: its events and channels as places that probes may sit on. */

import type { KallsymsSymbol, ProbeParam, ProbeTracepoint, TraceArch } from '../kernel/trace/trace-arch.ts';
import { rawTracepoint } from '../kernel/tracepoint/event-list.ts';
import type { EventDescription, EventField } from '../kernel/tracepoint/runtime-events.ts';
import type { EventPlace } from './session.ts';

/** Where an event stands among the addresses. */
export interface EventSymbol {
  readonly address: bigint;
  readonly event: EventPlace;
}

/** Behind every function: addresses that stand for events. */
const EVENTS_BASE = 0xffff_e000_0000_0000n;

/** What a channel gives: the message, and its own name. */
const CHANNEL_PARAMS: readonly ProbeParam[] = [
  { name: 'message', type: 'any' },
  { name: 'name', type: 'any', arg: 1, path: [], fetchType: 'string' },
];

interface Known extends EventSymbol {
  readonly params: readonly ProbeParam[];
  /** How records show it. */
  readonly shown: string;
}

/** An event of a process, as sessions attach to it. */
export function eventPlace(event: EventDescription | { readonly channel: string }): EventPlace {
  if ('channel' in event) return { name: `rawtracepoint:${event.channel}`, source: `raw:${event.channel}` };
  const source = `${event.system}:${event.name}`;
  return { name: `tracepoint:${source}`, source };
}

export class ProcessTracepoints {
  readonly #armProbe: TraceArch['armProbe'];
  readonly #byAddress = new Map<bigint, Known>();
  /** By what the process finds them by. */
  readonly #bySource = new Map<string, Known>();
  readonly #events: EventDescription[] = [];

  constructor(armProbe: TraceArch['armProbe']) {
    this.#armProbe = armProbe;
  }

  /** An event of the process: its address, the same one whenever it is asked for. */
  add(description: EventDescription): bigint {
    const event = eventPlace(description);
    if (!this.#bySource.has(event.source)) this.#events.push(description);
    return this.#add(event, event.source, description.fields.map(paramOf)).address;
  }

  /** The process has it no more; probes on it stay where they are. */
  remove(description: EventDescription): void {
    const { source } = eventPlace(description);
    this.#bySource.delete(source);
    const at = this.#events.findIndex((one) => eventPlace(one).source === source);
    if (at >= 0) this.#events.splice(at, 1);
  }

  #add(event: EventPlace, shown: string, params: Known['params']): Known {
    let known = this.#bySource.get(event.source);
    if (known === undefined) {
      const address = EVENTS_BASE + BigInt(this.#byAddress.size);
      known = { address, event, params, shown };
      this.#byAddress.set(address, known);
      this.#bySource.set(event.source, known);
    }
    return known;
  }

  at(address: bigint): EventSymbol | undefined {
    return this.#byAddress.get(address);
  }

  /** How a record of a probe on it shows where it comes from. */
  symbolAt(address: bigint): KallsymsSymbol | undefined {
    const known = this.#byAddress.get(address);
    return known && { name: known.shown, address, size: 1, module: undefined, data: true };
  }

  /** What a `t` probe's name stands for: see rawTracepoint(). */
  find(name: string): ProbeTracepoint | undefined {
    const known = this.#find(name);
    if (known === undefined) return undefined;
    const { address, params } = known;
    return {
      address,
      params,
      arm: (hit, { code = [], consumers } = {}) =>
        this.#armProbe(
          { address, ret: false, maxactive: 0, code, ...(consumers === undefined ? {} : { consumers }) },
          hit,
        ),
    };
  }

  #find(name: string): Known | undefined {
    const found = rawTracepoint(this.#events, name);
    if (found === undefined) return undefined;
    const place = eventPlace(found);
    return 'channel' in found
      ? this.#add(place, found.channel, CHANNEL_PARAMS)
      : this.#bySource.get(place.source);
  }
}

function paramOf({ name, type, arg, path }: EventField): ProbeParam {
  return { name, type: 'any', arg, path, fetchType: type === 'bool' ? 'u8' : type };
}
