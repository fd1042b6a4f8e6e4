/** A session with a process whose agent answers on a Unix socket. */

import type { Notice, PrintkCall, ReadFault, SiteStats } from '../agent/protocol.ts';
import type { ArmedNotice, TargetInfo } from '../agent/worker/requests.ts';
import type { ArmReport, FunctionSymbol } from '../arch/v8/types.ts';
import {
  extendLayout,
  layoutMemory,
  type MapSpec,
  type MemoryLayout,
  type VerifiedProgram,
} from '../bpf/index.ts';
import { TraplineError } from '../errors.ts';
import type { PropertyPath } from '../kernel/trace/js-kfuncs.ts';
import { ARG_REGS, READS } from '../kernel/trace/pt-regs.ts';
import { eventsOf } from '../kernel/tracepoint/event-list.ts';
import { Armer } from './armer.ts';
import type { ArmSite } from './armer-job.ts';
import type { AgentConnection } from './connection.ts';
import { FunctionList } from './function-list.ts';
import { programImages } from './images.ts';
import type {
  ArmOptions,
  AttachedSite,
  AttachRequest,
  DetachReport,
  ListOptions,
  LoadSpec,
  ProcessEvents,
  ProcessInfo,
  SessionEvents,
  TraceSession,
} from './session.ts';
import { type EventSite, isEvent, SessionSites, type Site } from './session-sites.ts';
import { TextSpace } from './text-space.ts';

const NCPU = 2;

/** What `--max-pause` is by default. */
const MAX_PAUSE_MS = 100;

export class RemoteSession implements TraceSession {
  readonly info: ProcessInfo;
  readonly #connection: AgentConnection;
  readonly #events: SessionEvents;
  readonly #cleanUp: () => void;
  /** How long each piece of the injection held the process up, in ms. */
  readonly #injectStops: readonly number[];
  readonly #armer: Armer;
  readonly #functions: FunctionList;
  readonly #sites: SessionSites;
  readonly #stacks = new Map<number, readonly string[]>();
  readonly #reads: number[] = [];
  #layout: MemoryLayout | undefined;
  #lastStack = 0;
  #detached: Promise<DetachReport> | undefined;
  /** The agent has answered to `detach`, or will not. */
  #over = false;

  constructor(
    connection: AgentConnection,
    info: TargetInfo & { readonly workers: number },
    prefix: string,
    events: SessionEvents,
    cleanUp: () => void,
    injectStops: readonly number[],
  ) {
    this.#injectStops = injectStops;
    this.#connection = connection;
    this.#events = events;
    this.#cleanUp = cleanUp;
    this.info = { ...info, monotonicToRealtimeNs: BigInt(info.monotonicToRealtimeNs) };
    const naming = { prefix, v8: info.v8Version };
    const text = new TextSpace();
    this.#armer = new Armer(
      connection,
      text,
      naming,
      (report) => events.onArmed?.(report),
      (message) => events.onWarning?.(message),
    );
    this.#functions = new FunctionList(
      connection,
      this.info,
      text,
      (maxPauseMs = MAX_PAUSE_MS) => this.#armer.allowDebugger(maxPauseMs),
      (message) => events.onWarning?.(message),
    );
    this.#sites = new SessionSites(this.info.cwd, this.#reads);
    connection.events = {
      onNotice: (notice) => this.#notice(notice),
      onRecord: (record, ring) => events.onRecord?.(record, ring),
      onClose: (reason, exited) => this.#gone(reason, exited),
    };
    if (connection.closed) queueMicrotask(() => this.#gone('the process has exited', true));
  }

  #notice({ event, params }: Notice): void {
    switch (event) {
      case 'armed':
        this.#armer.onNotice(params as ArmedNotice);
        break;
      case 'lost':
        this.#events.onLost?.((params as { count: number }).count);
        break;
      case 'stacks':
        for (const { id, frames } of params as { id: number; frames: string[] }[]) this.#addStack(id, frames);
        break;
      case 'worker':
        this.#events.onWarning?.(
          `WARNING: process ${this.info.pid} has started a worker thread; worker threads are not traced`,
        );
        break;
      case 'print':
        this.#events.onPrint?.((params as { print?: PrintkCall }).print);
        break;
      case 'warning':
        this.#events.onWarning?.((params as { message: string }).message);
        break;
    }
  }

  #addStack(id: number, frames: readonly string[]): void {
    this.#stacks.set(id, frames);
    this.#lastStack = Math.max(this.#lastStack, id);
  }

  #gone(reason: string, exited: boolean): void {
    this.#cleanUp();
    // one that exits while it is being detached from leaves nothing to put back
    if (this.#detached === undefined || (exited && !this.#over)) this.#events.onGone?.(reason);
  }

  functions(
    wanted?: (path: string) => boolean,
    options: ListOptions = {},
  ): Promise<readonly FunctionSymbol[]> {
    return this.#functions.functions(wanted, options);
  }

  unloaded(symbols: readonly FunctionSymbol[]): Promise<readonly FunctionSymbol[]> {
    return this.#functions.unloaded(symbols);
  }

  async events({
    channels = false,
    maxPauseMs = MAX_PAUSE_MS,
  }: {
    readonly channels?: boolean;
    readonly maxPauseMs?: number;
  } = {}): Promise<ProcessEvents> {
    if (channels) await this.#armer.allowQuery(maxPauseMs);
    const defined = await this.#connection.request('definedEvents');
    return {
      events: eventsOf(this.info.nodeVersion, defined),
      channels: channels ? await this.#connection.request('channels') : [],
    };
  }

  async load(spec: LoadSpec): Promise<void> {
    const layout = layoutMemory(spec.maps, { ncpu: NCPU, reserve: spec.reserve ?? 0 });
    const programs = programImages(spec.programs, layout);
    this.#reads.push(...programs.map(({ reads }) => reads));
    this.#layout = layout;
    const { paths, usesAsyncId } = spec;
    await this.#connection.request('load', { layout, programs, paths, usesAsyncId });
  }

  async addPrograms(added: readonly VerifiedProgram[], paths: readonly PropertyPath[]): Promise<number> {
    if (this.#layout === undefined) throw new TraplineError('EINVAL', 'nothing is loaded yet');
    const first = this.#reads.length;
    const programs = programImages(added, this.#layout, first);
    this.#reads.push(...programs.map(({ reads }) => reads));
    await this.#connection.request('addPrograms', { programs, paths });
    return first;
  }

  async addMaps(added: readonly MapSpec[]): Promise<number> {
    if (this.#layout === undefined) throw new TraplineError('EINVAL', 'nothing is loaded yet');
    const first = this.#layout.maps.length;
    const layout = extendLayout(this.#layout, added);
    await this.#connection.request('addMaps', { maps: layout.maps.slice(first) });
    this.#layout = layout;
    return first;
  }

  async attachSite(requests: readonly AttachRequest[], options: ArmOptions): Promise<AttachedSite> {
    const [site, ...others] = await this.attachSites(requests, options);
    if (site === undefined || others.length > 0) throw new TraplineError('EINVAL', 'a site is one place');
    return site;
  }

  async attachSites(
    requests: readonly AttachRequest[],
    options: ArmOptions,
  ): Promise<readonly AttachedSite[]> {
    const sites = this.#sites.make(requests, options).map((site) => {
      if (isEvent(site)) return site;
      // its parameters, whatever the first programs read: others may follow
      const parameters = (1 << Math.min(site.symbol.params.length, ARG_REGS.length)) - 1;
      return { ...site, reads: site.reads | parameters };
    });
    const reports = await this.#armSites(sites, options);
    return sites.map((site, index) => this.#attached(site, reports[index] as ArmReport));
  }

  #attached(site: Site, report: ArmReport): AttachedSite {
    const { spec, events } = site;
    let started = true;
    const ofText = READS.args | READS.this | READS.argc | READS.allArgs;
    return {
      report,
      events,
      // an event gives all its values whoever reads them
      covers: (programs) =>
        isEvent(site) ||
        programs.every((program) => ((this.#reads[program] ?? 0) & ofText & ~site.reads) === 0),
      setPrograms: async (programs) => {
        const numbers = [spec.site];
        if (programs.length === 0) {
          await this.#connection.request('disable', { sites: numbers });
          // nothing of an event stays that nobody wants
          if (isEvent(site) && started) {
            started = false;
            await this.#connection.request('disarm', { sites: numbers });
          }
          return;
        }
        await this.#connection.request('setSites', { sites: [{ ...spec, programs }] });
        await this.#connection.request('enable', { sites: numbers });
        if (isEvent(site) && !started) {
          started = true;
          await this.#startEvents([site]);
        }
      },
      stats: async () => (await this.siteStats()).find(({ site: number }) => number === spec.site),
    };
  }

  async attach(requests: readonly AttachRequest[], options: ArmOptions): Promise<readonly ArmReport[]> {
    return await this.#armSites(this.#sites.make(requests, options), options);
  }

  async #armSites(sites: readonly Site[], options: ArmOptions): Promise<readonly ArmReport[]> {
    const numbers = sites.map(({ spec }) => spec.site);
    await this.#connection.request('setSites', { sites: sites.map(({ spec }) => spec) });
    await this.#connection.request('enable', { sites: numbers });
    try {
      const events = await this.#startEvents(sites.filter(isEvent));
      const functions = sites.filter((site): site is ArmSite => !isEvent(site));
      const armed = functions.length === 0 ? [] : [...(await this.#armer.arm(functions, options))];
      return sites.map((site) => (isEvent(site) ? events.get(site) : armed.shift()) as ArmReport);
    } catch (error) {
      await this.#connection.request('disable', { sites: numbers }).catch(() => undefined);
      throw error;
    }
  }

  /** Begins events: no function of the application is touched for them. EARM. */
  async #startEvents(sites: readonly EventSite[]): Promise<ReadonlyMap<EventSite, ArmReport>> {
    const reports = new Map<EventSite, ArmReport>();
    if (sites.length === 0) return reports;
    const items = sites.map(({ spec, event }) => ({
      kind: 'event' as const,
      site: spec.site,
      event: event.source,
    }));
    const results = await this.#connection.request('arm', {
      items,
      limits: { maxPauseMs: MAX_PAUSE_MS, discardMs: 0 },
    });
    for (const [index, site] of sites.entries()) {
      const { ok = false, pauseMs = 0, reason = 'no answer' } = results[index] ?? {};
      const { name } = site.event;
      if (!ok) throw new TraplineError('EARM', `${name}: it cannot be traced: ${reason}`);
      const report: ArmReport = { name, way: 'event', estimateMs: 0, pauseMs };
      this.#events.onArmed?.(report);
      reports.set(site, report);
    }
    return reports;
  }

  async runOnce(program: number): Promise<void> {
    await this.#connection.request('runOnce', { program });
  }

  async startInterval(program: number, periodNs: number, cookie: number): Promise<void> {
    await this.#connection.request('startInterval', { program, periodNs, cookie });
  }

  async startProfile(program: number, periodNs: number, cookie: number): Promise<void> {
    await this.#connection.request('startProfile', { program, periodNs, cookie });
  }

  async readMap(index: number): Promise<readonly { key: Uint8Array; values: readonly Uint8Array[] }[]> {
    const entries = await this.#connection.request('readMap', { index });
    await this.#fetchStacks();
    return entries.map(({ key, values }) => ({ key: bytes(key), values: values.map(bytes) }));
  }

  updateMap(index: number, key: Uint8Array, value: Uint8Array, flags = 0): Promise<number> {
    return this.#connection.request('updateMap', { index, key: base64(key), value: base64(value), flags });
  }

  deleteKey(index: number, key: Uint8Array): Promise<number> {
    return this.#connection.request('deleteKey', { index, key: base64(key) });
  }

  async clearMap(index: number): Promise<void> {
    await this.#connection.request('clearMap', { index });
  }

  async zeroMap(index: number): Promise<void> {
    await this.#connection.request('zeroMap', { index });
  }

  stack(id: number): readonly string[] | undefined {
    return this.#stacks.get(id);
  }

  async #fetchStacks(): Promise<void> {
    const stacks = await this.#connection.request('stacks', { after: this.#lastStack });
    for (const { id, frames } of stacks) this.#addStack(id, frames);
  }

  faults(): Promise<readonly ReadFault[]> {
    return this.#connection.request('faults');
  }

  siteStats(): Promise<readonly SiteStats[]> {
    return this.#connection.request('siteStats');
  }

  async flush(): Promise<void> {
    // frames keep their order, so every record that was drained came before the answer
    await this.#connection.request('flush');
    await this.#fetchStacks();
  }

  async disable(): Promise<void> {
    // a probe that runs nothing is not worth a better way
    this.#armer.end();
    await this.#connection.request('stopTimers');
    const sites = this.#sites.all;
    if (sites.length > 0) await this.#connection.request('disable', { sites });
  }

  detach(): Promise<DetachReport> {
    this.#detached ??= this.#detach();
    return this.#detached;
  }

  async #detach(): Promise<DetachReport> {
    this.#armer.end();
    try {
      const report = await this.#connection.finish('detach');
      const { functionsRestored, bytesRestored } = report;
      const pausesMs = [...this.#injectStops, ...report.pausesMs];
      const failures = report.failures.map(({ what, sites, reason }) => ({
        what,
        functions: [...new Set(sites.map((site) => this.#sites.name(site)))],
        reason,
      }));
      return {
        functionsRestored,
        bytesRestored,
        pausesMs,
        longestPauseMs: Math.max(0, ...pausesMs),
        failures,
      };
    } finally {
      this.#over = true;
      this.#connection.close();
      this.#cleanUp();
    }
  }
}

const base64 = (data: Uint8Array): string => Buffer.from(data).toString('base64');

const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'base64'));
