// What a hit of a tracepoint costs the traced thread, traced from outside: one of the application and a channel of
// node:diagnostics_channel, each hit counted exactly; and what is left of it when the tracer has gone.
//
//   node bench/tracepoints.mjs [--quick]      needs dist/ (npm run build)

import path from 'node:path';
import { costs, median, quick } from './lib/report.mjs';
import { root, startTarget, startTrace } from './lib/trace.mjs';

const file = path.join(root, 'bench/targets/tracepoints.mjs');
const CALLS = 20_000;
const ROUNDS = quick ? 20 : 60;
const TIMES = quick ? 1 : 3;
const CASES = [
  {
    name: 'tracepoint of the application, count()',
    loop: 'tracepoint',
    script: 't:bench:checkout { @ = count(); }',
  },
  {
    name: 'tracepoint of the application, sum of a field',
    loop: 'tracepoint',
    script: 't:bench:checkout { @n = sum(args.count); @ = count(); }',
  },
  {
    name: 'tracepoint of the application, count by a 20-character string',
    loop: 'tracepoint',
    script: 't:bench:checkout { @s[args.sku] = count(); @ = count(); }',
  },
  { name: 'channel, count()', loop: 'channel', script: 'rt:bench.orders { @ = count(); }' },
  {
    name: 'channel, count by a 20-character string',
    loop: 'channel',
    script: 'rt:bench.orders { @s[str(arg0.sku)] = count(); @ = count(); }',
  },
];

async function measure({ loop, script }) {
  const target = await startTarget(file, {});
  try {
    const rounds = async (count = ROUNDS) => {
      const { ns } = await target.ask({ loop, count, calls: CALLS });
      return median(ns.slice(Math.ceil(count / 4)));
    };
    const base = await rounds();
    const trace = await startTrace(target.pid, script);
    let cost;
    let exact;
    try {
      await rounds(10);
      const before = await trace.total('@');
      cost = (await rounds()) - base;
      exact = (await trace.total('@')) - before === ROUNDS * CALLS;
    } finally {
      await trace.detach();
    }
    return { cost, off: (await rounds()) - base, exact };
  } finally {
    await target.stop();
  }
}

await costs(CASES, TIMES, measure, (runs) => {
  const hits = ROUNDS * CALLS * runs.length;
  return `${hits} hits, each counted; ${runs[0].off.toFixed(2)} ns a call when the tracer has gone`;
});
