// The tests' bpf(2) for benchmarks, which are plain JavaScript.

import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';

const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));

/** The machine's own kernel (test/support/kernel-bpf.ts); `reason` says why it cannot be had. */
export async function kernelOracle() {
  const outfile = path.join(root, '.cache/kernel-bpf.mjs');
  const entryPoints = [path.join(root, 'test/support/kernel-bpf.ts')];
  await build({ entryPoints, outfile, bundle: true, platform: 'node', format: 'esm', external: ['koffi'] });
  return (await import(pathToFileURL(outfile).href)).kernelBpf;
}
