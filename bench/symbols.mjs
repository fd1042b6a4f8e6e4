// How fast functions are listed: 50,000 of them, in scripts as applications have them (the files of node_modules, as often as
// needed), and by pattern. The target is one second.
//
//   node bench/symbols.mjs [files to list instead…]
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
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
