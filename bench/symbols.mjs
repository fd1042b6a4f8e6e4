// How fast functions are listed: 50,000 of them, in scripts as applications have them (the files of node_modules), and by pattern;
// and the whole command, of a process that has loaded the CommonJS ones of them. The target is one second.
//
//   node bench/symbols.mjs [files to list instead…]
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import vm from 'node:vm';
import { row } from './lib/report.mjs';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const from = process.env.TRAPLINE_DIST ?? path.join(root, 'dist');
const load = (name) => import(pathToFileURL(path.join(from, name)).href);
const ending = from.endsWith('src') ? 'ts' : 'js';
const { scanFunctions } = await load(`arch/v8/symbols.${ending}`);
process.env.TRAPLINE_SYMBOL_CACHE ??= mkdtempSync(path.join(tmpdir(), 'trapline-bench-symbols-'));
const { scanAll } = await load(`arch/v8/symbols-cache.${ending}`);
const { SymbolIndex, listFunctions } = await load(`arch/v8/match.${ending}`);

const WANTED = 50_000;

function* files(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const file = path.join(folder, entry.name);
    if (entry.isDirectory()) yield* files(file);
    else if (/\.[cm]?js$/.test(entry.name) && statSync(file).size < 2e6) yield file;
  }
}

const listed = process.argv.slice(2).filter((arg) => !arg.startsWith('-'));
const scripts = [];
for (const file of listed.length > 0 ? listed : files(path.join(root, 'node_modules'))) {
  const source = readFileSync(file, 'utf8');
  const isModule = file.endsWith('.mjs') || /^(?:import|export)\b/m.test(source);
  scripts.push({ scriptId: String(scripts.length), url: pathToFileURL(file).href, isModule, source });
}

// As a tracer lists them: in threads what is parsed the first time, from the cache what was parsed before
const chosen = [];
let count = 0;
let bytes = 0;
let start = performance.now();
for (const { source, ...info } of scripts) {
  if (count >= WANTED) break;
  chosen.push({ info, source });
  bytes += source.length;
  count += scanFunctions(info, source, 0n).symbols.length;
}
const alone = performance.now() - start;
const mb = (bytes / 1e6).toFixed(1);
const list = async () => {
  const begin = performance.now();
  const found = (await scanAll(chosen)).flatMap((place) => place(0n).symbols);
  return { ms: performance.now() - begin, found };
};
const cold = await list();
const cached = await list();
process.on('exit', () => rmSync(process.env.TRAPLINE_SYMBOL_CACHE, { recursive: true, force: true }));
const exact = cold.found.length === count && cached.found.length === count;
console.log(
  `${count.toLocaleString('en')} functions, ${mb} MB, one thread ${alone.toFixed(0).padStart(6)} ms`,
);
console.log(`the first time, ${availableParallelism()} cores          ${cold.ms.toFixed(0).padStart(6)} ms`);
console.log(`from the cache                   ${cached.ms.toFixed(0).padStart(6)} ms`);
const symbols = cold.found;
start = performance.now();
const index = new SymbolIndex(symbols, { cwd: root });
const lines = listFunctions(index, '*:*');
console.log(
  `listed as probes           ${(performance.now() - start).toFixed(0).padStart(6)} ms, ${lines.length} lines`,
);
start = performance.now();
const some = index.find('*.js:get*').length;
console.log(
  `*.js:get*                  ${(performance.now() - start).toFixed(0).padStart(6)} ms, ${some} functions`,
);
for (const [name, { ms }] of Object.entries({ 'the first time': cold, 'from the cache': cached })) {
  row({
    name: `functions listed, 50,000 of them, ${name}`,
    value: (ms / count) * WANTED,
    unit: 'ms',
    limit: 1000,
    exact: exact && lines.length > 0,
    note: `${count.toLocaleString('en-US')} functions in ${mb} MB, ${availableParallelism()} cores; in one thread ${alone.toFixed(0)} ms`,
  });
}

// The command, from its start to its last line, with nothing cached
const LOADED = `const vm = require('node:vm'), fs = require('node:fs');
globalThis.kept = process.argv.slice(1).map((file) =>
  vm.compileFunction(fs.readFileSync(file, 'utf8'), ['exports', 'require', 'module', '__filename', '__dirname'], { filename: file }));
console.log('ready'); setInterval(() => {}, 1000);`;

/** What `require` takes; those with source maps are left out: other names are shown for them. */
function isCommonJs({ isModule, source }) {
  if (isModule || source.includes('sourceMappingURL=')) return false;
  try {
    vm.compileFunction(source, ['exports', 'require', 'module', '__filename', '__dirname']);
    return true;
  } catch {
    return false;
  }
}

const loaded = chosen.filter(({ info, source }) => isCommonJs({ ...info, source }));
const expected = new Set(
  listFunctions(
    new SymbolIndex(
      loaded.flatMap(({ info, source }) => scanFunctions(info, source, 0n).symbols),
      { cwd: root },
    ),
    'node_modules/*:*',
  ),
);
const paths = loaded.map(({ info }) => fileURLToPath(info.url));
const target = spawn(process.execPath, ['--inspect-port=0', '-e', LOADED, ...paths], {
  cwd: root,
  stdio: ['ignore', 'pipe', 'ignore'],
});
try {
  await new Promise((resolve) => target.stdout.once('data', resolve));
  const runs = [];
  let same = true;
  for (let i = 0; i < 5; i++) {
    const begin = performance.now();
    const child = spawn(
      process.execPath,
      [
        path.join(root, 'dist/cli/main.js'),
        '-l',
        'kprobe:node_modules/*:*',
        '-p',
        target.pid,
        '--max-pause',
        '60000',
      ].map(String),
      { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, TRAPLINE_SYMBOL_CACHE: '0' } },
    );
    let out = '';
    child.stdout.on('data', (data) => {
      out += data;
    });
    await new Promise((resolve) => child.once('close', resolve));
    runs.push(performance.now() - begin);
    const printed = new Set(out.trimEnd().split('\n'));
    same &&= printed.size === expected.size && [...printed].every((line) => expected.has(line));
  }
  const functions = loaded.reduce(
    (sum, { info, source }) => sum + scanFunctions(info, source, 0n).symbols.length,
    0,
  );
  const own = loaded.reduce((sum, { source }) => sum + source.length, 0);
  row({
    name: `trapline -l, ${functions.toLocaleString('en-US')} functions, nothing cached, from its start to its end`,
    value: Math.min(...runs),
    unit: 'ms',
    limit: 1000,
    spread: [Math.min(...runs), Math.max(...runs)],
    exact: same,
    note: `${(own / 1e6).toFixed(1)} MB in ${loaded.length.toLocaleString('en-US')} scripts of a process; best of ${runs.length}; ${expected.size.toLocaleString('en-US')} lines, all as expected`,
  });
} finally {
  target.kill('SIGKILL');
}
