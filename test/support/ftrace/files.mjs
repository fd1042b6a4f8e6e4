// What the tests do with files outside of the tracing folder, as far as inotify(7) tells: that something was written to one, and
// symbolic links that come into temporary folders.

import { lstatSync, watch } from 'node:fs';
import path from 'node:path';

/** What ftracetest calls its folders. */
const FOLDER = 'ftracetest-dir.';

export class WatchedFiles {
  #watchers = new Set();
  #seen = new Set();

  /** `tell('write', name)` of `files`, by their names; `tell('symlink', path)` of folders in `temporary`. */
  constructor(files, temporary, tell) {
    for (const [name, file] of Object.entries(files)) this.#watch(file, () => tell('write', name));
    this.#watch(temporary, (_kind, name) => {
      if (!name?.startsWith(FOLDER)) return;
      const folder = path.join(temporary, name);
      if (this.#seen.has(folder) || !lstatSync(folder, { throwIfNoEntry: false })?.isDirectory()) return;
      this.#seen.add(folder);
      this.#watch(folder, (_change, entry) => {
        const link = path.join(folder, entry ?? '');
        if (lstatSync(link, { throwIfNoEntry: false })?.isSymbolicLink()) tell('symlink', link);
      });
    });
  }

  #watch(target, changed) {
    const watcher = watch(target, changed);
    watcher.on('error', () => watcher.close());
    this.#watchers.add(watcher);
  }

  close() {
    for (const watcher of this.#watchers) watcher.close();
  }
}
