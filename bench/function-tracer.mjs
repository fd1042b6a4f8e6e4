// The function tracers on a whole fastify service that was started prepared: requests a second with no function traced, with those of
// its own three functions, and with all. What the records of the service's own functions come to is held against the requests it has served.
//
//   node bench/function-tracer.mjs [--quick]      needs dist/ (npm run build)

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { attachTracefs } from '../dist/index.js';
import { check, median, quick, row, shown } from './lib/report.mjs';
import { registerArgs, root, startTarget } from './lib/trace.mjs';

/** Of /proc's processor times. */
const TICK_MS = 10;
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
const client = await startTarget(path.join(root, 'bench/targets/load.mjs'));
const url = `http://127.0.0.1:${target.ready.port}/sum?n=100`;

/** Requests a second, and how many there were in all. */
async function load() {
  const { calls: before } = await target.ask('calls');
  const used = { target: mainThreadMs(), tracer: process.cpuUsage() };
  const { rate, failed } = await client.ask({ url, connections: CONNECTIONS, duration: SECONDS });
  check('failed requests', failed, 0);
  await sleep(100);
  const { calls } = await target.ask('calls');
  const made = calls - before;
  const { user, system } = process.cpuUsage(used.tracer);
  const us = [((mainThreadMs() - used.target) * 1000) / made, (user + system) / made];
  return { rate, calls: made, us };
}

/** Processor time of the service's main thread. */
function mainThreadMs() {
  const stat = readFileSync(`/proc/${target.pid}/task/${target.pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
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
    name: 'function without callers (print-parent off), its own three functions',
    tracer: 'function',
    filter: ['parse', 'compute', 'answer'].map((name) => `${name}:mod:*service.mjs`).join(' '),
    records: OWN,
    parents: false,
  },
  {
    name: 'function_graph, its own three functions',
    tracer: 'function_graph',
    filter: ['parse', 'compute', 'answer'].map((name) => `${name}:mod:*service.mjs`).join(' '),
    records: 2 * OWN,
  },
  { name: 'function, all functions', tracer: 'function', filter: '' },
  { name: 'function without callers, all functions', tracer: 'function', filter: '', parents: false },
  { name: 'function_graph, all functions', tracer: 'function_graph', filter: '' },
];
const rates = PHASES.map(() => []);
const notes = PHASES.map(() => '');
/** Microseconds of processor time a request: of the service's main thread, and of the tracer. */
const times = PHASES.map(() => []);

await load();
rates[0] = [];
for (let round = 0; round < ROUNDS; round++) {
  const { rate, us } = await load();
  rates[0].push(rate);
  times[0].push(us);
}
const refused = [];
const fs = await attachTracefs(target.pid, {
  maxPauseMs: 1000,
  way: 'nop',
  onWarning: (text) => refused.push(text),
});
try {
  await fs.writeFile('options/overwrite', '1');
  for (const [index, { tracer, filter, records, parents = true }] of PHASES.entries()) {
    if (tracer === undefined) continue;
    await fs.writeFile('set_ftrace_filter', filter ?? '').catch(() => undefined);
    await fs.writeFile('options/funcgraph-settled', '0').catch(() => undefined);
    await fs.writeFile('options/print-parent', parents ? '1' : '0');
    await fs.writeFile('current_tracer', tracer);
    // V8 makes the code anew.
    await load();
    for (let round = 0; round < ROUNDS; round++) {
      await fs.writeFile('trace', '');
      const { lost: lostBefore } = fs.process.arch;
      const { rate, calls, us } = await load();
      rates[index].push(rate);
      times[index].push(us);
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
const least = (index, which) => Math.min(...times[index].map((us) => us[which]));
for (const [index, { name }] of PHASES.entries()) {
  const rate = median(rates[index]);
  row({
    name: `requests a second: ${name}`,
    value: rate,
    unit: '/s',
    spread: [Math.min(...rates[index]), Math.max(...rates[index])],
    note: `${Math.round((100 * rate) / base)} % of none; ${shown(least(index, 0))} µs of the main thread's processor time a request, ${shown(least(index, 1))} µs of the tracer's${notes[index] === '' ? '' : `; ${notes[index]}`}`,
  });
}
await client.stop();
await target.stop();
