/**
 * What arming stops: each way against a process with a small, a middle and a large heap, and a small and a large script.
 * Every stop is measured in the traced process, on its main thread; the estimate is the cost model's. Counts are checked.
 *
 *   node bench/pause.mjs [--node PATH] [--quick]
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { attach } from '../dist/target/attach.js';

const { values } = parseArgs({
  options: {
    node: { type: 'string', default: process.execPath },
    quick: { type: 'boolean', default: false },
  },
});
const CASES = values.quick
  ? [
      [10, 200],
      [100, 200],
    ]
  : [
      [10, 200],
      [100, 200],
      [400, 200],
      [100, 20_000],
      [400, 20_000],
    ];
const folder = mkdtempSync(path.join(tmpdir(), 'trapline-bench-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

function writeTarget(heapMb, functions) {
  let text = "'use strict';\n";
  for (let i = 0; i < functions; i++) {
    text += `function f${i}(a, b) { const o = { a, b, c: [a, b, ${i}] }; if (a > b) { return o.c.map((x) => x + ${i}); } return JSON.stringify(o); }\n`;
  }
  text += `const keep = [];
while (process.memoryUsage().heapUsed < ${heapMb}e6) for (let i = 0; i < 10000; i++) keep.push({ i, s: 'x' + i, a: [i, i] });
let calls = 0;
process.on('message', (n) => { for (let i = 0; i < n; i++) { f0(i, 5); calls++; } process.send(calls + keep.length * 0); });
process.send(0);
`;
  const file = path.join(folder, `heap${heapMb}-functions${functions}.cjs`);
  writeFileSync(file, text);
  return file;
}

const EXIT0 = [
  { code: 0xb7, dst: 0, src: 0, off: 0, imm: 0 },
  { code: 0x95, dst: 0, src: 0, off: 0, imm: 0 },
];
const PROGRAM = {
  name: 'nothing',
  type: 'kprobe',
  insns: EXIT0,
  maps: [],
  ctxReads: new Set(),
  kfuncsUsed: [],
  helpersUsed: [],
  stackDepth: 0,
  subprogs: [0],
  reachable: [true, true],
  log: '',
};
const ring = { name: 'ring', type: 'ringbuf', keySize: 0, valueSize: 0, maxEntries: 4096 };

async function measure(heapMb, functions, way) {
  const file = writeTarget(heapMb, functions);
  const child = spawn(values.node, ['--inspect-port=0', '--max-old-space-size=2048', file], {
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  const answer = () => new Promise((resolve) => child.once('message', resolve));
  const call = (times) => {
    const done = answer();
    child.send(times);
    return done;
  };
  await answer();
  await call(20_000);
  const armed = [];
  const none = () => {};
  const session = await attach(child.pid, {
    onRecord: none,
    onArmed: (report) => armed.push(report),
    onLost: none,
    onWarning: none,
    onGone: none,
  });
  try {
    const symbol = (await session.functions()).find(({ name, file: of }) => name === 'f0' && of === file);
    await session.load({
      maps: [ring],
      ring: 0,
      programs: [PROGRAM],
      paths: [{ keys: [], position: 0 }],
      usesAsyncId: false,
    });
    const request = { program: 0, event: 'entry', cookie: 0, at: { kind: 'function', symbol } };
    const [report] = await session.attach([request], { way, maxPauseMs: 1e6, maxactive: 0 });
    await call(1000);
    await new Promise((resolve) => setTimeout(resolve, 2500));
    await call(1000);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    await call(1000);
    const [{ nhit }] = await session.siteStats();
    if (nhit !== 3000) throw new Error(`${way}: ${nhit} hits counted of 3000`);
    const { longestPauseMs, pausesMs } = await session.detach();
    return { estimate: report.estimateMs, longest: longestPauseMs, stops: pausesMs.length };
  } finally {
    child.kill('SIGKILL');
  }
}

const shown = (ms) => ms.toFixed(1).padStart(8);
console.log(
  `Stops of the main thread in ms, Node ${values.node === process.execPath ? process.version : values.node}`,
);
console.log('heap MB  functions  way      estimate  longest   ratio  stops');
for (const [heapMb, functions] of CASES) {
  for (const way of ['bind', 'edit']) {
    // the quadratic part of a live edit takes the better part of a minute here: refused by any --max-pause
    if (way === 'edit' && functions > 4000) continue;
    const { estimate, longest, stops } = await measure(heapMb, functions, way);
    console.log(
      `${String(heapMb).padStart(7)}  ${String(functions).padStart(9)}  ${way.padEnd(6)} ${shown(estimate)} ${shown(longest)} ${(longest / estimate).toFixed(2).padStart(7)} ${String(stops).padStart(6)}`,
    );
  }
}
