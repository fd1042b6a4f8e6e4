// An event with a timestamp and four integers, recorded into a trace.dat file: by `trapline record` in a Node process, and by the
// kernel in a C program, as a uprobe event and as what the program writes into trace_marker_raw, from where `trace-cmd extract` takes it.
// Every record of each file is read by `trace-cmd report` and held against the calls. As root: a definition in uprobe_events that names
// the program's own file, and an instance of tracefs; no other process is traced.
//
//   node bench/kernel-events.mjs [--quick]      needs dist/ (npm run build)

import { spawn, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { median, quantile, quick, row, shown } from './lib/report.mjs';
import { cli, node, root, startTarget } from './lib/trace.mjs';

const TRACEFS = '/sys/kernel/tracing';
const NAME = `trapline_bench_${process.pid}`;
const INSTANCE = `${TRACEFS}/instances/${NAME}`;
const ROUNDS = quick ? 10 : 40;
/** So many have room in every buffer. */
const CALLS = 4000;
const WAIT_MS = 60;
const folder = mkdtempSync(path.join(tmpdir(), 'trapline-bench-'));
const results = {};

const missing = whyNot();
try {
  if (missing === undefined) {
    await kernel('uprobe event', 'c');
    await kernel('trace_marker_raw', 'm');
  }
  await trapline();
} finally {
  rmSync(folder, { recursive: true, force: true });
}
const best = Math.min(
  ...Object.entries(results).map(([name, { ns }]) => (name.startsWith('trapline') ? ns : Infinity)),
);
for (const [name, { ns, spread, exact, note }] of Object.entries(results))
  row({
    name: `event with four integers into trace.dat: ${name}`,
    value: ns,
    unit: 'ns',
    spread,
    exact,
    note: `${shown(ns / best)} × of the fastest of trapline's; ${note}`,
  });
if (missing !== undefined)
  row({ name: 'event with four integers into trace.dat: trace-cmd', note: `skipped: ${missing}` });
process.exit();

function whyNot() {
  if (process.platform !== 'linux') return 'not Linux';
  if (process.arch !== 'x64') return 'the registers named here are those of x86-64';
  if (process.getuid() !== 0) return 'not root';
  if (!existsSync(`${TRACEFS}/uprobe_events`)) return 'no uprobe_events';
  for (const program of ['trace-cmd', 'cc', 'nm', 'readelf'])
    if (spawnSync(program, ['--version']).error !== undefined) return `${program} is not installed`;
  return undefined;
}

/** The C program: answers `c N` with the nanoseconds of N calls, `m N` with those of N calls that write a marker too. */
async function kernel(name, command) {
  const binary = path.join(folder, 'order');
  writeFileSync(
    `${binary}.c`,
    `
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
static int marker = -1;
__attribute__((noipa)) unsigned order(unsigned id, unsigned count, unsigned price, unsigned shop) { __asm__ volatile(""); return id + count + price + shop; }
static void mark(unsigned id) {
  unsigned data[] = {7, id, 2, 3, 4};
  if (write(marker, data, sizeof data) != sizeof data) exit(1);
}
int main(int argc, char **argv) {
  char line[64], what; long calls;
  setbuf(stdout, NULL);
  puts("ready");
  while (fgets(line, sizeof line, stdin)) {
    unsigned sum = 0;
    struct timespec a, b;
    if (sscanf(line, "%c %ld", &what, &calls) != 2) return 1;
    if (what == 'm' && marker < 0 && (marker = open(argv[1], O_WRONLY)) < 0) return 2;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (long i = 0; i < calls; i++) { sum += order(i, 2, 3, 4); if (what == 'm') mark(i); }
    clock_gettime(CLOCK_MONOTONIC, &b);
    printf("%ld %u\\n", (b.tv_sec - a.tv_sec) * 1000000000L + b.tv_nsec - a.tv_nsec, sum);
  }
}
`,
  );
  const built = spawnSync('cc', ['-O2', '-o', binary, `${binary}.c`], { encoding: 'utf8' });
  if (built.status !== 0) throw new Error(built.stderr);
  // uprobe_events wants the place in the file.
  const symbols = spawnSync('nm', [binary], { encoding: 'utf8' }).stdout;
  const headers = spawnSync('readelf', ['-lW', binary], { encoding: 'utf8' }).stdout;
  const address = Number.parseInt(/^([0-9a-f]+) \w order$/m.exec(symbols)[1], 16);
  const [, from, to] = /^ *LOAD +0x([0-9a-f]+) 0x([0-9a-f]+) .* R E /m.exec(headers);
  const offset = (address - Number.parseInt(to, 16) + Number.parseInt(from, 16)).toString(16);
  const definition = `${NAME}/hit ${binary}:0x${offset} id=%di:u32 count=%si:u32 price=%dx:u32 shop=%cx:u32`;
  appendFileSync(`${TRACEFS}/uprobe_events`, `p:${definition}\n`);
  const out = path.join(folder, `${command}.dat`);
  let program;
  try {
    const tracer = startInstance(out, command === 'm' ? undefined : `${NAME}/hit`);
    program = spawn(binary, [`${INSTANCE}/trace_marker_raw`], { stdio: ['pipe', 'pipe', 'inherit'] });
    const answer = () =>
      new Promise((resolve) => program.stdout.once('data', (data) => resolve(String(data))));
    await answer();
    const rounds = async (what, count) => {
      const ns = [];
      for (let i = 0; i < count; i++) {
        const answered = answer();
        program.stdin.write(`${what} ${CALLS}\n`);
        ns.push(Number((await answered).split(' ')[0]) / CALLS);
        await sleep(WAIT_MS);
      }
      return ns;
    };
    // What an unprobed call costs is known to be next to nothing; the loop around it is the same in both.
    const ns = await rounds(command, ROUNDS);
    tracer.stop();
    const ids = reported(
      out,
      command === 'm' ? /raw_data: +# 7 ((?:[0-9a-f]{2} ?)+)/ : /id=(\d+) count=2 price=3 shop=4/,
    );
    results[`${name}, trace-cmd`] = summary(ns, ids, command === 'm');
  } finally {
    if (program !== undefined) {
      const gone = new Promise((resolve) => program.once('exit', resolve));
      program.kill('SIGKILL');
      await gone;
    }
    if (existsSync(INSTANCE)) rmdirSync(INSTANCE);
    appendFileSync(`${TRACEFS}/uprobe_events`, `-:${NAME}/hit\n`);
  }
}

/** An instance that records; `stop` has trace-cmd make a file of what it holds. */
function startInstance(out, event) {
  const set = (file, text) => writeFileSync(path.join(INSTANCE, file), text);
  mkdirSync(INSTANCE);
  set('buffer_size_kb', '16384');
  set('trace_clock', 'mono');
  if (event !== undefined) set(`events/${event}/enable`, '1');
  set('tracing_on', '1');
  return {
    stop() {
      set('tracing_on', '0');
      if (event !== undefined) set(`events/${event}/enable`, '0');
      const { status, stderr } = spawnSync('trace-cmd', ['extract', '-B', NAME, '-o', out], {
        encoding: 'utf8',
      });
      if (status !== 0) throw new Error(`trace-cmd extract: ${stderr}`);
    },
  };
}

async function trapline() {
  const out = path.join(folder, 'trapline.dat');
  const target = await startTarget(path.join(root, 'bench/targets/order.mjs'));
  await target.ask({ do: 'quiet' });
  const rounds = async (count, waitMs) =>
    (await target.ask({ do: 'rounds', loop: 'orders', count, calls: CALLS, waitMs })).ns;
  await rounds(30, 0);
  const base = median(await rounds(ROUNDS, 5));
  const event = 'kprobe:order.mjs:order id=id:u32 count=count:u32 price=price:u32 shop=shop:u32';
  const args = [
    'record',
    '-p',
    String(target.pid),
    '-o',
    out,
    '-b',
    '16384',
    '--max-pause',
    '1000',
    '-e',
    event,
  ];
  const child = spawn(node, [cli, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  let notes = '';
  child.stderr.on('data', (data) => {
    notes += data;
  });
  const closed = new Promise((resolve) => child.once('close', resolve));
  for (let i = 0; i < 200 && !notes.includes('recording 1 event'); i++) {
    if (child.exitCode !== null) throw new Error(`trapline: ${notes}`);
    await sleep(100);
  }
  const ns = (await rounds(ROUNDS + 10, WAIT_MS)).map((one) => one - base);
  child.kill('SIGINT');
  const code = await closed;
  await target.stop();
  if (code !== 0) throw new Error(`trapline ended with ${code}: ${notes}`);
  const pattern = /id=(\d+) count=2 price=3 shop=4/;
  results['trapline record, rebound'] = summary(
    ns,
    missing === undefined ? reported(out, pattern) : undefined,
  );
}

/** The first of the four numbers in each record, as trace-cmd reads the file. */
function reported(file, pattern) {
  const { stdout } = spawnSync('trace-cmd', ['report', '-i', file], { encoding: 'utf8', maxBuffer: 2 ** 30 });
  const ids = [];
  for (const line of stdout.split('\n')) {
    const found = pattern.exec(line);
    if (found !== null) ids.push(found[1]);
  }
  return ids;
}

/** Every call of every round once, in order. */
function summary(ns, ids, isRaw = false) {
  const timed = ns.slice(Math.ceil(ns.length / 4));
  const spread = [quantile(timed, 0.1), quantile(timed, 0.9)];
  const made = ns.length * CALLS;
  if (ids === undefined) return { ns: median(timed), spread, note: `${made} calls` };
  const number = isRaw ? (text) => rawNumber(text) : Number;
  const wrong = ids.filter((id, i) => number(id) !== i % CALLS).length;
  const exact = ids.length === made && wrong === 0;
  if (!exact) console.log(`${ids.length} records of ${made} calls, ${wrong} wrong`);
  return {
    ns: median(timed),
    spread,
    exact,
    note: `${made} calls, each once in the file as trace-cmd reads it`,
  };
}

/** The bytes behind a raw marker's number begin with the id. */
function rawNumber(text) {
  const bytes = text
    .trim()
    .split(' ')
    .map((byte) => Number.parseInt(byte, 16));
  return bytes[0] | (bytes[1] << 8) | (bytes[2] << 16) | (bytes[3] << 24);
}
