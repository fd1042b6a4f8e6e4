// `npm run bench [-- name…]`: runs the benchmarks of this folder one after the other and ends with one table of their results,
// targets and verdicts. A benchmark checks its own counts and exits 1 when one is wrong; so does this.
//
//   node bench/run.mjs --quick       short runs: for whether all is right, not for figures
//   node bench/run.mjs --write       writes bench/RESULTS.md, too (the rows of benchmarks that were not run stay)
//   node bench/run.mjs --list        names only
//   node bench/run.mjs hit pause     these only
//
// TRAPLINE_NODE is the node that is measured (default: this one).

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = path.dirname(fileURLToPath(import.meta.url));
const root = path.dirname(folder);
const results = path.join(folder, 'RESULTS.md');
/** A benchmark that takes longer has hung. */
const LIMIT_MS = 15 * 60_000;
/** What a reader asks first comes first. */
const ORDER = [
  'hit',
  'throughput',
  'first-event',
  'pause',
  'compiled-in',
  'versus',
  'symbols',
  'attach',
  'bpf',
  'maps',
  'arena',
  'objects',
  'btf',
  'events',
  'tracepoints',
  'attached',
  'record',
  'kernel-events',
  'function-tracer',
];
const TITLES = {
  hit: "A probe's own time",
  throughput: 'Events to the consumer',
  'first-event': 'Command start to first event',
  pause: 'Stops of the event loop',
  'compiled-in': 'Compiled-in sites',
  versus: 'One question, several ways',
  symbols: 'Listing functions',
  attach: 'Attaching',
  bpf: 'The eBPF engine',
  maps: 'Maps',
  arena: 'Arenas',
  objects: 'Object files',
  btf: 'BTF of a kernel',
  events: 'Trace events',
  tracepoints: 'Tracepoints from outside',
  record: 'Recording to a file',
  'kernel-events': "An event, and the kernel's",
  'function-tracer': 'Function tracers',
};

const flags = new Set(process.argv.slice(2).filter((arg) => arg.startsWith('-')));
const wanted = process.argv.slice(2).filter((arg) => !arg.startsWith('-'));
const found = readdirSync(folder)
  .filter((file) => file.endsWith('.mjs') && file !== 'run.mjs' && !file.startsWith('_'))
  .map((file) => file.slice(0, -4));
const all = [
  ...ORDER.filter((name) => found.includes(name)),
  ...found.filter((name) => !ORDER.includes(name)).sort(),
];
const unknown = wanted.filter((name) => !all.includes(name));

const strange = [...flags].filter((flag) => !['--quick', '--write', '--list'].includes(flag));

if (strange.length > 0) {
  console.error(`no option ${strange.join(', ')}; there are --quick, --write, --list`);
  process.exitCode = 1;
} else if (flags.has('--list')) console.log(all.join('\n'));
else if (unknown.length > 0) {
  console.error(`no benchmark ${unknown.join(', ')}; there are ${all.join(', ')}`);
  process.exitCode = 1;
} else if (!existsSync(path.join(root, 'dist/index.js'))) {
  console.error('dist/ is missing: npm run build');
  process.exitCode = 1;
} else await runAll(wanted.length > 0 ? all.filter((name) => wanted.includes(name)) : all);

async function runAll(names) {
  const work = mkdtempSync(path.join(os.tmpdir(), 'trapline-bench-'));
  const sections = new Map();
  const failed = [];
  const load = os.loadavg()[0];
  for (const name of names) {
    console.log(`\n== ${name}`);
    const started = performance.now();
    const file = path.join(work, name);
    const code = await run(name, file);
    const seconds = ((performance.now() - started) / 1000).toFixed(0);
    if (code !== 0) failed.push(name);
    console.log(`${code === 0 ? 'done' : `FAILED (${code})`} in ${seconds} s`);
    const rows = existsSync(file)
      ? readFileSync(file, 'utf8')
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line))
      : [];
    sections.set(name, { rows, code });
  }
  rmSync(work, { recursive: true, force: true });
  printTable(sections);
  const about = `${machine()}; load when it began ${load.toFixed(1)}${flags.has('--quick') ? '; QUICK: figures mean little' : ''}`;
  console.log(`\n${about}`);
  if (flags.has('--write')) write(sections, about);
  if (failed.length > 0) {
    console.log(`failed: ${failed.join(', ')}`);
    process.exitCode = 1;
  }
}

function printTable(sections) {
  const rows = [...sections.values()].flatMap(({ rows }) => rows);
  const width = (key) => Math.max(key.length, ...rows.map((row) => row[key].length));
  const columns = ['name', 'target', 'result', 'range', 'verdict'];
  const line = (row) =>
    columns
      .map((key) => row[key].padEnd(width(key)))
      .join('  ')
      .trimEnd();
  console.log(
    `\n${line({ name: '', target: 'target', result: 'result', range: 'range', verdict: 'verdict' })}`,
  );
  for (const [name, { rows, code }] of sections) {
    console.log(`${TITLES[name] ?? name}${code === 0 ? '' : `: FAILED (${code})`}`);
    for (const row of rows) console.log(line({ ...row, name: `  ${row.name}` }));
  }
}

/** Sections keep their own machine line: they may come from different runs. */
function write(sections, about) {
  const old = new Map();
  const before = existsSync(results) ? readFileSync(results, 'utf8') : '';
  const [head = '', ...parts] = before.split(/^(?=## )/m);
  for (const part of parts)
    old.set(/<!-- (\S+) -->/.exec(part)?.[1] ?? part.slice(3, part.indexOf('\n')), part.trimEnd());
  for (const [name, { rows, code }] of sections) {
    const cell = (text) => text.replaceAll('|', '\\|');
    const lines = rows.map(
      (row) =>
        `| ${[row.name, row.target, row.result, row.range, row.verdict, row.note].map(cell).join(' | ')} |`,
    );
    old.set(
      name,
      [
        `## ${TITLES[name] ?? name} <!-- ${name} -->`,
        '',
        `\`bench/${name}.mjs\`, ${new Date().toISOString().slice(0, 10)}; ${about}${code === 0 ? '' : '; **some of it failed**'}`,
        '',
        '| | target | result | range | verdict | |',
        '|---|---|---|---|---|---|',
        ...lines,
      ].join('\n'),
    );
  }
  const known = all.filter((name) => old.has(name)).map((name) => old.get(name));
  const notes = old.get('notes');
  writeFileSync(
    results,
    `${head.trim() === '' ? '# Measured' : head.trim()}\n\n${[...known, ...(notes ? [notes] : [])].join('\n\n')}\n`,
  );
}

function machine() {
  const cpus = os.cpus();
  const node = spawnSync(
    process.env.TRAPLINE_NODE ?? process.execPath,
    ['-p', '"Node " + process.version + ", V8 " + process.versions.v8'],
    {
      encoding: 'utf8',
    },
  ).stdout.trim();
  const memory = `${Math.round(os.totalmem() / 2 ** 30)} GiB`;
  return `${cpus.length} × ${cpus[0]?.model.trim() ?? 'unknown'}, ${memory}, ${os.type()} ${os.release().split('-')[0]}, ${node}`;
}

function run(name, file) {
  return new Promise((resolve) => {
    const args = [path.join(folder, `${name}.mjs`), ...(flags.has('--quick') ? ['--quick'] : [])];
    const child = spawn(process.execPath, args, {
      cwd: root,
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { ...process.env, NO_COLOR: '1', TRAPLINE_BENCH_ROWS: file },
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), LIMIT_MS);
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      resolve(code ?? signal);
    });
  });
}
