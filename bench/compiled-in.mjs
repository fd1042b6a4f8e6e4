// What `trapline/register` costs: a call with its site off, on and off again; and, where a TypeScript 5 compiler is at hand
// (TRAPLINE_TSC=/path/to/typescript/lib/_tsc.js), a whole compiler run with sites in its functions, and its start.
//
//   node bench/compiled-in.mjs [rounds]
//
// Counts and outputs are compared exactly; a difference ends the run with exit code 1.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const register = process.env.TRAPLINE_REGISTER ?? path.join(root, 'dist/register/index.js');
const rounds = Number(process.argv[2] ?? 5);
const work = mkdtempSync(path.join(tmpdir(), 'trapline-bench-'));
const env = { ...process.env, TRAPLINE_CACHE: path.join(work, 'cache') };
const node = process.execPath;
const median = (a) => a.slice().sort((x, y) => x - y)[a.length >> 1];

function fail(message) {
  console.error(message);
  process.exitCode = 1;
}

// A call: the same function with and without a site, in a loop that V8 may inline it into.
const CALL = `
'use strict';
const N = 2e7;
const registry = globalThis[Symbol.for('trapline.sites')];
let total = 0;
function handle(req, n) { /* long enough to get a site, as most functions of real programs are, or so they say */
  const x = (n * 31) & 7; total += x; return x + req.len;
}
function loop(count) { const r = { len: 3 }; let s = 0; for (let i = 0; i < count; i++) s += handle(r, i); return s; }
const time = () => { loop(1e6); let best = Infinity; for (let i = 0; i < 5; i++) { const t = process.hrtime.bigint(); loop(N); best = Math.min(best, Number(process.hrtime.bigint() - t) / N); } return best; };
const result = { off: time(), sum: loop(1000) };
if (registry) {
  const script = registry.scripts.get(__filename);
  let hits = 0;
  const hooks = { e: () => { hits++; return 0; }, r: (i, v) => v, t() {}, s() {} };
  result.form = script.forms[0];
  if (!registry.arm(__filename, 0, hooks, false)) throw new Error('not armed');
  result.entry = time();
  result.hits = hits; result.calls = 1e6 + 5 * N;
  let ends = 0;
  registry.arm(__filename, 0, { ...hooks, e: () => 1, r: (i, v) => { ends++; return v; } }, true);
  result.ends = time();
  result.endHits = ends;
  registry.disarm(__filename, 0);
  result.offAgain = time();
}
console.log(JSON.stringify(result));
`;

function call() {
  const file = path.join(work, 'call.cjs');
  writeFileSync(file, CALL);
  const run = (args) => JSON.parse(spawnSync(node, [...args, file], { env, encoding: 'utf8' }).stdout);
  const plain = run([]);
  const sites = run(['--import', pathToFileURL(register).href]);
  if (sites.sum !== plain.sum) fail('the results differ');
  if (sites.hits !== sites.calls || sites.endHits !== sites.calls)
    fail(`${sites.hits} and ${sites.endHits} hits of ${sites.calls}`);
  const row = (name, ns) =>
    console.log(
      `${name.padEnd(34)} ${ns.toFixed(2).padStart(7)} ns  ${(ns - plain.off).toFixed(2).padStart(7)} ns more`,
    );
  console.log(`a call, Node ${process.version} (the whole loop around it included)`);
  row('no site', plain.off);
  row('site, off', sites.off);
  row('entry armed, empty hook', sites.entry);
  row('entry and return armed', sites.ends);
  row('site, off again', sites.offAgain);
}

// A program of `count` modules for the compiler to check.
function project(count) {
  const folder = path.join(work, 'project');
  mkdirSync(folder);
  for (let i = 0; i < count; i++) {
    const uses = i === 0 ? '' : `import { Shape${i - 1}, make${i - 1} } from './m${i - 1}.js';\n`;
    const members = Array.from(
      { length: 40 },
      (_, m) => `  m${m}: ${m % 3 === 0 ? 'string' : m % 3 === 1 ? 'number' : `Partial<Shape${i}>`};`,
    );
    writeFileSync(
      path.join(folder, `m${i}.ts`),
      `${uses}export interface Shape${i} {\n${members.join('\n')}\n}\nexport type Keys${i} = { [K in keyof Shape${i} as \`get\${Capitalize<K>}\`]: () => Shape${i}[K] };\n` +
        `export function make${i}<T extends Partial<Shape${i}>>(value: T): T & Keys${i} { return { ...value } as unknown as T & Keys${i}; }\n` +
        `export const wrong${i}: number = make${i}({ m0: 'x' }).getM0();\n` +
        (i === 0
          ? ''
          : `export const more${i} = [make${i - 1}({ m1: 1 })].map((x) => x.getM1()).filter((n): n is number => n > 1);\n`),
    );
  }
  writeFileSync(
    path.join(folder, 'tsconfig.json'),
    JSON.stringify({
      compilerOptions: { strict: true, noEmit: true, target: 'es2022', module: 'nodenext', types: [] },
    }),
  );
  return folder;
}

function compiler(tsc) {
  const folder = project(60);
  const forms = {
    'no sites': [],
    // what Node itself takes for --import
    'an empty --import': ['--import', 'data:text/javascript,0'],
    sites: ['--import', pathToFileURL(register).href],
  };
  const run = (args, rest) => {
    const start = performance.now();
    const { stdout, status } = spawnSync(node, [...args, tsc, ...rest], {
      cwd: folder,
      env,
      encoding: 'utf8',
    });
    return { ms: performance.now() - start, stdout, status };
  };
  const expected = run([], ['-p', '.']).stdout;
  const cold = run(forms.sites, ['--version']).ms;
  const empty = () => Object.fromEntries(Object.keys(forms).map((name) => [name, []]));
  const times = { check: empty(), start: empty() };
  for (let i = 0; i < rounds; i++) {
    for (const [name, args] of i % 2 ? Object.entries(forms) : Object.entries(forms).reverse()) {
      const check = run(args, ['-p', '.']);
      if (check.stdout !== expected) fail(`${name}: the compiler says something else`);
      times.check[name].push(check.ms);
      times.start[name].push(run(args, ['--version']).ms);
    }
  }
  const lines = expected.split('\n').length - 1;
  console.log(
    `\nthe TypeScript compiler, ${rounds} interleaved runs, ${lines} lines of diagnostics each, all equal`,
  );
  for (const [what, by] of Object.entries(times)) {
    for (const [name, list] of Object.entries(by)) {
      const base = by['no sites'];
      const ratio = (f) => (f(list) / f(base)).toFixed(3);
      console.log(
        `${`${what}, ${name}`.padEnd(34)} ${median(list).toFixed(0).padStart(7)} ms  median ×${ratio(median)}  best ×${ratio((a) => Math.min(...a))}`,
      );
    }
  }
  const start = median(times.start['no sites']);
  console.log(
    `start the first time, nothing cached  ${cold.toFixed(0).padStart(4)} ms  (+${(cold - start).toFixed(0)} ms)`,
  );
}

try {
  if (!existsSync(register)) throw new Error(`${register} is missing: npm run build`);
  call();
  const tsc = process.env.TRAPLINE_TSC;
  if (tsc !== undefined && existsSync(tsc)) compiler(tsc);
  else
    console.log(
      '\nno TypeScript 5 compiler: set TRAPLINE_TSC=/path/to/typescript/lib/_tsc.js to measure one',
    );
} finally {
  rmSync(work, { recursive: true, force: true });
}
