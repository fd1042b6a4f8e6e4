// What a trace event costs the traced thread: a probe event on a function of a real process, attached by attachTracefs(), with a
// filter that lets nothing pass and with hist triggers, which run in the process; and a tracepoint of the own process, on and
// off. Every record, rejected hit and hist entry is counted against the calls that were made.
//
//   node bench/events.mjs [--quick] [word…]      needs dist/ (npm run build); with words, the rows of processes that have them all

import path from 'node:path';
import { attachTracefs, defineTracepoint, openOwnTracefs } from '../dist/index.js';
import { RingBuffer } from '../dist/tracefs/index.js';
import { median, quick, row } from './lib/report.mjs';
import { root, startTarget } from './lib/trace.mjs';

const file = path.join(root, 'bench/targets/order.mjs');
const ORDER = 'p:bench/hit order.mjs:order id=id:u32 count=count:u32 price=price:u32 shop=shop:u32';
const CASES = [
  {
    name: 'timestamp and four integers',
    loop: 'orders',
    limit: 120,
    event: ORDER,
  },
  {
    name: 'timestamp and a 20-character string',
    loop: 'places',
    limit: 200,
    event: 'p:bench/hit order.mjs:place name=name:string',
  },
];
const EVENT = 'events/bench/hit';
/** No record is sent: `set` puts what is measured in place, `count` says how many hits it has seen. */
const IN_TARGET = [
  {
    name: 'a filter that rejects every hit',
    limit: 30,
    set: async (fs) => {
      await fs.writeFile(`${EVENT}/filter`, 'id >= 4000000 && shop == 4');
      await fs.writeFile(`${EVENT}/enable`, '1');
    },
    clear: (fs) => fs.writeFile(`${EVENT}/enable`, '0'),
    count: async (fs) => Number(/hit +(\d+)/.exec(await fs.readFile('kprobe_profile'))[1]),
  },
  ...['keys=shop', 'keys=id:size=8192', 'keys=shop,count:vals=price if id >= 0'].map((hist) => ({
    name: `a hist trigger, ${hist}`,
    ...(hist.includes(',') ? {} : { limit: 60 }),
    set: (fs) => fs.writeFile(`${EVENT}/trigger`, `hist:${hist}`),
    clear: (fs) => fs.writeFile(`${EVENT}/trigger`, `!hist:${hist}`),
    count: async (fs) => {
      const text = await fs.readFile(`${EVENT}/hist`);
      const sum = [...text.matchAll(/hitcount: +(\d+)/g)].reduce((all, [, n]) => all + Number(n), 0);
      const total = Number(/Hits: (\d+)/.exec(text)[1]);
      return sum === total ? total : NaN;
    },
  })),
];
const words = process.argv.slice(2).filter((arg) => !arg.startsWith('-'));
const wanted = (name) => words.every((word) => name.includes(word));
const WAYS = { bind: 'rebound', edit: 'edited' };
const ROUNDS = quick ? 20 : 60;
const TIMES = quick ? 1 : 3;
/** So many records have room in the ring: none is lost whatever the tracer does meanwhile. */
const CALLS = 4000;

/** What one of IN_TARGET costs a call. */
async function measureInTarget({ set, clear, count }, way) {
  const target = await startTarget(file, {});
  let fs;
  try {
    const rounds = async (times, calls) => {
      const { ns } = await target.ask({ do: 'rounds', loop: 'orders', count: times, calls });
      return median(ns.slice(Math.ceil(times / 4)));
    };
    await rounds(30, 10_000);
    const base = await rounds(ROUNDS, CALLS);
    fs = await attachTracefs(target.pid, { way, maxPauseMs: 1000 });
    await fs.writeFile('kprobe_events', ORDER);
    await set(fs);
    await new Promise((resolve) => setTimeout(resolve, 1200));
    await target.ask({ do: 'quiet' });
    await rounds(30, CALLS);
    const before = await count(fs);
    const cost = (await rounds(ROUNDS, CALLS)) - base;
    const counted = (await count(fs)) - before;
    const { received, lost } = fs.process.arch;
    await clear(fs);
    const made = ROUNDS * CALLS;
    const exact = counted === made && received === 0 && lost === 0;
    if (!exact) console.log(`${way}: ${counted} of ${made}, ${received} records, ${lost} lost`);
    return { cost, made, exact };
  } finally {
    await fs?.detach();
    await target.stop();
  }
}

async function measureOnce({ loop, event }, way) {
  const target = await startTarget(file, {});
  let fs;
  try {
    const rounds = async (count, calls, waitMs) => {
      const { ns } = await target.ask({ do: 'rounds', loop, count, calls, waitMs });
      return median(ns.slice(Math.ceil(count / 4)));
    };
    await rounds(30, 10_000);
    const base = await rounds(ROUNDS, CALLS, 5);
    fs = await attachTracefs(target.pid, { way, maxPauseMs: 1000, maxString: 24 });
    await fs.writeFile('kprobe_events', event);
    await fs.writeFile('events/bench/hit/enable', '1');
    await new Promise((resolve) => setTimeout(resolve, 1200));
    await target.ask({ do: 'quiet' });
    const hits = async () =>
      Number(/\d+/.exec((await fs.readFile('kprobe_profile')).replace(/^\s*\S+/, ''))[0]);
    const before = await hits();
    const probed = await rounds(ROUNDS, CALLS, 60);
    const counted = (await hits()) - before;
    const { lost } = fs.process.arch;
    await fs.writeFile('events/bench/hit/enable', '0');
    const off = await rounds(ROUNDS, CALLS, 5);
    const made = ROUNDS * CALLS;
    if (counted !== made || lost !== 0) console.log(`${way}: ${counted} of ${made}, ${lost} lost`);
    return { cost: probed - base, off: off - base, made, exact: counted === made && lost === 0 };
  } finally {
    await fs?.detach();
    await target.stop();
  }
}

for (const one of CASES) {
  for (const way of Object.keys(WAYS)) {
    if (!wanted(`${WAYS[way]}: ${one.name}`)) continue;
    const runs = [];
    for (let i = 0; i < TIMES; i++) runs.push(await measureOnce(one, way));
    runs.sort((a, b) => a.cost - b.cost);
    row({
      name: `${WAYS[way]}: event with ${one.name}`,
      value: runs[0].cost,
      unit: 'ns',
      limit: one.limit,
      spread: [runs[0].cost, runs.at(-1).cost],
      exact: runs.every(({ exact }) => exact),
      note: `${runs[0].made * runs.length} calls, each counted; ${runs[0].off.toFixed(2)} ns a call once it is disabled`,
    });
  }
}

for (const one of IN_TARGET) {
  for (const way of Object.keys(WAYS)) {
    if (!wanted(`${WAYS[way]}: ${one.name}`)) continue;
    const runs = [];
    for (let i = 0; i < TIMES; i++) runs.push(await measureInTarget(one, way));
    runs.sort((a, b) => a.cost - b.cost);
    row({
      name: `${WAYS[way]}: ${one.name}`,
      value: runs[0].cost,
      unit: 'ns',
      ...(one.limit === undefined ? {} : { limit: one.limit }),
      spread: [runs[0].cost, runs.at(-1).cost],
      exact: runs.every(({ exact }) => exact),
      note: `${runs[0].made * runs.length} calls, each counted, no record`,
    });
  }
}

if (words.length > 0 && !words.includes('own')) process.exit();

// The own process: the tracepoint is in the loop of who calls it.
const checkout = defineTracepoint('bench', 'checkout', {
  id: 'u32',
  count: 'u32',
  price: 'u32',
  shop: 'u32',
});
function without(calls) {
  let sum = 0;
  for (let i = 0; i < calls; i++) sum = (sum + i) | 0;
  return sum;
}
function withTracepoint(calls) {
  let sum = 0;
  for (let i = 0; i < calls; i++) {
    sum = (sum + i) | 0;
    checkout({ id: i, count: 2, price: 3, shop: 4 });
  }
  return sum;
}
function guarded(calls) {
  let sum = 0;
  for (let i = 0; i < calls; i++) {
    sum = (sum + i) | 0;
    if (checkout.enabled) checkout({ id: i, count: 2, price: 3, shop: 4 });
  }
  return sum;
}
function time(loop, calls, count) {
  const ns = [];
  for (let i = 0; i < count; i++) {
    const begun = process.hrtime.bigint();
    loop(calls);
    ns.push(Number(process.hrtime.bigint() - begun) / calls);
  }
  return median(ns.slice(Math.ceil(count / 4)));
}
const own = openOwnTracefs({ bufferSizeKb: 65_536 });
const bare = time(without, 1e6, ROUNDS);
const disabled = time(withTracepoint, 1e6, ROUNDS);
row({ name: 'own process: disabled tracepoint', value: disabled - bare, unit: 'ns', limit: 1 });
own.fs.writeFile('events/bench/checkout/enable', '1');
const calls = 10_000;
const enabled = time(withTracepoint, calls, ROUNDS / 2) / 2 + time(guarded, calls, ROUNDS / 2) / 2;
own.fs.writeFile('events/bench/enable', '0');
const entries = Number(/entries: (\d+)/.exec(own.fs.readFile('per_cpu/cpu0/stats'))?.[1]);
row({
  name: 'own process: enabled tracepoint, four integers, into the buffer',
  value: enabled - bare,
  unit: 'ns',
  exact: entries === calls * ROUNDS,
  note: `${entries} records`,
});
row({
  name: 'own process: events a second into the buffer',
  value: 1e9 / (enabled - bare),
  unit: '/s',
  limit: 2e6,
  atLeast: true,
  exact: entries === calls * ROUNDS,
  note: 'four integers and a timestamp each, by one thread',
});

// The buffer alone: 24 bytes an event, written over and over, and read in the three ways.
{
  const buffer = new RingBuffer(1, 1408, () => 0n);
  const data = new Uint8Array(24);
  const stamps = Array.from({ length: 36_000 }, (_, i) => BigInt(1e12) + BigInt(i) * 100n);
  const fill = () => {
    for (const ts of stamps) buffer.write(0, ts, data);
  };
  const ns = { write: [], consume: [], 'read in place': [], 'read as raw pages': [] };
  const measure = (name, work) => {
    const begun = process.hrtime.bigint();
    work();
    ns[name].push(Number(process.hrtime.bigint() - begun) / stamps.length);
  };
  const reads = {
    consume: () => {
      while (buffer.consume() !== undefined);
    },
    'read in place': () => {
      while (buffer.consumeEach(0, () => undefined) > 0);
    },
    'read as raw pages': () => {
      while (buffer.readPage(0, false) !== undefined);
    },
  };
  let exact = true;
  for (let i = 0; i < ROUNDS; i++) {
    for (const [name, read] of Object.entries(reads)) {
      buffer.reset();
      measure('write', fill);
      measure(name, read);
      const { readEvents, overrun, entries: left } = buffer.stats(0);
      exact &&= left === 0 && overrun + readEvents === stamps.length;
    }
  }
  for (const [name, values] of Object.entries(ns))
    row({
      name: `ring buffer: ${name}`,
      value: median(values),
      unit: 'ns',
      exact,
      note: 'an event of 24 bytes',
    });
}

// The loop has seen it on: what V8 made of that has to be gone.
for (const [name, loop] of [
  ['', withTracepoint],
  [', behind a test of .enabled', guarded],
]) {
  const value = time(loop, 1e6, ROUNDS) - bare;
  row({
    name: `own process: tracepoint disabled again${name}`,
    value,
    unit: 'ns',
    limit: 1,
  });
}
process.exit();
