import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { HALF_FILE, INJECT_FILE, KNOCK_SIGNAL, ORDER_FILE } from '../../src/agent/knock-protocol.ts';
import { agentTexts } from '../../src/target/agent-text.ts';
import { attach, makeConfig } from '../../src/target/attach.ts';
import { nodeBinaries } from '../support/nodes.ts';
import { entryOf, functionAround, loadPrograms, readCounts, recorder, until } from '../support/target.ts';

const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));
const REGISTER = pathToFileURL(path.join(root, 'dist/register/index.js')).href;

/** Does what each message says, and answers what it gave. */
const TEXT = `'use strict';
const { Worker } = require('node:worker_threads');
function served(a, b) { const sum = a + b; return sum > 1e9 ? 'a text that makes this function long enough for a site' : sum; }
let worker, signals = 0;
const says = {
  call(times) { for (let i = 0; i < times; i++) served(i, 1); return times; },
  block(ms) { const until = Date.now() + ms; while (Date.now() < until); return ms; },
  listen() { process.on('SIGURG', () => signals++); return true; },
  signals: () => signals,
  listeners: () => process.listenerCount('SIGURG'),
  left: () => Reflect.ownKeys(globalThis).filter((key) => /trapline/.test(String(key))).map(String),
  async start() { worker = new Worker('setInterval(() => {}, 1e3)', { eval: true }); await new Promise((done) => worker.once('online', done)); return true; },
  async stop() { await worker.terminate(); return true; },
};
process.on('message', async ([what, arg]) => process.send({ said: await says[what](arg) }));
process.send({ said: 'up' });
`;

let folder: string;
const children: ChildProcess[] = [];

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'trapline-knock-'));
});

afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

interface Target {
  readonly pid: number;
  readonly file: string;
  /** What it has said on its standard error. */
  readonly stderr: () => string;
  say(what: string, arg?: number): Promise<unknown>;
}

/** With a temporary folder of its own, so that what lies in it is the test's affair alone. */
async function start(node: string, args: readonly string[] = ['--import', REGISTER]): Promise<Target> {
  const file = path.join(folder, 'served.cjs');
  writeFileSync(file, TEXT);
  const child = spawn(node, ['--inspect-port=0', ...args, file], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    env: { ...process.env, TMPDIR: folder, TRAPLINE_CACHE: '0', TRAPLINE_MIN_LENGTH: '0' },
  });
  children.push(child);
  let stderr = '';
  child.stderr?.on('data', (data) => {
    stderr += data;
  });
  const said = async (): Promise<unknown> => {
    const [message] = (await once(child, 'message')) as [{ said: unknown }];
    return message.said;
  };
  await said();
  return {
    pid: child.pid as number,
    file,
    stderr: () => stderr,
    say(what, arg) {
      const answer = said();
      child.send([what, arg]);
      return answer;
    },
  };
}

const sessions = (): string[] => readdirSync(folder).filter((name) => name.startsWith('trapline-'));

/** Attaches, says by which steps, and counts the calls of `served` once. */
async function countOnce(target: Target, calls: number): Promise<string[]> {
  const steps: string[] = [];
  const session = await attach(target.pid, recorder(), { onStep: (step) => steps.push(step) });
  await loadPrograms(session);
  const symbol = functionAround(await session.functions(), target.file, 'const sum');
  const [report] = await session.attach([entryOf(symbol)], { way: 'nop', maxPauseMs: 1, maxactive: 0 });
  expect(report).toMatchObject({ way: 'nop' });
  await target.say('call', calls);
  expect((await readCounts(session))[0]).toBe(calls);
  expect((await session.siteStats())[0]).toMatchObject({ nhit: calls, nmissed: 0 });
  expect((await session.detach()).failures).toEqual([]);
  return steps;
}

const BY_KNOCK = ['identify', 'inject', 'connect'];
const BY_INSPECTOR = ['identify', 'open inspector', 'inject', 'connect'];

describe.runIf(process.platform === 'linux').each(nodeBinaries())(
  'a door, Node $version',
  ({ path: node }) => {
    test('lets a tracer in with no inspector, twice, and nothing of it stays', async () => {
      const target = await start(node);
      const left = await target.say('left');
      for (const calls of [100, 250]) {
        expect(await countOnce(target, calls)).toEqual(BY_KNOCK);
        await until('its folder is gone', () => sessions().length === 0);
        await until('nothing is left in the process', async () => {
          return JSON.stringify(await target.say('left')) === JSON.stringify(left);
        });
      }
      expect(target.stderr()).toBe('');
    });

    test('is a listener for a signal and nothing else, which lets the process end', async () => {
      const target = await start(node);
      expect(await target.say('listeners')).toBe(1);
      expect(sessions()).toEqual([]);
      const child = spawn(node, ['--import', REGISTER, '-e', '0'], { stdio: 'ignore' });
      expect(await once(child, 'exit')).toEqual([0, null]);
    });

    test('a second tracer is refused', async () => {
      const target = await start(node);
      const session = await attach(target.pid, recorder());
      await expect(attach(target.pid, recorder())).rejects.toMatchObject({ code: 'EBUSY' });
      expect(sessions()).toHaveLength(1);
      await session.detach();
      expect(target.stderr()).toBe('');
    });

    test('a main thread that does not come to it is interrupted instead', async () => {
      const target = await start(node);
      const blocked = target.say('block', 3000);
      await sleep(100);
      const steps: string[] = [];
      const session = await attach(target.pid, recorder(), { onStep: (step) => steps.push(step) });
      expect(steps).toEqual(BY_INSPECTOR);
      await blocked;
      await session.detach();
      // the signal that nobody waits for any more
      await until('its folder is gone', () => sessions().length === 0);
      expect(await countOnce(target, 10)).toEqual(BY_KNOCK);
    });

    test('says how many worker threads the application has', async () => {
      const target = await start(node);
      const workers = async (): Promise<number> => {
        const session = await attach(target.pid, recorder());
        await session.detach();
        return session.info.workers;
      };
      expect(await workers()).toBe(0);
      await target.say('start');
      expect(await workers()).toBe(1);
      await target.say('stop');
      expect(await workers()).toBe(0);
    });

    test('a tracer that was killed leaves nothing', async () => {
      const target = await start(node);
      const gone = spawn(process.execPath, ['-e', '0']);
      await once(gone, 'exit');
      const door = path.join(folder, `trapline-${target.pid}-attach`);
      const order = (name: string, tracer: number): void => {
        mkdirSync(door, { mode: 0o700 });
        const { inject, half } = agentTexts();
        const config = { ...makeConfig(false), folder: path.join(folder, name), tracer };
        writeFileSync(path.join(door, ORDER_FILE), JSON.stringify({ config }));
        writeFileSync(path.join(door, HALF_FILE), half);
        writeFileSync(path.join(door, INJECT_FILE), inject);
      };
      // before it could knock: the next one takes its folder away
      order(`trapline-${target.pid}-first1`, gone.pid as number);
      expect(await countOnce(target, 10)).toEqual(BY_KNOCK);
      // behind the knock
      order(`trapline-${target.pid}-second`, gone.pid as number);
      process.kill(target.pid, KNOCK_SIGNAL);
      await until('its folder is taken', () => !existsSync(door));
      await until('its folder is gone', () => sessions().length === 0);
      expect(await countOnce(target, 10)).toEqual(BY_KNOCK);
      expect(target.stderr()).toBe('');
    });

    test('is closed to folders that others may look into', async () => {
      const target = await start(node);
      const door = path.join(folder, `trapline-${target.pid}-attach`);
      mkdirSync(door, { mode: 0o700 });
      chmodSync(door, 0o711);
      writeFileSync(path.join(door, ORDER_FILE), JSON.stringify({ config: { folder: `${folder}/taken` } }));
      process.kill(target.pid, KNOCK_SIGNAL);
      process.kill(target.pid, KNOCK_SIGNAL);
      await target.say('call', 1);
      await sleep(200);
      await target.say('call', 1);
      expect(readFileSync(path.join(door, ORDER_FILE), 'utf8')).toContain('taken');
      expect(existsSync(path.join(folder, 'taken'))).toBe(false);
    });

    test('an application that listens for the signal itself gets none of a tracer', async () => {
      const target = await start(node, []);
      await target.say('listen');
      const steps: string[] = [];
      const session = await attach(target.pid, recorder(), { onStep: (step) => steps.push(step) });
      await session.detach();
      expect(steps).toEqual(BY_INSPECTOR);
      expect(await target.say('signals')).toBe(0);
    });
  },
);
