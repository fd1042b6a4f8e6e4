/** Functions and events of a process that have, or had, probes: what runs there is brought to what the probes want. */

import type { ArmedProbe, ProbeHit, TraceArch } from '../kernel/trace/trace-arch.ts';
import type { EventTrigger } from '../kernel/trace/trace-event-file.ts';
import type { HitCounts } from './hit-counts.ts';
import type { ArmOptions, AttachedSite, AttachRequest, TraceSession } from './session.ts';
import type { EventSymbol } from './trace-arch-events.ts';
import type { Probe, ProbePrograms } from './trace-arch-programs.ts';
import type { ProcessSymbol } from './trace-arch-symbols.ts';
import type { WorkQueue } from './work-queue.ts';

/** A program that a place is to run. */
interface WantedProgram {
  readonly index: number;
  readonly event: 'entry' | 'return';
  readonly probe: Probe;
}

/** A function, or an event of the process, that has, or had, probes. */
interface Place {
  readonly symbol: ProcessSymbol | EventSymbol;
  readonly probes: { readonly probe: Probe; readonly event: 'entry' | 'return' }[];
  readonly sites: { readonly site: AttachedSite; programs: string }[];
}

const nameOf = (symbol: Place['symbol']): string =>
  'event' in symbol ? symbol.event.name : `${symbol.module}:${symbol.name}`;

export interface ProbePlacesOptions {
  readonly session: TraceSession;
  readonly arm: ArmOptions;
  readonly programs: ProbePrograms;
  readonly counts: HitCounts;
  readonly queue: WorkQueue;
}

export class ProbePlaces {
  readonly #session: TraceSession;
  readonly #arm: ArmOptions;
  readonly #programs: ProbePrograms;
  readonly #counts: HitCounts;
  readonly #queue: WorkQueue;
  readonly #places = new Map<bigint, Place>();

  constructor({ session, arm, programs, counts, queue }: ProbePlacesOptions) {
    this.#session = session;
    this.#arm = arm;
    this.#programs = programs;
    this.#counts = counts;
    this.#queue = queue;
  }

  /** Functions that have probes, and how many. */
  *probed(): Iterable<readonly [ProcessSymbol, number]> {
    for (const { symbol, probes } of this.#places.values())
      if (probes.length > 0 && !('event' in symbol)) yield [symbol, probes.length];
  }

  /** TraceArch.armProbe(); `inTarget`: hits are filtered and counted in the process. */
  arm(
    symbol: Place['symbol'],
    at: Parameters<TraceArch['armProbe']>[0],
    hit: ProbeHit,
    inTarget: boolean,
  ): ArmedProbe {
    const name = nameOf(symbol);
    const probe: Probe = {
      name,
      hit,
      code: at.code ?? [],
      consumers: inTarget ? at.consumers : undefined,
      wantsStack: () => at.consumers?.plan().stack ?? false,
      address: 'event' in symbol ? undefined : symbol.address,
      unsent: undefined,
      maxactive: at.maxactive,
      versions: new Map(),
      current: undefined,
      changing: false,
      refused: false,
      active: true,
    };
    // Refused at once where it is too much.
    this.#programs.check(probe);
    const place = this.#place(symbol);
    const entry = { probe, event: at.ret ? ('return' as const) : ('entry' as const) };
    place.probes.push(entry);
    const changed = (): void => {
      if (probe.changing) return;
      probe.changing = true;
      this.#queue.add(name, () => this.#update(place));
    };
    changed();
    at.consumers?.call.watchers.add(changed);
    const counts = this.#counts;
    const disarm = (): void => {
      if (!probe.active) return;
      probe.active = false;
      at.consumers?.call.watchers.delete(changed);
      place.probes.splice(place.probes.indexOf(entry), 1);
      this.#queue.add(name, async () => {
        await this.#update(place);
        counts.retire(probe.unsent);
      });
    };
    return Object.defineProperty(disarm, 'unsent', { get: () => counts.value(probe.unsent) }) as ArmedProbe;
  }

  #place(symbol: Place['symbol']): Place {
    let place = this.#places.get(symbol.address);
    if (place === undefined) {
      place = { symbol, probes: [], sites: [] };
      this.#places.set(symbol.address, place);
    }
    return place;
  }

  /** Brings a function's sites to what its probes want now. */
  async #update(place: Place): Promise<void> {
    const wanted: WantedProgram[] = [];
    let maxactive = 0;
    for (const { probe, event } of [...place.probes]) {
      probe.changing = false;
      // It was said once that it cannot be armed.
      if (probe.refused) continue;
      probe.current = await this.#programs.version(probe);
      wanted.push({ index: probe.current.index, event, probe });
      maxactive = Math.max(maxactive, probe.maxactive);
    }
    const left = new Set(wanted);
    for (const armed of place.sites) {
      const { site } = armed;
      const mine = [...left].filter(
        ({ index, event }) => site.events.includes(event) && site.covers([index]),
      );
      for (const one of mine) left.delete(one);
      const programs = mine.map(({ index, event }) => ({ program: index, event, cookie: 0 }));
      const text = JSON.stringify(programs);
      if (text === armed.programs) continue;
      armed.programs = '';
      await site.setPrograms(programs);
      armed.programs = text;
    }
    // A compiled-in function has one site; otherwise one by one: a site for entries alone sees the very call that replaces a
    // function's binding.
    const compiledIn = left.size > 0 && place.sites.some(({ site }) => site.report.way === 'nop');
    if (compiledIn) place.sites.length = 0;
    const together = compiledIn ? [wanted] : [...left].map((one) => [one]);
    for (const programs of together) {
      try {
        await this.#attach(place, programs, maxactive);
      } catch (error) {
        for (const { probe } of programs) probe.refused = true;
        throw error;
      }
    }
    await this.#counts.release((trigger) => this.#isCounted(trigger));
  }

  async #attach(
    { symbol, sites }: Place,
    wanted: readonly WantedProgram[],
    maxactive: number,
  ): Promise<void> {
    const programs = wanted.map(({ index, event }) => ({ program: index, event, cookie: 0 }));
    const at: AttachRequest['at'] =
      'event' in symbol
        ? { kind: 'event', event: symbol.event }
        : { kind: 'function', symbol: symbol.function };
    const requests = programs.map((program): AttachRequest => ({ ...program, at }));
    const site = await this.#session.attachSite?.(requests, { ...this.#arm, maxactive });
    if (site !== undefined) sites.push({ site, programs: JSON.stringify(programs) });
  }

  #isCounted(trigger: EventTrigger): boolean {
    for (const { probes } of this.#places.values())
      if (probes.some(({ probe }) => probe.current?.counted.has(trigger))) return true;
    return false;
  }
}
