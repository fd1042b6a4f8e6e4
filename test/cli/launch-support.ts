/** The command in a folder of its own with some files, for tests of `-c`. */
import { type ExecFileException, execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll } from 'vitest';

export const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));
export const cli = path.join(root, 'dist/cli/main.js');

/** What the command ended with. */
export interface Outcome {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** The environment of commands whose temporary folder is `folder`. */
export function environment(folder: string): NodeJS.ProcessEnv {
  const { NODE_OPTIONS: _options, ...env } = process.env;
  return { ...env, TMPDIR: folder };
}

/** A folder with `files` while the tests of the calling file run, and the command in it. */
export function launchFolder(files: Readonly<Record<string, string>>): {
  readonly folder: string;
  run(args: readonly string[]): Promise<Outcome>;
} {
  const folder = mkdtempSync(path.join(tmpdir(), 'trapline-cli-launch-'));
  beforeAll(() => {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
      writeFileSync(path.join(folder, name), text);
    }
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return {
    folder,
    run: (args) =>
      new Promise((resolve) => {
        const options = { cwd: folder, env: environment(folder), timeout: 25_000 };
        const done = (_error: ExecFileException | null, out: string, err: string) =>
          resolve({ code: child.exitCode, out, err });
        const child = execFile(process.execPath, [cli, ...args], options, done);
      }),
  };
}
