/** The site table: what each site runs on which event, its counters, and containment of programs that fail. */
import { READS } from '../../kernel/trace/pt-regs.ts';
import type { SiteEvent, SiteSpec, SiteStats } from '../protocol.ts';
import {
  asIntN,
  getPrototypeOf,
  MapConstructor,
  mapForEach,
  mapGet,
  mapSet,
  toBigInt,
  toNumber,
} from './intrinsics.ts';
import type { Program, SiteEventState, SiteState } from './site-code.ts';
import type { Values } from './values.ts';

/** kretprobe instances of settle probes when the specification says 0. */
const SETTLE_MAXACTIVE = 4096;

export interface Sites {
  get(id: number): SiteState;
  find(id: number): SiteState | undefined;
  set(specs: readonly SiteSpec[], programs: (index: number) => Program): void;
  enable(ids: readonly number[], on: SiteState['on']): void;
  disableAll(): void;
  stats(): SiteStats[];
  runAll(event: SiteEventState): void;
  /** Whether an enabled site has `settle` programs on a function that is not async. */
  followsPlain(): boolean;
  contain(event: SiteEventState, site: SiteState, error: unknown): void;
  /** Builds an event again after programs were replaced. */
  refresh(programs: (index: number) => Program): void;
}

const RangeErrorPrototype = RangeError.prototype;

function isStackOverflow(error: unknown): boolean {
  return typeof error === 'object' && error !== null && getPrototypeOf(error) === RangeErrorPrototype;
}

/** A site that nothing has armed. */
export function newSite(id: number): SiteState {
  return {
    id,
    ipLo: 0,
    ipHi: 0,
    name: '',
    on: 0,
    handed: 0,
    entry: undefined,
    ret: undefined,
    thrown: undefined,
    settle: undefined,
    exits: 0,
    catches: 0,
    keeps: 0,
    maxactive: 0,
    isAsync: false,
    isGenerator: false,
    active: 0,
    nhit: 0,
    nmissed: 0,
    unseen: 0,
  };
}

export function createSites(values: Values): Sites {
  const table = new MapConstructor<number, SiteState>();
  const specs = new MapConstructor<number, SiteSpec>();
  let current: Program | undefined;

  function find(id: number): SiteState | undefined {
    return mapGet(table, id) as SiteState | undefined;
  }

  function get(id: number): SiteState {
    const known = find(id);
    if (known !== undefined) return known;
    const site = newSite(id);
    mapSet(table, id, site);
    return site;
  }

  function event(
    spec: SiteSpec,
    which: SiteEvent,
    programs: (index: number) => Program,
  ): SiteEventState | undefined {
    const list: Program[] = [];
    const cookies: number[] = [];
    let mask = 0;
    for (let i = 0; i < spec.programs.length; i++) {
      const entry = spec.programs[i]!;
      if (entry.event !== which) continue;
      const program = programs(entry.program);
      list[list.length] = program;
      cookies[cookies.length] = entry.cookie;
      mask |= program.reads;
    }
    if (list.length === 0) return undefined;
    const only = list.length === 1 && !list[0]!.broken ? list[0]!.run : undefined;
    return { mask, single: only, programs: list, cookies };
  }

  function apply(site: SiteState, spec: SiteSpec, programs: (index: number) => Program): void {
    const entry = event(spec, 'entry', programs);
    const ret = event(spec, 'return', programs);
    const thrown = event(spec, 'throw', programs);
    const settle = event(spec, 'settle', programs);
    const address = toBigInt(spec.address);
    site.ipLo = toNumber(asIntN(32, address));
    site.ipHi = toNumber(asIntN(32, address >> 32n));
    site.name = spec.name;
    site.entry = entry;
    site.ret = ret;
    site.thrown = thrown;
    site.settle = settle;
    site.exits = ret === undefined && thrown === undefined && settle === undefined ? 0 : 1;
    const failMask = (ret?.mask ?? 0) | (thrown?.mask ?? 0);
    site.catches = (failMask & READS.error) === 0 ? 0 : 1;
    const exitMask = failMask | (settle?.mask ?? 0);
    site.keeps =
      (exitMask & (READS.args | READS.refs | READS.this | READS.argc | READS.allArgs)) === 0 ? 0 : 1;
    site.maxactive = spec.maxactive === 0 && settle !== undefined ? SETTLE_MAXACTIVE : spec.maxactive;
    // An async generator returns its generator object and settles nothing.
    site.isAsync = spec.isAsync && !spec.isGenerator;
    site.isGenerator = spec.isGenerator;
  }

  function runAll(state: SiteEventState): void {
    const { programs, cookies, mask } = state;
    for (let i = 0; i < programs.length; i++) {
      const program = programs[i]!;
      if (program.broken) continue;
      current = program;
      if ((mask & READS.cookie) !== 0) values.setCookie(cookies[i]!);
      program.run(values.block.ctx);
    }
    current = undefined;
  }

  return {
    get,
    find,
    runAll,
    set(list, programs) {
      // All programs are looked up before anything changes.
      for (let i = 0; i < list.length; i++) {
        const entries = list[i]!.programs;
        for (let j = 0; j < entries.length; j++) programs(entries[j]!.program);
        toBigInt(list[i]!.address);
      }
      for (let i = 0; i < list.length; i++) {
        const spec = list[i]!;
        mapSet(specs, spec.site, spec);
        apply(get(spec.site), spec, programs);
      }
    },
    refresh(programs) {
      mapForEach(specs, ((spec: SiteSpec) => apply(get(spec.site), spec, programs)) as never);
    },
    enable(ids, on) {
      for (let i = 0; i < ids.length; i++) get(ids[i]!).on = on;
    },
    disableAll() {
      mapForEach(table, ((site: SiteState) => {
        site.on = 0;
      }) as never);
    },
    followsPlain() {
      let found = false;
      mapForEach(table, ((site: SiteState) => {
        if (site.on !== 0 && site.settle !== undefined && !site.isAsync) found = true;
      }) as never);
      return found;
    },
    stats() {
      const all: SiteStats[] = [];
      mapForEach(table, ((site: SiteState) => {
        const { id, nhit, nmissed, unseen } = site;
        all[all.length] = unseen === 0 ? { site: id, nhit, nmissed } : { site: id, nhit, nmissed, unseen };
      }) as never);
      return all;
    },
    contain(state, site, error) {
      site.nmissed++;
      const failing = current ?? state.programs[0];
      current = undefined;
      // Near the end of the JavaScript stack any call throws RangeError: this hit is lost, the program is sound.
      if (isStackOverflow(error) || failing === undefined) return;
      failing.broken = true;
      // The single run() of an event is fixed: events with the broken program are built again.
      mapForEach(specs, ((spec: SiteSpec) => {
        const owner = find(spec.site);
        if (owner === undefined) return;
        const strip = (old: SiteEventState | undefined): SiteEventState | undefined => {
          if (old === undefined || old.single === undefined || old.programs[0] !== failing) return old;
          return { mask: 0, single: undefined, programs: old.programs, cookies: old.cookies };
        };
        owner.entry = strip(owner.entry);
        owner.ret = strip(owner.ret);
        owner.thrown = strip(owner.thrown);
        owner.settle = strip(owner.settle);
      }) as never);
    },
  };
}
