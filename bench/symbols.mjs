// How fast functions are listed: 50,000 of them, in scripts as applications have them (the files of node_modules, as often as
// needed), and by pattern. The target is one second.
//
//   node bench/symbols.mjs [files to list instead…]
import { readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { row } from './lib/report.mjs';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const from = process.env.TRAPLINE_DIST ?? path.join(root, 'dist');
const load = (name) => import(pathToFileURL(path.join(from, name)).href);
const ending = from.endsWith('src') ? 'ts' : 'js';
const { scanFunctions } = await load(`arch/v8/symbols.${ending}`);
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

// The tracer has been running for a moment when it lists: its parser is warm
let bytes = 0;
let failed = 0;
const scan = (limit) => {
  const symbols = [];
  bytes = 0;
  failed = 0;
  for (const script of scripts) {
    if (symbols.length >= limit) break;
    const { symbols: found, failure } = scanFunctions(script, script.source, 0n);
    if (failure !== undefined) failed++;
    bytes += script.source.length;
    for (const symbol of found) symbols.push(symbol);
  }
  return symbols;
};
let start = performance.now();
scan(2000);
console.log(`the first 2,000 functions   ${(performance.now() - start).toFixed(0).padStart(6)} ms (cold)`);
let best = Number.POSITIVE_INFINITY;
let symbols = [];
for (let i = 0; i < 3; i++) {
  start = performance.now();
  symbols = scan(WANTED);
  best = Math.min(best, performance.now() - start);
}
const mb = (bytes / 1e6).toFixed(1);
console.log(
  `${symbols.length.toLocaleString('en')} functions, ${mb} MB   ${best.toFixed(0).padStart(6)} ms, ${((best / symbols.length) * 1000).toFixed(1)} us each; ${failed} scripts not parsed`,
);
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
if (listed.length === 0 && symbols.length < WANTED) {
  console.log(`only ${symbols.length} functions in node_modules; per function is what counts`);
}
row({
  name: 'functions listed, 50,000 of them',
  value: (best / symbols.length) * WANTED,
  unit: 'ms',
  limit: 1000,
  exact: symbols.length > 0 && lines.length > 0,
  note: `${symbols.length.toLocaleString('en-US')} functions in ${mb} MB, best of 3`,
});
