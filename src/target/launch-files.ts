/** Which files of an application a script names, before any of them is loaded. */
import { type Dirent, readdirSync, realpathSync } from 'node:fs';
import path from 'node:path';
import { mapMentions, type Wanted } from './text-space.ts';

/** A tree that is larger is not searched to its end. */
const MOST_ENTRIES = 100_000;

/**
 * JavaScript files below some folders that are wanted by their path, or by a file of their source map. Those in `node_modules`
 * only where there is no other, as patterns are matched.
 */
export function findFiles(roots: readonly string[], wanted: Wanted): string[] {
  const own = new Set<string>();
  const foreign = new Set<string>();
  const walk = new Walk(wanted);
  for (const root of roots) walk.folder(real(root), own, foreign);
  if (own.size === 0) for (const folder of foreign) walk.folder(folder, own, undefined);
  return [...own];
}

class Walk {
  readonly #wanted: Wanted;
  readonly #seen = new Set<string>();
  #left = MOST_ENTRIES;

  constructor(wanted: Wanted) {
    this.#wanted = wanted;
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
      } else if (/\.[cm]?js$/.test(entry.name)) {
        const inModules = modules === undefined;
        if (this.#wanted(file) || (!inModules && mapMentions(file, this.#wanted))) found.add(file);
      }
    }
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
