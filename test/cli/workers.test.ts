import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { nodeBinaries } from '../support/nodes.ts';

const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));
const cli = path.join(root, 'dist/cli/main.js');
const app = path.join(root, 'test/cli/fixtures/workers.mjs');

const children: ChildProcess[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

class Program {
  readonly child: ChildProcess;
  readonly pid: string;
  readonly ended: Promise<number | null>;
  text = '';
  err = '';

  constructor(binary: string, args: readonly string[]) {
    this.child = spawn(binary, args, { stdio: 'pipe' });
    this.pid = String(this.child.pid);
    children.push(this.child);
    this.child.stdout!.on('data', (data) => {
      this.text += data;
    });
    this.child.stderr!.on('data', (data) => {
      this.err += data;
    });
    this.ended = new Promise((resolve) => this.child.once('close', resolve));
  }

  async saw(what: RegExp): Promise<void> {
    const until = performance.now() + 20_000;
    while (!what.test(this.text + this.err)) {
      if (this.child.exitCode !== null || performance.now() > until) throw new Error(this.text + this.err);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}

const target = async (node: string, workers: number): Promise<Program> => {
  const program = new Program(node, ['--inspect-port=0', app, String(workers)]);
  await program.saw(/ready/);
  return program;
};

const trapline = (...args: string[]): Program => new Program(process.execPath, [cli, ...args]);

describe.each(nodeBinaries().map(({ version, path: binary }) => [version, binary]))('%s', (_, node) => {
  test('worker threads are counted, said not to be traced, and left alone', async () => {
    const program = await target(node!, 1);
    const info = trapline('--info', '-p', program.pid);
    expect(await info.ended).toBe(0);
    expect(info.text).toMatch(/worker threads, not traced: +5\n/);
    const tracer = trapline(
      '-p',
      program.pid,
      'kprobe:workers.mjs:tick { @ = count(); } interval:ms:200 { exit(); }',
    );
    expect(await tracer.ended).toBe(0);
    const warnings = tracer.err.split('\n').filter((line) => line.includes('WARNING'));
    expect(warnings).toEqual([`WARNING: process ${program.pid} has 5 worker threads, which are not traced`]);
    expect(tracer.text).toMatch(/^@: \d+$/m);
    program.child.stdin!.write('?');
    await program.saw(/alive/);
  });

  test('the first worker thread that is started meanwhile is told', async () => {
    const program = await target(node!, 0);
    const tracer = trapline('-v', '-p', program.pid, 'kprobe:workers.mjs:tick { @ = count(); }');
    await tracer.saw(/All probes count/);
    program.child.stdin!.write('start');
    await tracer.saw(/WARNING/);
    tracer.child.kill('SIGINT');
    expect(await tracer.ended).toBe(0);
    const warnings = tracer.err.split('\n').filter((line) => line.includes('WARNING'));
    expect(warnings).toEqual([
      `WARNING: process ${program.pid} has started a worker thread; worker threads are not traced`,
    ]);
  });
});
