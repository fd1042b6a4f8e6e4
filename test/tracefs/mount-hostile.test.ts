import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { emptySystem } from '../../src/cli/tracefs-system.ts';
import { mountObstacle, mountTracefs } from '../../src/tracefs/fuse/index.ts';
import { unless } from '../support/skip.ts';

const HOSTILE = fileURLToPath(new URL('fixtures/hostile.mjs', import.meta.url));
const ROUNDS = 1000;
const obstacle = mountObstacle();
const run = promisify(execFile);

test('processes that use a mount in every way, killed readers, and an unmount under load', {
  ...unless(obstacle),
  timeout: 120_000,
}, async () => {
  const dir = mkdtempSync(path.join(tmpdir(), 'trapline-hostile-'));
  const defects: unknown[] = [];
  const { fs, request } = emptySystem();
  const mount = await mountTracefs(fs, dir, { request: request!, defect: (error) => defects.push(error) });
  try {
    const readers = Array.from({ length: 4 }, () =>
      spawn('cat', [path.join(dir, 'trace_pipe')], { stdio: 'ignore' }),
    );
    // All but one find it busy.
    const closed = readers.map((reader) => new Promise((resolve) => reader.once('close', resolve)));
    const results = await Promise.all(
      [1, 2, 3].map((seed) => run(process.execPath, [HOSTILE, dir, String(seed), String(ROUNDS)])),
    );
    for (const { stdout } of results) {
      const { done, refused } = JSON.parse(stdout);
      expect(done + refused).toBe(ROUNDS);
      expect(done).toBeGreaterThan(ROUNDS / 10);
      expect(refused).toBeGreaterThan(ROUNDS / 10);
    }
    for (const reader of readers) reader.kill('SIGKILL');
    await Promise.all(closed);
    // It serves as before.
    const sh = async (script: string): Promise<string> =>
      (await run('sh', ['-c', `cd ${dir} && ${script}`])).stdout;
    expect(await sh('echo 1 > tracing_on; > trace; echo still here > trace_marker; cat trace')).toContain(
      'still here\n',
    );
    expect(defects).toEqual([]);
    // Whoever is at work meanwhile gets errors.
    const late = run(process.execPath, [HOSTILE, dir, '9', String(ROUNDS)]);
    await sh('cat README > /dev/null');
    await mount.unmount();
    const { done, refused } = JSON.parse((await late).stdout);
    expect(done + refused).toBe(ROUNDS);
    expect(defects).toEqual([]);
  } finally {
    await mount.unmount();
    // What was written behind the unmount.
    rmSync(dir, { recursive: true });
  }
});

const SERVER = `
  import { emptySystem } from ${JSON.stringify(dist('cli/tracefs-system.js'))};
  import { mountTracefs } from ${JSON.stringify(dist('tracefs/fuse/index.js'))};
  const { fs, request } = emptySystem();
  await mountTracefs(fs, process.argv[1], { request });
  console.log('mounted');
`;

function dist(file: string): string {
  return new URL(`../../dist/${file}`, import.meta.url).href;
}

test('a server that is killed while its mount is busy lets everybody go, and the next one takes its place', {
  ...unless(obstacle),
  timeout: 120_000,
}, async () => {
  const dir = mkdtempSync(path.join(tmpdir(), 'trapline-killed-'));
  const server = spawn(process.execPath, ['--input-type=module', '-e', SERVER, dir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise((resolve) => server.stdout.once('data', resolve));
  const sh = (script: string): Promise<number | null> =>
    new Promise((resolve) =>
      spawn('sh', ['-c', `cd ${dir} && ${script}`], { stdio: 'ignore' }).once('close', resolve),
    );
  const busy = [
    sh('cat trace_pipe'),
    sh('mkdir instances/one && cat instances/one/trace_pipe'),
    sh('while cat trace README > /dev/null; do :; done'),
    sh('while echo here > trace_marker; do :; done'),
    sh('head -c 100000000 /dev/zero > trace_marker'),
    sh('while mkdir instances/two && rmdir instances/two; do :; done'),
    sh('exec 3< per_cpu/cpu0/trace_pipe_raw; cat <&3'),
  ];
  const { fs } = emptySystem();
  let mount: Awaited<ReturnType<typeof mountTracefs>> | undefined;
  try {
    // All are at work.
    await run('sh', [
      '-c',
      `until [ -d ${dir}/instances/one ] && grep -q here ${dir}/trace; do sleep 0.05; done`,
    ]);
    const gone = new Promise((resolve) => server.once('close', resolve));
    server.kill('SIGKILL');
    await gone;
    await Promise.all(busy);
    mount = await mountTracefs(fs, dir);
    expect((await run('cat', [path.join(dir, 'current_tracer')])).stdout).toBe('nop\n');
  } finally {
    server.kill('SIGKILL');
    await mount?.unmount();
    rmSync(dir, { recursive: true });
  }
});
