// One question, "how often is each URL handled?", asked of a running function in several ways, each in a process of its own, one
// after the other and round again; every count is checked. What one call costs beyond the function unprobed, and how often
// that is what Trapline's costs.
//
//   node bench/versus.mjs [--quick]      needs dist/ (npm run build); bpftrace is compared with where it is, as root

import path from 'node:path';
import WebSocket from 'ws';
import { noBpftrace, uprobeRounds } from './lib/c-target.mjs';
import { check, median, quick, row, shown } from './lib/report.mjs';
import { registerArgs, root, startTarget, startTrace } from './lib/trace.mjs';

const file = path.join(root, 'bench/targets/handle.mjs');
const TIMES = quick ? 1 : 3;
const ROUNDS = quick ? 40 : 100;
const CALLS = 10_000;
const script = 'kprobe:handle.mjs:handle { @[str(arg0.url)] = count(); }';

/** A fresh process, warm and quiet; `use` gives ns of rounds. What the function costs unprobed is taken off. */
async function inTarget(use, execArgv) {
  const target = await startTarget(file, { execArgv });
  try {
    await target.ask({ do: 'rounds', count: 50, calls: CALLS });
    const plain = median((await target.ask({ do: 'rounds', count: ROUNDS, calls: CALLS })).ns);
    return (await use(target)).map((ns) => ns - plain);
  } finally {
    await target.stop();
  }
}

const settled = (ns) => ns.slice(Math.ceil(ns.length / 5));

const ways = {
  'a hand-written wrapper with a Map': () =>
    inTarget(async (target) => {
      const { ns, counts } = await target.ask({ do: 'byHand', count: ROUNDS, calls: CALLS });
      check(
        'wrapper',
        counts.map(([, count]) => count).join(),
        Array(4)
          .fill((ROUNDS * CALLS) / 4)
          .join(),
      );
      return settled(ns);
    }),
  'trapline, compiled in': () => inTarget((target) => traced(target, 'nop'), registerArgs),
  'trapline, rebound': () => inTarget((target) => traced(target, 'bind')),
  'trapline, edited': () => inTarget((target) => traced(target, 'edit')),
  'trapline, breakpoint': () => inTarget((target) => traced(target, 'break')),
  'inspector breakpoint, its condition counts in a Map': () =>
    inTarget(byCondition, ['--inspect=127.0.0.1:0']),
};

async function traced(target, way) {
  const few = way === 'break';
  const trace = await startTrace(target.pid, script, { way });
  await target.ask({ do: 'quiet', on: true });
  const start = (await target.ask({ do: 'rounds', count: 0, calls: 0 })).total;
  const had = await trace.total('@');
  const request = few ? { count: 20, calls: 8, waitMs: 40 } : { count: ROUNDS, calls: CALLS };
  const { ns, total } = await target.ask({ do: 'rounds', ...request });
  check(way, (await trace.total('@')) - had, total - start);
  await trace.detach();
  return settled(ns);
}

async function byCondition(target) {
  const condition =
    '(globalThis.__counts ??= new Map()).set(request.url, (globalThis.__counts.get(request.url) ?? 0) + 1) && false';
  await target.ask({ do: 'quiet', on: true });
  const inspector = await openInspector(target);
  await inspector.send('Debugger.enable');
  const { result } = await inspector.send('Runtime.evaluate', { expression: '0' });
  if (result.value !== 0) throw new Error('the inspector does not answer');
  const { readFileSync } = await import('node:fs');
  const lineNumber = readFileSync(file, 'utf8')
    .split('\n')
    .findIndex((line) => line.includes('return request.url.length + n'));
  const { locations } = await inspector.send('Debugger.setBreakpointByUrl', {
    urlRegex: '.*/handle\\.mjs$',
    lineNumber,
    condition,
  });
  if (locations.length !== 1) throw new Error('the breakpoint is not where it should be');
  const { ns } = await target.ask({ do: 'rounds', count: 25, calls: 80 });
  const counts = await inspector.send('Runtime.evaluate', {
    expression: '[...globalThis.__counts].map(([, count]) => count).join()',
    returnByValue: true,
  });
  check('condition', counts.result.value, Array(4).fill(500).join());
  inspector.close();
  return settled(ns);
}

async function openInspector(target) {
  let url;
  while (url === undefined) {
    url = /ws:\S+/.exec(target.stderr())?.[0];
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const socket = new WebSocket(url);
  await new Promise((resolve) => socket.once('open', resolve));
  const waiting = new Map();
  let last = 0;
  socket.on('message', (data) => {
    const { id, result, error } = JSON.parse(data);
    const call = waiting.get(id);
    if (call === undefined) return;
    if (error) call.reject(new Error(error.message));
    else call.resolve(result);
  });
  return {
    send: (method, params) =>
      new Promise((resolve, reject) => {
        waiting.set(++last, { resolve, reject });
        socket.send(JSON.stringify({ id: last, method, params }));
      }),
    close: () => socket.terminate(),
  };
}

const results = Object.fromEntries(Object.keys(ways).map((name) => [name, []]));
for (let i = 0; i < TIMES; i++) {
  for (const [name, run] of Object.entries(ways)) results[name].push(median(await run()));
}
const uprobe = "bpftrace's uprobe on a C function";
const missing = noBpftrace();
if (missing === undefined) {
  const { plain, probed, out, made, warm } = await uprobeRounds(
    '@[str(*(uint64*)arg0)] = count();',
    20,
    quick ? 1000 : 5000,
  );
  const counts = [...out.matchAll(/^@\[.*\]: (\d+)$/gm)].map(([, count]) => Number(count));
  const least = made / 4;
  // The calls that showed that it is attached come on top, where they were counted.
  if (counts.length !== 4 || counts.some((count) => count < least || count > least + warm)) {
    check(uprobe, counts.join(), Array(4).fill(least).join());
  }
  const base = median(plain);
  results[uprobe] = [median(probed) - base];
}

// The least disturbed process of each.
const ours = Math.min(...results['trapline, edited']);
for (const [name, each] of Object.entries(results)) {
  const least = Math.min(...each);
  row({
    name: `@[str(url)] = count() by ${name}`,
    value: least,
    unit: 'ns',
    spread: [least, Math.max(...each)],
    note: `${shown(least / ours)} × of trapline's edited function; every call counted`,
  });
}
if (missing !== undefined) row({ name: uprobe, note: `skipped: ${missing}` });
process.exit();
