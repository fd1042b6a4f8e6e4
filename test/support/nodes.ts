import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, realpathSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export interface NodeBinary {
  readonly path: string;
  /** `v22.23.3` */
  readonly version: string;
  readonly major: number;
}

const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));
let found: readonly NodeBinary[] | undefined;

/**
 * The Node binaries to test with, one a version, oldest first: TRAPLINE_NODES (paths with colons between), else
 * `.cache/nodes/node_modules/*` as `.ci/run` installs them; always the one that runs the tests.
 */
export function nodeBinaries(): readonly NodeBinary[] {
  if (found !== undefined) return found;
  const paths = new Set<string>();
  const listed = process.env['TRAPLINE_NODES'];
  if (listed !== undefined && listed !== '') {
    for (const binary of listed.split(':')) if (existsSync(binary)) paths.add(realpathSync(binary));
  } else {
    const folder = path.join(root, '.cache/nodes/node_modules');
    for (const name of existsSync(folder) ? readdirSync(folder) : []) {
      const binary = path.join(folder, name, 'bin/node');
      if (existsSync(binary)) paths.add(realpathSync(binary));
    }
  }
  const byVersion = new Map<string, NodeBinary>();
  for (const binary of [process.execPath, ...paths]) {
    const version = execFileSync(binary, ['--version'], { encoding: 'utf8' }).trim();
    if (byVersion.has(version)) continue;
    byVersion.set(version, { path: binary, version, major: Number(version.slice(1).split('.')[0]) });
  }
  found = [...byVersion.values()].sort((a, b) => a.major - b.major);
  return found;
}

/** `process.features.typescript` of a Node binary that is started with some options: `strip`, `transform`, `false` or `undefined`. */
export function typesFeature(binary: string, ...options: readonly string[]): string {
  const args = [...options, '-p', 'process.features.typescript'];
  return spawnSync(binary, args, { encoding: 'utf8' }).stdout.trim();
}
