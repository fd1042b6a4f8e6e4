/** Knocking at the door of a prepared process (../agent/knock-protocol.ts, ../register/knock.ts): the way in that needs no inspector. Linux. */

import {
  chownSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { constants } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { InjectConfig } from '../agent/inject/config.ts';
import {
  ANSWER_FILE,
  HALF_FILE,
  INJECT_FILE,
  KNOCK_SIGNAL,
  type KnockAnswer,
  type KnockOrder,
  knockFolder,
  ORDER_FILE,
  sessionBase,
} from '../agent/knock-protocol.ts';
import { TraplineError } from '../errors.ts';
import { writeAgent } from './agent-file.ts';
import { agentTexts } from './agent-text.ts';
import { type Identity, isAlive } from './process.ts';
import { procEnv, procNamespace, procStatus } from './procfs.ts';

/** A main thread that is held up for longer is interrupted: by the inspector. */
const KNOCK_MS = 250;
/** All pieces together, in a process whose event loop is busy. */
const ANSWER_MS = 15_000;
const LOOK_MS = 2;

const SIGNAL_BIT = 1n << BigInt(constants.signals[KNOCK_SIGNAL] - 1);

/** `trapline/register`, or its file. */
const REGISTER = /(^|[=/\s])(trapline\/register|register\/index\.m?js)($|\s)/;

/**
 * Undefined: the process has no door, or its event loop does not turn: nothing of it was changed. A process that listens for the signal
 * without having been told to load `trapline/register` gets none.
 */
export async function knock(target: Identity, config: InjectConfig): Promise<KnockAnswer | undefined> {
  if (process.platform !== 'linux' || !hasDoor(target)) return undefined;
  const { pid } = target;
  const environment = (name: string): string | undefined => procEnv(pid, name);
  const base = sessionBase({
    TMPDIR: environment('TMPDIR'),
    TMP: environment('TMP'),
    TEMP: environment('TEMP'),
  });
  const door = knockFolder(base, pid);
  const folder = place(target, config, base, door);
  if (folder === undefined) return undefined;
  try {
    process.kill(pid, KNOCK_SIGNAL);
    const until = performance.now() + KNOCK_MS;
    while (existsSync(door) && performance.now() < until) await sleep(LOOK_MS);
    if (isWithdrawn(door, folder)) {
      rmSync(folder, { recursive: true, force: true });
      return undefined;
    }
    const answer = await awaitAnswer(pid, path.join(folder, ANSWER_FILE));
    if (!answer.result.ok) rmSync(folder, { recursive: true, force: true });
    return answer;
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
}

function hasDoor({ pid, argv }: Identity): boolean {
  const caught = procStatus(pid)?.caught ?? 0n;
  if ((caught & SIGNAL_BIT) === 0n) return false;
  const told = [...argv, procEnv(pid, 'NODE_OPTIONS') ?? ''].some((text) => REGISTER.test(text));
  const same = (kind: 'mnt' | 'pid'): boolean => procNamespace(pid, kind) === procNamespace('self', kind);
  return told && same('mnt') && same('pid');
}

/** The folder with everything in it, at the door; its name from then on, or undefined where there is none to be made. */
function place({ pid, uid }: Identity, config: InjectConfig, base: string, door: string): string | undefined {
  let folder: string | undefined;
  try {
    folder = mkdtempSync(path.join(base, `trapline-${pid}-`));
    const { half, inject } = agentTexts();
    const order: KnockOrder = { config: { ...config, folder } };
    writeFileSync(path.join(folder, ORDER_FILE), JSON.stringify(order), { mode: 0o644 });
    writeFileSync(path.join(folder, HALF_FILE), half, { mode: 0o644 });
    writeFileSync(path.join(folder, INJECT_FILE), inject, { mode: 0o644 });
    if (process.geteuid?.() !== uid) chownSync(folder, uid, statSync(`/proc/${pid}`).gid);
    writeAgent(pid, folder);
    removeAbandoned(door);
    renameSync(folder, door);
    return folder;
  } catch {
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
    return undefined;
  }
}

/** What a tracer left that was killed before it could knock. Throws where one is just about to. */
function removeAbandoned(door: string): void {
  if (!existsSync(door)) return;
  const { config } = JSON.parse(readFileSync(path.join(door, ORDER_FILE), 'utf8')) as KnockOrder;
  if (isAlive(config.tracer)) throw new Error('another tracer is at the door');
  rmSync(door, { recursive: true, force: true });
}

/** Takes the folder back, unless the process has it. */
function isWithdrawn(door: string, folder: string): boolean {
  try {
    renameSync(door, folder);
    return true;
  } catch {
    return false;
  }
}

async function awaitAnswer(pid: number, file: string): Promise<KnockAnswer> {
  const deadline = performance.now() + ANSWER_MS;
  while (!existsSync(file)) {
    if (!isAlive(pid)) throw new TraplineError('ESRCH', `process ${pid} has exited`);
    if (performance.now() > deadline)
      throw new TraplineError('ETIMEDOUT', `process ${pid} did not answer in time`);
    await sleep(LOOK_MS);
  }
  return JSON.parse(readFileSync(file, 'utf8')) as KnockAnswer;
}
