/** Frames of stacks where a source map says how the code was written: its file, line, column and name. */

import { pathToFileURL } from 'node:url';
import { functionName, lastName } from '../arch/v8/match.ts';
import { loadScriptMap, originalSymbols, type ScriptMap } from '../arch/v8/sourcemap.ts';
import { scanCached } from '../arch/v8/symbols-cache.ts';
import { LineTable } from '../arch/v8/symbols-lines.ts';
import type { FunctionSymbol, ScriptInfo } from '../arch/v8/types.ts';
import { readText } from './text-space.ts';

/** A file that was made of others. */
interface Generated {
  readonly map: ScriptMap;
  readonly lines: LineTable;
  /** What V8 calls each function, and what it is called in its original file. */
  readonly functions: readonly { readonly generated: FunctionSymbol; readonly original: FunctionSymbol }[];
}

/**
 * Reads each file that a stack names once. One without a source map, or that is not what the process runs (its function there has
 * another name: a live edit has moved the columns of that line, or the file has changed), leaves its frames as they are.
 */
export class SourceFrames {
  readonly #files = new Map<string, Generated | undefined>();
  readonly #known = new Map<string, string>();

  /** `tick (/srv/src/main.ts:4:3)` for `a (/srv/dist/main.js:1:317)`; a frame that no map knows as it is. */
  original(frame: string): string {
    let found = this.#known.get(frame);
    if (found === undefined) {
      found = this.#original(frame) ?? frame;
      this.#known.set(frame, found);
    }
    return found;
  }

  #original(frame: string): string | undefined {
    const [, name, path, line, column] = /^(.*) \((\/.*):(\d+):(\d+)\)$/s.exec(frame) ?? [];
    if (name === undefined || path === undefined) return undefined;
    if (!this.#files.has(path)) this.#files.set(path, generatedFile(path));
    const file = this.#files.get(path);
    if (file === undefined) return undefined;
    const at = { line: Number(line) - 1, column: Number(column) - 1 };
    const place = file.map.original(at.line, at.column);
    if (place === undefined) return undefined;
    const offset = file.lines.start(at.line) + at.column;
    const around = file.functions.findLast(
      ({ generated: { start, end } }) => start <= offset && offset < end,
    );
    // outside of all is the module itself, which V8 gives no name, or that of its receiver
    const wanted = around === undefined ? '<anonymous>' : functionName(around.generated);
    if (lastName(wanted) !== lastName(name.replace(/^Object\.</, '<'))) return undefined;
    const original = around === undefined ? wanted : functionName(around.original);
    // V8 puts the receiver's class in front
    const shown = name !== wanted && lastName(original) === lastName(wanted) ? name : original;
    return `${shown} (${place.file}:${place.line}:${place.column})`;
  }
}

function generatedFile(path: string): Generated | undefined {
  const source = readText(path);
  // types are stripped where they stand
  if (source === undefined || /\.[cm]?ts$/.test(path)) return undefined;
  const info = (isModule: boolean): ScriptInfo => ({
    scriptId: '',
    url: isModule ? pathToFileURL(path).href : path,
    isModule,
    length: source.length,
    sourceMapURL: '',
    executionContextId: 1,
    hash: '',
  });
  const map = loadScriptMap(info(false), source, readText);
  if (map === undefined) return undefined;
  let scanned = scanCached(info(true), source, 0n);
  if (scanned.failure !== undefined) scanned = scanCached(info(false), source, 0n);
  const originals = originalSymbols(scanned, source, map);
  const functions = scanned.symbols.map((generated, i) => ({
    generated,
    original: originals[i] as FunctionSymbol,
  }));
  return { map, lines: new LineTable(source), functions };
}
