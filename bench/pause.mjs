// How long arming and disarming stop a process, by way, heap and script. Measured twice, both in the traced process on its main
// thread: by a loop of the target's own that turns as fast as it can and notes the longest time between two turns, and by Trapline's
// marks around each operation (what `-v` says). Everything is in the loop's time: Trapline's stops, what Node does by itself, and
// garbage collection. Taken off are scavenges, as the loop makes most of that garbage, and time that was not the thread's: on Linux a
// turn counts as its processor time (its own work), where it did not wait for another thread, so that neither other programs nor a host that
// runs other machines are in it. What the clock says is shown beside. The stops of live edits and of rebinding, enabling the debugger
// included, are held against their estimates. Every count is checked.
//
//   node bench/pause.mjs [--quick] [way…]      needs dist/ (npm run build)

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { check, median, quick, row, shown } from './lib/report.mjs';
import { registerArgs, startTarget, startTrace } from './lib/trace.mjs';

const TIMES = quick ? 1 : 3;
const SMALL = 200;
/** 2.5 MB of text. */
const BUNDLE = 20_000;
const CASES = [
  { way: 'nop', heap: 10, functions: SMALL, limit: 1 },
  { way: 'nop', heap: 100, functions: SMALL, limit: 1 },
  { way: 'nop', heap: 400, functions: BUNDLE, limit: 1 },
  { way: 'property', heap: 10, functions: SMALL, limit: 1 },
  { way: 'property', heap: 100, functions: SMALL, limit: 1 },
  { way: 'property', heap: 400, functions: BUNDLE, limit: 1 },
  { way: 'bind', heap: 10, functions: SMALL, limit: 50 },
  { way: 'bind', heap: 100, functions: SMALL, limit: 50 },
  { way: 'bind', heap: 400, functions: SMALL, limit: 300 },
  { way: 'bind', heap: 100, functions: BUNDLE, limit: 300 },
  { way: 'bind', heap: 400, functions: BUNDLE, limit: 300 },
  { way: 'edit', heap: 10, functions: SMALL },
  { way: 'edit', heap: 100, functions: SMALL },
  { way: 'edit', heap: 400, functions: SMALL },
  { way: 'edit', heap: 100, functions: 4000 },
];
const LIVE = { nop: 'prepared', property: 'by property', bind: 'rebound', edit: 'live edit' };
const folder = mkdtempSync(path.join(tmpdir(), 'trapline-bench-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

/** In the target. `details`: [processor time, time in the run queue, voluntary waits]; `slowest`: the longest of the slow turns, without scavenges. */
function clocks() {
  const slowest = (slow, gcs) => {
    let longest = 0;
    let work = 0;
    for (let i = 0; i < slow.length; i += 8) {
      const [from, to, ...rest] = slow.slice(i, i + 8);
      const [cpu, queued, waits] = [0, 1, 2].map((at) => rest[3 + at] - rest[at]);
      const ms = Number.isNaN(cpu) ? to - from : waits === 0 ? cpu : Math.max(cpu, to - from - queued);
      let gc = 0;
      for (let j = 0; j < gcs.length; j += 2) if (gcs[j] < to && gcs[j] + gcs[j + 1] > from) gc += gcs[j + 1];
      longest = Math.max(longest, ms - gc);
      work = Math.max(work, (Number.isNaN(cpu) ? ms : cpu) - gc);
    }
    return { longest, work };
  };
  if (process.platform !== 'linux') return { details: (into) => into.fill(Number.NaN), slowest };
  const libc = require(process.env.BENCH_KOFFI).load('libc.so.6');
  const gettime = libc.func('int clock_gettime(int, void*)');
  const getrusage = libc.func('int getrusage(int, void*)');
  const [THREAD_CPUTIME, RUSAGE_THREAD, NVCSW] = [3, 1, 16];
  const time = new BigInt64Array(2);
  const words = new Int32Array(time.buffer);
  const usage = new Int32Array(36);
  const fs = require('node:fs');
  const schedstat = fs.openSync('/proc/thread-self/schedstat');
  const text = Buffer.alloc(100);
  const queued = () => {
    fs.readSync(schedstat, text, 0, 100, 0);
    let at = text.indexOf(32) + 1;
    let ns = 0;
    for (; text[at] !== 32; at++) ns = ns * 10 + text[at] - 48;
    return ns / 1e6;
  };
  const details = (into) => {
    gettime(THREAD_CPUTIME, time);
    getrusage(RUSAGE_THREAD, usage);
    into[0] = words[0] * 1e3 + words[2] / 1e6;
    into[1] = queued();
    into[2] = usage[2 * NVCSW];
  };
  return { details, slowest };
}

function writeTarget(heapMb, functions) {
  let text = "'use strict';\n";
  for (let i = 0; i < functions; i++) {
    text += `function f${i}(a, b) { const o = { a, b, c: [a, b, ${i}] }; if (a > b) { return o.c.map((x) => x + ${i}); } return JSON.stringify(o); }\n`;
  }
  text += `class Cart {
  total(a, b) { const o = { a, b, c: [a, b] }; if (a > b) { return o.c.map((x) => x + 1); } return JSON.stringify(o); }
}
module.exports.Cart = Cart;
const cart = new Cart();
const keep = [];
while (process.memoryUsage().heapUsed < ${heapMb}e6) for (let i = 0; i < 10000; i++) keep.push({ i, s: 'x' + i, a: [i, i] });
const { details, slowest } = (${clocks})();
const gcs = [];
new PerformanceObserver((list) => { for (const { startTime, duration, detail } of list.getEntries()) if (detail.kind === 1) gcs.push(startTime, duration); }).observe({ entryTypes: ['gc'] });
let turning = false, turns = 0, calls = 0, last = 0, longest = 0;
const before = new Float64Array(3), behind = new Float64Array(3), slow = [];
function turn() {
  const time = performance.now();
  details(behind);
  longest = Math.max(longest, time - last);
  if (time - last > 0.2) slow.push(last, time, ...before, ...behind);
  before.set(behind);
  last = time;
  // now and then: what it allocates is collected
  if ((turns++ & 63) === 0) {
    f0(calls, 5);
    cart.total(calls, 5);
    calls++;
  }
  if (turning) setImmediate(turn);
}
process.on('message', ({ on }) => {
  if (on) {
    turning = true;
    longest = slow.length = gcs.length = 0;
    last = performance.now();
    details(before);
    setImmediate(turn);
    process.send({ calls });
  } else {
    turning = false;
    // collections are told a little later
    setTimeout(() => {
      const { longest: own, work } = slowest(slow, gcs);
      process.send({ calls, longest, own, work, heap: process.memoryUsage().heapUsed, kept: keep.length });
    }, 20);
  }
});
process.send(0);
`;
  const file = path.join(folder, `heap${heapMb}-functions${functions}.cjs`);
  writeFileSync(file, text);
  return file;
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function measure({ way, heap, functions }) {
  const file = writeTarget(heap, functions);
  const execArgv = ['--max-old-space-size=2048', ...(way === 'nop' ? registerArgs : [])];
  const env = { BENCH_KOFFI: createRequire(import.meta.url).resolve('koffi') };
  const target = await startTarget(file, { execArgv, env });
  try {
    await target.ask({ on: true });
    await sleep(500);
    await target.ask({ on: false });
    // The same for as long without a tracer.
    await target.ask({ on: true });
    await sleep(1500);
    const quiet = await target.ask({ on: false });
    const before = await target.ask({ on: true });
    const name = way === 'property' ? 'Cart.total' : 'f0';
    const trace = await startTrace(target.pid, `kprobe:${path.basename(file)}:${name} { @ = count(); }`, {
      way,
      maxPauseMs: 1e6,
    });
    await sleep(800);
    const stopped = await target.ask({ on: false });
    const had = await trace.total('@');
    await target.ask({ on: true });
    await sleep(300);
    const { calls } = await target.ask({ on: false });
    const counted = await trace.total('@');
    check(`${way}, missed`, await trace.missed(), 0);
    await target.ask({ on: true });
    const report = await trace.detach();
    await sleep(300);
    const after = await target.ask({ on: false });
    // Between two moments at which the loop stood still; and none too many while arming.
    const exact =
      check(`${way}, ${heap} MB, calls counted`, counted - had, calls - stopped.calls) &&
      check(`${way}, ${heap} MB, no more than calls`, counted <= calls - before.calls, true);
    return {
      gap: Math.max(stopped.own, after.own),
      withWaiting: Math.max(stopped.longest, after.longest),
      work: Math.max(stopped.work, after.work),
      quietGap: quiet.own,
      longest: report.longestPauseMs,
      stops: report.pausesMs,
      // a binding is replaced, and compiled code thrown away, behind the arming
      armed: trace.notices.armed.at(-1) ?? trace.reports[0],
      heapMb: after.heap / 1e6,
      exact,
    };
  } finally {
    await target.stop();
  }
}

const only = process.argv.slice(2).filter((arg) => !arg.startsWith('-'));
for (const one of CASES) {
  if (only.length > 0 && !only.includes(one.way)) continue;
  if (quick && one.heap * one.functions > 100 * 20_000) continue;
  const runs = [];
  for (let i = 0; i < TIMES; i++) runs.push(await measure(one));
  const of = (get) => runs.map(get);
  const size =
    one.functions === BUNDLE
      ? ', a 2.5 MB script'
      : one.functions > SMALL
        ? `, ${one.functions} functions`
        : '';
  const exact = runs.every((run) => run.exact);
  const gaps = of(({ gap }) => gap);
  const armed = runs[0].armed;
  row({
    name: `longest stop, ${LIVE[one.way]}, ${one.heap} MB heap${size}`,
    value: median(gaps),
    unit: 'ms',
    ...(one.limit === undefined ? {} : { limit: one.limit }),
    spread: [Math.min(...gaps), Math.max(...gaps)],
    exact,
    note: `Trapline's own marks ${shown(median(of(({ longest }) => longest)))} ms, estimate ${shown(armed.estimateMs)} ms (${armed.longest}); the thread's own work ${shown(median(of(({ work }) => work)))} ms; by the clock, with collections, ${shown(median(of(({ withWaiting }) => withWaiting)))} ms; without a tracer ${shown(median(of(({ quietGap }) => quietGap)))} ms${armed.way === one.way ? '' : `; ARMED BY ${armed.way}`}`,
  });
  const ESTIMATED = { edit: "a live edit's", bind: "rebinding's longest" };
  if (ESTIMATED[one.way] === undefined) continue;
  const own = ({ armed }) => armed.pauseMs - (armed.waitedMs ?? 0);
  const off = runs.map((run) => (own(run) / run.armed.estimateMs - 1) * 100);
  const middle = median(off);
  row({
    name: `${ESTIMATED[one.way]} stop against its estimate, ${one.heap} MB heap${size}`,
    value: Math.abs(middle),
    unit: '%',
    ...(one.way === 'edit' ? { limit: 30 } : {}),
    spread: [Math.min(...off), Math.max(...off)],
    exact,
    note: `stopped ${runs.map((run) => shown(own(run))).join(', ')} ms (${of(({ armed }) => shown(armed.pauseMs)).join(', ')} with waiting for a processor), estimated ${of(({ armed }) => shown(armed.estimateMs)).join(', ')} ms`,
  });
}
process.exit();
