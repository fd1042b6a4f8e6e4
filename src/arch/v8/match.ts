/**
 * What a probe's target names: `[FILE:]FUNC`, `FILE:LINE[:COL]`, with `*`, `?` and `[…]` in FILE and FUNC.
 *
 * FILE matches the end of a path, on component boundaries: `db.ts` matches `/app/src/db.ts`, not `/app/userdb.ts`. A FILE
 * that matches files outside `node_modules` does not reach into `node_modules`, unless it has a wildcard or says so.
 * FUNC matches a name as V8 shows it (`Cart.total`, `get size`, `new Cart`), or its part behind the last dot or space
 * (`total`, `size`, `Cart`), or that with its class or holder (`Cart.size`, `api.list`).
 */
import { relative, sep } from 'node:path';
import { TraplineError } from '../../errors.ts';
import { nearest } from '../../similar.ts';
import { blacklistReason } from './blacklist.ts';
import type { FunctionSymbol } from './types.ts';

/** A function, or a statement in it, that a target names. */
export interface TargetMatch {
  /** `server.js:handle`: as shown to the user. */
  readonly name: string;
  /** Parameter names by index; undefined where a pattern has no name. */
  readonly params: readonly (string | undefined)[];
  readonly symbol: FunctionSymbol;
  /** Where in the original file, from 1; undefined for the function's entry. Column 1 where the user gave none. */
  readonly at: { readonly line: number; readonly column: number } | undefined;
}

export interface MatchOptions {
  /** Paths are shown relative to this folder: the target's working directory. */
  readonly cwd: string;
  /** Why a function cannot be probed, for what the blacklist of arch/v8 does not know. */
  readonly blacklisted?: (symbol: FunctionSymbol) => string | undefined;
}

interface SourceFile {
  readonly path: string;
  readonly shown: string;
  readonly symbols: FunctionSymbol[];
}

/** `FILE:LINE[:COL]`, or a function pattern. */
export type ParsedTarget =
  | { readonly file: string | undefined; readonly func: string }
  | { readonly file: string; readonly line: number; readonly column: number | undefined };

/** Splits a target as the user wrote it (without `kprobe:`). */
export function parseTarget(target: string): ParsedTarget {
  const line = /^(.+?):(\d+)(?::(\d+))?$/.exec(target);
  if (line !== null) {
    const column = line[3] === undefined ? undefined : Number(line[3]);
    return { file: unquote(line[1]!), line: Number(line[2]), column };
  }
  const quoted = /^(?:(.+):)?"([^"]*)"$/.exec(target);
  if (quoted !== null) return { file: quoted[1] && unquote(quoted[1]), func: quoted[2]! };
  const colon = target.lastIndexOf(':');
  if (colon === -1) return { file: undefined, func: target };
  return { file: unquote(target.slice(0, colon)), func: target.slice(colon + 1) };
}

/** Whether a target names a place in a file, not functions. */
export function isLineTarget(target: string): boolean {
  return 'line' in parseTarget(target);
}

function unquote(text: string): string {
  return text.length > 1 && text.startsWith('"') && text.endsWith('"') ? text.slice(1, -1) : text;
}

/**
 * Whether a target may name something in a file: lets a tracer parse only the scripts that matter. For original files, too;
 * a script with a source map has to be asked by those.
 */
export function fileFilter(target: string): (path: string) => boolean {
  const { file } = parseTarget(target);
  if (file === undefined) return () => true;
  const regexp = filePattern(file);
  return (path) => regexp.test(path);
}

/** Whether a target is a function's name only: those of packages and of Node are meant only where there are no others. */
export function isAnyFile(target: string): boolean {
  return parseTarget(target).file === undefined;
}

/** Whether a file is the application's own. */
export function isOwnFile(path: string): boolean {
  return !isInModules(path) && !path.startsWith('node:');
}

function isInModules(path: string): boolean {
  return /(^|[/\\])node_modules[/\\]/.test(path);
}

/** Whether a target names its file, and functions in it: neither any file, nor a line. */
export function namesFile(target: string): boolean {
  const parsed = parseTarget(target);
  return parsed.file !== undefined && !isGlob(parsed.file) && !('line' in parsed);
}

/** All functions of a process, by the names that users type. */
export class SymbolIndex {
  readonly #files: readonly SourceFile[];
  readonly #blacklisted: (symbol: FunctionSymbol) => string | undefined;

  constructor(symbols: Iterable<FunctionSymbol>, options: MatchOptions) {
    const files = new Map<string, SourceFile>();
    for (const symbol of symbols) {
      let file = files.get(symbol.file);
      if (file === undefined) {
        file = { path: symbol.file, shown: shownPath(symbol.file, options.cwd), symbols: [] };
        files.set(symbol.file, file);
      }
      file.symbols.push(symbol);
    }
    this.#files = [...files.values()];
    const more = options.blacklisted;
    this.#blacklisted = (symbol) => blacklistReason(symbol.file) ?? more?.(symbol);
  }

  /** `server.js:handle`; `<anonymous>` for functions without a name. */
  name(symbol: FunctionSymbol): string {
    const file = this.#files.find((f) => f.path === symbol.file);
    return `${file?.shown ?? symbol.file}:${functionName(symbol)}`;
  }

  /**
   * The functions or the statement that a target names, in order of appearance. Throws a TraplineError when there is none
   * (with the nearest name as hint), or when all that match are blacklisted.
   */
  match(target: string): TargetMatch[] {
    const parsed = parseTarget(target);
    const files = this.#matchFiles(parsed.file);
    if (files.length === 0 && parsed.file !== undefined) {
      // scripts of the kind are not even listed
      const reason = blacklistReason(parsed.file);
      if (reason !== undefined)
        throw new TraplineError('EINVAL', `${parsed.file} cannot be probed: ${reason}`);
      const wanted = basename(parsed.file);
      const near = (among: readonly SourceFile[]) => nearest(wanted, among, ({ path }) => basename(path));
      const like = near(this.#files.filter(({ path }) => isOwnFile(path))) ?? near(this.#files);
      throw new TraplineError('ENOENT', `no loaded script matches ${parsed.file}`, {
        hint: like === undefined ? undefined : `did you mean ${like.shown}?`,
      });
    }
    if ('line' in parsed) return [this.#matchLine(parsed.file, files, parsed.line, parsed.column)];
    const found = this.#matchFunctions(files, parsed.func);
    if (found.length === 0) {
      if (parsed.file === undefined) this.#refuseFile(target);
      throw this.#unknown(parsed.func, files);
    }
    const allowed = found.filter(({ symbol }) => this.#blacklisted(symbol) === undefined);
    if (allowed.length === 0) {
      const { symbol, name } = found[0]!;
      throw new TraplineError('EINVAL', `${name} cannot be probed: ${this.#blacklisted(symbol)}`);
    }
    return allowed;
  }

  /** Every function that a target names, for `-l`; no error when there is none. */
  find(target: string): TargetMatch[] {
    const parsed = parseTarget(target);
    const files = this.#matchFiles(parsed.file);
    if ('line' in parsed) {
      return files.length === 0 ? [] : [this.#matchLine(parsed.file, files, parsed.line, parsed.column)];
    }
    const found = this.#matchFunctions(files, parsed.func);
    return found.filter(({ symbol }) => this.#blacklisted(symbol) === undefined);
  }

  #matchFiles(pattern: string | undefined): readonly SourceFile[] {
    let found = this.#files;
    if (pattern !== undefined) {
      const regexp = filePattern(pattern);
      found = found.filter((file) => regexp.test(file.path) || regexp.test(file.shown));
      if (isGlob(pattern) || pattern.includes('node_modules')) return found;
    }
    const own = found.filter((file) => isOwnFile(file.path));
    return own.length > 0 ? own : found;
  }

  #matchFunctions(files: readonly SourceFile[], pattern: string): TargetMatch[] {
    const matches = functionMatcher(pattern);
    const found: TargetMatch[] = [];
    for (const file of files) {
      for (const symbol of file.symbols) {
        if (matches(symbol)) found.push(targetOf(file, symbol, undefined));
      }
    }
    return found;
  }

  /** The innermost function around a line's (or position's) beginning; a function that begins on the line if none is. */
  #matchLine(
    text: string,
    files: readonly SourceFile[],
    line: number,
    column: number | undefined,
  ): TargetMatch {
    if (files.length > 1) {
      const names = files.slice(0, 3).map((f) => f.shown);
      const more = files.length > 3 ? ', …' : '';
      throw new TraplineError('EINVAL', `${text} is ${files.length} files: ${names.join(', ')}${more}`, {
        hint: 'give more of the path',
      });
    }
    const file = files[0]!;
    const at = { line, column: column ?? 1 };
    let best: FunctionSymbol | undefined;
    for (const symbol of file.symbols) {
      if (column === undefined ? !spansLine(symbol, line) : !spansPosition(symbol, line, column)) continue;
      if (best === undefined || isInside(symbol, best)) best = symbol;
    }
    if (best === undefined && column === undefined) {
      best = file.symbols.find((symbol) => symbol.line === line);
    }
    if (best === undefined) {
      const after = file.symbols.find((symbol) => symbol.line > line);
      throw new TraplineError('ENOENT', `${file.shown}:${line} is not inside a function`, {
        hint:
          after === undefined ? undefined : `the next function is ${functionName(after)}, line ${after.line}`,
      });
    }
    const reason = this.#blacklisted(best);
    if (reason !== undefined) {
      throw new TraplineError('EINVAL', `${file.shown}:${line} cannot be probed: ${reason}`);
    }
    return targetOf(file, best, at);
  }

  /** For a file's name alone, where a function's is wanted. */
  #refuseFile(name: string): void {
    const files = this.#matchFiles(name);
    if (files.length === 0) return;
    throw new TraplineError('ENOENT', `${name} is a file, and no function is called so`, {
      hint: `${isGlob(name) || files.length > 1 ? name : files[0]!.shown}:* names its functions`,
    });
  }

  #unknown(func: string, files: readonly SourceFile[]): TraplineError {
    const last = lastName(func);
    // methods have their class before their name
    const method = func.replace('.prototype.', '.');
    const all = (from: readonly SourceFile[]) =>
      from.flatMap((file) => file.symbols.map((symbol) => ({ file, symbol })));
    // what is called so, of another class or in another file
    const same = (from: readonly SourceFile[]) => {
      const found = all(from).filter(({ symbol }) => lastName(symbol.name) === last);
      const [first] = found;
      return (
        found.find(({ symbol }) => symbol.name === method) ??
        nearest(func, found, ({ symbol }) => symbol.name) ??
        first
      );
    };
    const near = (from: readonly SourceFile[]) =>
      nearest(last, all(from), ({ symbol }) => lastName(symbol.name)) ??
      nearest(func, all(from), ({ symbol }) => symbol.name);
    const own = this.#files.filter(({ path }) => isOwnFile(path));
    const like = same(files) ?? same(own) ?? near(files) ?? near(own) ?? near(this.#files);
    const where = files.length === 1 ? ` in ${files[0]!.shown}` : '';
    return new TraplineError('ENOENT', `no function matches ${func}${where}`, {
      hint: like === undefined ? undefined : `did you mean ${like.file.shown}:${functionName(like.symbol)}?`,
    });
  }
}

/**
 * Lines for `-l`: `kprobe:server.js:handle`, sorted by file and position, each once. With `verbose`, one line a function
 * with its place and parameters: `kprobe:server.js:handle  server.js:12  (req, res)`; of a line, `kprobe:server.js:13  in handle  (req, res)`.
 */
export function listFunctions(
  index: SymbolIndex,
  target: string,
  type = 'kprobe',
  verbose = false,
): string[] {
  const lines = new Set<string>();
  for (const { symbol, name, at } of index.find(target)) {
    if (verbose) {
      const func = functionName(symbol);
      const params = parameters(symbol)
        .map((p, i) => p ?? `arg${i}`)
        .join(', ');
      const place = at === undefined ? `${name.slice(0, -func.length - 1)}:${symbol.line}` : `in ${func}`;
      lines.add(`${type}:${name}  ${place}  (${params})`);
    } else lines.add(`${type}:${name}`);
  }
  return [...lines];
}

function targetOf(file: SourceFile, symbol: FunctionSymbol, at: TargetMatch['at']): TargetMatch {
  const name =
    at === undefined ? functionName(symbol) : at.column === 1 ? `${at.line}` : `${at.line}:${at.column}`;
  return { name: `${file.shown}:${name}`, params: parameters(symbol), symbol, at };
}

/** Names that users know the parameters by. */
const parameters = ({ params, originalParams = params }: FunctionSymbol): FunctionSymbol['params'] =>
  originalParams;

export function functionName(symbol: FunctionSymbol): string {
  return symbol.name === '' ? '<anonymous>' : symbol.name;
}

/** Relative to the working directory, or from the last `node_modules/`, else as it is. */
export function shownPath(path: string, cwd: string): string {
  const modules = path.lastIndexOf('node_modules/');
  if (modules > 0 && path[modules - 1] === '/') return path.slice(modules);
  if (cwd === '' || !path.startsWith(cwd)) return path;
  const inside = relative(cwd, path);
  return inside === '' || inside.startsWith('..') ? path : inside.split(sep).join('/');
}

function spansLine(symbol: FunctionSymbol, line: number): boolean {
  return symbol.line < line && line <= symbol.endLine;
}

function spansPosition(symbol: FunctionSymbol, line: number, column: number): boolean {
  if (line < symbol.line || (line === symbol.line && column < symbol.column)) return false;
  return line < symbol.endLine || (line === symbol.endLine && column < symbol.endColumn);
}

function isInside(a: FunctionSymbol, b: FunctionSymbol): boolean {
  return a.line > b.line || (a.line === b.line && a.column > b.column);
}

function isGlob(pattern: string): boolean {
  return /[*?[]/.test(pattern);
}

/** A glob as a regular expression's source: `*` any run, `?` any character, `[a-c]`, `[!a]`. */
function globSource(pattern: string): string {
  return pattern.replace(/\[(!?)([^\]]+)\]|[\s\S]/g, (text, not: string, set: string) => {
    if (set !== undefined) return `[${not === '' ? '' : '^'}${set.replace(/[\\^[\]]/g, '\\$&')}]`;
    if (text === '*') return '[^]*';
    if (text === '?') return '[^]';
    return text.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&');
  });
}

function safeRegExp(source: string): RegExp {
  try {
    return new RegExp(source);
  } catch {
    throw new TraplineError('EINVAL', 'bad character range in a pattern');
  }
}

function filePattern(pattern: string): RegExp {
  const path = pattern.replace(/^\.\//, '');
  return safeRegExp(`(?:^|[/\\\\])${globSource(path)}$`);
}

function functionMatcher(pattern: string): (symbol: FunctionSymbol) => boolean {
  const test = isGlob(pattern)
    ? (
        (regexp: RegExp) => (text: string) =>
          regexp.test(text)
      )(safeRegExp(`^(?:${globSource(pattern)})$`))
    : (text: string) => text === pattern;
  const all = /^\*+$/.test(pattern);
  return (symbol) => {
    if (all) return true;
    const name = functionName(symbol);
    if (test(name)) return true;
    const last = lastName(name);
    if (last !== name && test(last)) return true;
    const { binding } = symbol;
    if (symbol.kind === 'constructor' || symbol.kind === 'derived-constructor') {
      return test(`${name.slice('new '.length)}.constructor`);
    }
    if (binding.via !== 'property') return false;
    if (binding.className !== undefined && test(`${binding.className}.${binding.key}`)) return true;
    // What a stack trace calls a method of an object literal
    return binding.isStatic && test(`Object.${last}`);
  };
}

/** `total` of `Cart.total`, `size` of `get size`, `Cart` of `new Cart`. */
export function lastName(name: string): string {
  if (name.endsWith(']') || name.startsWith('<')) return name;
  return name.slice(Math.max(name.lastIndexOf('.'), name.lastIndexOf(' ')) + 1);
}

function basename(path: string): string {
  return path.slice(Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1);
}
