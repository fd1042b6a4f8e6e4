/** Plans how a site may be armed: the ways of src/arch/v8/arm.ts with what each would cost this process, within what is allowed. */

import type { BindItem } from '../agent/worker/requests.ts';
import { planSite } from '../arch/v8/arm.ts';
import {
  breakpointMs,
  calibrate,
  deoptimizeMs,
  editMs,
  enableMs,
  queryMs,
  type TargetCost,
} from '../arch/v8/arm-cost.ts';
import { closuresObjection, editMixesClosures } from '../arch/v8/closures-hazard.ts';
import { type Reader, readersOf } from '../arch/v8/readers.ts';
import { scopesMs } from '../arch/v8/scope-cost.ts';
import { parseScript } from '../arch/v8/symbols-parse.ts';
import type { FunctionSymbol, ScriptInfo } from '../arch/v8/types.ts';
import { TraplineError } from '../errors.ts';
import type { ArmItems } from './armer-items.ts';
import type { ArmSite, Enabling, Job } from './armer-job.ts';
import type { AgentConnection } from './connection.ts';
import type { ArmOptions } from './session.ts';
import { isCommonJs, isDebuggable, type LoadedScript, type TextSpace } from './text-space.ts';

/** Throwing optimized code away is part of every binding below this. */
const CHEAP_DEOPTIMIZE_MS = 50;

/** Functions up to which each that reads a replaced variable is made to lose its compiled code, a stop each. */
const MOST_READERS = 4;

function allow(ms: number, maxPauseMs: number, what: string): void {
  if (ms <= maxPauseMs) return;
  const message = `${what} would stop the process for about ${Math.round(ms)} ms`;
  throw new TraplineError('EMAXPAUSE', message, { hint: `--max-pause ${Math.ceil(ms)} allows it` });
}

/** Undefined too for what cannot be parsed: its edit is refused for that. */
function hazardOf(v8: string, source: string, info: ScriptInfo): string | undefined {
  const runsOnce = info.isModule || isCommonJs(info);
  try {
    return closuresObjection(v8, source, parseScript(source, info.isModule).program, runsOnce);
  } catch {
    return undefined;
  }
}

export class ArmPlanner {
  readonly #connection: AgentConnection;
  readonly #text: TextSpace;
  readonly #items: ArmItems;
  readonly #v8: string | undefined;
  /** Throwing all compiled code away, as it was estimated last. */
  discardMs = 0;
  /** Enabling the debugger, as it was estimated before. */
  #enablingMs = 0;
  #enabling: Enabling | undefined;

  /** `v8`: the target's, as in `process.versions`. */
  constructor(connection: AgentConnection, text: TextSpace, items: ArmItems, v8: string | undefined) {
    this.#v8 = v8;
    this.#connection = connection;
    this.#text = text;
    this.#items = items;
  }

  /** Asking for scripts enables the debugger, which walks the heap. Errors: EMAXPAUSE. */
  async allowDebugger(maxPauseMs: number): Promise<void> {
    const ms = enableMs(await this.target());
    allow(ms, maxPauseMs, "looking for functions needs V8's debugger: enabling it");
  }

  /** Refuses with EMAXPAUSE where asking V8 for objects would stop the process for longer. */
  async allowQuery(maxPauseMs: number): Promise<void> {
    const ms = queryMs(await this.target());
    allow(ms, maxPauseMs, 'looking for channels needs a garbage collection: it');
  }

  #deoptimize(estimateMs: number, maxPauseMs: number): BindItem['deoptimize'] {
    if (estimateMs > maxPauseMs) return 'never';
    return estimateMs <= CHEAP_DEOPTIMIZE_MS ? 'now' : 'later';
  }

  /** `walk`: measures a walk of the heap, once, by a stop that is no longer than enabling the debugger was. */
  async target(walk = false): Promise<TargetCost> {
    const cost = await this.#connection.request('cost', { walk });
    const target = calibrate(cost);
    this.discardMs = deoptimizeMs(target);
    if (!cost.debuggerEnabled) this.#enablingMs = enableMs(target);
    else if (cost.enableMs !== undefined)
      this.#enabling = { estimateMs: this.#enablingMs, pauseMs: cost.enableMs };
    return target;
  }

  /** An edit is ruled out by the heap alone: its script's text need not be looked through. */
  #tooLong(target: TargetCost, { length }: string, { way, maxPauseMs }: ArmOptions): boolean {
    return way !== 'edit' && editMs(target, { length, scopesMs: () => 0 }) > maxPauseMs;
  }

  readonly #scopes = new WeakMap<LoadedScript, number>();

  #scopesMs(script: LoadedScript): number {
    const known = this.#scopes.get(script) ?? scopesMs(script.source, script.symbols);
    this.#scopes.set(script, known);
    return known;
  }

  readonly #readersOf = new WeakMap<FunctionSymbol, { readonly readers: readonly Reader[] | undefined }>();

  /** Undefined: code of all functions has to be thrown away where that of a variable's readers has to. */
  #readers(script: LoadedScript, symbol: FunctionSymbol): readonly Reader[] | undefined {
    const { binding } = symbol;
    // a classic script's variables are those of others, too
    const own = script.info.isModule || isCommonJs(script.info);
    if (binding.via !== 'variable' || !own || !isDebuggable(symbol)) return undefined;
    const { source, symbols, info } = script;
    const known = this.#readersOf.get(symbol) ?? {
      readers: readersOf(source, symbols, symbol, binding.name, info.isModule, this.#v8, MOST_READERS),
    };
    this.#readersOf.set(symbol, known);
    return known.readers;
  }

  readonly #hazards = new WeakMap<LoadedScript, { readonly reason: string | undefined }>();

  /** What an edit of a script would do to the application's closures in this version of V8. */
  editHazard(script: LoadedScript): string | undefined {
    const v8 = this.#v8 ?? '';
    if (!editMixesClosures(v8)) return undefined;
    let known = this.#hazards.get(script);
    if (known === undefined) {
      known = { reason: hazardOf(v8, script.source, script.info) };
      this.#hazards.set(script, known);
    }
    return known.reason;
  }

  plan(
    site: ArmSite,
    options: ArmOptions,
    target: TargetCost,
    exportedAs: string | undefined,
    few = true,
  ): Job {
    const { symbol, line, events } = site;
    const script = this.#text.get(symbol.scriptId);
    if (script === undefined)
      throw new TraplineError('EINVAL', `${site.spec.name}: its script is not loaded any more`);
    const { info, source } = script;
    const readers = few ? this.#readers(script, symbol) : undefined;
    const allMs = deoptimizeMs(target);
    const codeMs = readers === undefined ? allMs : breakpointMs(target);
    const deoptimize = this.#deoptimize(codeMs, options.maxPauseMs);
    const plan = planSite(
      { symbol, line: line !== undefined, events },
      {
        target,
        script: {
          length: source.length,
          scopesMs: () => (this.#tooLong(target, source, options) ? 0 : this.#scopesMs(script)),
        },
        compiledIn: this.#items.form(script, symbol),
        debuggable: isDebuggable(symbol),
        commonJs: isCommonJs(info),
        exportedAs,
        deoptimizeMs: deoptimize === 'never' ? 0 : codeMs,
        // who asks for an edit gets one, and is told
        editHazard: options.way === 'edit' || options.unsafe === true ? undefined : this.editHazard(script),
      },
    );
    const { way, breakpoints = true } = options;
    const candidates = plan.candidates.filter(
      (candidate) => (way === 'auto' && (breakpoints || candidate.way !== 'break')) || candidate.way === way,
    );
    const job: Job = {
      site,
      script,
      plan,
      options,
      candidates: [],
      editCandidate: plan.candidates.find(({ way: by }) => by === 'edit'),
      failures: [],
      armed: undefined,
      bound: false,
      settled: false,
      broken: false,
      enabling: isDebuggable(symbol) ? this.#enabling : undefined,
      pauseMs: 0,
      waitedMs: 0,
      note: undefined,
      missed: 0,
      escaped: undefined,
      rateLimit: undefined,
      exportedAs,
      deoptimize,
      deoptimizeAll: allMs <= options.maxPauseMs,
      readers,
      tries: 0,
      unfit: false,
    };
    const allowed = candidates.filter(({ estimateMs }) => estimateMs <= options.maxPauseMs);
    for (const { way: dear, estimateMs } of candidates) {
      if (estimateMs <= options.maxPauseMs) continue;
      job.failures.push(`${dear}: would stop the process for about ${Math.round(estimateMs)} ms`);
    }
    job.candidates = allowed;
    return job;
  }
}
