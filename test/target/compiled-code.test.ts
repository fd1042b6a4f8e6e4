import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { nodeBinaries } from '../support/nodes.ts';
import { entryOf, openSession, readCounts } from '../support/target.ts';

/** `other` is hot, and in no way concerned by what is probed; it is called no more once it has been compiled. */
const TEXT = `'use strict';
function other(a) { return a + 1; }
globalThis.isFast = (f) => %ActiveTierIsTurbofan(f);
const calls = require('node:module')._load(__dirname + '/calls.cjs', module);
let sum = 0;
const rounds = () => { for (let i = 0; i < 20000; i++) sum += other(i); };
const warm = () => { rounds(); if (%ActiveTierIsIgnition(other)) setTimeout(warm, 20); else process.send('warm'); };
process.on('message', (times) => {
  calls.run(times);
  process.send({ interpreted: %ActiveTierIsIgnition(other) });
});
warm();
`;
const CALLS = `'use strict';
let n = 0;
function probed(a) { n += a; return n; }
exports.run = (times) => { for (let i = 0; i < times; i++) probed(i); };
`;

/** `probed` is too large to be inlined into `run`, which is hot. */
const LARGE = `'use strict';
let n = 0;
function probed(a) { ${Array.from({ length: 120 }, (_, i) => `if (a === ${-i - 1}) n += ${i} * a;`).join(' ')} n += a; return n; }
const run = (times) => { for (let i = 0; i < times; i++) probed(i); };
for (let i = 0; i < 100000 && !globalThis.isFast(run); i++) run(2000);
exports.run = run;
`;

const folders: string[] = [];
const children: ChildProcess[] = [];

afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

interface Started {
  readonly pid: number;
  readonly file: string;
  /** Calls `probed` so often; whether V8 interprets `other` then. */
  call(times: number): Promise<{ interpreted: boolean }>;
}

async function start(node: string, calls = CALLS): Promise<Started> {
  const folder = mkdtempSync(path.join(tmpdir(), 'trapline-code-'));
  folders.push(folder);
  const main = path.join(folder, 'main.cjs');
  const file = path.join(folder, 'calls.cjs');
  writeFileSync(main, TEXT);
  writeFileSync(file, calls);
  const child = spawn(node, ['--allow-natives-syntax', '--inspect-port=0', main], {
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  children.push(child);
  const answer = <T>(): Promise<T> =>
    new Promise((resolve) => child.once('message', (message) => resolve(message as T)));
  await answer();
  return {
    pid: child.pid as number,
    file,
    call(times) {
      const answered = answer<{ interpreted: boolean }>();
      child.send(times);
      return answered;
    },
  };
}

describe.each(nodeBinaries())('compiled code of Node $version', ({ path: node }) => {
  test('a live edit throws all of it away first, so that V8 need not walk the heap for each function that has some', async () => {
    const target = await start(node);
    expect(await target.call(1)).toEqual({ interpreted: false });
    const { session } = await openSession(target.pid);
    const symbols = await session.functions((file) => file === target.file, { maxPauseMs: 60_000 });
    const symbol = symbols.find(({ name }) => name === 'probed');
    expect(symbol).toBeDefined();
    expect(await target.call(1)).toEqual({ interpreted: false });
    const options = { way: 'edit', maxPauseMs: 60_000, maxactive: 0 } as const;
    const [report] = await session.attach([entryOf(symbol as NonNullable<typeof symbol>)], options);
    expect(report?.way).toBe('edit');
    expect(await target.call(100)).toEqual({ interpreted: true });
    expect(await readCounts(session)).toMatchObject({ 0: 100 });
    const { failures } = await session.detach();
    expect(failures).toEqual([]);
    // what it was done by is callable as before
    expect(await target.call(1)).toEqual({ interpreted: true });
  });

  test('a binding that optimized code has as a constant: the function that reads it loses its code, others keep theirs', async () => {
    const target = await start(node, LARGE);
    const { session, events } = await openSession(target.pid);
    const symbols = await session.functions((file) => file === target.file, { maxPauseMs: 60_000 });
    const symbol = symbols.find(({ name }) => name === 'probed');
    const options = { way: 'bind', maxPauseMs: 60_000, maxactive: 0 } as const;
    await session.attach([entryOf(symbol as NonNullable<typeof symbol>)], options);
    await target.call(1);
    // told when that is done
    await expect.poll(() => events.armed.length, { timeout: 30_000 }).toBeGreaterThan(0);
    expect(await target.call(1000)).toEqual({ interpreted: false });
    expect(await readCounts(session)).toMatchObject({ 0: 1001 });
    // none of them by the breakpoint
    await expect.poll(() => events.armed.at(-1)?.escaped, { timeout: 30_000 }).toBe(0);
    const { failures } = await session.detach();
    expect(failures).toEqual([]);
    expect(await target.call(1)).toEqual({ interpreted: false });
  });
});
