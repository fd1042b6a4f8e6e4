import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, mkdtempSync, readFileSync, rmdirSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { fusermountObstacle } from '../../src/tracefs/fuse/fusermount.ts';
import { mountObstacle } from '../../src/tracefs/fuse/index.ts';
import { unless } from '../support/skip.ts';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const NOBODY = 65534;
const isRoot = process.getuid?.() === 0;
/** Who mounts where root is not to: another one where these tests are run by root. */
const user = isRoot ? { uid: NOBODY, gid: NOBODY } : {};

function userObstacle(): string | undefined {
  if (process.platform !== 'linux') return 'it needs Linux';
  const obstacle = fusermountObstacle();
  if (obstacle !== undefined) return obstacle;
  const { status } = spawnSync(process.execPath, [MAIN, '--version'], { ...user, cwd: '/', stdio: 'ignore' });
  if (status !== 0) return 'another user cannot run the command';
  const device = spawnSync('sh', ['-c', ': <> /dev/fuse'], { ...user, cwd: '/', stdio: 'ignore' });
  return device.status === 0 ? undefined : 'another user may not use /dev/fuse';
}

const isMounted = (dir: string): boolean =>
  readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .some((line) => line.split(' ')[1] === dir);

const ways = [
  { name: 'without root', why: userObstacle(), who: user },
  { name: 'as root', why: isRoot ? mountObstacle() : 'this is not root', who: {} },
];

describe.each(ways)('trapline tracefs --mount $name', ({ why, who }) => {
  let dir: string;
  const started: ChildProcess[] = [];

  beforeEach(() => {
    dir = mkdtempSync(path.join(tmpdir(), 'trapline-user-'));
    chmodSync(dir, 0o755);
    if (who.uid !== undefined) chownSync(dir, who.uid, who.gid);
  });
  afterEach(async () => {
    for (const child of started.splice(0)) if (child.exitCode === null) child.kill('SIGTERM');
    await expect.poll(() => isMounted(dir), { timeout: 20_000 }).toBe(false);
    rmdirSync(dir);
  });

  /** The command, when it says that it has mounted. */
  async function mount(): Promise<ChildProcess> {
    const child = spawn(process.execPath, [MAIN, 'tracefs', '--mount', dir], { ...who, cwd: '/' });
    started.push(child);
    let output = '';
    await new Promise<void>((resolve, reject) => {
      for (const stream of [child.stdout, child.stderr])
        stream.setEncoding('utf8').on('data', (text: string) => {
          output += text;
          if (output.includes('mounted at')) resolve();
        });
      child.once('close', () => reject(new Error(output)));
    });
    return child;
  }

  const sh = (script: string): string => {
    const { stdout, stderr } = spawnSync('sh', ['-c', `cd ${dir} && { ${script}\n}`], {
      ...who,
      encoding: 'utf8',
    });
    return stdout + stderr;
  };
  const ended = (child: ChildProcess): Promise<number | null> =>
    child.exitCode === null
      ? new Promise((resolve) => child.once('close', resolve))
      : Promise.resolve(child.exitCode);

  test('serves whoever mounted it, until a signal', unless(why), async () => {
    const child = await mount();
    expect(sh('echo hello > trace_marker; tail -n 1 trace')).toMatch(/ sh-\d+ .*: hello\n$/);
    expect(sh('mkdir instances/one; ls instances; rmdir instances/one; echo x > current_tracer')).toMatch(
      /^one\n.*(Invalid argument|I\/O error)\n$/s,
    );
    expect(sh('head -c 3000000 /dev/zero > trace_marker; cat README | wc -c')).toMatch(/^\d{4,}\n$/);
    const owner = sh('stat -c "%u %a" trace');
    expect(owner).toBe(`${who.uid ?? process.getuid?.()} 640\n`);
    child.kill('SIGINT');
    expect(await ended(child)).toBe(0);
    expect(isMounted(dir)).toBe(false);
  });

  test('a mounter that was killed leaves nothing that the next one minds', unless(why), async () => {
    const first = await mount();
    // What helps it is killed, too.
    const { stdout } = spawnSync('ps', ['-o', 'pid=', '--ppid', String(first.pid)], { encoding: 'utf8' });
    const helpers = stdout.split(/\s+/).filter((pid) => pid !== '');
    const theirs = helpers.flatMap((pid) =>
      spawnSync('ps', ['-o', 'pid=', '--ppid', pid], { encoding: 'utf8' })
        .stdout.split(/\s+/)
        .filter((one) => one !== ''),
    );
    for (const pid of [...theirs, ...helpers, first.pid as number]) process.kill(Number(pid), 'SIGKILL');
    await ended(first);
    if (who.uid === process.getuid?.() || who.uid === undefined)
      await expect.poll(() => errorOf(dir), { timeout: 20_000 }).toBe('ENOTCONN');
    const second = await mount();
    expect(sh('cat tracing_on')).toBe('1\n');
    expect(readFileSync('/proc/self/mounts', 'utf8').split(dir)).toHaveLength(2);
    second.kill('SIGTERM');
    expect(await ended(second)).toBe(0);
  });

  test(
    'a mounter that was killed alone takes the mount with it, or leaves it dead',
    unless(why),
    async () => {
      const child = await mount();
      child.kill('SIGKILL');
      await ended(child);
      // Without root the helper that is left unmounts; with it the folder is dead until the next one comes.
      if (who.uid !== undefined || !isRoot)
        await expect.poll(() => isMounted(dir), { timeout: 20_000 }).toBe(false);
      const next = await mount();
      expect(sh('cat tracing_on')).toBe('1\n');
      next.kill('SIGTERM');
      expect(await ended(next)).toBe(0);
    },
  );
});

function errorOf(dir: string): string {
  try {
    statSync(dir);
    return 'none';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? '';
  }
}
