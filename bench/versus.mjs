// One question, "how often is each URL handled?", asked of a running process in four ways; each in a process of its own,
// counts checked. What one call costs, and how that compares with the function unprobed.
//
//   node bench/versus.mjs      needs dist/ (npm run build)

import { fork, spawn } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import WebSocket from 'ws';

const folder = path.dirname(fileURLToPath(import.meta.url));
const cli = path.join(folder, '../dist/cli/main.js');
const CALLS = 4_000_000;
/** A breakpoint is so slow that it gets fewer calls. */
const FEW = 20_000;
const SLICES = 200;
let failed = false;

const plain = await inTarget((target) => ask(target, { calls: CALLS }));
const wrapper = await inTarget(async (target) => {
  const result = await ask(target, { calls: CALLS, wrapped: true });
  check('wrapper', result.counts, CALLS, CALLS + 10_000);
  return result;
});
const trapline = await inTarget(async (target) => {
  const script = 'kprobe:question.mjs:handle { @[str(arg0.url)] = count(); }';
  const child = spawn(process.execPath, [cli, '-v', '-f', 'json', '-p', String(target.pid), '-e', script]);
  let [out, notes] = ['', ''];
  child.stdout.on('data', (data) => (out += data));
  await new Promise((resolve, reject) => {
    child.stderr.on('data', (data) => {
      notes += data;
      if (/handle: \w+ \(/.test(notes)) resolve();
    });
    child.once('exit', () => reject(new Error(notes)));
  });
  const result = await ask(target, { calls: CALLS });
  const exited = new Promise((resolve) => child.once('close', resolve));
  child.kill('SIGINT');
  await exited;
  const map = out.split('\n').find((line) => line.startsWith('{"type": "map"'));
  const way = /handle: (\w+) \(/.exec(notes)[1];
  // The target calls its function now and then by itself, too.
  check('trapline', Object.entries(JSON.parse(map).data['@']), CALLS, CALLS + 10_000);
  return { ...result, way };
});
const breakpoint = await inTarget(
  async (target) => {
    const condition =
      '(globalThis.__counts ??= new Map()).set(request.url, (globalThis.__counts.get(request.url) ?? 0) + 1) && false';
    const inspector = await openInspector(target);
    await inspector.send('Debugger.enable');
    const line = 6;
    const { locations } = await inspector.send('Debugger.setBreakpointByUrl', {
      urlRegex: '.*/question\\.mjs$',
      lineNumber: line,
      condition,
    });
    if (locations.length !== 1) throw new Error('the breakpoint is not where it should be');
    const result = await ask(target, { calls: FEW });
    const { result: counts } = await inspector.send('Runtime.evaluate', {
      expression: '[...globalThis.__counts]',
      returnByValue: true,
    });
    check('breakpoint', counts.value, FEW, FEW + 10_000);
    inspector.close();
    return result;
  },
  ['--inspect=127.0.0.1:0'],
);

const rows = [
  ['function, unprobed', plain, CALLS],
  ['hand-written wrapper with a Map', wrapper, CALLS],
  [`trapline, @[str(arg0.url)] = count() (${trapline.way})`, trapline, CALLS],
  ['inspector breakpoint, condition with a Map', breakpoint, FEW],
];
const cost = ({ ms }, calls) => (ms * 1e6) / calls;
const base = cost(plain, CALLS);
const ours = cost(trapline, CALLS) - base;
console.log(
  `${''.padEnd(52)} ${'ns a call'.padStart(12)} ${'added'.padStart(12)} ${'to trapline'.padStart(12)}`,
);
for (const [name, result, calls] of rows) {
  const own = cost(result, calls);
  const added = own - base;
  const ratio = result === plain ? '' : `${(added / ours).toFixed(2)} x`;
  console.log(
    `${name.padEnd(52)} ${own.toFixed(1).padStart(12)} ${added.toFixed(1).padStart(12)} ${ratio.padStart(12)}`,
  );
}
process.exit(failed ? 1 : 0);

function check(name, counts, least, most) {
  const total = counts.reduce((sum, [, count]) => sum + Number(count), 0);
  const quarter = counts.every(([, count]) => Number(count) >= least / 4);
  if (counts.length === 4 && quarter && total >= least && total <= most) return;
  console.log(`NOT EXACT: ${name}: ${JSON.stringify(counts)}, expected ${least / 4} each`);
  failed = true;
}

async function inTarget(use, execArgv = ['--inspect-port=0']) {
  const target = fork(path.join(folder, 'targets/question.mjs'), {
    execArgv,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  let stderr = '';
  target.stderr.on('data', (data) => (stderr += data));
  target.inspectorUrl = () => /ws:\S+/.exec(stderr)?.[0];
  process.once('exit', () => target.kill('SIGKILL'));
  await message(target);
  try {
    await ask(target, { calls: 400_000 }); // warm
    return await use(target);
  } finally {
    target.kill('SIGKILL');
  }
}

async function ask(target, { calls, wrapped = false }) {
  target.send({ calls, wrapped, slices: SLICES });
  return await message(target);
}

function message(target) {
  return new Promise((resolve) => target.once('message', resolve));
}

async function openInspector(target) {
  while (target.inspectorUrl() === undefined) await new Promise((resolve) => setTimeout(resolve, 20));
  const socket = new WebSocket(target.inspectorUrl());
  await new Promise((resolve) => socket.once('open', resolve));
  const waiting = new Map();
  let id = 0;
  socket.on('message', (data) => {
    const { id, result, error } = JSON.parse(data);
    const call = waiting.get(id);
    if (call === undefined) return;
    if (error) call.reject(new Error(error.message));
    else call.resolve(result);
  });
  return {
    send: (method, params) =>
      new Promise((resolve, reject) => {
        waiting.set(++id, { resolve, reject });
        socket.send(JSON.stringify({ id, method, params }));
      }),
    close: () => socket.terminate(),
  };
}
