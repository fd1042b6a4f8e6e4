/**
 * Starting a command to trace it from its first instruction. The command gets `trapline/register` by NODE_OPTIONS; its first
 * Node process stops in front of its main module and says who it is (src/register/launch.ts). The tracer names the files that
 * matter, attaches, arms the sites that those files will have, and lets the program begin.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, watch } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  EXITING_FILE,
  LAUNCH_SOCKET,
  LAUNCH_VARIABLE,
  type LaunchHello,
  type LaunchOrder,
  OPTIONS_VARIABLE,
} from '../agent/launch-protocol.ts';
import { TraplineError } from '../errors.ts';
import { procFamily } from './procfs.ts';

/** What a shell answers for a program that SIGINT ended. */
const INTERRUPTED = 130;

/** A program that is kept in front of its main module. */
export interface HeldProcess extends LaunchHello {
  /** Puts sites into the functions of files before they are loaded. Resolves when that is done. */
  prepare(files: readonly string[], ends: boolean): Promise<void>;
}

export interface LaunchedCommand {
  /** The first Node process of the command. Undefined when there is none within the time, or the command has ended. */
  held(waitMs: number): Promise<HeldProcess | undefined>;
  /** Lets the program begin; also when nothing was prepared. */
  go(): void;
  readonly exited: Promise<void>;
  /** SIGINT has ended it before it began: a terminal sends that to all of its programs, and nobody knows who hears it first. */
  readonly interrupted: Promise<void>;
  /** The held process is about to exit, and waits for letGo(). */
  readonly exiting: Promise<void>;
  letGo(): void;
  hasExited(): boolean;
  /**
   * Asks it to end, insists after a second, and removes everything of the launch. Before it has begun, all that the command has
   * started ends with it: nothing runs on without its tracer.
   */
  end(): Promise<void>;
}

/**
 * `file` is looked up in PATH; there is no shell. Its output goes to standard error: standard output is the tracer's.
 * Errors: those of spawn, as ENOENT.
 */
export async function launch(file: string, args: readonly string[]): Promise<LaunchedCommand> {
  const folder = mkdtempSync(path.join(tmpdir(), 'trapline-launch-'));
  const door = new Door(folder);
  const remove = (): void => {
    door.close();
    rmSync(folder, { recursive: true, force: true });
  };
  let child: ChildProcess;
  try {
    await door.listening;
    child = spawn(file, args, { stdio: ['inherit', 2, 2], env: environment(folder) });
    await started(child, file);
  } catch (error) {
    remove();
    throw error;
  }
  let gone = false;
  let isExiting = false;
  void door.exiting.then(() => {
    isExiting = true;
  });
  let began = false;
  let interrupt: () => void = () => {};
  const interrupted = new Promise<void>((resolve) => {
    interrupt = resolve;
  });
  const exited = new Promise<void>((resolve) => {
    child.once('exit', (code, signal) => {
      gone = true;
      if (!began && (signal === 'SIGINT' || code === INTERRUPTED)) interrupt();
      resolve();
    });
  });
  let ended: Promise<void> | undefined;
  const moment = () => Promise.race([exited, sleep(1000, undefined, { ref: false })]);
  const end = async (): Promise<void> => {
    // who waits at the door goes on when it is gone
    if (!began && !gone) endAll(procFamily(child.pid as number));
    remove();
    // what it has to say of its end, an error that nobody caught, comes behind its last listener of `exit`
    if (!gone && isExiting) await moment();
    if (!gone && child.kill('SIGTERM')) await moment();
    if (!gone) child.kill('SIGKILL');
    await exited;
  };
  return {
    held: (waitMs) =>
      Promise.race([door.first, exited.then(() => undefined), sleep(waitMs, undefined, { ref: false })]),
    go: () => {
      began = true;
      door.go();
    },
    exited,
    interrupted,
    exiting: door.exiting,
    letGo: () => rmSync(path.join(folder, EXITING_FILE), { force: true }),
    hasExited: () => gone,
    end: () => {
      ended ??= end();
      return ended;
    },
  };
}

export function endedBefore(verb: 'traced' | 'recorded', more?: { readonly hint: string }): TraplineError {
  return new TraplineError('ESRCH', `-c: the command ended before it could be ${verb}`, more);
}

function endAll(pids: readonly number[]): void {
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGTERM');
    } catch {
      // it has ended
    }
  }
}

function environment(folder: string): NodeJS.ProcessEnv {
  const register = new URL('../register/index.js', import.meta.url).href;
  const before = process.env['NODE_OPTIONS'];
  // any free port: the default one may be taken, and nobody looks for it there
  const options = ['--inspect-port=0', before, `--import=${register}`].filter((option) => option).join(' ');
  const own = { NODE_OPTIONS: options, [LAUNCH_VARIABLE]: folder };
  return { ...process.env, ...own, ...(before === undefined ? {} : { [OPTIONS_VARIABLE]: before }) };
}

/** Where the program's first process knocks. Any other goes on at once. */
class Door {
  readonly listening: Promise<void>;
  readonly first: Promise<HeldProcess>;
  readonly exiting: Promise<void>;
  readonly #server: Server;
  readonly #watcher: ReturnType<typeof watch>;
  #socket: Socket | undefined;

  constructor(folder: string) {
    let hello: (held: HeldProcess) => void = () => {};
    let exiting: () => void = () => {};
    this.first = new Promise((resolve) => {
      hello = resolve;
    });
    this.exiting = new Promise((resolve) => {
      exiting = resolve;
    });
    this.#watcher = watch(folder, { persistent: false }, (_event, name) => {
      if (name === EXITING_FILE) exiting();
    });
    this.#watcher.on('error', () => {});
    this.#server = createServer((socket) => void this.#accept(socket, hello));
    this.#server.unref();
    this.listening = new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(path.join(folder, LAUNCH_SOCKET), resolve);
    });
  }

  async #accept(socket: Socket, hello: (held: HeldProcess) => void): Promise<void> {
    socket.on('error', () => socket.destroy());
    if (this.#socket !== undefined) return void socket.destroy();
    this.#socket = socket;
    const lines = createInterface({ input: socket })[Symbol.asyncIterator]();
    // lines do not end with a socket that this side destroys
    const closed = new Promise<undefined>((resolve) => socket.once('close', () => resolve(undefined)));
    const line = async (): Promise<string | undefined> => (await lines.next()).value;
    // a process that was killed has reset it
    const next = () => Promise.race([line(), closed]).catch(() => undefined);
    const first = await next();
    if (first === undefined) return;
    hello({
      ...(JSON.parse(first) as LaunchHello),
      prepare: async (files, ends) => {
        const order: LaunchOrder = { tracer: process.pid, files, ends };
        socket.write(`${JSON.stringify(order)}\n`);
        if ((await next()) === undefined) throw endedBefore('traced');
      },
    });
  }

  go(): void {
    this.#socket?.end('{}\n');
  }

  close(): void {
    this.#watcher.close();
    this.#socket?.destroy();
    this.#server.close();
  }
}

function started(child: ChildProcess, file: string): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (error: NodeJS.ErrnoException) => {
      const what = error.code === 'ENOENT' ? 'there is no such program' : error.message;
      reject(new TraplineError(error.code ?? 'EIO', `-c: cannot start ${file}: ${what}`));
    });
  });
}
