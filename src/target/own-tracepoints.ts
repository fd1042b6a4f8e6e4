/** Tracepoints of the own process as places of `t` probes: what its code defines, and channels of node:diagnostics_channel. */

import { KernelError } from '../kernel/errno.ts';
import { ARG_REGS } from '../kernel/trace/pt-regs.ts';
import type { ArmedProbe, ProbeContext, ProbeHit, ProbeTracepoint } from '../kernel/trace/trace-arch.ts';
import { definedEvent } from '../kernel/tracepoint/event-list.ts';
import { ownProperty } from '../kernel/tracepoint/property.ts';
import { type DefinedEvent, definedEvents } from '../kernel/tracepoint/trace-event.ts';
import {
  type Tracepoint,
  tracepointProbeRegister,
  tracepointProbeUnregister,
} from '../kernel/tracepoint/tracepoint.ts';
import { channelTracepoint } from './diagnostics-channels.ts';
import { ProcessTracepoints } from './trace-arch-events.ts';

/** In the source of a channel (eventPlace()). */
const RAW = 'raw:';

export class OwnTracepoints {
  readonly #now: () => bigint;
  readonly #known: ProcessTracepoints;

  constructor(now: () => bigint) {
    this.#now = now;
    this.#known = new ProcessTracepoints(({ address }, hit) => this.#arm(address, hit));
    for (const event of definedEvents().values()) this.changed(event, true);
  }

  /** The process's code has defined an event, or has taken it back. */
  changed(event: DefinedEvent, added: boolean): void {
    if (added) this.#known.add(definedEvent(event));
    else this.#known.remove(definedEvent(event));
  }

  find(name: string): ProbeTracepoint | undefined {
    return this.#known.find(name);
  }

  symbolAt: ProcessTracepoints['symbolAt'] = (address) => this.#known.symbolAt(address);

  #arm(address: bigint, hit: ProbeHit): ArmedProbe {
    const source = this.#known.at(address)?.event.source ?? '';
    const tracepoint = source.startsWith(RAW)
      ? channelTracepoint(source.slice(RAW.length)).tp
      : (definedEvents().get(source)?.tracepoint as Tracepoint | undefined);
    if (tracepoint === undefined) throw new KernelError('ENOENT', `there is no tracepoint ${source}`);
    const probe = (_: unknown, ...args: readonly unknown[]): void =>
      hit(contextOf(args), 0, this.#now(), process.pid);
    tracepointProbeRegister(tracepoint, probe, this);
    return () => tracepointProbeUnregister(tracepoint, probe, this);
  }
}

/** The arguments as a probe's fetch arguments read them. */
function contextOf(args: readonly unknown[]): ProbeContext {
  return {
    register: (name) => {
      const value = numberOf(args[(ARG_REGS as readonly string[]).indexOf(name)]);
      return typeof value === 'bigint' ? value : 0n;
    },
    // There is no memory that an address would name.
    read: () => undefined,
    readString: () => undefined,
    property: (arg, path) => numberOf(path.reduce(ownProperty, args[arg])),
  };
}

const identities = new WeakMap<object, bigint>();
let lastIdentity = 0n;

/** A number as registers hold it, or a string; objects are numbers that stand for their identity. Undefined: nothing to read. */
function numberOf(value: unknown): bigint | string | undefined {
  switch (typeof value) {
    case 'string':
      return value;
    case 'number':
      return Number.isFinite(value) ? BigInt.asUintN(64, BigInt(Math.trunc(value))) : 0n;
    case 'bigint':
      return BigInt.asUintN(64, value);
    case 'boolean':
      return value ? 1n : 0n;
    case 'object':
    case 'function': {
      if (value === null) return 0n;
      let identity = identities.get(value);
      if (identity === undefined) {
        lastIdentity += 1n;
        identity = lastIdentity;
        identities.set(value, identity);
      }
      return identity;
    }
    default:
      return undefined;
  }
}
