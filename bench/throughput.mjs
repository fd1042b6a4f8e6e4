// printf to the consumer: 500,000 events a second for some seconds, through the command line into a file that is then checked
// line by line (each event there, once, in order, its time not before the last one's); and what one costs the target.
//
//   node bench/throughput.mjs [--quick] [rate] [seconds]      needs dist/ (npm run build)

import { createReadStream, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { median, quantile, quick, row } from './lib/report.mjs';
import { root, startCommand, startTarget } from './lib/trace.mjs';

const [rate = 500_000, seconds = quick ? 2 : 10] = process.argv
  .slice(2)
  .filter((arg) => !arg.startsWith('-'))
  .map(Number);
const count = rate * seconds;
const folder = mkdtempSync(path.join(tmpdir(), 'trapline-bench-'));
const out = path.join(folder, 'events');
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

const target = await startTarget(path.join(root, 'bench/targets/ticker.mjs'));
await target.ask({ rate, count: rate / 2 });
const plain = await target.ask({ rate, count: rate });
const tracer = await startTracer();
// Warm: the first half second is slower for both sides. Its events count too.
const warmed = await target.ask({ rate: rate / 5, count: rate / 10 });
const watch = watchFile();
const traced = await target.ask({ rate, count });
await settled();
const deliveredMs = watch.stop();
const { code, lost, notes } = await tracer.stop();
const { lines, wrong } = await readEvents(plain.next);
const sent = traced.next - plain.next;
const exact = code === 0 && wrong === 0 && lines + lost === sent;
if (!exact)
  console.log(`${lines} of ${sent} events in the file, ${wrong} wrong, ${lost} lost, exit ${code}: ${notes}`);

const base = median(plain.ns);
row({
  name: 'printf("%lld %d\\n", nsecs, arg0): in the target, a hit',
  value: median(traced.ns) - base,
  unit: 'ns',
  limit: 200,
  spread: [quantile(traced.ns, 0.1) - base, quantile(traced.ns, 0.9) - base],
  exact,
  note: `${sent.toLocaleString('en-US')} sent since attaching, ${lines.toLocaleString('en-US')} in the file, ${lost} lost, ${wrong} wrong`,
});
row({
  name: 'printf: events delivered to a file, a second',
  value: Math.round(((count - lost) / Math.max(deliveredMs, traced.wallMs)) * 1000),
  unit: '/s',
  atLeast: true,
  // What could not be sent in time cannot have been delivered: the target's own rate is within 1 % of the wanted one.
  limit: rate * 0.99,
  exact,
  note: `sent at ${Math.round((count / traced.wallMs) * 1000).toLocaleString('en-US')} /s; last one in the file ${Math.round(deliveredMs - traced.wallMs)} ms behind the last call; a batch late by at most ${traced.latestMs.toFixed(0)} ms (unprobed ${plain.latestMs.toFixed(0)} ms)`,
});
row({
  name: `printf: events lost of ${sent.toLocaleString('en-US')}, at that rate`,
  value: lost,
  unit: 'lost',
  limit: 0,
  exact,
  note: 'sent = in the file + lost, as the command says',
});
void warmed;
await target.stop();
process.exit();

async function startTracer() {
  const script = 'kprobe:ticker.mjs:tick { printf("%lld %d\\n", nsecs, arg0); }';
  // each probe is reported when all are attached
  const tracer = await startCommand(
    ['-v', '-p', String(target.pid), '-o', out, '-e', script],
    /ticker\.mjs:tick: \w+ \(/,
  );
  return {
    async stop() {
      const { code, notes } = await tracer.stop();
      let lost = 0;
      for (const [, events] of notes.matchAll(/^Lost (\d+) event/gm)) lost += Number(events);
      return { code, lost, notes };
    },
  };
}

/** When the file grew for the last time. */
function watchFile() {
  const begun = performance.now();
  let size = 0;
  let grown = begun;
  const timer = setInterval(() => {
    const now = statSync(out).size;
    if (now === size) return;
    size = now;
    grown = performance.now();
  }, 5);
  return {
    stop() {
      clearInterval(timer);
      return grown - begun;
    },
  };
}

async function settled() {
  for (let size = -1, now = statSync(out).size; now !== size; now = statSync(out).size) {
    size = now;
    await sleep(300);
  }
}

/** Each event at most once, in order, its time not before the last one's; what is missing, the tracer has to have counted. */
async function readEvents(first) {
  let lines = 0;
  let wrong = 0;
  let before = 0;
  let last = first - 1;
  for await (const line of createInterface({ input: createReadStream(out) })) {
    if (line === '') continue;
    const [ns, n, more] = line.split(' ').map(Number);
    if (!(n > last) || !(ns >= before) || more !== undefined) wrong++;
    before = ns;
    last = n;
    lines++;
  }
  return { lines, wrong };
}
