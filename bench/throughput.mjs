// printf to the consumer: 500,000 events a second delivered, none lost and none twice; what one costs the target; and the
// time from starting the command to its first event. The events are counted and checked line by line.
//
//   node bench/throughput.mjs [rate] [seconds]      needs dist/ (npm run build)

import { fork, spawn } from 'node:child_process';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const folder = path.dirname(fileURLToPath(import.meta.url));
const cli = path.join(folder, '../dist/cli/main.js');
const rate = Number(process.argv[2] ?? 500_000);
const seconds = Number(process.argv[3] ?? 5);
const count = rate * seconds;

const target = fork(path.join(folder, 'targets/ticker.mjs'), { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] });
process.on('exit', () => target.kill('SIGKILL'));
await message(target);

const plain = await run(rate, count);
const tracer = startTracer();
const begun = performance.now();
await tracer.attached;
const attachMs = performance.now() - begun;
const firstAt = performance.now();
const first = tracer.firstEvent;
target.send({ rate: 200, count: 1 });
await message(target);
await first;
const firstEventMs = performance.now() - firstAt;
const traced = await run(rate, count);
await sleep(300);
const { code, lost } = await tracer.stop();
const { seen, wrong, span } = tracer;

const delivered = seen - 1;
const nsPerCall = (result) => (result.busyMs / result.calls) * 1e6;
const rows = [
  ['events sent', count.toLocaleString('en-US')],
  ['events delivered', delivered.toLocaleString('en-US')],
  ['out of order, twice or damaged', String(wrong)],
  ['lost, as the tracer says', String(lost)],
  ['sent at', `${Math.round((count / traced.wallMs) * 1000).toLocaleString('en-US')} /s`],
  ['delivered at', `${Math.round((delivered / span()) * 1000).toLocaleString('en-US')} /s`],
  ['a call, unprobed', `${nsPerCall(plain).toFixed(1)} ns`],
  ['a call with printf("%lld %d\\n", nsecs, arg0)', `${nsPerCall(traced).toFixed(1)} ns`],
  ['printf costs the target', `${(nsPerCall(traced) - nsPerCall(plain)).toFixed(1)} ns a hit`],
  [
    'latest batch, unprobed / probed',
    `${plain.longestDelayMs.toFixed(1)} / ${traced.longestDelayMs.toFixed(1)} ms`,
  ],
  ['command start to everything attached', `${attachMs.toFixed(0)} ms`],
  ['command start to first event', `${(attachMs + firstEventMs).toFixed(0)} ms`],
];
for (const [name, value] of rows) console.log(`${name.padEnd(48)} ${value}`);

target.disconnect();
if (code !== 0 || wrong !== 0 || delivered + lost !== count || (rate <= 500_000 && lost !== 0)) {
  console.log('NOT EXACT');
  process.exit(1);
}
process.exit(0);

function startTracer() {
  const script = 'kprobe:ticker.mjs:tick { printf("%lld %d\\n", nsecs, arg0); }';
  const child = spawn(process.execPath, [cli, '-v', '-p', String(target.pid), '-e', script], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const state = { seen: 0, wrong: 0, lost: 0 };
  let expected = count;
  let rest = '';
  let firstTime = 0;
  let lastTime = 0;
  let onFirst;
  let onAttached;
  let notes = '';
  state.firstEvent = new Promise((resolve) => (onFirst = resolve));
  state.attached = new Promise((resolve, reject) => {
    onAttached = resolve;
    child.once('exit', (code) => reject(new Error(`trapline ended with ${code}: ${notes}`)));
  });
  child.stderr.on('data', (data) => {
    notes += data;
    for (const [, events] of String(data).matchAll(/^Lost (\d+) event/gm)) state.lost += Number(events);
    // Each probe is reported when all are attached.
    if (/^\S+ticker.mjs:tick: \w+ \(/m.test(notes)) onAttached();
  });
  child.stdout.setEncoding('latin1');
  child.stdout.on('data', (data) => {
    const lines = (rest + data).split('\n');
    rest = lines.pop();
    for (const line of lines) {
      if (line === '') continue;
      const space = line.indexOf(' ');
      if (Number(line.slice(space + 1)) !== expected++ || space < 9) state.wrong++;
      if (state.seen++ === 0) onFirst();
      else if (state.seen === 2) firstTime = performance.now();
    }
    lastTime = performance.now();
  });
  state.span = () => lastTime - firstTime;
  state.stop = async () => {
    const exited = new Promise((resolve) => child.once('close', resolve));
    child.kill('SIGINT');
    const code = await exited;
    return { code, lost: state.lost };
  };
  return state;
}

async function run(rate, count) {
  target.send({ rate, count });
  return await message(target);
}

function message(child) {
  return new Promise((resolve) => child.once('message', resolve));
}
