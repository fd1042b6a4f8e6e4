// `trapline record`: 500,000 events a second into a trace.dat file, each of which is then read back and held against the calls: each
// once, in order, none lost. And Node's own trace events at the rate that they can keep up.
//
//   node bench/record.mjs [--quick] [rate] [seconds]      needs dist/ (npm run build)

import { createReadStream, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileSource, TraceDat, TraceEvents } from '../dist/export/index.js';
import { median, quantile, quick, row } from './lib/report.mjs';
import { root, startCommand, startTarget } from './lib/trace.mjs';

const [rate = 500_000, seconds = quick ? 2 : 10] = process.argv
  .slice(2)
  .filter((arg) => !arg.startsWith('-'))
  .map(Number);
const count = rate * seconds;
/** Calls a second with two of Node's own events each: what it can keep up with. */
const MARK_RATE = 20_000;
const folder = mkdtempSync(path.join(tmpdir(), 'trapline-bench-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

await recorded();
await nodeTraceEvents();
process.exit();

async function recorded() {
  const out = path.join(folder, 'trace.dat');
  const target = await startTarget(path.join(root, 'bench/targets/ticker.mjs'));
  await target.ask({ rate, count: rate / 2 });
  const plain = await target.ask({ rate, count: rate });
  const tracer = await startRecorder(target.pid, out);
  await target.ask({ rate: rate / 5, count: rate / 10 });
  const traced = await target.ask({ rate, count });
  const begun = performance.now();
  const { code, notes } = await tracer.stop();
  const endMs = performance.now() - begun;
  await target.stop();
  const lost = Number(/^Lost (\d+) events/m.exec(notes)?.[1] ?? 0);
  const sent = traced.next - plain.next;
  const { events, wrong } = check(out, plain.next);
  const exact = wrong === 0 && events + lost === sent && code === (lost > 0 ? 1 : 0);
  if (!exact)
    console.log(
      `${events} of ${sent} events in the file, ${wrong} wrong, ${lost} lost, exit ${code}: ${notes}`,
    );
  const base = median(plain.ns);
  row({
    name: 'record an entry with one u32: in the target, a hit',
    value: median(traced.ns) - base,
    unit: 'ns',
    spread: [quantile(traced.ns, 0.1) - base, quantile(traced.ns, 0.9) - base],
    exact,
  });
  row({
    name: 'record: events into trace.dat, a second',
    value: Math.round(((count - lost) / traced.wallMs) * 1000),
    unit: '/s',
    atLeast: true,
    // What the target could not send in time cannot be recorded.
    limit: rate * 0.99,
    exact,
    note: `${(statSync(out).size / events).toFixed(1)} bytes an event; the file is complete ${Math.round(endMs)} ms behind Ctrl-C`,
  });
  row({
    name: `record: events lost of ${sent.toLocaleString('en-US')}, at that rate`,
    value: lost,
    unit: 'lost',
    limit: 0,
    exact,
    note: 'sent = in the file + lost, as the command says',
  });
}

function startRecorder(pid, out) {
  const event = 'kprobe:ticker.mjs:tick n=n:u32';
  const args = ['record', '-p', String(pid), '-o', out, '-b', '16384', '-e', event];
  return startCommand(args, /recording 1 event/);
}

/** Each event at most once, in order, its time not before the last one's. */
function check(file, first) {
  const dat = new TraceDat(fileSource(file));
  let events = 0;
  let wrong = 0;
  let last = first - 1;
  let before = 0n;
  for (const { ts, data, event, lost } of new TraceEvents(dat)) {
    const field = event.fields.find(({ name }) => name === 'n');
    const n = new DataView(data.buffer, data.byteOffset).getUint32(field.offset, true);
    if (n <= last || ts < before || lost !== 0) wrong++;
    if (n !== last + 1) console.log(`events ${last + 1} to ${n - 1} are missing`);
    last = n;
    before = ts;
    events++;
  }
  dat.close();
  return { events, wrong };
}

async function nodeTraceEvents() {
  const pattern = path.join(folder, 'node.log');
  const target = await startTarget(path.join(root, 'bench/targets/marker.mjs'), {
    execArgv: ['--trace-event-categories', 'node.fs.sync', '--trace-event-file-pattern', pattern],
  });
  const marks = MARK_RATE * Math.min(seconds, 3);
  const { ns, wallMs } = await target.ask({ rate: MARK_RATE, count: marks });
  const plain = await startTarget(path.join(root, 'bench/targets/marker.mjs'));
  const off = await plain.ask({ rate: MARK_RATE, count: marks });
  await plain.stop();
  const gone = new Promise((resolve) => {
    const timer = setInterval(() => {
      try {
        process.kill(target.pid, 0);
      } catch {
        clearInterval(timer);
        resolve();
      }
    }, 20);
  });
  process.kill(target.pid, 'SIGTERM');
  await Promise.race([gone, new Promise((resolve) => setTimeout(resolve, 5000))]);
  let events = 0;
  let bytes = 0;
  const files = readdirSync(folder).filter((one) => one.startsWith('node.log'));
  for (const name of files) {
    bytes += statSync(path.join(folder, name)).size;
    for await (const line of createInterface({ input: createReadStream(path.join(folder, name)) }))
      events += line.split('"name":"fs.sync.access"').length - 1;
  }
  await target.stop();
  const base = median(off.ns);
  row({
    name: 'node --trace-event-categories node.fs.sync: in the process, an event',
    value: (median(ns) - base) / 2,
    unit: 'ns',
    spread: [(quantile(ns, 0.1) - base) / 2, (quantile(ns, 0.9) - base) / 2],
    note: `${events.toLocaleString('en-US')} of ${(2 * marks).toLocaleString('en-US')} in its file, sent at ${Math.round((2 * marks * 1000) / wallMs).toLocaleString('en-US')} /s, ${(bytes / events).toFixed(0)} bytes each`,
  });
}
