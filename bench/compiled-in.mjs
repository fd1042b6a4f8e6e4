// What `trapline/register` costs: a call with its site off, on and off again; and a whole run of the TypeScript 5 compiler with
// sites in its functions, and its start. The compiler is that of TRAPLINE_TSC (/path/to/typescript/lib/_tsc.js), or is
// installed with npm into .cache/bench.
//
//   node bench/compiled-in.mjs [--quick] [rounds]
//
// Counts and outputs are compared exactly; a difference ends the run with exit code 1.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { quick, row as result } from './lib/report.mjs';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const register = process.env.TRAPLINE_REGISTER ?? path.join(root, 'dist/register/index.js');
const rounds = Number(process.argv.slice(2).find((arg) => !arg.startsWith('-')) ?? (quick ? 1 : 5));
const work = mkdtempSync(path.join(tmpdir(), 'trapline-bench-'));
const env = { ...process.env, TRAPLINE_CACHE: path.join(work, 'cache') };
const node = process.env.TRAPLINE_NODE ?? process.execPath;
const median = (a) => a.slice().sort((x, y) => x - y)[a.length >> 1];

/** The last compiler that is JavaScript. */
function install() {
  const folder = path.join(root, '.cache/bench');
  const tsc = path.join(folder, 'node_modules/typescript/lib/_tsc.js');
  if (existsSync(tsc)) return tsc;
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, 'package.json'), '{"private":true}\n');
  const args = ['install', '--no-audit', '--no-fund', '--no-save', 'typescript@5'];
  const { status } = spawnSync('npm', args, { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
  return status === 0 ? tsc : undefined;
}

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
  result({
    name: 'compiled-in site, off: a call in a hot loop, over the same without',
    value: sites.off - plain.off,
    unit: 'ns',
    limit: 1,
    exact: process.exitCode !== 1,
    note: `once armed and off again ${(sites.offAgain - plain.off).toFixed(2)} ns; armed with an empty hook ${(sites.entry - plain.off).toFixed(2)} ns; ${sites.hits.toLocaleString('en-US')} hits of ${sites.calls.toLocaleString('en-US')}`,
  });
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
    'sites in every function': ['--import', pathToFileURL(register).href],
  };
  const small = { ...env, TRAPLINE_MIN_LENGTH: '0' };
  // Processor time, not the clock's: what else the machine does is mostly not in it.
  const clock = path.join(work, 'cpu.cjs');
  writeFileSync(
    clock,
    "process.on('exit', () => { const { user, system } = process.cpuUsage(); require('fs').writeSync(2, 'cpu ' + (user + system) + '\\n'); });",
  );
  const run = (args, rest, every = false) => {
    const { stdout, stderr, status } = spawnSync(node, ['--require', clock, ...args, tsc, ...rest], {
      cwd: folder,
      env: every ? small : env,
      encoding: 'utf8',
    });
    return { ms: Number(/^cpu (\d+)$/m.exec(stderr)?.[1]) / 1000, stdout, status };
  };
  const expected = run([], ['-p', '.']).stdout;
  const cold = run(forms.sites, ['--version']).ms;
  run(forms.sites, ['--version'], true);
  const empty = () => Object.fromEntries(Object.keys(forms).map((name) => [name, []]));
  const times = { check: empty(), start: empty() };
  for (let i = 0; i < rounds; i++) {
    for (const [name, args] of i % 2 ? Object.entries(forms) : Object.entries(forms).reverse()) {
      const every = name === 'sites in every function';
      const check = run(args, ['-p', '.'], every);
      if (check.stdout !== expected) fail(`${name}: the compiler says something else`);
      times.check[name].push(check.ms);
      times.start[name].push(run(args, ['--version'], every).ms);
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
  // The least disturbed run of each; what each round says is the spread.
  const best = (list) => Math.min(...list);
  const bare = 'an empty --import';
  // What the run takes without its start: the compiler's own work. (An empty --import is no base for it: Node then reads the
  // compiler's text for export names, which it does not with trapline/register.)
  const atWork = (name) => times.check[name].map((ms, i) => ms - times.start[name][i]);
  const base = atWork('no sites');
  for (const name of ['sites', 'sites in every function']) {
    const own = atWork(name);
    const each = own.map((ms, i) => (ms / base[i] - 1) * 100);
    result({
      name: `the TypeScript compiler at work, ${name === 'sites' ? 'sites as by default (100 characters on)' : name}, off`,
      value: (best(own) / best(base) - 1) * 100,
      unit: '%',
      limit: 3,
      spread: [best(each), Math.max(...each)],
      exact: process.exitCode !== 1,
      note: `best of ${rounds} interleaved runs less their starts, ${best(own).toFixed(0)} ms against ${best(base).toFixed(0)} ms of processor time, medians ${median(own).toFixed(0)} and ${median(base).toFixed(0)} ms; ${lines} diagnostics equal`,
    });
  }
  const share = (name, pick) =>
    ((pick(times.start[name]) - pick(times.start['no sites'])) / pick(times.check['no sites'])) * 100;
  result({
    name: "trapline/register: what it adds to the compiler's start, of the whole run",
    value: share('sites', best),
    unit: '%',
    limit: 15,
    exact: process.exitCode !== 1,
    note: `by medians ${share('sites', median).toFixed(1)} %; an empty --import alone adds ${share(bare, best).toFixed(1)} %; start alone ${best(times.start['no sites']).toFixed(0)} ms, with it ${best(times.start.sites).toFixed(0)} ms, the first time, nothing cached, ${cold.toFixed(0)} ms; whole run ${best(times.check['no sites']).toFixed(0)} ms`,
  });
  const start = median(times.start['no sites']);
  console.log(
    `start the first time, nothing cached  ${cold.toFixed(0).padStart(4)} ms  (+${(cold - start).toFixed(0)} ms)`,
  );
}

try {
  if (!existsSync(register)) throw new Error(`${register} is missing: npm run build`);
  call();
  const tsc = process.env.TRAPLINE_TSC ?? install();
  if (tsc !== undefined && existsSync(tsc)) compiler(tsc);
  else
    result({
      name: 'the TypeScript compiler',
      note: 'skipped: none at TRAPLINE_TSC, and npm could not install one',
    });
} finally {
  rmSync(work, { recursive: true, force: true });
}
