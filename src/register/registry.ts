/**
 * The sites that are compiled into this process's modules, for whoever arms them: `globalThis[Symbol.for('trapline.sites')]`.
 * See README.md. Nothing here runs while nothing is armed.
 */
import type { NopForm, SelfPath } from '../arch/v8/instrument-nop.ts';
import { scriptPath } from '../arch/v8/symbols-path.ts';
import type { TypesMode } from '../arch/v8/typescript.ts';
import { type ArmedSite, createGate, GATE_URL, type Gate, type SiteHooks } from './gate.ts';

/** A script with sites. Functions are numbered in order of appearance: FunctionSymbol.index. */
export interface SiteScript {
  readonly url: string;
  /** Name of the global that the script's sites test. */
  readonly gate: string;
  /** By function: 0 no site, 1 entry only, 2 and 3 entry and ends (NOP_FORMS). */
  readonly forms: readonly NopForm[];
  /** By function, in shared memory: 0 silences an armed site without touching the main thread. */
  readonly flags: Uint8Array;
  /** By function: hits that were not told, because the function was not found again under its name. */
  readonly missed: Uint32Array;
  /** Its file is TypeScript, which Node runs in this way. */
  readonly types: TypesMode | undefined;
}

export interface SiteRegistry {
  readonly version: 1;
  /** The script of the functions that sites call. */
  readonly gateUrl: string;
  /** By url, as the inspector reports it (a path for CommonJS, file:// for ES modules). */
  readonly scripts: ReadonlyMap<string, SiteScript>;
  /**
   * Calls `hooks` at a function's site. Returns false where the function has no site, or `ends` are wanted and its site
   * tells only entries; then nothing changed.
   */
  arm(url: string, index: number, hooks: SiteHooks, ends: boolean): boolean;
  disarm(url: string, index: number): void;
  disarmAll(): void;
  /** Files that were prepared before they were loaded, and have not been since, or with another text. */
  unloaded(): string[];
  /** A script's text without its sites. */
  strip(text: string): string;
}

interface Entry extends SiteScript {
  readonly selves: Readonly<Record<number, SelfPath>>;
  readonly hooks: (ArmedSite | undefined)[];
  readonly content: string | undefined;
  /** The same file with the same text under other urls (`./a.mjs?1`), loaded later. */
  readonly others: Entry[];
  armed: number;
  instance: Gate | undefined;
  loaded: boolean;
}

export interface NewScript {
  readonly url: string;
  readonly gate: string;
  readonly forms: readonly NopForm[];
  readonly selves: Readonly<Record<number, SelfPath>>;
  /** Of files that a tracer has named before they were loaded: tells the text, whatever url it has. */
  readonly content?: string | undefined;
  readonly types?: TypesMode | undefined;
}

export interface OwnRegistry extends SiteRegistry {
  /** Makes a script known, before its text runs. A script that is loaded again keeps its sites. */
  add(script: NewScript): void;
  /** The same long before: its file has not been loaded yet. */
  prepare(script: NewScript): void;
}

const { defineProperty, deleteProperty } = Reflect;

/** (Re)creates the global that a script's sites test. V8 takes it for a constant until it is set. */
function defineGate(name: string): void {
  deleteProperty(globalThis, name);
  defineProperty(globalThis, name, {
    value: undefined,
    writable: true,
    enumerable: false,
    configurable: true,
  });
}

export function createRegistry(strip: (text: string) => string): OwnRegistry {
  const scripts = new Map<string, Entry>();
  /** The first script of each file that a tracer has named. */
  const named = new Map<string, Entry>();
  const globals = globalThis as unknown as Record<string, unknown>;

  function close(script: Entry): void {
    script.flags.fill(0);
    script.hooks.length = 0;
    script.armed = 0;
    if (script.instance !== undefined) defineGate(script.gate);
    script.instance = undefined;
  }

  function put(script: Entry, index: number, site: ArmedSite): void {
    if (script.hooks[index] === undefined) script.armed++;
    script.hooks[index] = site;
    script.flags[index] = 1;
    if (script.instance === undefined) {
      script.instance = createGate(script);
      globals[script.gate] = script.instance;
    }
  }

  function take(script: Entry, index: number): void {
    script.flags[index] = 0;
    script.hooks[index] = undefined;
    if (--script.armed === 0) close(script);
  }

  /** What is armed in a file is armed in each of its modules: `import './a.mjs?1'` makes another one of the same text. */
  function join(script: Entry): void {
    if (script.content === undefined) return;
    const path = scriptPath(script.url);
    const first = named.get(path);
    if (first === undefined) named.set(path, script);
    else if (first.content === script.content) {
      if (script.loaded) first.loaded = true;
      first.others.push(script);
      for (const [index, site] of first.hooks.entries()) if (site !== undefined) put(script, index, site);
    }
  }

  function enter({ url, gate, forms, selves, content, types }: NewScript, loaded: boolean): void {
    const known = scripts.get(url);
    if (known?.gate === gate) {
      if (loaded) known.loaded = true;
      return;
    }
    defineGate(gate);
    const script: Entry = {
      url,
      gate,
      forms,
      selves,
      content,
      types,
      others: [],
      flags: new Uint8Array(new SharedArrayBuffer(forms.length)),
      missed: new Uint32Array(forms.length),
      hooks: [],
      armed: 0,
      instance: undefined,
      loaded,
    };
    scripts.set(url, script);
    join(script);
  }

  return {
    version: 1,
    gateUrl: GATE_URL,
    scripts,
    strip,
    unloaded: () => [...named].filter(([, { loaded }]) => !loaded).map(([path]) => path),
    add: (script) => enter(script, true),
    prepare: (script) => enter(script, false),
    arm(url, index, hooks, ends) {
      const script = scripts.get(url);
      const form = script?.forms[index] ?? 0;
      if (script === undefined || form === 0 || (ends && form === 1)) return false;
      put(script, index, { hooks, ends });
      return true;
    },
    disarm(url, index) {
      const script = scripts.get(url);
      const site = script?.hooks[index];
      if (script === undefined || site === undefined) return;
      take(script, index);
      for (const other of script.others) if (other.hooks[index] === site) take(other, index);
    },
    disarmAll() {
      for (const script of scripts.values()) if (script.armed > 0) close(script);
    },
  };
}
