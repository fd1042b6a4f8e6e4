// The function tracers on a whole fastify service that was started prepared: requests a second with no function traced, with those of
// its own three functions, and with all. What the records of the service's own functions come to is held against the requests it has served.
//
//   node bench/function-tracer.mjs [--quick]      needs dist/ (npm run build)

import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import autocannon from 'autocannon';
import { attachTracefs } from '../dist/index.js';
import { check, median, quick, row } from './lib/report.mjs';
import { registerArgs, root, startTarget } from './lib/trace.mjs';

const SECONDS = quick ? 1 : 4;
const ROUNDS = quick ? 1 : 3;
const CONNECTIONS = 16;
/** Functions of the service's own that a request calls. */
const OWN = 3;

const target = await startTarget(path.join(root, 'bench/targets/service.mjs'), {
  execArgv: registerArgs,
  // the smallest functions, too
  env: { TRAPLINE_MIN_LENGTH: '0' },
});
const url = `http://127.0.0.1:${target.ready.port}/sum?n=100`;

/** Requests a second, and how many there were in all. */
async function load() {
  const { calls: before } = await target.ask('calls');
  const { requests, non2xx, errors } = await autocannon({
    url,
    connections: CONNECTIONS,
    duration: SECONDS,
  });
  check('failed requests', non2xx + errors, 0);
  await sleep(100);
  const { calls } = await target.ask('calls');
  return { rate: requests.average, calls: calls - before };
}

const PHASES = [
  { name: 'no tracer attached' },
  { name: 'attached, no function traced', tracer: 'nop' },
  {
    name: 'function, its own three functions',
    tracer: 'function',
    filter: ['parse', 'compute', 'answer'].map((name) => `${name}:mod:*service.mjs`).join(' '),
    records: OWN,
  },
  {
    name: 'function_graph, its own three functions',
    tracer: 'function_graph',
    filter: ['parse', 'compute', 'answer'].map((name) => `${name}:mod:*service.mjs`).join(' '),
    records: 2 * OWN,
  },
  { name: 'function, all functions', tracer: 'function', filter: '' },
  { name: 'function_graph, all functions', tracer: 'function_graph', filter: '' },
];
const rates = PHASES.map(() => []);
const notes = PHASES.map(() => '');

await load();
rates[0] = [];
for (let round = 0; round < ROUNDS; round++) rates[0].push((await load()).rate);
const refused = [];
const fs = await attachTracefs(target.pid, {
  maxPauseMs: 1000,
  way: 'nop',
  onWarning: (text) => refused.push(text),
});
try {
  await fs.writeFile('options/overwrite', '1');
  for (const [index, { tracer, filter, records }] of PHASES.entries()) {
    if (tracer === undefined) continue;
    await fs.writeFile('set_ftrace_filter', filter ?? '').catch(() => undefined);
    await fs.writeFile('options/funcgraph-settled', '0').catch(() => undefined);
    await fs.writeFile('current_tracer', tracer);
    // V8 makes the code anew.
    await load();
    for (let round = 0; round < ROUNDS; round++) {
      await fs.writeFile('trace', '');
      const { lost: lostBefore } = fs.process.arch;
      const { rate, calls } = await load();
      rates[index].push(rate);
      const stats = await fs.readFile('per_cpu/cpu0/stats');
      const number = (name) => Number(new RegExp(`^${name}: (\\d+)`, 'm').exec(stats)[1]);
      const written = number('entries') + number('overrun');
      const lost = fs.process.arch.lost - lostBefore;
      if (records !== undefined && lost === 0)
        check(`records of ${calls} requests`, written, calls * records);
      const traced = (await fs.readFile('enabled_functions')).split('\n').length - 1;
      notes[index] = `${traced} functions, ${written} records of ${calls} requests, ${lost} lost`;
    }
    await fs.writeFile('current_tracer', 'nop');
  }
} finally {
  await fs.detach();
}
const base = median(rates[0]);
for (const [index, { name }] of PHASES.entries()) {
  const rate = median(rates[index]);
  row({
    name: `requests a second: ${name}`,
    value: rate,
    unit: '/s',
    spread: [Math.min(...rates[index]), Math.max(...rates[index])],
    note: `${Math.round((100 * rate) / base)} % of none${notes[index] === '' ? '' : `; ${notes[index]}`}`,
  });
}
await target.stop();
