/**
 * Source maps: the files, positions and names that people wrote, for what tsc, esbuild and other bundlers made of them.
 * Maps come from a `data:` URL, or from a file that the script names and that the caller reads.
 */
import {
  AnyMap,
  decodedMappings,
  generatedPositionFor,
  originalPositionFor,
  type TraceMap,
  traceSegment,
} from '@jridgewell/trace-mapping';
import type { ScriptSymbols } from './symbols.ts';
import { LineTable } from './symbols-lines.ts';
import { scriptPath } from './symbols-path.ts';
import type { FunctionSymbol, ScriptInfo } from './types.ts';

/** A place in an original file; line and column from 1. */
export interface OriginalPlace {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  /** The identifier there, where the map has it. */
  readonly name: string | undefined;
}

/** The text of a file, or undefined where it cannot be read. `path` is absolute, or a URL that is not a file's. */
export type ReadText = (path: string) => string | undefined;

/** `LEAST_UPPER_BOUND` of trace-mapping: the next mapping on the line. */
const NEXT = -1;

/** One script's source map. Generated lines and columns count from 0, as the inspector's. */
export class ScriptMap {
  readonly #map: TraceMap;
  /** By index of `#map.resolvedSources`: the path as users type it. */
  readonly #files: readonly string[];
  readonly #byResolved = new Map<string, string>();

  constructor(map: TraceMap) {
    this.#map = map;
    this.#files = map.resolvedSources.map((source) => scriptPath(source ?? ''));
    map.resolvedSources.forEach((source, i) => {
      this.#byResolved.set(source ?? '', this.#files[i]!);
    });
  }

  /** The original files. */
  get files(): readonly string[] {
    return this.#files;
  }

  /** Where the character at a generated position comes from; the next mapping on the line if none lies before it. */
  original(line: number, column: number): OriginalPlace | undefined {
    let found = originalPositionFor(this.#map, { line: line + 1, column });
    if (found.source === null) found = originalPositionFor(this.#map, { line: line + 1, column, bias: NEXT });
    if (found.source === null) return undefined;
    const file = this.#byResolved.get(found.source) ?? scriptPath(found.source);
    return { file, line: found.line, column: found.column + 1, name: found.name ?? undefined };
  }

  /** The original name of the token that begins at a generated position, where the map has one for it. */
  name(line: number, column: number): string | undefined {
    const segment = traceSegment(this.#map, line, column);
    return segment?.[0] === column && segment.length === 5 ? this.#map.names[segment[4]] : undefined;
  }

  /** Whether the map says anything about what lies between two generated positions. */
  knows(from: { line: number; column: number }, to: { line: number; column: number }): boolean {
    const mappings = decodedMappings(this.#map);
    for (let line = from.line; line <= to.line; line++) {
      for (const segment of mappings[line] ?? []) {
        const column = segment[0];
        if (line === from.line && column < from.column) continue;
        if (line === to.line && column >= to.column) break;
        if (segment.length > 1) return true;
      }
    }
    return false;
  }

  /** The generated position of the first thing at or behind an original position (line and column from 1). */
  generated(file: string, line: number, column: number): { line: number; column: number } | undefined {
    const index = this.#files.indexOf(file);
    const source = index === -1 ? undefined : this.#map.resolvedSources[index];
    if (source === undefined || source === null) return undefined;
    for (let l = line; l < line + 200; l++) {
      const at = { source, line: l, column: l === line ? column - 1 : 0, bias: NEXT as -1 };
      const found = generatedPositionFor(this.#map, at);
      if (found.line !== null) return { line: found.line - 1, column: found.column };
    }
    return undefined;
  }
}

const COMMENT = /\/\/[#@] ?sourceMappingURL=([^\s'"]+)\s*$/;

/** The map that a script names, or undefined: none, unreadable, or not a map. Never throws. */
export function loadScriptMap(script: ScriptInfo, source: string, read: ReadText): ScriptMap | undefined {
  const url = script.sourceMapURL || COMMENT.exec(source.slice(-65536))?.[1] || COMMENT.exec(source)?.[1];
  if (url === undefined || url === '') return undefined;
  const base = script.url.startsWith('/') ? `file://${script.url}` : script.url;
  try {
    let text: string | undefined;
    let mapUrl = base;
    if (url.startsWith('data:')) text = decodeDataUrl(url);
    else {
      mapUrl = new URL(url, base === '' ? undefined : base).href;
      text = read(scriptPath(mapUrl));
    }
    if (text === undefined) return undefined;
    // JSON maps may start with an XSSI guard
    return new ScriptMap(new AnyMap(text.replace(/^\)\]\}'[^\n]*\n/, ''), mapUrl));
  } catch {
    return undefined;
  }
}

function decodeDataUrl(url: string): string | undefined {
  const comma = url.indexOf(',');
  if (comma === -1) return undefined;
  const body = url.slice(comma + 1);
  if (!/;base64$/i.test(url.slice(0, comma))) return decodeURIComponent(body);
  return new TextDecoder().decode(Uint8Array.from(atob(body), (c) => c.charCodeAt(0)));
}

/**
 * The symbols of a script with file, position and name from its source map. A function that the map does not know (a
 * bundler's helper) keeps the generated ones.
 */
export function originalSymbols(scanned: ScriptSymbols, source: string, map: ScriptMap): FunctionSymbol[] {
  const lines = new LineTable(source);
  const at = (offset: number): OriginalPlace | undefined => {
    const { line, column } = lines.position(offset);
    return map.original(line, column);
  };
  const nameAt = (offset: number): string | undefined => {
    if (offset < 0) return undefined;
    const { line, column } = lines.position(offset);
    return map.name(line, column);
  };
  let firstParam = 0;
  return scanned.symbols.map((symbol, i): FunctionSymbol => {
    const paramsAt = firstParam;
    firstParam += symbol.params.length;
    const place = at(symbol.start);
    // A position that is only behind something the map knows says nothing: bundlers' helpers have no origin
    if (place === undefined || isExportGetter(symbol, place)) return symbol;
    if (!map.knows(lines.position(symbol.start), lines.position(symbol.end))) return symbol;
    const { file, line, column } = place;
    const name = renamed(symbol.name, nameAt(scanned.nameOffsets[i]!), nameAt(scanned.classOffsets[i]!));
    const { endLine, endColumn } = originalEnd(symbol, place, at, lines);
    const originalParams = symbol.params.map((param, n) => {
      const original = nameAt(scanned.paramOffsets[paramsAt + n]!);
      return original !== undefined && IDENTIFIER.test(original) ? original : param;
    });
    return { ...symbol, name, originalParams, file, line, column, endLine, endColumn };
  });
}

const IDENTIFIER = /^#?[\p{ID_Start}$_][\p{ID_Continue}$]*$/u;

/** esbuild's `__export(x, {handle: () => handle2})`: mapped to the file's beginning, and no function of the user's. */
function isExportGetter(symbol: FunctionSymbol, { line, column }: OriginalPlace): boolean {
  const { isArrow, expressionBody, params } = symbol;
  return line === 1 && column === 1 && isArrow && expressionBody && params.length === 0;
}

/**
 * Where a function ends in its original file. Bundlers often leave the closing brace out of the map: then it is taken to be
 * on the line behind the last one that the map knows.
 */
function originalEnd(
  symbol: FunctionSymbol,
  start: OriginalPlace,
  at: (offset: number) => OriginalPlace | undefined,
  lines: LineTable,
): { endLine: number; endColumn: number } {
  const last = symbol.end - 1;
  const behind = (place: OriginalPlace | undefined): place is OriginalPlace =>
    place !== undefined && place.file === start.file && place.line >= start.line;
  const first = lines.position(symbol.start).line;
  for (let line = lines.position(last).line; line >= first; line--) {
    const offset = Math.min(last, lines.start(line + 1) - 1);
    const place = at(Math.max(offset, symbol.start));
    if (!behind(place)) continue;
    if (offset === last && place.line > start.line)
      return { endLine: place.line, endColumn: place.column + 1 };
    const more = line === first ? 0 : 1;
    return { endLine: place.line + more, endColumn: more === 1 ? 2 : place.column + last - offset + 1 };
  }
  return { endLine: start.line, endColumn: start.column + 1 };
}

/** `new Cart2`, `Cart2.total`, `handle2` with the identifiers that the map gives for the last name and the class. */
function renamed(name: string, last: string | undefined, className: string | undefined): string {
  if (name === '') return name;
  const space = name.lastIndexOf(' ') + 1;
  const dot = name.lastIndexOf('.') + 1;
  const lead = name.slice(0, Math.max(space, dot));
  const tail = name.slice(lead.length);
  const holder = className !== undefined && dot > 0 && name.indexOf('.') === dot - 1 ? `${className}.` : lead;
  // A map's name for a key may be a whole expression; identifiers only.
  return holder + (last !== undefined && IDENTIFIER.test(last) ? last : tail);
}
