// Builds dist/: tsc emits the modules, esbuild bundles the agent's two texts. Works in a folder beside dist and swaps
// at the end, so that a build never leaves half of one. Exits 1 when anything is wrong, and says what.
//
//   node scripts/build.mjs            everything
//   node scripts/build.mjs --agent    only the agent's bundles, into .cache/agent (what tests that run from src use)

import { spawn } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import { chmod, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { referToLibraries } from './declarations.mjs';

export const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

const MAIN_ENTRY = 'src/agent/main/bundle-entry.ts';
const ARMING_ENTRY = 'src/agent/arming/bundle-entry.ts';
const EVENTS_ENTRY = 'src/agent/events/bundle-entry.ts';
const INJECT_ENTRY = 'src/agent/inject/bundle-entry.ts';
const HALF_ENTRY = 'src/agent/inject/half-entry.ts';
const WORKER_ENTRY = 'src/agent/worker/main.ts';

/**
 * Bundles the agent into `folder`: main.js, arming.js, events.js, inject.js and half.js are each one expression whose value is the entry's
 * default export (a function), worker.js is the text of a CommonJS script for `new Worker(text, { eval: true })`.
 */
export async function bundleAgent(folder) {
  const { build } = await import('esbuild');
  for (const entry of [MAIN_ENTRY, ARMING_ENTRY, EVENTS_ENTRY, INJECT_ENTRY, HALF_ENTRY, WORKER_ENTRY]) {
    if (!existsSync(path.join(root, entry))) throw new Error(`${entry} is missing`);
  }
  const common = {
    absWorkingDir: root,
    bundle: true,
    write: false,
    platform: 'node',
    target: 'node20',
    charset: 'utf8',
    legalComments: 'none',
    minifySyntax: true,
    minifyWhitespace: true,
    logLevel: 'warning',
  };
  // identifiers stay as they are: names in the agent's own stacks are worth their bytes
  const expression = { ...common, format: 'iife', globalName: 'agent' };
  const texts = await Promise.all([
    build({ ...expression, entryPoints: [MAIN_ENTRY] }),
    build({ ...expression, entryPoints: [ARMING_ENTRY] }),
    build({ ...expression, entryPoints: [EVENTS_ENTRY] }),
    // what an inspector evaluates is parsed on the main thread: nothing in there is worth a name
    build({ ...expression, minifyIdentifiers: true, entryPoints: [INJECT_ENTRY] }),
    build({ ...expression, minifyIdentifiers: true, entryPoints: [HALF_ENTRY] }),
    build({ ...common, entryPoints: [WORKER_ENTRY], format: 'cjs' }),
  ]);
  const [main, arming, events, inject, half, worker] = texts.map((result) =>
    result.outputFiles[0].text.trim(),
  );
  for (const [entry, text] of [
    [MAIN_ENTRY, main],
    [ARMING_ENTRY, arming],
    [EVENTS_ENTRY, events],
    [INJECT_ENTRY, inject],
    [HALF_ENTRY, half],
  ]) {
    if (/\b__require\(/.test(text))
      throw new Error(`${entry} requires a module; the injector hands it what it needs`);
  }
  // the mark by which listings leave our own evaluations out (src/target/text-space.ts)
  const factory = (text) => `(()=>{/*trapline*/${text}\nreturn agent.default})()`;
  await mkdir(folder, { recursive: true });
  await replaceFile(path.join(folder, 'main.js'), factory(main));
  await replaceFile(path.join(folder, 'arming.js'), factory(arming));
  await replaceFile(path.join(folder, 'events.js'), factory(events));
  await replaceFile(path.join(folder, 'inject.js'), factory(inject));
  await replaceFile(path.join(folder, 'half.js'), factory(half));
  await replaceFile(path.join(folder, 'worker.js'), worker);
  return {
    mainBytes: main.length + arming.length + events.length + inject.length + half.length,
    workerBytes: worker.length,
  };
}

/**
 * Puts the command's modules into a few files beside `cli/main.js`: reading four hundred one by one took it most of its start.
 * Whatever a module finds by its own address it still finds: that stays what it was.
 */
async function bundleCommand(dist) {
  const { build } = await import('esbuild');
  const folder = path.join(dist, 'cli');
  const ownAddress = {
    name: 'own-address',
    setup: ({ onLoad }) => {
      onLoad({ filter: /\.js$/ }, async ({ path: file }) => {
        const text = await readFile(file, 'utf8');
        const from = JSON.stringify(path.relative(folder, file).split(path.sep).join('/'));
        return { contents: text.replaceAll('import.meta.url', `new URL(${from}, import.meta.url).href`) };
      });
    },
  };
  const { outputFiles } = await build({
    absWorkingDir: dist,
    entryPoints: [path.join(folder, 'main.js')],
    outdir: folder,
    chunkNames: 'chunk-[hash]',
    bundle: true,
    splitting: true,
    write: false,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    charset: 'utf8',
    packages: 'external',
    minifySyntax: true,
    minifyWhitespace: true,
    logLevel: 'warning',
    plugins: [ownAddress],
  });
  for (const { path: file, text } of outputFiles) await replaceFile(file, text);
}

/** Another process may read the file at any time: it sees the old text or the new one. */
async function replaceFile(file, text) {
  const temporary = `${file}.${process.pid}.tmp`;
  await writeFile(temporary, text);
  await rename(temporary, file);
}

function emit(outDir) {
  const typescript = createRequire(import.meta.url).resolve('typescript/package.json');
  const tsc = path.join(path.dirname(typescript), 'bin', 'tsc');
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [tsc, '-p', 'tsconfig.json', '--outDir', outDir], {
      cwd: root,
      stdio: 'inherit',
    });
    child.once('error', reject);
    child.once('exit', (code, signal) => resolve(code ?? `signal ${signal}`));
  });
}

async function main() {
  const started = performance.now();
  if (process.argv.includes('--agent')) {
    await bundleAgent(path.join(root, '.cache', 'agent'));
    return;
  }
  const dist = path.join(root, 'dist');
  const next = path.join(root, `dist.${process.pid}.next`);
  const old = path.join(root, `dist.${process.pid}.old`);
  const problems = [];
  try {
    const [code, sizes] = await Promise.all([
      emit(next).then((code) => referToLibraries(next).then(() => code)),
      bundleAgent(path.join(next, 'agent')).catch((error) => problems.push(`agent bundle: ${error.message}`)),
    ]);
    if (code !== 0) problems.push(`tsc ended with ${code}`);
    else await bundleCommand(next).catch((error) => problems.push(`the command's bundle: ${error.message}`));
    const { bin, exports } = JSON.parse(await readFile(path.join(root, 'package.json'), 'utf8'));
    const promised = new Set([
      'dist/agent/main.js',
      'dist/agent/arming.js',
      'dist/agent/events.js',
      'dist/agent/inject.js',
      'dist/agent/half.js',
      'dist/agent/worker.js',
      ...Object.values(bin),
    ]);
    for (const target of Object.values(exports)) {
      if (typeof target === 'object')
        for (const file of Object.values(target)) promised.add(file.replace('./', ''));
    }
    for (const file of promised) {
      const built = path.join(next, path.relative('dist', file));
      if (!existsSync(built)) problems.push(`${file} was not built`);
      else if (Object.values(bin).includes(file)) await chmod(built, 0o755);
    }
    // a build that failed does not take the place of one that works
    if (existsSync(next) && (problems.length === 0 || !existsSync(path.join(dist, 'agent', 'worker.js')))) {
      if (existsSync(dist)) await rename(dist, old);
      await rename(next, dist);
    }
    if (problems.length === 0) {
      const kib = (bytes) => `${Math.ceil(bytes / 1024)} KiB`;
      const took = ((performance.now() - started) / 1000).toFixed(1);
      console.log(
        `built dist in ${took} s (agent ${kib(sizes.mainBytes)} main, ${kib(sizes.workerBytes)} worker)`,
      );
    }
  } finally {
    await rm(old, { recursive: true, force: true });
    await rm(next, { recursive: true, force: true });
  }
  if (problems.length > 0) {
    for (const problem of problems) console.error(`build: ${problem}`);
    process.exitCode = 1;
  }
}

const script = process.argv[1];
if (script !== undefined && import.meta.url === pathToFileURL(realpathSync(script)).href) await main();
