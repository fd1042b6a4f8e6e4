/**
 * The door of a prepared process (../agent/knock-protocol.ts): until somebody knocks there is a listener for a signal, and nothing else: no
 * file, no socket, no thread. Then a tracer is let in piece by piece, each in a turn of the event loop, with no inspector: starting that would
 * make the main thread wait for another thread, and V8's first message takes it a millisecond.
 */

import { closeSync, constants, fstatSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout } from 'node:timers';
import { Script } from 'node:vm';
import type { InjectConfig, Injection, InjectResult } from '../agent/inject/config.ts';
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

/** Between two pieces: the event loop is the application's. */
const BETWEEN_MS = 2;
/** Not performance.now(): what it stands in may not be loaded, and takes more than a millisecond. */
const { hrtime } = process;
/** Who else may look into the folder: nobody. */
const OTHERS = 0o077;

/** `workers` counts the application's worker threads. */
export function openDoor(workers: () => number): void {
  if (process.platform !== 'linux') return;
  const base = sessionBase(process.env);
  let visitor: Visitor | undefined;
  process.on(KNOCK_SIGNAL, () => {
    if (visitor !== undefined && !visitor.isOver) return;
    visitor = new Visitor(base, workers);
  });
}

type Inject = (config: InjectConfig, half: unknown) => Injection;

/** Somebody who has knocked: looked at, and let in. */
class Visitor {
  /** Let in, or sent away. */
  isOver = false;
  readonly #base: string;
  readonly #workers: () => number;
  readonly #stops: number[] = [];
  #door = -1;
  #config: KnockOrder['config'] | undefined;
  #script = new Script('');
  #half: unknown;
  #injection: Injection | undefined;
  readonly #pieces: readonly (() => InjectResult | undefined)[];

  constructor(base: string, workers: () => number) {
    this.#base = base;
    this.#workers = workers;
    this.#pieces = [
      () => this.#look(),
      () => this.#take(),
      () => this.#compile(HALF_FILE),
      () => {
        this.#half = this.#script.runInThisContext();
        return undefined;
      },
      () => this.#compile(INJECT_FILE),
      () => {
        const inject = this.#script.runInThisContext() as Inject;
        this.#injection = inject(this.#config as InjectConfig, this.#half);
        return undefined;
      },
    ];
    this.#next(0);
  }

  #next(at: number): void {
    later(() => {
      const since = hrtime();
      let result: InjectResult | undefined;
      try {
        const piece = this.#pieces[at];
        result = piece === undefined ? (this.#injection as Injection).next().result : piece();
      } catch (error) {
        this.#injection?.abort();
        result = { ok: false, code: 'EINJECT', message: `cannot start the agent: ${String(error)}` };
      }
      const [s, ns] = hrtime(since);
      this.#stops.push(s * 1e3 + ns / 1e6);
      if (result === undefined) this.#next(at + 1);
      else later(() => this.#answer(result));
    });
  }

  /** Throws where nobody is there, or another user's folder. */
  #look(): undefined {
    const { O_DIRECTORY, O_NOFOLLOW } = constants;
    this.#door = openSync(knockFolder(this.#base, process.pid), O_DIRECTORY | O_NOFOLLOW);
    const { uid, mode } = fstatSync(this.#door);
    if (uid !== process.geteuid?.() || (mode & OTHERS) !== 0) throw new Error('not of this user alone');
  }

  /** Moves the folder to its own name, so that no other knock takes it. */
  #take(): undefined {
    // by what was looked at, whatever the name leads to meanwhile
    const text = readFileSync(`/proc/self/fd/${this.#door}/${ORDER_FILE}`, 'utf8');
    const { config } = JSON.parse(text) as KnockOrder;
    const folder = path.join(this.#base, path.basename(config.folder));
    renameSync(knockFolder(this.#base, process.pid), folder);
    this.#config = { ...config, folder };
  }

  #compile(name: string): undefined {
    const text = readFileSync(`/proc/self/fd/${this.#door}/${name}`, 'utf8');
    this.#script = new Script(text, { filename: '' });
  }

  /** To the tracer, where there is one: the signal may have been somebody else's affair. */
  #answer(result: InjectResult): void {
    this.isOver = true;
    if (this.#door !== -1) closeSync(this.#door);
    if (this.#config === undefined) return;
    const file = path.join(this.#config.folder, ANSWER_FILE);
    const answer: KnockAnswer = { result, stops: this.#stops, workers: this.#workers() };
    try {
      writeFileSync(`${file}.new`, JSON.stringify(answer));
      renameSync(`${file}.new`, file);
    } catch {
      // it has left, and taken the folder along
    }
  }
}

/** In another turn of the event loop; not to be waited for by a process that has nothing else to do. */
function later(piece: () => void): void {
  setTimeout(piece, BETWEEN_MS).unref();
}
