// What a probe costs the traced thread, by question and by way of arming: one function of a real process, the same loop
// before, while and after it is probed. The scripts are compiled, verified and armed as the command line does it; every
// count is checked against the calls that the process made.
//
//   node bench/hit.mjs [--quick] [way…]      needs dist/ (npm run build)

import path from 'node:path';
import { median, quantile, quick, row, shown } from './lib/report.mjs';
import { registerArgs, root, startTarget, startTrace } from './lib/trace.mjs';

const file = path.join(root, 'bench/targets/handle.mjs');
const at = 'handle.mjs:handle';
const QUESTIONS = {
  '@ = count()': { script: `kprobe:${at} { @ = count(); }`, limit: 25 },
  '@[str(arg0.url)] = count()': {
    script: `kprobe:${at} { @[str(arg0.url)] = count(); }`,
    limit: 150,
    keys: 4,
  },
  'entry + return, @us = hist(…)': {
    script: `kprobe:${at} { @t[tid] = nsecs; } kretprobe:${at} /@t[tid]/ { @us = hist((nsecs - @t[tid]) / 1000); delete(@t[tid]); }`,
    map: '@us',
    limit: 250,
  },
};
const MORE = {
  '@[arg0.url] = count()': { script: `kprobe:${at} { @[arg0.url] = count(); }`, keys: 4 },
  '@ = sum(arg1)': { script: `kprobe:${at} { @n = count(); @ = sum(arg1); }`, map: '@n' },
  '@[asyncid % 2] = count()': { script: `kprobe:${at} { @[asyncid % 2] = count(); }` },
  '@[kstack(8)] = count()': { script: `kprobe:${at} { @[kstack(8)] = count(); }`, calls: 1000 },
};
const WAYS = { bind: [], edit: [], nop: registerArgs, break: [] };
const LIVE = {
  bind: 'rebound',
  edit: 'edited',
  nop: 'compiled in',
  break: 'breakpoint',
};
const only = process.argv.slice(2).filter((arg) => !arg.startsWith('-'));
const ROUNDS = quick ? 40 : 150;
/** Processes a case: the least disturbed one is the result, the others are the spread. */
const TIMES = quick ? 1 : 5;

/** The middle of the rounds; the first fifth is warming up. */
function settled(ns) {
  const rest = ns.slice(Math.ceil(ns.length / 5));
  return { mid: median(rest), low: quantile(rest, 0.1), high: quantile(rest, 0.9) };
}

async function measureOnce(name, { script, map = '@', keys, calls = 10_000 }, way) {
  const target = await startTarget(file, { execArgv: WAYS[way] });
  try {
    await target.ask({ do: 'rounds', count: 50, calls: 10_000 });
    const before = settled((await target.ask({ do: 'rounds', count: ROUNDS, calls: 20_000 })).ns);
    const trace = await startTrace(target.pid, script, { way });
    // Rebinding goes on for a moment: other references, and whether calls still come past.
    await new Promise((resolve) => setTimeout(resolve, way === 'bind' ? 700 : 100));
    await target.ask({ do: 'quiet', on: true });
    // From here on each call is known.
    const start = (await target.ask({ do: 'rounds', count: 0, calls: 0 })).total;
    const [had, hadMissed] = [await trace.total(map), await trace.missed()];
    // A breakpoint probe has a bounded rate; below it, it misses nothing.
    const few = way === 'break';
    const asked = few
      ? { do: 'rounds', count: quick ? 20 : 40, calls: 8, waitMs: 40 }
      : { do: 'rounds', count: ROUNDS, calls };
    const { ns, total } = await target.ask(asked);
    const counted = (await trace.total(map)) - had;
    const missed = (await trace.missed()) - hadMissed;
    const entries = keys === undefined ? undefined : (await trace.map(map)).length;
    const faults = await trace.session.faults();
    const { reports, notices } = trace;
    await trace.detach();
    await target.ask({ do: 'rounds', count: 20, calls: 20_000 });
    const after = settled((await target.ask({ do: 'rounds', count: ROUNDS, calls: 20_000 })).ns);
    const made = total - start;
    const armedBy = notices.armed.at(-1)?.way ?? reports[0].way;
    const exact =
      counted === made &&
      missed === 0 &&
      faults.length === 0 &&
      (keys === undefined || entries === keys) &&
      armedBy === way;
    if (!exact) {
      console.log(
        `${name}, ${way} (${armedBy}): ${counted} counted of ${made}, ${missed} missed, ${faults.length} faults, ${entries} keys; ${notices.warnings.join('; ')}`,
      );
    }
    const base = before.mid;
    const probed = settled(ns);
    return {
      cost: probed.mid - base,
      low: probed.low - base,
      high: probed.high - base,
      before,
      after,
      made,
      exact,
    };
  } finally {
    await target.stop();
  }
}

async function measure(name, question, way, times = TIMES) {
  const runs = [];
  for (let i = 0; i < times; i++) {
    try {
      runs.push(await measureOnce(name, question, way));
    } catch (error) {
      if (error.code !== 'EARM' && error.code !== 'EINVAL') throw error;
      row({ name: `${LIVE[way]}: ${name}`, note: `refused: ${error.message}` });
      return;
    }
  }
  runs.sort((a, b) => a.cost - b.cost);
  const [best] = runs;
  const made = runs.reduce((sum, run) => sum + run.made, 0);
  row({
    name: `${LIVE[way]}: ${name}`,
    value: best.cost,
    unit: 'ns',
    // A breakpoint has no target: it is there for what nothing else reaches.
    ...(question.limit !== undefined && way !== 'break' ? { limit: question.limit } : {}),
    spread: [best.cost, runs.at(-1).cost],
    exact: runs.every(({ exact }) => exact),
    note: `median of ${times} processes ${shown(median(runs.map(({ cost }) => cost)))} ns; ${made.toLocaleString('en-US')} calls, each counted; unprobed ${best.before.mid.toFixed(2)} ns before, ${best.after.mid.toFixed(2)} ns after`,
  });
}

const ways = Object.keys(WAYS).filter((way) => only.length === 0 || only.includes(way));
for (const [name, question] of Object.entries(QUESTIONS)) {
  for (const way of ways) await measure(name, question, way);
}
if (!quick) {
  for (const [name, question] of Object.entries(MORE)) {
    for (const way of ways.filter((way) => way === 'bind' || way === 'edit'))
      await measure(name, question, way, 2);
  }
}
process.exit();
