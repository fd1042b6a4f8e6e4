import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { ENABLING } from '../../src/arch/v8/arm-cost.ts';
import type { FunctionSymbol } from '../../src/arch/v8/types.ts';
import { nodeBinaries } from '../support/nodes.ts';
import { entryOf, openSession, readCounts } from '../support/target.ts';

/** Notes at which turn of its event loop each piece of an injection ended, and at which each map of a module was asked for. */
const TEXT = `'use strict';
class Cart {
  total(a, b) { return a + b; }
}
function plain(a) { return a + 1; }
const cart = new Cart();
module.exports = { Cart, plain };
let turns = 0;
const ends = [];
const { hrtime } = process;
process.hrtime = Object.assign(function (since) {
  if (since !== undefined) ends.push(turns);
  return Reflect.apply(hrtime, process, since === undefined ? [] : [since]);
}, hrtime);
const turn = () => { turns++; setImmediate(turn); };
turn();
process.on('message', (calls) => {
  for (let i = 0; i < calls; i++) { cart.total(i, 1); plain(i); }
  process.send({ ends });
});
process.send(0);
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
  /** Calls both functions so often. */
  call(times: number): Promise<{ ends: number[] }>;
}

async function start(node: string): Promise<Started> {
  const folder = mkdtempSync(path.join(tmpdir(), 'trapline-stops-'));
  folders.push(folder);
  const file = path.join(folder, 'shop.cjs');
  writeFileSync(file, TEXT);
  const child = spawn(node, ['--inspect-port=0', file], { stdio: ['ignore', 'ignore', 'ignore', 'ipc'] });
  children.push(child);
  const answer = <T>(): Promise<T> =>
    new Promise((resolve) => child.once('message', (message) => resolve(message as T)));
  await answer();
  return {
    pid: child.pid as number,
    file,
    call(times) {
      const answered = answer<{ ends: number[] }>();
      child.send(times);
      return answered;
    },
  };
}

const named = (symbols: readonly FunctionSymbol[], name: string): FunctionSymbol => {
  const found = symbols.find((symbol) => symbol.name === name);
  if (found === undefined) throw new Error(`no function ${name}`);
  return found;
};

const ARM = { way: 'auto', maxPauseMs: 1, maxactive: 0 } as const;

describe.each(nodeBinaries())('stops of Node $version', ({ path: node }) => {
  test('the agent comes in pieces between which the event loop turns, each of them reported', async () => {
    const target = await start(node);
    const { session } = await openSession(target.pid);
    const { ends } = await target.call(0);
    const report = await session.detach();
    // by interrupts two of them may fall into one turn, when the process was not let run in between
    expect(ends.length).toBeGreaterThan(8);
    expect(new Set(ends).size).toBeGreaterThan(ends.length / 2);
    // those, the evaluation itself, and the agent's own
    expect(report.pausesMs.length).toBeGreaterThan(ends.length + 5);
    expect(report.longestPauseMs).toBe(Math.max(...report.pausesMs));
  });

  test('a property is found and replaced within a pause that allows no debugger', async () => {
    const target = await start(node);
    const { session } = await openSession(target.pid);
    const wanted = (file: string): boolean => file === target.file;
    const symbols = await session.functions(wanted, { maxPauseMs: 1, enough: () => true });
    const [report] = await session.attach([entryOf(named(symbols, 'Cart.total'))], ARM);
    expect(report).toMatchObject({ way: 'property', estimateMs: 1 });
    await target.call(100);
    expect(await readCounts(session)).toMatchObject({ 0: 100 });
    await expect(session.attach([entryOf(named(symbols, 'plain'))], ARM)).rejects.toMatchObject({
      code: 'EMAXPAUSE',
    });
    await session.detach();
    await target.call(10);
  });

  test('the debugger is not enabled when that would take longer than allowed', async () => {
    const target = await start(node);
    const { session } = await openSession(target.pid);
    const wanted = (file: string): boolean => file === target.file;
    await expect(session.functions(wanted, { maxPauseMs: 1 })).rejects.toMatchObject({
      code: 'EMAXPAUSE',
      hint: expect.stringMatching(/^--max-pause \d+ allows it$/),
    });
    // what a caller asks of the functions may need more of them than a file tells
    await expect(session.functions(wanted, { maxPauseMs: 1, enough: () => false })).rejects.toMatchObject({
      code: 'EMAXPAUSE',
    });
    const symbols = await session.functions(wanted, { maxPauseMs: 60_000 });
    expect(named(symbols, 'plain').file).toBe(target.file);
    // its longest stop was that, which is told of the probe too
    const [report] = await session.attach([entryOf(named(symbols, 'plain'))], {
      way: 'bind',
      maxPauseMs: 60_000,
      maxactive: 0,
    });
    expect(report).toMatchObject({ way: 'bind', longest: ENABLING });
    expect(report?.estimateMs).toBeGreaterThan(17);
    await target.call(100);
    const { pausesMs } = await session.detach();
    expect(Math.max(...pausesMs)).toBeGreaterThanOrEqual(report?.pauseMs ?? Number.POSITIVE_INFINITY);
  });

  test('a file that is not what was loaded: the function is looked for in the debugger', async () => {
    const target = await start(node);
    writeFileSync(target.file, TEXT.replace('return a + b;', 'return b + a;'));
    const { session } = await openSession(target.pid);
    const symbols = await session.functions((file) => file === target.file, { enough: () => true });
    const [report] = await session.attach([entryOf(named(symbols, 'Cart.total'))], {
      ...ARM,
      maxPauseMs: 60_000,
    });
    expect(report?.way).not.toBe('break');
    await target.call(50);
    expect(await readCounts(session)).toMatchObject({ 0: 50 });
    await session.detach();
  });
});
