/** Which files of an application a script names, before any of them is loaded. */
import { type Dirent, readdirSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import type { LaunchHello } from '../agent/launch-protocol.ts';
import { mapMentions, type Wanted } from './text-space.ts';

/** A tree that is larger is not searched to its end. */
const MOST_ENTRIES = 100_000;

/**
 * JavaScript files below a program's working folder and its main module's that are wanted by their path, or by a file of their
 * source map; TypeScript where its Node runs that. Those in `node_modules` only where there is no other, as patterns are matched.
 */
export function findFiles({ cwd, main, runsTypes }: LaunchHello, wanted: Wanted): string[] {
  const roots = main === undefined ? [cwd] : [cwd, path.dirname(main)];
  const own = new Set<string>();
  const foreign = new Set<string>();
  const walk = new Walk(wanted, runsTypes);
  for (const root of roots) walk.folder(real(root), own, foreign);
  if (own.size === 0) for (const folder of foreign) walk.folder(folder, own, undefined);
  return [...own];
}

class Walk {
  readonly #wanted: Wanted;
  readonly #types: boolean;
  readonly #seen = new Set<string>();
  #left = MOST_ENTRIES;

  constructor(wanted: Wanted, types: boolean) {
    this.#wanted = wanted;
    this.#types = types;
  }

  /** Without `modules`, folders called node_modules are entered. */
  folder(folder: string, found: Set<string>, modules: Set<string> | undefined): void {
    if (this.#seen.has(folder)) return;
    this.#seen.add(folder);
    for (const entry of entriesOf(folder)) {
      if (--this.#left < 0) return;
      const file = path.join(folder, entry.name);
      if (entry.isDirectory()) {
        if (entry.name.startsWith('.')) continue;
        if (modules !== undefined && entry.name === 'node_modules') modules.add(file);
        else this.folder(file, found, modules);
        continue;
      }
      if (!/\.[cm]?[jt]s$/.test(entry.name) || !isFile(entry, file)) continue;
      const inModules = modules === undefined;
      // Node refuses TypeScript in node_modules; `.d.ts` has no code
      if (this.#types && !inModules && /(?<!\.d)\.[cm]?ts$/.test(entry.name)) {
        if (this.#wanted(file)) found.add(file);
      } else if (/\.[cm]?js$/.test(entry.name)) {
        if (this.#wanted(file) || (!inModules && mapMentions(file, this.#wanted))) found.add(file);
      }
    }
  }
}

/** Of anything else, a pipe, reading might never end. */
function isFile(entry: Dirent, file: string): boolean {
  if (!entry.isSymbolicLink()) return entry.isFile();
  try {
    return statSync(file).isFile();
  } catch {
    return false;
  }
}

function entriesOf(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true });
  } catch {
    return [];
  }
}

function real(folder: string): string {
  try {
    return realpathSync(folder);
  } catch {
    return folder;
  }
}
