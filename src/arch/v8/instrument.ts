/**
 * Live edits: the text of a script with calls to the agent's hooks (src/agent/README.md) in the functions to be probed.
 *
 * Entry only:             { HOOKe(this,a); …body… }
 * With its ways out:      { const i=HOOKe(this,a);try{ … return HOOKr(i,X) …;HOOKr(i)}catch(x){HOOKt(i,x);throw x}}
 * `return` in a `finally` that may change it, the value is kept and told at the end:
 *                         { let v,c=0;const i=HOOKe(…);try{ … return v=X …;v=void 0}catch(x){c=1;…}finally{if(c===0)HOOKr(i,v)}}
 * Async functions tell the first suspension too: await (a=X,HOOKs(i),a).
 * A generator function's entry is a parameter, so that it is evaluated at the call: function*g(a,...{[HOOKe(this,a)]:v}).
 *
 * Everything stands on the line where it goes. To undo an edit, set the original text again.
 */

import type { SiteEvent } from '../../agent/protocol.ts';
import { classObjection, unreachedFields } from './class-hazard.ts';
import { evalObjection } from './eval-hazard.ts';
import { hookArguments } from './instrument-args.ts';
import type { TextRange } from './instrument-edits.ts';
import { type BodyPlan, type FunctionPlan, type FunctionSite, rewrite } from './instrument-rewrite.ts';
import { type BodyFacts, bodyFacts } from './instrument-scan.ts';
import type { TextSpan } from './live-edit-diff.ts';
import { changesScopes } from './scope-hazard.ts';
import { type Parsed, ParseFailure, parseScript } from './symbols-parse.ts';
import { templateObjection } from './template-hazard.ts';
import type { FunctionSymbol } from './types.ts';

/** One site in one function. Several edits may name the same function, each with its own site. */
export interface InstrumentEdit {
  readonly symbol: FunctionSymbol;
  readonly site: number;
  /** What the site's programs need to be told. */
  readonly events: readonly SiteEvent[];
  /** READS mask (pt-regs.ts) of all of the site's programs together. */
  readonly reads: number;
  /** Offset of the statement before which the site goes (see lineSite); the function's entry where it is left out. */
  readonly at?: number;
  /** The text that runs has it: where two edits do not go together, this one stays. */
  readonly kept?: boolean;
}

/** Hooks are the globals `<prefix><site>e`, `r`, `t`, `s`; other introduced names begin with the prefix too. */
export interface InstrumentNaming {
  readonly prefix: string;
  /** The V8 whose live edit the text is for (`process.versions`): some would break classes of the script. */
  readonly v8?: string;
}

export interface Instrumented {
  /** The new text; the old one if every edit was refused. */
  readonly source: string;
  /** Sites that are in the new text. */
  readonly sites: readonly number[];
  readonly refused: readonly { readonly site: number; readonly reason: string }[];
  /** What a site in the new text cannot tell: `argument 2 is destructured`. */
  readonly notes: readonly { readonly site: number; readonly note: string }[];
  /** Around functions in these parts of the old text there are other scopes now: V8 does not reach closures of theirs that live. */
  readonly changed: readonly TextSpan[];
  /** Functions and classes whose text changed, those around the edited ones too. */
  readonly ranges: readonly TextRange[];
}

/** The new and the old text of every function that an edit changed: for AgentMain.installHooks. */
export function changedTexts(
  edited: Instrumented,
  original: string,
): { readonly edited: string; readonly original: string }[] {
  return edited.ranges.map((range) => ({
    edited: edited.source.slice(range.start, range.end),
    original: original.slice(range.oldStart, range.oldEnd),
  }));
}

/**
 * Puts the edits' sites into a script's text. `original` is always the text as it was loaded: to change the set of sites,
 * instrument it again with all of them. Never throws for what the text is; what cannot be done is refused with a reason.
 */
export function instrument(
  original: string,
  edits: readonly InstrumentEdit[],
  naming: InstrumentNaming,
  isModule = false,
): Instrumented {
  const all = (reason: string): Instrumented => ({
    source: original,
    sites: [],
    refused: edits.map(({ site }) => ({ site, reason })),
    notes: [],
    changed: [],
    ranges: [],
  });
  if (original.includes(naming.prefix)) return all(`the script uses names that begin with ${naming.prefix}`);
  let parsed: Parsed;
  try {
    parsed = parseScript(original, isModule);
  } catch (error) {
    return all(
      `the script cannot be parsed: ${error instanceof ParseFailure ? error.message : String(error)}`,
    );
  }
  const { v8 } = naming;
  const objection =
    v8 === undefined
      ? undefined
      : (classObjection(v8, original, parsed.program) ??
        evalObjection(v8, original, parsed.program) ??
        templateObjection(original, parsed.program));
  if (objection !== undefined) return all(objection);
  const unreached = v8 === undefined ? [] : unreachedFields(v8, original, parsed.program);
  const job = new Job(original, edits, naming, unreached);
  const result = rewrite(
    original,
    parsed.program,
    parsed.isModule,
    (site) => job.plan(site),
    (start, end) => job.wanted(start, end),
  );
  job.refuseRest();
  const { sites, refused, notes, changed } = job;
  return { source: result.source, sites, refused, notes, changed, ranges: result.ranges };
}

/** Whether a part of the text is in one of these. */
export const isWithin = ({ start, end }: TextSpan, spans: readonly TextSpan[]): boolean =>
  spans.some((span) => span.start <= start && end <= span.end);

class Job {
  readonly sites: number[] = [];
  readonly refused: { site: number; reason: string }[] = [];
  readonly notes: { site: number; note: string }[] = [];
  readonly #prefix: string;
  readonly #byBody = new Map<number, InstrumentEdit[]>();
  readonly #bodies: readonly number[];
  /** Where the bodies of functions begin that the running text has edited. */
  readonly #kept: readonly number[];
  readonly #original: string;
  /** The text takes another one's place, whose closures are there. */
  readonly #live: boolean;
  /** See Instrumented. */
  readonly changed: TextSpan[] = [];
  /** Whose functions a live edit does not reach. */
  readonly #unreached: readonly TextSpan[];

  constructor(
    original: string,
    edits: readonly InstrumentEdit[],
    { prefix, v8 }: InstrumentNaming,
    unreached: readonly TextSpan[],
  ) {
    this.#unreached = unreached;
    this.#original = original;
    this.#prefix = prefix;
    this.#live = v8 !== undefined;
    for (const edit of edits) {
      const at = edit.symbol.bodyStart;
      const list = this.#byBody.get(at);
      if (list === undefined) this.#byBody.set(at, [edit]);
      else list.push(edit);
    }
    const sorted = (bodies: Iterable<number>): number[] => [...bodies].sort((a, b) => a - b);
    this.#bodies = sorted(this.#byBody.keys());
    this.#kept = sorted(edits.flatMap(({ kept, symbol }) => (kept === true ? [symbol.bodyStart] : [])));
  }

  /** Whether a function to be edited begins its body within these offsets. */
  wanted(start: number, end: number): boolean {
    return hasWithin(this.#bodies, start, end);
  }

  plan(site: FunctionSite): FunctionPlan | undefined {
    const { node } = site;
    const edits = this.#byBody.get(node.body.start);
    if (edits === undefined || edits[0]!.symbol.end !== node.end) return undefined;
    this.#byBody.delete(node.body.start);
    const facts = bodyFacts(node);
    const changing = this.#changing(site, facts, edits);
    const accepted = edits.filter((edit) => {
      const reason =
        refusal(site, facts, edit) ??
        (isWithin(node, this.#unreached) ? UNREACHED : undefined) ??
        this.#scopeObjection(site, edit, changing);
      if (reason !== undefined) this.refused.push({ site: edit.site, reason });
      return reason === undefined;
    });
    if (accepted.length === 0) return undefined;
    const takesParameter = this.#takesParameter(site, facts, edits);
    const other = accepted.some((edit) => changing.includes(edit));
    if (this.#live && takesParameter) this.changed.push(node);
    else if (other) this.changed.push({ start: node.body.start + 1, end: node.end });
    const lines = new Map<number, string>();
    let entry = '';
    let atCall = '';
    const followed: InstrumentEdit[] = [];
    for (const edit of accepted) {
      this.sites.push(edit.site);
      const { text, notes } = hookArguments(site, facts, edit.reads);
      for (const note of notes) this.notes.push({ site: edit.site, note });
      const call = `${this.#hook(edit, 'e')}(${text})`;
      if (edit.at !== undefined && edit.at > edit.symbol.entry) {
        lines.set(edit.at, `${lines.get(edit.at) ?? ''}${call};`);
      } else if (follows(edit)) {
        followed.push(edit);
        entry += `const ${this.#instance(edit)}=${call};`;
      } else if (takesParameter) {
        atCall += `${atCall === '' ? '' : ','}[${call}]:${this.#prefix}g${edit.site}`;
      } else {
        if (node.generator) {
          this.notes.push({ site: edit.site, note: 'the generator tells its entry at the first next()' });
        }
        entry += `${call};`;
      }
    }
    const plan = {
      entry,
      lines,
      ...(atCall === '' ? {} : { atCall: `{${atCall}}` }),
    };
    if (followed.length === 0) return plan;
    if (suspends(site, followed)) plan.entry = `let ${this.#prefix}a;${plan.entry}`;
    return facts.guardedReturn && node.body.type === 'BlockStatement'
      ? this.#guarded(site, plan, followed)
      : { ...plan, body: this.#direct(site, followed) };
  }

  /** Edits of a function that put other scopes around functions in it. */
  #changing(
    site: FunctionSite,
    facts: BodyFacts,
    edits: readonly InstrumentEdit[],
  ): readonly InstrumentEdit[] {
    if (!this.#live) return [];
    const text = this.#original.slice(site.node.start, site.node.end);
    return edits.filter((edit) =>
      changesScopes(site, facts, text, {
        encloses: follows(edit),
        names: /\barguments\b/.test(hookArguments(site, facts, edit.reads).text),
      }),
    );
  }

  /** Of two functions one in the other, the inner one is edited, unless the other one is already. */
  #scopeObjection(
    { node }: FunctionSite,
    edit: InstrumentEdit,
    changing: readonly InstrumentEdit[],
  ): string | undefined {
    const { start, end } = node.body;
    const alone = changing.some(({ kept }) => kept === true) || !this.wanted(start + 1, end);
    if (!alone && changing.includes(edit))
      return 'V8 would lose closures of functions in it that are probed too';
    if (edit.kept === true) return undefined;
    return isWithin(node.body, this.changed)
      ? 'V8 would lose its closures: a function around it is edited so that they have another scope'
      : undefined;
  }

  /**
   * Whether a generator can have one more parameter: that may put other scopes around functions in it, and is done only where none of
   * them is edited, or this has been done before.
   */
  #takesParameter(site: FunctionSite, facts: BodyFacts, edits: readonly InstrumentEdit[]): boolean {
    const { generator, start, end, body } = site.node;
    if (!generator || !canTakeRest(site, facts)) return false;
    const inside = (bodies: readonly number[]): boolean =>
      hasWithin(bodies, start, body.start) || hasWithin(bodies, body.start + 1, end);
    if (!this.#live || !inside(this.#bodies)) return true;
    return !inside(this.#kept) && edits.some(({ kept }) => kept === true);
  }

  #direct(site: FunctionSite, edits: readonly InstrumentEdit[]): BodyPlan {
    // `return` in a constructor gives the object, as its end does
    const self = site.isConstructor ? ',this' : '';
    let before = '';
    let after = '';
    let nothing = '';
    for (const edit of edits) {
      const ret = `${this.#hook(edit, 'r')}(${this.#instance(edit)}`;
      before = `${ret},${before}`;
      after += ')';
      nothing = nothing === '' ? `${ret}${self})` : `${ret},${nothing})`;
    }
    const x = `${this.#prefix}x`;
    return {
      ret: [before, after],
      retNothing: nothing,
      end: this.#told(edits, site.isConstructor ? 'this' : undefined),
      handlers: `catch(${x}){${this.#thrown(edits, x)}throw ${x}}`,
      wait: this.#wait(site, edits),
    };
  }

  #guarded(site: FunctionSite, plan: FunctionPlan, edits: readonly InstrumentEdit[]): FunctionPlan {
    const [v, c, x] = [`${this.#prefix}v`, `${this.#prefix}c`, `${this.#prefix}x`];
    // In a constructor that has not called super(), `this` throws: inside the try, as it would without
    const nothing = site.isConstructor ? `${v}=this` : `${v}=void 0`;
    return {
      ...plan,
      entry: `let ${v},${c}=0;${plan.entry}`,
      body: {
        ret: [`${v}=`, ''],
        retNothing: nothing,
        end: `${nothing};`,
        handlers: `catch(${x}){${c}=1;${this.#thrown(edits, x)}throw ${x}}finally{if(${c}===0){${this.#told(edits, v)}}}`,
        wait: this.#wait(site, edits),
      },
    };
  }

  /** Statements that tell every site of a return. */
  #told(edits: readonly InstrumentEdit[], value: string | undefined): string {
    const rest = value === undefined ? '' : `,${value}`;
    return edits.map((edit) => `${this.#hook(edit, 'r')}(${this.#instance(edit)}${rest});`).join('');
  }

  #thrown(edits: readonly InstrumentEdit[], error: string): string {
    return edits.map((edit) => `${this.#hook(edit, 't')}(${this.#instance(edit)},${error});`).join('');
  }

  /** Only an async function's `return` event needs to know of its first suspension. */
  #wait(site: FunctionSite, edits: readonly InstrumentEdit[]): readonly [string, string] | undefined {
    if (!suspends(site, edits)) return undefined;
    const calls = edits
      .filter((edit) => edit.events.includes('return'))
      .map((edit) => `${this.#hook(edit, 's')}(${this.#instance(edit)})`);
    const a = `${this.#prefix}a`;
    return [`(${a}=`, `,${calls.join(',')},${a})`];
  }

  #hook(edit: InstrumentEdit, hook: 'e' | 'r' | 't' | 's'): string {
    return `${this.#prefix}${edit.site}${hook}`;
  }

  #instance(edit: InstrumentEdit): string {
    return `${this.#prefix}${edit.site}i`;
  }

  /** Edits for which the text had no function. */
  refuseRest(): void {
    for (const edits of this.#byBody.values()) {
      for (const { site } of edits) {
        this.refused.push({ site, reason: 'the script has no such function: its text is another' });
      }
    }
  }
}

/** Whether one of the sorted numbers is within these bounds. */
function hasWithin(numbers: readonly number[], start: number, end: number): boolean {
  let low = 0;
  let high = numbers.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (numbers[middle]! < start) low = middle + 1;
    else high = middle;
  }
  return low < numbers.length && numbers[low]! < end;
}

const UNREACHED =
  'V8 12 would not reach it in new instances by a live edit: their class has static fields or blocks, too';

function suspends(site: FunctionSite, edits: readonly InstrumentEdit[]): boolean {
  return site.node.async && edits.some((edit) => edit.events.includes('return'));
}

/** Whether a site has to know how the call ends. */
function follows(edit: InstrumentEdit): boolean {
  return edit.at === undefined && edit.events.some((event) => event !== 'entry');
}

function refusal(site: FunctionSite, facts: BodyFacts, edit: InstrumentEdit): string | undefined {
  if (site.inWith) return 'it is inside a with statement, where any name may be the object’s';
  if (!follows(edit)) return undefined;
  if (site.node.generator) {
    return 'the end of a generator cannot be told by a live edit; probe its entry';
  }
  if (facts.varClash !== undefined) {
    return `${facts.varClash} is declared both as a function and by var, in a block or by eval(), which a block of its own cannot hold`;
  }
  return undefined;
}

/** A rest parameter may be added: none is there, and plain parameters are not needed for anything. */
function canTakeRest(site: FunctionSite, facts: BodyFacts): boolean {
  const { node, strict } = site;
  if (node.params.at(-1)?.type === 'RestElement') return false;
  const simple = node.params.every((param) => param.type === 'Identifier');
  if (!simple) return true;
  // 'use strict' and plain parameters' link to `arguments` forbid it
  const body = node.body['body'] as readonly { directive?: string }[];
  if (body.some((statement) => statement.directive === 'use strict')) return false;
  return strict || !(facts.usesArguments || facts.directEval);
}
