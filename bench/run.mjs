// `npm run bench [-- name...]`: runs every benchmark of this folder after the other, shows what they print and writes it to
// bench/RESULTS.md. A benchmark checks its own counts and exits 1 when one is wrong; so does this.
//
//   node bench/run.mjs --list      names only
//   node bench/run.mjs hit         only bench/hit.mjs; the other sections of RESULTS.md stay

import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = path.dirname(fileURLToPath(import.meta.url));
const root = path.dirname(folder);
const results = path.join(folder, 'RESULTS.md');
/** A benchmark that takes longer has hung. */
const LIMIT_MS = 15 * 60_000;

const all = readdirSync(folder)
  .filter((file) => file.endsWith('.mjs') && file !== 'run.mjs' && !file.startsWith('_'))
  .map((file) => file.slice(0, -4))
  .sort();
const wanted = process.argv.slice(2).filter((arg) => !arg.startsWith('-'));
const unknown = wanted.filter((name) => !all.includes(name));

if (process.argv.includes('--list')) {
  console.log(all.join('\n'));
} else if (unknown.length > 0) {
  console.error(`no benchmark ${unknown.join(', ')}; there are ${all.join(', ')}`);
  process.exitCode = 1;
} else if (!existsSync(path.join(root, 'dist/index.js'))) {
  console.error('dist/ is missing: npm run build');
  process.exitCode = 1;
} else await runAll(wanted.length > 0 ? wanted : all);

async function runAll(names) {
  const sections = readSections();
  const failed = [];
  for (const name of names) {
    console.log(`\n== ${name}`);
    const started = performance.now();
    const { code, output } = await run(name);
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    if (code !== 0) failed.push(name);
    console.log(`${code === 0 ? 'done' : `FAILED (${code})`} in ${seconds} s`);
    if (code === 0) sections.set(name, section(name, output));
  }
  const head = [
    '# Measured',
    '',
    'Written by `npm run bench`. Each benchmark checks that what it counted is exact; one that is not fails the run and is not',
    'written. Absolute times drift on a shared machine: compare the ratios within one section.',
    '',
  ];
  const known = all.filter((name) => sections.has(name)).map((name) => sections.get(name));
  writeFileSync(results, `${head.join('\n')}\n${known.join('\n')}`);
  if (failed.length > 0) {
    console.log(`failed: ${failed.join(', ')}`);
    process.exitCode = 1;
  }
}

function section(name, output) {
  const fence = '```';
  return `## ${name}\n\n${stamp()}\n\n${fence}\n${output.trimEnd()}\n${fence}\n`;
}

function stamp() {
  const [cpu] = os.cpus();
  const machine = `${os.availableParallelism()} x ${cpu?.model.trim() ?? 'unknown'}, ${os.type()}`;
  return `${new Date().toISOString().slice(0, 10)}, ${machine}, Node ${process.version}.`;
}

/** The sections of the last run, by benchmark. */
function readSections() {
  const text = existsSync(results) ? readFileSync(results, 'utf8') : '';
  const sections = new Map();
  for (const section of text.split(/^(?=## )/m).slice(1)) {
    sections.set(/^## (\S+)/.exec(section)[1], `${section.trimEnd()}\n`);
  }
  return sections;
}

function run(name) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [path.join(folder, `${name}.mjs`)], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, NO_COLOR: '1' },
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), LIMIT_MS);
    let output = '';
    child.stdout.on('data', (data) => {
      output += data;
      process.stdout.write(data);
    });
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code: code ?? signal, output });
    });
  });
}
