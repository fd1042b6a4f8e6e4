/** A session with a process whose agent answers on a Unix socket. */

import type { Notice, PrintkCall, SiteEvent, SiteSpec, SiteStats } from '../agent/protocol.ts';
import type { ArmedNotice, TargetInfo } from '../agent/worker/requests.ts';
import { functionName, shownPath } from '../arch/v8/match.ts';
import type { ScriptText } from '../arch/v8/symbols-cache.ts';
import type { ArmReport, FunctionSymbol, ScriptInfo } from '../arch/v8/types.ts';
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
import { programImages } from './images.ts';
import { dropLeftovers, replacedScripts } from './leftovers.ts';
import { procEnv } from './procfs.ts';
import type {
  ArmOptions,
  AttachedSite,
  AttachRequest,
  DetachReport,
  EventPlace,
  ListOptions,
  LoadSpec,
  ProcessEvents,
  ProcessInfo,
  SessionEvents,
  TraceSession,
} from './session.ts';
import {
  fileText,
  isListed,
  isOwnText,
  isWanted,
  mapMentions,
  named,
  scriptPath,
  TextSpace,
  type Wanted,
} from './text-space.ts';

const NCPU = 2;

/** What `--max-pause` is by default. */
const MAX_PAUSE_MS = 100;

export class RemoteSession implements TraceSession {
  readonly info: ProcessInfo;
  readonly #connection: AgentConnection;
  readonly #events: SessionEvents;
  readonly #text = new TextSpace();
  readonly #cleanUp: () => void;
  /** How long each piece of the injection held the process up, in ms. */
  readonly #injectStops: readonly number[];
  readonly #armer: Armer;
  readonly #stacks = new Map<number, readonly string[]>();
  readonly #reads: number[] = [];
  #layout: MemoryLayout | undefined;
  #nextSite = 1;
  /** What messages call each site. */
  readonly #names = new Map<number, string>();
  #lastStack = 0;
  #detached: Promise<DetachReport> | undefined;
  /** The agent has answered to `detach`, or will not. */
  #over = false;
  #functions: Promise<readonly FunctionSymbol[]> | undefined;

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
    this.#armer = new Armer(connection, this.#text, naming, (report) => events.onArmed(report));
    connection.events = {
      onNotice: (notice) => this.#notice(notice),
      onRecord: (record) => events.onRecord(record),
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
        this.#events.onLost((params as { count: number }).count);
        break;
      case 'stacks':
        for (const { id, frames } of params as { id: number; frames: string[] }[]) this.#addStack(id, frames);
        break;
      case 'worker':
        this.#events.onWarning(
          `WARNING: process ${this.info.pid} has started a worker thread; worker threads are not traced`,
        );
        break;
      case 'print':
        this.#events.onPrint?.((params as { print?: PrintkCall }).print);
        break;
      case 'warning':
        this.#events.onWarning((params as { message: string }).message);
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
    if (this.#detached === undefined || (exited && !this.#over)) this.#events.onGone(reason);
  }

  functions(
    wanted?: (path: string) => boolean,
    options: ListOptions = {},
  ): Promise<readonly FunctionSymbol[]> {
    if (wanted !== undefined) {
      // a pattern may be anchored at what users see
      const { cwd } = this.info;
      return this.#list((path) => wanted(path) || wanted(shownPath(path, cwd)), options);
    }
    this.#functions ??= this.#list(() => true, options).catch((error) => {
      this.#functions = undefined;
      throw error;
    });
    return this.#functions;
  }

  /** From the files that trapline/register prepared, when it prepared all; no debugger is needed then. */
  async #listPrepared(wanted: Wanted): Promise<readonly FunctionSymbol[] | undefined> {
    if (!this.info.prepared) return undefined;
    const { pid } = this.info;
    if (procEnv(pid, 'TRAPLINE_INCLUDE') !== undefined || procEnv(pid, 'TRAPLINE_EXCLUDE') !== undefined)
      return undefined;
    const scripts = await this.#connection.request('compiledIn');
    if (scripts === undefined) return undefined;
    const symbols: FunctionSymbol[] = [];
    for (const { url, forms } of scripts) {
      // what a source map says is in the text: scripts with one cannot be told from their path
      const path = scriptPath(url);
      if (!wanted(path) && !mapMentions(path, wanted)) continue;
      const script = this.#text.addPrepared(url, forms.length);
      if (script === undefined) return undefined;
      for (const symbol of script.symbols) symbols.push(symbol);
    }
    return symbols;
  }

  /**
   * From the files of the CommonJS modules that are loaded, where the caller says that their functions are all it needs. What
   * V8 runs may be something else; whoever replaces a function by its property compares its text.
   */
  async #listModules(
    wanted: Wanted,
    { enough }: ListOptions,
  ): Promise<readonly FunctionSymbol[] | undefined> {
    if (enough === undefined) return undefined;
    const symbols: FunctionSymbol[] = [];
    for (const file of await this.#connection.request('modules')) {
      if (!wanted(file)) continue;
      const script = this.#text.addModule(file);
      if (script === undefined || script.failure !== undefined) return undefined;
      for (const symbol of script.symbols) symbols.push(symbol);
    }
    return symbols.length > 0 && enough(symbols) ? symbols : undefined;
  }

  async #list(wanted: Wanted, options: ListOptions): Promise<readonly FunctionSymbol[]> {
    const prepared = (await this.#listPrepared(wanted)) ?? (await this.#listModules(wanted, options));
    if (prepared !== undefined) return prepared;
    await this.#armer.allowDebugger(options.maxPauseMs ?? MAX_PAUSE_MS);
    const all = await this.#connection.request('scripts');
    const listed = all.map(named).filter((script) => isListed(script) && isWanted(script, wanted));
    const texts: ScriptText[] = [];
    for (const [index, source] of (await Promise.all(listed.map((info) => this.#source(info)))).entries()) {
      // V8 has collected it meanwhile
      if (source !== undefined) texts.push({ info: listed[index] as ScriptInfo, source });
    }
    const live = dropLeftovers(
      texts.map(({ info }) => info),
      texts.map(({ source }) => source),
      replacedScripts(all),
    );
    const wantedTexts = texts.filter(({ info, source }) => live.has(info) && !isOwnText(info, source));
    const symbols: FunctionSymbol[] = [];
    for (const script of await this.#text.addAll(wantedTexts)) {
      for (const symbol of script.symbols) symbols.push(symbol);
    }
    return symbols;
  }

  async #source(info: ScriptInfo): Promise<string | undefined> {
    const { scriptId } = info;
    const known = this.#text.get(scriptId)?.source ?? fileText(info);
    return known ?? (await this.#connection.request('source', { scriptId })).source;
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
    const { ring, paths, usesAsyncId } = spec;
    await this.#connection.request('load', { layout, ring, programs, paths, usesAsyncId });
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
    const sites = this.#sites(requests, options).map((site) => {
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
    return await this.#armSites(this.#sites(requests, options), options);
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
      this.#events.onArmed(report);
      reports.set(site, report);
    }
    return reports;
  }

  /** Requests on the same place share a site. */
  #sites(requests: readonly AttachRequest[], options: ArmOptions): Site[] {
    const groups = new Map<string, AttachRequest[]>();
    for (const request of requests) {
      const { at } = request;
      if (at.kind === 'event') {
        const key = `event ${at.event.source}`;
        groups.set(key, [...(groups.get(key) ?? []), request]);
        continue;
      }
      const place = at.kind === 'line' ? `:${at.line}:${at.column}` : '';
      const key = `${at.symbol.address}${place}`;
      const group = groups.get(key);
      if (group === undefined) groups.set(key, [request]);
      else group.push(request);
    }
    return [...groups.values()].map((group): Site => {
      const { at } = group[0]!;
      if (at.kind === 'event') return this.#eventSite(at.event, group);
      const { symbol } = at;
      const file = shownPath(symbol.file, this.info.cwd);
      const name = at.kind === 'line' ? `${file}:${at.line}` : `${file}:${functionName(symbol)}`;
      const spec: SiteSpec = {
        site: this.#nextSite++,
        address: String(symbol.address),
        name,
        programs: group.map(({ program, event, cookie }) => ({ program, event, cookie })),
        maxactive: options.maxactive,
        isAsync: symbol.isAsync,
        isGenerator: symbol.isGenerator,
      };
      this.#names.set(spec.site, name);
      const events = [...new Set(group.map(({ event }) => event))];
      if (at.kind === 'line' && events.some((event) => event !== 'entry')) {
        throw new TraplineError(
          'EINVAL',
          `${name}: a line has no ${events.find((event) => event !== 'entry')} event`,
        );
      }
      const reads = group.reduce((mask, { program }) => mask | (this.#reads[program] ?? 0), 0);
      const line = at.kind === 'line' ? { line: at.line, column: at.column } : undefined;
      return { spec, symbol, events, reads, line };
    });
  }

  #eventSite(event: EventPlace, group: readonly AttachRequest[]): EventSite {
    const spec: SiteSpec = {
      site: this.#nextSite++,
      address: '0',
      name: event.name,
      programs: group.map(({ program, event: when, cookie }) => ({ program, event: when, cookie })),
      maxactive: 0,
      isAsync: false,
      isGenerator: false,
    };
    this.#names.set(spec.site, event.name);
    return { spec, event, events: ['entry'] };
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

  faults(): Promise<readonly (readonly [number, number, number])[]> {
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
    const sites = Array.from({ length: this.#nextSite - 1 }, (_, index) => index + 1);
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
        functions: [...new Set(sites.map((site) => this.#names.get(site) ?? `site ${site}`))],
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

/** A site that an event of the process calls. */
interface EventSite {
  readonly spec: SiteSpec;
  readonly event: EventPlace;
  readonly events: readonly SiteEvent[];
}

type Site = ArmSite | EventSite;

const isEvent = (site: Site): site is EventSite => 'event' in site;

const base64 = (data: Uint8Array): string => Buffer.from(data).toString('base64');

const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'base64'));
