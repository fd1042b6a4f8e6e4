/** One script of the own process with its sites: brings its running text in line with what the sites want. */

import { KernelError } from '../../kernel/errno.ts';
import type { KprobeDemands, KprobeSlot } from '../../kernel/kprobes/index.ts';
import { READS } from '../../kernel/trace/pt-regs.ts';
import { breakObjection } from './break-hazard.ts';
import { closuresObjection } from './closures-hazard.ts';
import { type InstrumentEdit, instrument } from './instrument.ts';
import { statementEnd } from './instrument-line.ts';
import { lostInEdit, tightenTails } from './live-edit-fit.ts';
import type { SelfHooks } from './self-hooks.ts';
import type { EditStatus, SelfInspector } from './self-inspector.ts';
import { insertPosts, type PostText } from './self-post.ts';
import type { TextScript } from './self-text.ts';
import { functionSymbols } from './symbols.ts';
import { LineTable } from './symbols-lines.ts';
import { forEachChild, isFunction, type Node, parseScript } from './symbols-parse.ts';
import type { FunctionSymbol } from './types.ts';

export interface Site {
  readonly id: number;
  readonly slot: KprobeSlot;
  readonly script: SelfScript;
  readonly symbol: FunctionSymbol;
  readonly isAsync: boolean;
  /** Start of the statement; undefined is the function's entry. */
  readonly at: number | undefined;
  demands: KprobeDemands;
  /** How the site is to be armed. */
  mode: 'off' | 'nop' | 'trap' | 'edit';
  armed: boolean;
  breakpoint: string | undefined;
}

export type Applied =
  | { readonly status: 'Ok'; readonly refused: ReadonlyMap<Site, string> }
  | { readonly status: Exclude<EditStatus, 'Ok'>; readonly message: string };

type State = Map<Site, KprobeDemands>;

interface Step {
  readonly source: string;
  readonly symbols: readonly FunctionSymbol[];
  readonly state: State;
  readonly texts: readonly (readonly [string, string])[];
}

export class SelfScript {
  readonly text: TextScript;
  readonly sites = new Set<Site>();
  /** Functions (and classes) whose text is edited: the new text and the old. */
  texts: readonly (readonly [string, string])[] = [];
  readonly #inspector: SelfInspector;
  readonly #hooks: SelfHooks;
  #current: string;
  #classNodes: readonly Node[] | undefined;
  #hazard: readonly [string | undefined] | undefined;
  /** Sites that the running text calls, and for what. */
  #state: State = new Map();

  constructor(text: TextScript, inspector: SelfInspector, hooks: SelfHooks) {
    this.text = text;
    this.#inspector = inspector;
    this.#hooks = hooks;
    this.#current = text.source;
  }

  /** Why V8 had better not edit it of its own accord; undefined where it may. */
  get editHazard(): string | undefined {
    const { source, info } = this.text;
    this.#hazard ??= [
      closuresObjection(process.versions.v8, source, parseScript(source, info.isModule).program, true),
    ];
    return this.#hazard[0];
  }

  calls(site: Site): boolean {
    return this.#state.has(site);
  }

  /** Whether the running text is what the sites want. */
  get settled(): boolean {
    for (const site of this.#state.keys()) if (site.mode !== 'edit') return false;
    return true;
  }

  /**
   * Rewrites the text for the sites whose mode is `edit`, all at once. The main thread stops for about 15 ms and 3.5 ms per
   * MB of heap. Sites that cannot be in the text are refused; the others are in it. On any other status nothing changed.
   */
  apply(): Applied {
    const wanted: State = new Map();
    for (const site of this.sites) if (site.mode === 'edit') wanted.set(site, site.demands);
    const refused = new Map<Site, string>();
    const steps = this.#plan(this.#state, wanted, refused);
    if (steps.length === 0) return { status: 'Ok', refused };
    // From here on the text calls them: they have to exist before it runs.
    for (const site of wanted.keys()) if (!refused.has(site)) this.#hooks.install(site);
    this.#removeTraps();
    let answer: { status: EditStatus; message?: string } = { status: 'Ok' };
    for (const step of steps) {
      answer = this.#inspector.setSource(this.text.info.scriptId, step.source);
      if (answer.status !== 'Ok') break;
      this.#current = step.source;
      this.texts = step.texts;
      const before = this.#state;
      this.#state = step.state;
      for (const site of before.keys()) {
        if (!this.#state.has(site) && site.mode === 'off') this.#hooks.remove(site.id);
      }
    }
    // An edit drops the breakpoints of its script.
    this.#setTraps();
    if (answer.status !== 'Ok') return { status: answer.status, message: answer.message ?? answer.status };
    return { status: 'Ok', refused };
  }

  /**
   * Texts to set one after the other, so that V8 follows every step. One is the rule; where it would lose a function, half
   * of the changes go first. A site that cannot even be put in alone is refused.
   */
  #plan(from: State, to: State, refused: Map<Site, string>): Step[] {
    const now = this.#build(from, refused);
    const next = this.#build(to, refused);
    if (now.source === next.source) return [];
    if (lostInEdit(now.source, now.symbols, next.source, next.symbols, this.text.info.isModule).size === 0)
      return [next];
    const changed = [...new Set([...from.keys(), ...to.keys()])]
      .filter((site) => from.get(site) !== to.get(site))
      .sort((a, b) => a.symbol.start - b.symbol.start);
    const first = changed[0];
    if (first === undefined) return [next];
    if (changed.length === 1) {
      if (from.has(first)) {
        // Its demands changed: by way of the text without it. Or it leaves, and has to.
        const without: State = new Map(from);
        without.delete(first);
        const out = this.#build(without, refused);
        return to.has(first) ? [out, ...this.#plan(without, to, refused)] : [out];
      }
      refused.set(first, "V8's live edit cannot follow the change: its text is dense, or its line long");
      return [];
    }
    const half = new Map(from);
    for (const site of changed.slice(0, changed.length >> 1)) {
      const demands = to.get(site);
      if (demands === undefined) half.delete(site);
      else half.set(site, demands);
    }
    const head = this.#plan(from, half, refused);
    for (const site of refused.keys()) half.delete(site);
    const rest: State = new Map([...to].filter(([site]) => !refused.has(site)));
    return [...head, ...this.#plan(half, rest, refused)];
  }

  /** EOPNOTSUPP: the trap would change what the function does. */
  setTrap(site: Site): void {
    if (site.breakpoint !== undefined) return;
    const { symbol, at } = site;
    const { source, info } = this.text;
    const objection = breakObjection(source, info.isModule, symbol, at ?? symbol.entry);
    if (objection !== undefined) throw new KernelError('EOPNOTSUPP', `${symbol.name}: ${objection}`);
    const location = this.#location(site);
    if (location === undefined) return;
    this.#hooks.install(site);
    const args = symbol.isArrow ? symbol.params.map((name) => name ?? 'void 0').join(',') : '...arguments';
    const self = '(()=>{try{return this}catch{}})()';
    const condition = `${this.#hooks.breakHook(site.id)}(${self}${args === '' ? '' : `,${args}`})`;
    site.breakpoint = this.#inspector.setBreakpoint(location, condition);
  }

  removeTrap(site: Site): void {
    const { breakpoint } = site;
    site.breakpoint = undefined;
    if (breakpoint !== undefined) this.#inspector.removeBreakpoint(breakpoint);
  }

  #removeTraps(): void {
    for (const site of this.sites) this.removeTrap(site);
  }

  #setTraps(): void {
    for (const site of this.sites) {
      if (site.mode !== 'trap') continue;
      try {
        this.setTrap(site);
      } catch {
        // It was possible before the edit; the next arming will say why it is not now.
      }
    }
  }

  #location(site: Site) {
    const { info, source, symbols } = this.text;
    const now = this.#current === source ? symbols : functionSymbols(info, this.#current, 0n);
    const fn = now[site.symbol.index];
    if (fn === undefined) return undefined;
    const lines = new LineTable(this.#current);
    const place = (offset: number) => {
      const { line, column } = lines.position(offset);
      return { scriptId: info.scriptId, lineNumber: line, columnNumber: column };
    };
    const { at, symbol } = site;
    if (at === undefined) return this.#inspector.breakLocation(place(fn.entry), undefined);
    const shift = fn.start - symbol.start;
    const end = statementEnd(source, info.isModule, symbol, at);
    return this.#inspector.breakLocation(place(at + shift), end === undefined ? end : place(end + shift));
  }

  #usesThis(symbol: FunctionSymbol): boolean {
    let found = false;
    const look = (node: Node, inside: boolean): void => {
      if (found || node.end <= symbol.start || node.start >= symbol.end) return;
      const within = inside || (isFunction(node) && node.start === symbol.start && node.end === symbol.end);
      if (within && (node.type === 'ThisExpression' || node.type === 'Super')) found = true;
      const own = node.type === 'FunctionExpression' || node.type === 'FunctionDeclaration';
      if (!(within && own)) forEachChild(node, (child) => look(child, within));
    };
    look(parseScript(this.text.source, this.text.info.isModule).program, false);
    return found;
  }

  #classes(): readonly Node[] {
    if (this.#classNodes === undefined) {
      const found: Node[] = [];
      const look = (node: Node): void => {
        if (node.type === 'ClassDeclaration' || node.type === 'ClassExpression') found.push(node);
        forEachChild(node, look);
      };
      look(parseScript(this.text.source, this.text.info.isModule).program);
      this.#classNodes = found;
    }
    return this.#classNodes;
  }

  /** The script's text with these sites, and what it does to the functions' own texts. */
  #build(state: State, refused: Map<Site, string>): Step {
    const { source, info, symbols } = this.text;
    const sites = [...state.keys()].filter((site) => !refused.has(site));
    if (sites.length === 0) return { source, symbols, texts: [], state: new Map() };
    let post: PostText | undefined;
    let now: readonly FunctionSymbol[] = symbols;
    const posts = sites.filter((site) => state.get(site)!.post);
    if (posts.length > 0) {
      post = insertPosts(
        source,
        info.isModule,
        posts.map(({ id, symbol, at }) => ({
          symbol,
          at,
          take: this.#hooks.take(id),
          tell: this.#hooks.tell(id),
          variable: this.#hooks.postVariable(id),
        })),
      );
      now = functionSymbols(info, post.source, 0n);
    }
    const before = post?.source ?? source;
    const edits = sites.map((site): InstrumentEdit => {
      const { id, symbol, at } = site;
      const entry = at === undefined || at <= symbol.entry;
      return {
        symbol: now[symbol.index]!,
        site: id,
        events: ['entry', ...state.get(site)!.returns],
        kept: this.#state.get(site) === state.get(site),
        // An arrow function that begins to use the `this` around it changes the scopes around it: V8 would say Ok to
        // the edit, and leave every living closure as it was.
        reads: symbol.isArrow && !this.#usesThis(symbol) ? READS.allArgs : READS.this | READS.allArgs,
        ...(entry ? {} : { at: post?.at(at) ?? at }),
      };
    });
    const { prefix } = this.#hooks.names;
    const result = instrument(before, edits, { prefix, v8: process.versions.v8 }, info.isModule);
    for (const { site, reason } of result.refused) refused.set(sites.find(({ id }) => id === site)!, reason);
    const rough = functionSymbols(info, result.source, 0n);
    const indexes = sites.map(({ symbol }) => symbol.index);
    const edited = tightenTails(before, now, result.source, rough, indexes);
    const old = (offset: number) => post?.original(offset) ?? offset;
    return {
      source: edited,
      symbols: edited === result.source ? rough : functionSymbols(info, edited, 0n),
      state: new Map([...state].filter(([site]) => !refused.has(site))),
      texts: [
        ...result.ranges.map(
          ({ start, end, oldStart, oldEnd }) =>
            [edited.slice(start, end), source.slice(old(oldStart), old(oldEnd))] as const,
        ),
        // A class keeps the offsets that its text had when it was made, and applies them to the new text.
        ...this.#classes().map(
          ({ start, end }) => [edited.slice(start, end), source.slice(start, end)] as const,
        ),
      ],
    };
  }
}
