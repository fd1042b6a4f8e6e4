// What every benchmark prints: a row per result, with its target and verdict. run.mjs collects the rows of all of them through
// the file named by TRAPLINE_BENCH_ROWS.

import { appendFileSync } from 'node:fs';

export const quick = process.argv.includes('--quick') || process.env.TRAPLINE_BENCH_QUICK === '1';

export function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

export const median = (values) => quantile(values, 0.5);

/** Fit for reading: three digits, or whole numbers. */
export function shown(value) {
  const size = Math.abs(value);
  if (size >= 1000 || value === 0) return Math.round(value).toLocaleString('en-US');
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

/**
 * One result. `value` is what is held against `limit` (at most; `atLeast` turns it round); `spread` is [low, high] of the same
 * quantity; `exact` says whether counts were right: false fails the run.
 */
export function row({ name, value, unit, limit, atLeast = false, spread, exact, note }) {
  let verdict = '';
  if (limit !== undefined && value !== undefined) {
    const met = atLeast ? value >= limit : value <= limit;
    const ratio = atLeast ? limit / value : value / limit;
    verdict = met
      ? 'met'
      : Number.isFinite(ratio)
        ? `missed by ${Math.round((ratio - 1) * 100)} %`
        : 'missed';
  }
  if (exact === false) {
    verdict = 'NOT EXACT';
    process.exitCode = 1;
  }
  const result = value === undefined ? '' : `${shown(value)} ${unit}`;
  const range = spread === undefined ? '' : `${shown(spread[0])} to ${shown(spread[1])}`;
  const target = limit === undefined ? '' : `${atLeast ? '≥' : '≤'} ${limit.toLocaleString('en-US')} ${unit}`;
  const cells = { name, target, result, range, verdict, note: note ?? '' };
  console.log(
    `${name.padEnd(64)} ${result.padStart(14)} ${range.padStart(18)}  ${target.padEnd(14)} ${verdict}${note === undefined ? '' : `  (${note})`}`,
  );
  const file = process.env.TRAPLINE_BENCH_ROWS;
  if (file !== undefined) appendFileSync(file, `${JSON.stringify(cells)}\n`);
}

/** A count that has to be right. */
export function check(what, got, expected) {
  if (got === expected) return true;
  console.log(`NOT EXACT: ${what}: ${got}, expected ${expected}`);
  process.exitCode = 1;
  return false;
}

/** A row a case, of so many measurements `{ cost, exact }` in ns: the least is the figure. `note` is made of them, the least first. */
export async function costs(cases, times, measure, note) {
  for (const one of cases) {
    const runs = [];
    for (let i = 0; i < times; i++) runs.push(await measure(one));
    runs.sort((a, b) => a.cost - b.cost);
    row({
      name: one.name,
      value: runs[0].cost,
      unit: 'ns',
      spread: [runs[0].cost, runs.at(-1).cost],
      exact: runs.every(({ exact }) => exact),
      note: note(runs),
    });
  }
}
