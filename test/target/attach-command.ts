/** `trapline bpf attach` as a child, for the tests of objects on a process. */

import { spawn } from 'node:child_process';
import path from 'node:path';
import { own, root } from '../e2e/support.ts';

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
