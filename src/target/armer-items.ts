/** What the agent is asked to do for a site: places in the text that V8 runs, and texts to put in its place. */

import type { ArmItem, BindItem, EditItem, Location } from '../agent/worker/requests.ts';
import { BREAK_LIMIT, hitMs, NEXT_HIT_MS } from '../arch/v8/arm-cost.ts';
import { breakObjection } from '../arch/v8/break-hazard.ts';
import {
  changedTexts,
  type InstrumentEdit,
  type InstrumentNaming,
  instrument,
  isWithin,
} from '../arch/v8/instrument.ts';
import { lineSite, statementEnd } from '../arch/v8/instrument-line.ts';
import { stripNops } from '../arch/v8/instrument-nop.ts';
import type { TextSpan } from '../arch/v8/live-edit-diff.ts';
import { type FittedEdit, fitLiveEdit, lostTexts } from '../arch/v8/live-edit-fit.ts';
import { LineTable } from '../arch/v8/symbols-lines.ts';
import type { ArmWay, FunctionSymbol } from '../arch/v8/types.ts';
import { TraplineError } from '../errors.ts';
import { type Job, reject } from './armer-job.ts';
import { argumentText, functionText, offsetIn } from './armer-text.ts';
import { isDebuggable, type LoadedScript, scriptPath } from './text-space.ts';

/** Time that the calls of an escape window may take; each passes the breakpoint. */
const WINDOW_BUDGET_MS = 10;
const WINDOW_HITS = 50;
/** Scripts up to this length get a text for the case that some of their functions cannot be put back. */
const SUSPENDING_LENGTH = 500_000;

const CLOSURES =
  'V8 would not stop in closures that are older than the edit of a function around it, which gave them another scope';

export interface PlannedEdit {
  readonly item: EditItem;
  readonly edited: EditedScript;
  /** Indexes of the functions that V8 would lose by this edit. */
  readonly lost: ReadonlySet<number>;
}

/** A script's text as it is now, and the sites in it. */
export interface EditedScript {
  readonly text: string;
  /** Texts by which it goes back, ending with the original one. */
  readonly back: readonly string[];
  readonly jobs: ReadonlyMap<number, Job>;
  /** Parts of the script's own text whose functions may have closures that V8 does not reach. */
  readonly changed: readonly TextSpan[];
}

/** Compiled-in sites by the script's path: the inspector has urls where the registry may have paths. */
export type CompiledIn = ReadonlyMap<string, { readonly url: string; readonly forms: readonly number[] }>;

export class ArmItems {
  readonly #naming: InstrumentNaming;
  /** Sites that are in the edited text of each script. */
  readonly edits = new Map<string, EditedScript>();
  compiledIn: CompiledIn = new Map();
  readonly #lines = new Map<string, { text: string; table: LineTable }>();

  constructor(naming: InstrumentNaming) {
    this.#naming = naming;
  }

  /** Of a compiled-in site; undefined where its script has none. */
  form({ info }: LoadedScript, { index }: FunctionSymbol): number | undefined {
    return this.compiledIn.get(scriptPath(info.url))?.forms[index];
  }

  item(job: Job, way: Exclude<ArmWay, 'edit'>): ArmItem {
    const { site, script } = job;
    const { symbol } = site;
    const number = site.spec.site;
    switch (way) {
      case 'property': {
        const { binding } = symbol;
        const held = binding.via === 'property' ? binding : undefined;
        const key = job.exportedAs ?? held?.key;
        if (key === undefined) throw new Error('no property leads to it');
        const { scriptId, url } = script.info;
        return {
          kind: 'property',
          site: number,
          file: scriptPath(url),
          text: this.#shown(functionText(script.source, symbol)),
          key,
          accessor: held?.accessor,
          scriptId: isDebuggable(symbol) ? scriptId : undefined,
        };
      }
      case 'bind': {
        const { binding } = symbol;
        if (binding.via === 'none') throw new Error('no name leads to it');
        const at = this.#breakpoint(job, symbol.entry);
        const window = symbol.isGenerator
          ? 1
          : Math.max(1, Math.min(WINDOW_HITS, Math.floor(WINDOW_BUDGET_MS / NEXT_HIT_MS)));
        const item: BindItem = {
          kind: 'bind',
          site: number,
          at,
          text: this.#shown(functionText(script.source, symbol)),
          target: binding,
          args: argumentText(symbol),
          isGenerator: symbol.isGenerator,
          ends: site.events.some((event) => event !== 'entry'),
          window,
          deoptimize: job.deoptimize,
          readers: this.#readers(job),
          deoptimizeAll: job.deoptimizeAll,
          verify: !symbol.isGenerator,
        };
        return item;
      }
      case 'break': {
        const offset = this.#offset(job);
        const at = this.#breakpoint(job, offset);
        job.rateLimit = BREAK_LIMIT;
        const firstMs = hitMs(script.source);
        return {
          kind: 'break',
          site: number,
          at,
          until: this.#until(job, offset),
          args: argumentText(symbol),
          firstMs,
          nextMs: NEXT_HIT_MS,
        };
      }
      case 'nop': {
        const ends = site.events.some((event) => event !== 'entry');
        const { url = '' } = this.compiledIn.get(scriptPath(script.info.url)) ?? {};
        return { kind: 'nop', site: number, url, index: symbol.index, ends };
      }
    }
  }

  /** What toString() answers: trapline/register leaves its sites out of all texts. */
  #shown(text: string): string {
    return this.compiledIn.size > 0 ? stripNops(text) : text;
  }

  #readers({ script, readers }: Job): Location[] | undefined {
    try {
      return readers?.map(({ symbol, offset }) => this.#location(script, symbol, offset));
    } catch {
      // one of them is edited
      return undefined;
    }
  }

  /** See EditItem.suspending. Parsing a long script once more would delay the arming for a case that is rare. */
  #suspending(
    { info, source }: LoadedScript,
    edits: readonly InstrumentEdit[],
    edited: string,
  ): EditItem['suspending'] {
    const some = edits.filter(({ symbol }) => symbol.isAsync || symbol.isGenerator);
    if (some.length === 0 || some.length === edits.length || source.length > SUSPENDING_LENGTH)
      return undefined;
    const { source: text, sites } = instrument(source, some, this.#naming, info.isModule);
    if (lostTexts(info, edited, text).size > 0 || lostTexts(info, text, source).size > 0) return undefined;
    return { text, sites };
  }

  /** Throws where a breakpoint would change what the application does. */
  #breakpoint({ site, script }: Job, offset: number): Location {
    const objection = breakObjection(script.source, script.info.isModule, site.symbol, offset);
    if (objection !== undefined) throw new Error(objection);
    if (isWithin(site.symbol, this.edits.get(script.info.scriptId)?.changed ?? [])) throw new Error(CLOSURES);
    return this.#location(script, site.symbol, offset);
  }

  /** The end of a line site's statement: a place behind it is passed on other ways, too. */
  #until({ site, script }: Job, offset: number): Location | undefined {
    if (site.line === undefined) return undefined;
    const end = statementEnd(script.source, script.info.isModule, site.symbol, offset);
    return end === undefined ? undefined : this.#location(script, site.symbol, end);
  }

  /** Where a line site goes; the function's entry for others. */
  #offset({ site, script }: Job): number {
    const { symbol, line } = site;
    if (line === undefined) return symbol.entry;
    const found = lineSite(script.source, script.info.isModule, symbol, line.line, line.column, script.map);
    if (found === undefined) {
      throw new TraplineError('ENOENT', `no statement of ${symbol.name} is at or behind line ${line.line}`);
    }
    return found.offset;
  }

  /** In the text that the script has now. */
  #location({ info, source }: LoadedScript, symbol: FunctionSymbol, offset: number): Location {
    const { scriptId } = info;
    const text = this.edits.get(scriptId)?.text ?? source;
    let known = this.#lines.get(scriptId);
    if (known?.text !== text) {
      known = { text, table: new LineTable(text) };
      this.#lines.set(scriptId, known);
    }
    const at = text === source ? offset : offsetIn(text, source, symbol, offset);
    const { line, column } = known.table.position(at);
    return { scriptId, lineNumber: line, columnNumber: column };
  }

  /** One edit of a script for all its sites, those that are in it already included. */
  editItem(jobs: readonly Job[]): PlannedEdit | undefined {
    const { script } = jobs[0]!;
    const { scriptId, isModule } = script.info;
    const all = new Map(this.edits.get(scriptId)?.jobs ?? []);
    for (const job of jobs) all.set(job.site.spec.site, job);
    const edits: InstrumentEdit[] = [];
    const running = this.edits.get(scriptId)?.jobs;
    for (const [site, job] of all) {
      const { symbol, events, reads, line } = job.site;
      const kept = running?.has(site) ?? false;
      try {
        edits.push({
          symbol,
          site,
          events,
          reads,
          kept,
          ...(line === undefined ? {} : { at: this.#offset(job) }),
        });
      } catch (error) {
        reject(job, error);
        all.delete(site);
      }
    }
    const rough = instrument(script.source, edits, this.#naming, isModule);
    if (rough.sites.length === 0) {
      for (const { site, reason } of rough.refused) refuse(all.get(site), reason);
      return undefined;
    }
    const now = this.edits.get(scriptId);
    const from = now?.text ?? script.source;
    const indexes = edits.map(({ symbol }) => symbol.index);
    let fit: FittedEdit;
    try {
      fit = fitLiveEdit(script.info, script.source, from, rough.source, indexes);
    } catch (error) {
      for (const job of jobs) reject(job, error);
      return undefined;
    }
    const result = { ...rough, source: fit.source };
    for (const { site, reason } of result.refused) {
      refuse(all.get(site), reason);
      all.delete(site);
    }
    for (const { site, note } of result.notes) {
      const job = all.get(site);
      if (job !== undefined) job.note = note;
    }
    if (!jobs.some(({ site }) => all.has(site.spec.site))) return undefined;
    const direct = now === undefined || lostTexts(script.info, fit.source, script.source).size === 0;
    const back = direct ? [script.source] : [now.text, ...now.back];
    const item: EditItem = {
      kind: 'edit',
      scriptId,
      sites: [...all.keys()],
      replaces: [...all].filter(([, job]) => job.bound || job.broken).map(([site]) => site),
      original: script.source,
      edited: result.source,
      back,
      suspending: this.#suspending(
        script,
        edits.filter(({ site }) => result.sites.includes(site)),
        result.source,
      ),
      maxPauseMs: Math.max(...[...all.values()].map(({ options }) => options.maxPauseMs)),
      texts: changedTexts(result, script.source).map(({ edited, original }) => ({
        edited: this.#shown(edited),
        original: this.#shown(original),
      })),
    };
    return {
      item,
      edited: { text: result.source, back, jobs: all, changed: result.changed },
      lost: fit.lost,
    };
  }
}

/** No later try will do better. A job that only was to join, and is armed in another way meanwhile, stays so. */
function refuse(job: Job | undefined, reason: string): void {
  if (job === undefined) return;
  job.unfit = true;
  if (job.armed?.way === 'edit') reject(job, new Error(reason));
}
