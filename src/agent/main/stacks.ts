/**
 * JavaScript stacks, interned to numbers (the stack map of `bpf_get_stackid`). They are captured by the Error constructor of
 * a realm of the agent's own: the application's Error.prepareStackTrace is not called, its Error.stackTraceLimit not touched.
 */
import {
  type AnyFunction,
  type BuiltinModules,
  getPrototypeOf,
  imul,
  MapConstructor,
  mapGet,
  mapSet,
  slice,
  uncurry,
} from './intrinsics.ts';
import { SCRIPT_PREFIX } from './site-compiler.ts';

export interface Stacks {
  /** Makes the realm (about a millisecond); otherwise the first capture does. */
  prepare(): void;
  /** The number of the current stack without frames of `top` and above, and without the agent's own; 0 when the table is full. */
  id(depth: number, top: AnyFunction): number;
  /** How many frames a stack has. */
  length(id: number): number;
  /** The numbers of a stack's frames (FRAME_ADDRESS), innermost first. */
  frames(id: number): readonly number[];
  /** Stacks with numbers above `after`: innermost frame first. */
  since(after: number): { id: number; frames: string[] }[];
  dispose(): void;
}

/** Frames of the agent that may lie among the first: each costs about a microsecond, so as many are captured as were seen. */
const SPARE = 12;
const SPARE_AT_FIRST = 3;
const MAX_DEPTH = 127;
const MAX_STACKS = 16384;

type Capture = (limit: number, top: AnyFunction) => readonly object[];

interface CallSiteMethods {
  position(site: object): number;
  script(site: object): string | null;
  line(site: object): number | null;
  column(site: object): number | null;
  functionName(site: object): string | null;
  typeName(site: object): string | null;
  isToplevel(site: object): boolean;
  isConstructor(site: object): boolean;
  isNative(site: object): boolean;
}

/** Runs in the other realm: captures into an object of that realm, whose Error then has the last word on its format. */
const REALM = `(function () {
  'use strict';
  const { captureStackTrace } = Error;
  let captured = [];
  Error.prepareStackTrace = (_, sites) => { captured = sites; return ''; };
  return function capture(limit, top) {
    Error.stackTraceLimit = limit;
    captured = [];
    const holder = {};
    captureStackTrace(holder, top);
    holder.stack;
    return captured;
  };
})()`;

/** Functions of site-code.ts that are no wrappers. */
const SITE_FUNCTIONS = [
  'siteFire',
  'siteCall',
  'siteTraced',
  'sitePassed',
  'siteFailed',
  'siteE',
  'siteR',
  'siteT',
  'siteS',
  'siteB',
];

function isSiteFunction(name: string | null): boolean {
  for (let i = 0; i < SITE_FUNCTIONS.length; i++) if (SITE_FUNCTIONS[i] === name) return true;
  return false;
}

/** `file:name` of a site as a frame: `name (file)`. */
function siteFrame(site: string): string {
  let colon = site.length - 1;
  while (colon > 0 && site[colon] !== ':') colon--;
  return colon <= 0 ? site : `${slice(site, colon + 1)} (${slice(site, 0, colon)})`;
}

/**
 * `siteName` gives the name of the site being hit; undefined outside of any. `gateUrl` is the script of what compiled-in sites call,
 * in a process that has some.
 */
export function createStacks(
  builtin: BuiltinModules,
  siteName: () => string | undefined,
  gateUrl: string | undefined,
): Stacks {
  let capture: Capture | undefined;
  let methods: CallSiteMethods | undefined;
  const { decodeURI: decode } = globalThis;
  const table = new MapConstructor<number, number>();
  const scripts = new MapConstructor<string, number>();
  const stacks: string[][] = [];
  const numbers: number[][] = [];
  const numberOf = new MapConstructor<string, number>();
  let numbered = 0;
  let scriptCount = 0;
  let spare = SPARE_AT_FIRST;

  function prepare(): void {
    if (capture !== undefined) return;
    const vm = builtin('node:vm') as typeof import('node:vm');
    const realm = vm.createContext({ __proto__: null } as object, { name: `${SCRIPT_PREFIX}stacks` });
    capture = vm.runInContext(REALM, realm, { filename: `${SCRIPT_PREFIX}stacks` }) as Capture;
  }

  function methodsOf(site: object): CallSiteMethods {
    const prototype = getPrototypeOf(site) as Record<string, AnyFunction>;
    const method = (name: string) => uncurry(prototype[name]!) as never;
    return {
      position: method('getPosition'),
      script: method('getScriptNameOrSourceURL'),
      line: method('getLineNumber'),
      column: method('getColumnNumber'),
      functionName: method('getFunctionName'),
      typeName: method('getTypeName'),
      isToplevel: method('isToplevel'),
      isConstructor: method('isConstructor'),
      isNative: method('isNative'),
    };
  }

  function startsWith(text: string, part: string): boolean {
    return text.length >= part.length && slice(text, 0, part.length) === part;
  }

  function scriptId(name: string): number {
    let id = mapGet(scripts, name) as number | undefined;
    if (id === undefined) {
      id = ++scriptCount;
      mapSet(scripts, name, id);
    }
    return id;
  }

  function format(site: object, m: CallSiteMethods): string {
    const name = m.functionName(site);
    const type = m.isToplevel(site) ? null : m.typeName(site);
    let shown = name ?? '<anonymous>';
    if (m.isConstructor(site)) shown = `new ${shown}`;
    else if (type !== null && name !== null && !startsWith(name, `${type}.`)) shown = `${type}.${name}`;
    let file = m.script(site) ?? (m.isNative(site) ? 'native' : '<anonymous>');
    if (startsWith(file, 'file://')) {
      try {
        file = decode(slice(file, 7));
      } catch {
        file = slice(file, 7);
      }
    }
    const line = m.line(site);
    if (line === null) return `${shown} (${file})`;
    return `${shown} (${file}:${line}:${m.column(site) ?? 0})`;
  }

  function id(depth: number, top: AnyFunction): number {
    prepare();
    const most = depth < 1 ? 1 : depth > MAX_DEPTH ? MAX_DEPTH : depth;
    const sites = capture!(most + spare, top);
    if (sites.length === 0) return 0;
    methods ??= methodsOf(sites[0]!);
    const m = methods;
    const cut = sites.length === most + spare && spare < SPARE;
    let low = 0x811c9dc5 | 0;
    let high = 0x1234567;
    let n = 0;
    const kept: object[] = [];
    let first: string | undefined;
    for (let i = 0; i < sites.length && n < most; i++) {
      const site = sites[i]!;
      // Code of an inspector's evaluation has the empty name, as the agent's own has; eval() has none at all.
      const script = m.script(site) ?? '<eval>';
      if (script === '') continue;
      if (startsWith(script, SCRIPT_PREFIX)) {
        // A wrapper on top: the probed function itself comes after it, and has no frame yet (or no more).
        if (n === 0 && first === undefined && !isSiteFunction(m.functionName(site))) first = siteName();
        continue;
      }
      // The program itself, and the evaluation of a breakpoint's condition.
      if (n === 0 && startsWith(script, 'wasm://')) continue;
      if (n === 0 && script === gateUrl) continue;
      if (n === 0 && script === '<eval>' && m.functionName(site) === 'eval') continue;
      const position = m.position(site);
      const file = scriptId(script);
      low = imul(low ^ position, 0x01000193);
      low = imul(low ^ file, 0x01000193);
      high = imul(high ^ file, 0x85ebca6b) + position;
      high = imul(high ^ (high >>> 15), 0xc2b2ae35);
      kept[n++] = site;
    }
    if (n < most && cut) {
      // Frames of the agent took the room of others.
      spare = sites.length - n < SPARE ? sites.length - n + 1 : SPARE;
      return id(depth, top);
    }
    if (n === 0) return 0;
    if (first !== undefined) {
      low = imul(low ^ scriptId(first), 0x01000193);
      high = imul(high ^ scriptId(first), 0xc2b2ae35);
    }
    // 53 bits of hash: two of the table's stacks share a number once in half a million tables.
    const key = (low >>> 0) * 2097152 + ((high >>> 11) & 0x1fffff);
    const known = mapGet(table, key) as number | undefined;
    if (known !== undefined) return known;
    if (stacks.length >= MAX_STACKS) return 0;
    const frames: string[] = [];
    if (first !== undefined) frames[0] = siteFrame(first);
    for (let i = 0; i < n && frames.length < most; i++) frames[frames.length] = format(kept[i]!, m);
    stacks[stacks.length] = frames;
    mapSet(table, key, stacks.length);
    return stacks.length;
  }

  function frames(number: number): readonly number[] {
    while (numbers.length < number) {
      const texts = stacks[numbers.length]!;
      const own: number[] = [];
      for (let i = 0; i < texts.length; i++) {
        let known = mapGet(numberOf, texts[i]!) as number | undefined;
        if (known === undefined) {
          known = numbered++;
          mapSet(numberOf, texts[i]!, known);
        }
        own[i] = known;
      }
      numbers[numbers.length] = own;
    }
    return numbers[number - 1] ?? [];
  }

  return {
    prepare,
    id,
    frames,
    length: (number) => stacks[number - 1]?.length ?? 0,
    since(after) {
      const found: { id: number; frames: string[] }[] = [];
      for (let i = after < 0 ? 0 : after; i < stacks.length; i++)
        found[found.length] = { id: i + 1, frames: stacks[i]! };
      return found;
    },
    dispose() {
      capture = undefined;
      methods = undefined;
    },
  };
}
