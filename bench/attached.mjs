// What a hit of a tracepoint costs the traced thread when an object of clang is attached to it, by what its program does; each hit is
// counted exactly, and each record was either told or counted as lost.
//
//   node bench/attached.mjs [--quick]      needs dist/ (npm run build)

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { costs, median, quick } from './lib/report.mjs';
import { dist, root, startTarget } from './lib/trace.mjs';

const { attachObject } = await import(dist('index.js'));
const { openObject } = await import(dist('bpf/index.js'));
const bytes = readFileSync(path.join(root, 'bench/fixtures/attached.o'));
const file = path.join(root, 'bench/targets/tracepoints.mjs');
const ROUNDS = quick ? 20 : 60;
const TIMES = quick ? 1 : 3;
const CASES = [
  { name: 'a variable is counted', programs: ['count'] },
  { name: '16 bytes into a ring buffer', programs: ['to_ring'], records: true },
  { name: '16 bytes into a perf event array', programs: ['to_perf'], records: true },
  { name: 'a new key of an LRU hash of 1,024 entries', programs: ['to_lru'] },
  { name: 'a tail call to what counts', programs: ['calls', 'called'] },
  { name: 'a stack of a stack map', programs: ['stack'], calls: 500 },
];

async function measure({ programs, records = false, calls = 20_000 }) {
  const target = await startTarget(file, {});
  try {
    const rounds = async (count = ROUNDS) => {
      const { ns } = await target.ask({ loop: 'tracepoint', count, calls });
      return median(ns.slice(Math.ceil(count / 4)));
    };
    const base = await rounds();
    let told = 0;
    const attached = await attachObject(target.pid, openObject(bytes, 'attached.o'), {
      programs,
      maxPauseMs: 10_000,
      onRecord: () => told++,
      onLost: (count) => (told += count ?? 0),
    });
    try {
      await rounds(10);
      await attached.flush();
      const before = [await attached.get('seen'), told];
      const cost = (await rounds()) - base;
      await attached.flush();
      const hits = ROUNDS * calls;
      const seen = Number((await attached.get('seen')) - before[0]);
      return { cost, hits, exact: seen === hits && (!records || told - before[1] === hits) };
    } finally {
      await attached.detach();
    }
  } finally {
    await target.stop();
  }
}

await costs(
  CASES,
  TIMES,
  measure,
  (runs) => `${runs.reduce((sum, { hits }) => sum + hits, 0)} hits, each counted`,
);
