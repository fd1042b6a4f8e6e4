import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { nodeBinaries } from '../support/nodes.ts';
import { entryOf, openSession } from '../support/target.ts';

/** Holds the only function of a script until it is told to drop it; tells when V8 has collected the script. */
const TEXT = `'use strict';
const { Script } = require('node:vm');
const text = '(function dropped(a) { return a + 1; })';
let held = new Script(text, { filename: __dirname + '/dropped.js' }).runInThisContext();
const gone = new WeakRef(held);
process.on('message', async (what) => {
  if (what === 'drop') held = undefined;
  while (what === 'drop' && gone.deref() !== undefined) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    globalThis.gc();
  }
  // what refers to the script goes one by one
  for (let i = 0; i < 5; i++) globalThis.gc();
  process.send(held?.(1) ?? 'gone');
});
process.send(0);
`;

const folders: string[] = [];
const children: ChildProcess[] = [];

afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

describe.each(nodeBinaries())('an edited script that is collected, Node $version', ({ path: node }) => {
  test('needs no text put back', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'trapline-collected-'));
    folders.push(folder);
    writeFileSync(path.join(folder, 'main.cjs'), TEXT);
    const flags = ['--expose-gc', '--no-compilation-cache', '--inspect-port=0'];
    const child = spawn(node, [...flags, path.join(folder, 'main.cjs')], {
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
    children.push(child);
    const answer = (): Promise<unknown> => new Promise((resolve) => child.once('message', resolve));
    await answer();
    const ask = (what: string): Promise<unknown> => {
      const answered = answer();
      child.send(what);
      return answered;
    };
    const { session } = await openSession(child.pid as number);
    const symbols = await session.functions(undefined, { maxPauseMs: 60_000 });
    const symbol = symbols.find(({ name }) => name === 'dropped');
    if (symbol === undefined) throw new Error('no function dropped');
    const options = { way: 'edit', maxPauseMs: 60_000, maxactive: 0 } as const;
    const [report] = await session.attach([entryOf(symbol)], options);
    expect(report?.way).toBe('edit');
    expect(await ask('call')).toBe(2);
    // the debugger, which knows scripts for longer, goes when nothing has needed it for a while
    await sleep(1500);
    expect(await ask('drop')).toBe('gone');
    const { failures } = await session.detach();
    expect(failures).toEqual([]);
  });
});
