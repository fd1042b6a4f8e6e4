/**
 * An unmodified trace-cmd on the mounted folder of a process, in a mount namespace of its own where that folder is /sys/kernel/tracing.
 * The kernel's file ftrace_enabled, which trace-cmd writes to, is a plain one there: some systems do not let it be written.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { unless } from '../support/skip.ts';

const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));
const SHOP = path.join(root, 'test/tracefs/fixtures/shop.cjs');
const CLI = path.join(root, 'dist/cli/main.js');
const TRACING = '/sys/kernel/tracing';
const ENABLED = '/proc/sys/kernel/ftrace_enabled';

const has = (command: string, ...args: string[]): boolean =>
  spawnSync(command, args, { stdio: 'ignore' }).status === 0;
const obstacle = !has('unshare', '-m', 'true')
  ? 'only root may unshare mounts'
  : !has('trace-cmd', '--version') && spawnSync('trace-cmd').error !== undefined
    ? 'trace-cmd is not installed'
    : !existsSync(TRACING) || !existsSync(ENABLED) || !existsSync('/dev/fuse')
      ? `${TRACING}, ${ENABLED} and /dev/fuse have to be there`
      : undefined;

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** A shell in the namespace, where the folder is mounted. `run` answers with what a command has printed. */
async function traced(): Promise<{
  shop: ChildProcess;
  run: (script: string) => string;
  tracefs: ChildProcess;
}> {
  const folder = mkdtempSync(path.join(tmpdir(), 'trapline-trace-cmd-'));
  closers.push(() => rmSync(folder, { recursive: true, force: true }));
  const mount = path.join(folder, 'mount');
  mkdirSync(mount);
  writeFileSync(path.join(folder, 'enabled'), '1\n');
  const shop = spawn(process.execPath, ['--inspect-port=0', SHOP], {
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  closers.push(() => shop.kill('SIGKILL'));
  await once(shop, 'message');
  // The namespace is that of this shell, which waits until the test is over.
  const holder = spawn('unshare', ['-m', '--propagation', 'private', 'cat'], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  closers.push(() => holder.kill('SIGKILL'));
  const inside = (...command: string[]): string[] => ['-m', '-t', String(holder.pid), '--', ...command];
  const own = spawnSync('readlink', ['/proc/self/ns/mnt'], { encoding: 'utf8' }).stdout;
  await expect
    .poll(() => spawnSync('readlink', [`/proc/${holder.pid}/ns/mnt`], { encoding: 'utf8' }).stdout, {
      timeout: 20_000,
    })
    .not.toBe(own);
  const tracefs = spawn(
    'nsenter',
    inside(
      process.execPath,
      CLI,
      'tracefs',
      '-p',
      String(shop.pid),
      '-m',
      mount,
      '--cpus',
      'all',
      '--max-pause',
      '60000',
    ),
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  closers.push(() => tracefs.kill('SIGKILL'));
  await once(tracefs.stdout, 'data');
  const run = (script: string): string => {
    const { stdout, stderr, status } = spawnSync(
      'nsenter',
      inside('sh', '-ec', `cd '${folder}'; ${script}`),
      {
        encoding: 'utf8',
        timeout: 60_000,
      },
    );
    expect(status, `${script}\n${stdout}${stderr}`).toBe(0);
    return stdout;
  };
  run(`mount --bind '${mount}' ${TRACING}; mount --bind enabled ${ENABLED}`);
  return { shop, run, tracefs };
}

async function calls(shop: ChildProcess, count: number): Promise<void> {
  const answer = once(shop, 'message');
  shop.send({ op: 'handle', count });
  await answer;
}

/** The numbers that the event's lines have. */
const numbers = (text: string): number[] => [...text.matchAll(/ req: .* n=(\d+)/g)].map(([, n]) => Number(n));
const upTo = (count: number): number[] => Array.from({ length: count }, (_, n) => n);

describe('trace-cmd on the mounted folder', unless(obstacle), () => {
  test('list, start, show, stat, stop, extract, report, record, reset; the folder bound elsewhere does not keep the command', async () => {
    const { shop, run, tracefs } = await traced();
    run(`echo 'p:shop/req shop.cjs:handle n=$arg1->headers.length:u32' > ${TRACING}/kprobe_events`);
    expect(run('trace-cmd list -e shop')).toContain('shop:req');
    run('trace-cmd start -e shop:req');
    await calls(shop, 20);
    expect(numbers(run('trace-cmd show'))).toEqual(upTo(20));
    expect(run('trace-cmd stat')).toMatch(/Events:\n(?:.*\n)*? +shop\n/);
    run('trace-cmd stop');
    await calls(shop, 5);
    run('trace-cmd extract -o extracted.dat');
    expect(numbers(run('trace-cmd report -i extracted.dat'))).toEqual(upTo(20));

    run(`trace-cmd record -C mono_raw -e shop:req -o recorded.dat sh -c 'echo 1 > begun; while [ ! -e done ]; do sleep 0.1; done' > /dev/null 2>&1 &
      while [ ! -e begun ]; do sleep 0.1; done`);
    await calls(shop, 30);
    run('echo 1 > done; while [ ! -s recorded.dat ] || [ -e recorded.dat.cpu0 ]; do sleep 0.1; done');
    expect(numbers(run('trace-cmd report -i recorded.dat'))).toEqual(upTo(30));

    run('trace-cmd reset');
    expect(run(`cat ${TRACING}/kprobe_events`)).toBe('');
    await calls(shop, 1);
    // The folder's mount goes, and with it the copy under the kernel's name.
    const ended = once(tracefs, 'close');
    tracefs.kill('SIGINT');
    expect((await ended)[0]).toBe(0);
    run(`! cat ${TRACING}/trace`);
  });

  test('stream shows what happens while it happens', async () => {
    const { shop, run } = await traced();
    run(`echo 'p:shop/req shop.cjs:handle n=$arg1->headers.length:u32' > ${TRACING}/kprobe_events`);
    run(`trace-cmd stream -e shop:req > streamed 2>&1 & echo $! > pid
      while [ "$(cat ${TRACING}/events/shop/req/enable)" != 1 ]; do sleep 0.1; done`);
    // What it has not got whole pages of it asks for once a second or so.
    await expect
      .poll(
        async () => {
          await calls(shop, 10);
          return numbers(run('cat streamed'));
        },
        { timeout: 60_000, interval: 500 },
      )
      .toEqual(expect.arrayContaining(upTo(10)));
    run('kill -INT $(cat pid)');
  });
});
