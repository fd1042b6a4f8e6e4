import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { realpath, stat } from 'node:fs/promises';
import { TraplineError } from '../../errors.ts';
import type { Tracefs } from '../tracefs.ts';
import { readMessages } from './reader.ts';
import { FUSE_BUFFER_SIZE, FuseServer, type FuseServerOptions } from './server.ts';

const DEVICE = '/dev/fuse';
/** The descriptor as mount(8) inherits it. */
const CHILD_FD = 3;
const UNMOUNT_MS = 5000;

export interface MountOptions extends Omit<FuseServerOptions, 'send'> {
  /** Lets other users than root in; modes are checked by the kernel. Default true. */
  readonly allowOther?: boolean;
}

export interface Mount {
  readonly dir: string;
  /** Resolves when nothing is mounted any more, whoever unmounted it, with the reason. */
  readonly ended: Promise<string>;
  /** Unmounts; where it is busy it is detached, and what is open fails from then on. */
  unmount(): Promise<void>;
}

/** Why nothing can be mounted here; undefined where it can. */
export function mountObstacle(): string | undefined {
  if (process.platform !== 'linux') return 'mounting needs Linux and its /dev/fuse';
  if (process.getuid?.() !== 0) return 'mounting needs root';
  try {
    closeSync(openSync(DEVICE, 'r+'));
    return undefined;
  } catch (error) {
    return `${DEVICE} cannot be opened (${(error as NodeJS.ErrnoException).code})`;
  }
}

/**
 * Mounts a tracing folder at `dir` by FUSE and serves it from this process until it is unmounted or the process ends (a process
 * that is killed leaves a dead mount, which the next one there replaces). ENOTSUP, ENOENT, ENOTDIR, EBUSY; EIO with what mount(8) says.
 */
export async function mountTracefs(fs: Tracefs, dir: string, options: MountOptions = {}): Promise<Mount> {
  const obstacle = mountObstacle();
  if (obstacle !== undefined) throw new TraplineError('ENOTSUP', obstacle);
  await recover(dir);
  const target = await checkedFolder(dir);
  const fd = openSync(DEVICE, 'r+');
  let mounted = false;
  const server = new FuseServer(fs, {
    ...options,
    send: (message) => {
      if (!mounted) return;
      try {
        writeSync(fd, message);
      } catch (error) {
        // ENOENT: the request was interrupted. ENODEV: the file system is gone.
        const { code } = error as NodeJS.ErrnoException;
        if (code !== 'ENOENT' && code !== 'ENODEV') options.defect?.(error);
      }
    },
  });
  try {
    await runMount(target, fd, options.allowOther ?? true);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  mounted = true;
  const reader = readMessages(fd, FUSE_BUFFER_SIZE, (message) => server.handle(message));
  // The thread that reads ends with the mount alone, and the process with the thread.
  const detachNow = (): void => {
    if (mounted) spawnSync('umount', UMOUNT_DETACH(target), { stdio: 'ignore', timeout: UNMOUNT_MS });
  };
  process.on('exit', detachNow);
  const ended = reader.ended.then((reason) => {
    mounted = false;
    process.off('exit', detachNow);
    server.close();
    closeSync(fd);
    return reason;
  });
  return {
    dir: target,
    ended,
    async unmount() {
      if (!mounted) return;
      const clean = await finished(spawn('umount', ['-i', '-c', target], { stdio: 'ignore' }));
      if (clean.code !== 0) await finished(spawn('umount', UMOUNT_DETACH(target), { stdio: 'ignore' }));
      await ended;
    },
  };
}

/** Aborts what is under way and detaches, and asks the file system nothing. */
const UMOUNT_DETACH = (target: string): string[] => ['-i', '-c', '-f', '-l', target];

async function runMount(target: string, fd: number, allowOther: boolean): Promise<void> {
  const flags = [
    `fd=${CHILD_FD}`,
    'rootmode=40000',
    'user_id=0',
    'group_id=0',
    'default_permissions',
    ...(allowOther ? ['allow_other'] : []),
  ];
  // The source is what tools look for that search /proc/mounts for the word.
  const args = ['-i', '-n', '-t', 'fuse.tracefs', '-o', flags.join(','), 'tracefs', target];
  const child = spawn('mount', args, { stdio: ['ignore', 'ignore', 'pipe', fd] });
  const { code, stderr } = await finished(child);
  if (code !== 0) throw new TraplineError('EIO', `mount: ${stderr.trim() || `it ended with ${code}`}`);
}

function finished(child: ChildProcess): Promise<{ code: number | null; stderr: string }> {
  return new Promise((resolve) => {
    let stderr = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.once('error', (error) => resolve({ code: -1, stderr: error.message }));
    child.once('close', (code) => resolve({ code, stderr }));
  });
}

/**
 * Detaches a mount of ours whose process is gone: its folder answers ENOTCONN. Nothing here may wait for the file system on this
 * thread, which may be the one that has to answer.
 */
async function recover(dir: string): Promise<void> {
  try {
    await stat(dir);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOTCONN' && code !== 'ECONNABORTED') return;
    await finished(spawn('umount', UMOUNT_DETACH(dir), { stdio: 'ignore' }));
  }
}

async function checkedFolder(dir: string): Promise<string> {
  let target: string;
  try {
    target = await realpath(dir);
    if (!(await stat(target)).isDirectory()) throw new TraplineError('ENOTDIR', `${dir} is no folder`);
  } catch (error) {
    if (error instanceof TraplineError) throw error;
    const { code = 'EIO' } = error as NodeJS.ErrnoException;
    throw new TraplineError(
      code,
      `cannot mount at ${dir}: ${code === 'ENOENT' ? 'there is no such folder' : code}`,
    );
  }
  const ours = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .some((line) => line.split(' ')[1] === escapeMount(target) && line.split(' ')[2] === 'fuse.tracefs');
  if (ours) throw new TraplineError('EBUSY', `${dir}: a tracing folder is mounted there already`);
  return target;
}

/** A path as /proc/self/mounts writes it. */
function escapeMount(path: string): string {
  return path.replace(/[ \t\n\\]/g, (c) => `\\${c.charCodeAt(0).toString(8).padStart(3, '0')}`);
}
