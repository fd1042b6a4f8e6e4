import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));
const cli = path.join(root, 'dist/cli/main.js');

/** TRAPLINE_E2E_FULL=1: as often as issue and documentation promise; else what an ordinary run has time for. */
export const full = process.env['TRAPLINE_E2E_FULL'] === '1';

export function fixture(name: string): string {
  return path.join(root, 'test/e2e/fixtures', name);
}

const started = new Set<ChildProcess>();

/** Ends whatever tests have started and left. */
export async function stopAll(): Promise<void> {
  const ends = [...started].map((child) => {
    if (child.exitCode !== null || child.signalCode !== null) return undefined;
    const end = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    return end;
  });
  started.clear();
  await Promise.all(ends);
}

export function own(child: ChildProcess): void {
  started.add(child);
  child.once('exit', () => started.delete(child));
}

interface Reply {
  readonly ready?: number;
  readonly id?: number;
  readonly result?: unknown;
  readonly error?: string;
}

/** A target of our own, with commands over an IPC channel. */
export interface Service {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly port: number;
  stderr(): string;
  ask<T = unknown>(op: string, params?: object): Promise<T>;
  call(name: string, times: number, first?: number): Promise<number>;
  /** One HTTP request; the answer's text. */
  get(url: string): Promise<string>;
  /** Resolves to the exit code, or the signal's name. */
  readonly exited: Promise<number | string | null>;
}

export interface ServiceOptions {
  readonly node?: string;
  readonly flags?: readonly string[];
  readonly file?: string;
  readonly env?: Record<string, string>;
}

export async function startService(options: ServiceOptions = {}): Promise<Service> {
  const { node = process.execPath, flags = [], file = fixture('service.mjs'), env = {} } = options;
  const child = spawn(node, ['--inspect-port=0', ...flags, file], {
    stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
    env: { ...process.env, NODE_OPTIONS: '', ...env },
  });
  own(child);
  let stderr = '';
  let next = 1;
  let gone: Error | undefined;
  const waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const exited = new Promise<number | string | null>((resolve) => {
    child.once('exit', (code, signal) => {
      gone = new Error(`the target ended with ${code ?? signal}: ${stderr}`);
      for (const { reject } of waiting.values()) reject(gone);
      // nobody asked for it: whoever waits for something else would not tell
      if (!child.killed && code !== 0) console.log(gone.message);
      resolve(code ?? signal);
    });
  });
  const port = await new Promise<number>((resolve, reject) => {
    void exited.then(() => reject(gone));
    child.on('message', (message) => {
      const { ready, id = 0, result, error } = message as Reply;
      if (ready !== undefined) return resolve(ready);
      const request = waiting.get(id);
      waiting.delete(id);
      if (error === undefined) request?.resolve(result);
      else request?.reject(new Error(error));
    });
  });
  const ask = (op: string, params: object = {}): Promise<unknown> =>
    new Promise((resolve, reject) => {
      if (gone !== undefined) return reject(gone);
      const id = next++;
      waiting.set(id, { resolve, reject });
      child.send({ id, op, params });
    });
  return {
    child,
    pid: child.pid!,
    port,
    stderr: () => stderr,
    ask: ask as Service['ask'],
    call: (name, times, first = 0) => ask('call', { name, times, first }) as Promise<number>,
    get: (url) => get(port, url),
    exited,
  };
}

function get(port: number, url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = http.get(
      { port, host: '127.0.0.1', path: url, agent: false, timeout: 20_000 },
      (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('end', () => resolve(text));
      },
    );
    request.on('timeout', () => request.destroy(new Error(`no answer to ${url}`)));
    request.on('error', reject);
  });
}

export interface LoadCounts {
  readonly ok: number;
  readonly failed: number;
  readonly longestMs: number;
  readonly errors: readonly string[];
}

/** Requests from a process of its own until stopped. */
export function startLoad(port: number, connections: number) {
  const child = spawn(process.execPath, [fixture('load.mjs'), String(port), String(connections)], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  own(child);
  const ask = (message: string): Promise<LoadCounts> =>
    new Promise((resolve, reject) => {
      const ended = (code: number | null): void => reject(new Error(`the load ended with ${code}`));
      child.once('message', (counts) => {
        child.off('exit', ended);
        resolve(counts as LoadCounts);
      });
      child.once('exit', ended);
      child.send(message);
    });
  return { counts: () => ask('counts'), stop: () => ask('stop') };
}

export interface Result {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** The real command. */
export interface Tracer {
  readonly child: ChildProcess;
  readonly pid: number;
  out(): string;
  err(): string;
  /** Resolves when this was written to stdout or stderr; rejects when the command ends before. */
  saw(text: string | RegExp): Promise<void>;
  /** Resolves when every probe is attached. Needs `-v`. */
  attached(): Promise<void>;
  /** Ctrl-C. */
  interrupt(): Promise<Result>;
  readonly finished: Promise<Result>;
}

export function trapline(...args: string[]): Tracer {
  return traplineWith({}, ...args);
}

export function traplineWith(options: { readonly stdout?: 'pipe' | number }, ...args: string[]): Tracer {
  const child = spawn(process.execPath, [cli, ...args], {
    stdio: ['ignore', options.stdout ?? 'pipe', 'pipe'],
  });
  own(child);
  let out = '';
  let err = '';
  const waiting: { text: string | RegExp; resolve(): void }[] = [];
  const look = (): void => {
    if (waiting.length === 0) return;
    const both = out + err;
    for (const { text, resolve } of waiting)
      if (typeof text === 'string' ? both.includes(text) : text.test(both)) resolve();
  };
  child.stdout?.setEncoding('utf8').on('data', (data: string) => {
    out += data;
    look();
  });
  child.stderr!.setEncoding('utf8').on('data', (data: string) => {
    err += data;
    look();
  });
  const finished = new Promise<Result>((resolve) => {
    child.once('close', (code) => resolve({ code, out, err }));
  });
  const saw = (text: string | RegExp): Promise<void> =>
    new Promise((resolve, reject) => {
      waiting.push({ text, resolve });
      look();
      void finished.then((result) => reject(new Error(`ended before ${text}: ${JSON.stringify(result)}`)));
    });
  return {
    child,
    pid: child.pid!,
    out: () => out,
    err: () => err,
    saw,
    attached: () => saw(/^\S+: (nop|property|bind|edit|break|event) \(/m),
    interrupt: () => {
      child.kill('SIGINT');
      return finished;
    },
    finished,
  };
}

/** Runs the command to its end. */
export const run = (...args: string[]): Promise<Result> => trapline(...args).finished;

/** The number of hits whose end (or which) a command said it missed. */
export function missedOf(err: string): number {
  return Number(/^WARNING: (\d+) hits? (?:was|were) missed/m.exec(err)?.[1] ?? 0);
}

/** `@name[key, …]: value` lines as an object: `{ '@n': 3, '@by[1, 2]': 4 }`. */
export function mapsOf(out: string): Record<string, number> {
  const maps: Record<string, number> = {};
  for (const [, name, value] of out.matchAll(/^(@\S*(?:\[.*\])?): (-?\d+)$/gm)) {
    if (name! in maps) throw new Error(`${name} is printed twice:\n${out}`);
    maps[name!] = Number(value);
  }
  return maps;
}

export function threads(pid: number): number {
  return readdirSync(`/proc/${pid}/task`).length;
}

export function folders(pid: number): string[] {
  return readdirSync(tmpdir()).filter((name) => name.startsWith(`trapline-${pid}-`));
}

/** Ports and Unix sockets that a process listens on, from its descriptors and the kernel's tables. */
export function listeners(pid: number): string[] {
  const own = new Set<string>();
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    const inode = socketOf(pid, fd);
    if (inode !== undefined) own.add(inode);
  }
  const found: string[] = [];
  for (const table of ['tcp', 'tcp6']) {
    const file = `/proc/${pid}/net/${table}`;
    if (!existsSync(file)) continue;
    for (const line of readFileSync(file, 'utf8').split('\n').slice(1)) {
      const [, local, , state, , , , , , inode] = line.trim().split(/\s+/);
      if (state === '0A' && inode !== undefined && own.has(inode)) found.push(`${table} ${local}`);
    }
  }
  for (const line of readFileSync(`/proc/${pid}/net/unix`, 'utf8').split('\n').slice(1)) {
    const [, , , flags, , , inode, name] = line.trim().split(/\s+/);
    if (flags === '00010000' && inode !== undefined && own.has(inode)) found.push(`unix ${name ?? ''}`);
  }
  return found.sort();
}

function socketOf(pid: number, fd: string): string | undefined {
  try {
    return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1];
  } catch {
    return undefined;
  }
}

export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  ms = 30_000,
): Promise<void> {
  const deadline = performance.now() + ms;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`still not after ${ms} ms: ${what}`);
    await sleep(5);
  }
}
