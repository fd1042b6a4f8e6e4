/** A process, and `trapline bpf attach` as a child, for the tests of objects on a process. */

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach } from 'vitest';
import { openObject } from '../../src/bpf/index.ts';
import {
  type AttachedObject,
  type AttachObjectOptions,
  attachObject,
} from '../../src/target/object/attach-object.ts';
import { fixture, own, root, type Service, startService, stopAll } from '../e2e/support.ts';

export interface AttachCommand {
  readonly out: () => string;
  readonly err: () => string;
  /** Or the command has ended. */
  until(done: () => boolean): Promise<void>;
  /** Ctrl-C; answers with the exit code. */
  end(): Promise<unknown>;
}

/** Resolves when the programs are attached. */
export async function attachCommand(file: string, pid: number, more: string[] = []): Promise<AttachCommand> {
  const args = ['bpf', 'attach', file, '-p', `${pid}`, ...more];
  const child = spawn(process.execPath, [path.join(root, 'dist/cli/main.js'), ...args]);
  own(child);
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk) => {
    out += chunk;
  });
  child.stderr.on('data', (chunk) => {
    err += chunk;
  });
  const until = async (done: () => boolean): Promise<void> => {
    while (!done() && child.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 10));
  };
  await until(() => err.includes('Ctrl-C ends'));
  return {
    out: () => out,
    err: () => err,
    until,
    end() {
      const ended = new Promise((resolve) => child.once('close', resolve));
      child.kill('SIGINT');
      return ended;
    },
  };
}

const library = pathToFileURL(path.join(root, 'dist/index.js')).href;

/** A service that has defined the event shop:checkout. */
export async function shop(node: string): Promise<Service> {
  const service = await startService({ node, file: fixture('events.cjs') });
  await service.ask('define', { library });
  return service;
}

/** An object of fixtures/, for one file of tests: what they attach and start is gone behind each. */
export function objectOnProcess(name: string): {
  readonly file: string;
  run(pid: number, options?: AttachObjectOptions): Promise<AttachedObject>;
} {
  const file = path.join(root, 'test/target/fixtures', name);
  const bytes = readFileSync(file);
  const attached: AttachedObject[] = [];
  afterEach(async () => {
    for (const one of attached.splice(0)) await one.detach();
    await stopAll();
  });
  return {
    file,
    async run(pid, options = {}) {
      const one = await attachObject(pid, openObject(bytes, name), { maxPauseMs: 60_000, ...options });
      attached.push(one);
      return one;
    },
  };
}
