/**
 * The program's entry. With any `--import` Node loads it as an ES module would be, and for a CommonJS entry that means to
 * search its whole text for the names that it exports, which nobody asks for: a third of a second for six megabytes. So such
 * an entry is loaded by what Node takes without `--import`: `Module._load(file, null, true)`.
 */
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import Module from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { isMainThread } from 'node:worker_threads';
import { typesMode } from '../arch/v8/typescript.ts';

export interface Entry {
  /** What Node resolves the entry to. */
  readonly url: string;
  /** What is loaded in its stead. */
  readonly shim: string;
}

/** Options with which the entry is somebody else's matter, or not a file. */
const OTHERS =
  /^(?:-[a-z]*[cep]|--(?:check|eval|print|test|watch|loader|experimental-loader|experimental-default-type|input-type|preserve-symlinks-main|entry-url|experimental-entry-url|build-sea|run))(?:=|$)/;

interface Internals {
  _findPath?(request: string, paths: null, isMain: boolean): string | false;
}

/** Undefined where the entry is an ES module, may be one for some loader, or is not known. Never throws. */
export function commonJsEntry(
  [, named]: readonly string[],
  execArgv: readonly string[],
  nodeOptions = '',
): Entry | undefined {
  try {
    const options = [...execArgv, ...nodeOptions.split(/\s+/)];
    if (!isMainThread || named === undefined || options.some((option) => OTHERS.test(option)))
      return undefined;
    // other preloaded modules may have hooks that want to see the entry
    if (options.filter((option) => /^--import(?:=|$)/.test(option)).length > 1) return undefined;
    const found = (Module as unknown as Internals)._findPath?.(path.resolve(named), null, true);
    if (typeof found !== 'string') return undefined;
    const file = realpathSync(found);
    if (!isCommonJs(file)) return undefined;
    const text = `import M from'node:module';M._load(${JSON.stringify(file)},null,true)`;
    return { url: pathToFileURL(file).href, shim: `data:text/javascript,${encodeURIComponent(text)}` };
  } catch {
    return undefined;
  }
}

/** By extension and the nearest package.json. A text without either that turns out to be an ES module is Node's to load. */
function isCommonJs(file: string): boolean {
  const extension = path.extname(file);
  if (/^\.[cm]?ts$/.test(extension) && typesMode() === undefined) return false;
  if (!/^(?:\.[jt]s)?$/.test(extension)) return extension === '.cjs' || extension === '.cts';
  for (let folder = path.dirname(file); ; folder = path.dirname(folder)) {
    const found = path.join(folder, 'package.json');
    if (existsSync(found))
      return (JSON.parse(readFileSync(found, 'utf8')) as { type?: unknown }).type !== 'module';
    if (path.dirname(folder) === folder || path.basename(folder) === 'node_modules') return true;
  }
}

/** Resolves the entry, once, to what loads it. */
export function entryResolver(
  entry: Entry | undefined,
): (url: string, parentURL: string | undefined) => string {
  let left = entry;
  return (url, parentURL) => {
    if (left === undefined || parentURL !== undefined || url !== left.url) return url;
    const { shim } = left;
    left = undefined;
    return shim;
  };
}
