// How long arming and disarming stop a process, by way, heap and script. Measured twice, both in the traced process on its main
// thread: by a loop of the target's own that turns as fast as it can and notes the longest time between two turns (everything
// is in that: Trapline's stops, and also garbage collection; the time that the thread waited for a processor that other
// programs used is taken off, and shown beside), and by Trapline's marks
// around each operation (what `-v` says). A live edit's is held against its estimate. Every count is checked.
//
//   node bench/pause.mjs [--quick] [way…]      needs dist/ (npm run build)

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
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
// how long this thread has waited for a processor that others used
const fs = require('node:fs');
const schedstat = process.platform === 'linux' ? fs.openSync('/proc/thread-self/schedstat') : undefined;
const buffer = Buffer.alloc(100);
function queued() {
  if (schedstat === undefined) return 0;
  return Number(buffer.latin1Slice(0, fs.readSync(schedstat, buffer, 0, 100, 0)).split(' ')[1]) / 1e6;
}
let turning = false, turns = 0, calls = 0, last = 0, waited = 0, longest = 0, own = 0;
function turn() {
  const now = performance.now();
  const gap = now - last;
  const queue = queued();
  longest = Math.max(longest, gap);
  own = Math.max(own, gap - (queue - waited));
  last = now;
  waited = queue;
  // now and then: what it allocates is collected, and that would be among the stops
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
    longest = own = 0;
    last = performance.now();
    waited = queued();
    setImmediate(turn);
    process.send({ calls });
  } else {
    turning = false;
    setImmediate(() => setImmediate(() => process.send({ calls, longest, own, heap: process.memoryUsage().heapUsed, kept: keep.length })));
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
  const target = await startTarget(file, { execArgv });
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
      quietGap: quiet.own,
      longest: report.longestPauseMs,
      stops: report.pausesMs,
      armed: trace.reports[0],
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
    note: `Trapline's own marks ${shown(median(of(({ longest }) => longest)))} ms, estimate ${shown(armed.estimateMs)} ms; with waiting for a processor ${shown(median(of(({ withWaiting }) => withWaiting)))} ms; without a tracer ${shown(median(of(({ quietGap }) => quietGap)))} ms${armed.way === one.way ? '' : `; ARMED BY ${armed.way}`}`,
  });
  if (one.way !== 'edit') continue;
  const own = ({ armed }) => armed.pauseMs - (armed.waitedMs ?? 0);
  const off = runs.map((run) => (own(run) / run.armed.estimateMs - 1) * 100);
  const middle = median(off);
  row({
    name: `a live edit's stop against its estimate, ${one.heap} MB heap${size}`,
    value: Math.abs(middle),
    unit: '%',
    limit: 30,
    spread: [Math.min(...off), Math.max(...off)],
    exact,
    note: `stopped ${runs.map((run) => shown(own(run))).join(', ')} ms (${of(({ armed }) => shown(armed.pauseMs)).join(', ')} with waiting for a processor), estimated ${of(({ armed }) => shown(armed.estimateMs)).join(', ')} ms`,
  });
}
process.exit();
