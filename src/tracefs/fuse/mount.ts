import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { realpath, stat } from 'node:fs/promises';
import { TraplineError } from '../../errors.ts';
import type { Tracefs } from '../tracefs.ts';
import type { Channel } from './channel.ts';
import { FUSERMOUNT_DETACH, fusermountObstacle, openFusermount } from './fusermount.ts';
import { readMessages } from './reader.ts';
import { FUSE_BUFFER_SIZE, FuseServer, type FuseServerOptions } from './server.ts';

const DEVICE = '/dev/fuse';
/** The descriptor as mount(8) inherits it. */
const CHILD_FD = 3;
const UNMOUNT_MS = 5000;

export interface MountOptions extends Omit<FuseServerOptions, 'send'> {
  /**
   * Lets other users in; modes are checked by the kernel. By default as root. Others need `user_allow_other` in /etc/fuse.conf
   * for that.
   */
  readonly allowOther?: boolean;
}

export interface Mount {
  readonly dir: string;
  /** Resolves when nothing is mounted any more, whoever unmounted it, with the reason. */
  readonly ended: Promise<string>;
  /** Unmounts; where it is busy it is detached, and what is open fails from then on. */
  unmount(): Promise<void>;
}

const isRoot = (): boolean => process.getuid?.() === 0;

/** Why nothing can be mounted here; undefined where it can: as root, or with fusermount3. */
export function mountObstacle(): string | undefined {
  if (process.platform !== 'linux') return 'mounting needs Linux and its /dev/fuse';
  if (!isRoot()) return fusermountObstacle();
  try {
    closeSync(openSync(DEVICE, 'r+'));
    return undefined;
  } catch (error) {
    return `${DEVICE} cannot be opened (${(error as NodeJS.ErrnoException).code})`;
  }
}

/**
 * Mounts a tracing folder at `dir` by FUSE and serves it from this process until it is unmounted or the process ends (a process
 * that is killed leaves a dead mount, which the next one there replaces). ENOTSUP, ENOENT, ENOTDIR, EBUSY; EIO with what mount(8),
 * or fusermount3, says.
 */
export async function mountTracefs(fs: Tracefs, dir: string, options: MountOptions = {}): Promise<Mount> {
  const obstacle = mountObstacle();
  if (obstacle !== undefined) throw new TraplineError('ENOTSUP', obstacle);
  await recover(dir);
  const target = await checkedFolder(dir);
  let channel: Channel | undefined;
  let mounted = true;
  // Answers to what comes while the channel is being opened.
  const waiting: Uint8Array[] = [];
  const server = new FuseServer(fs, {
    ...(isRoot() ? {} : { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 }),
    ...options,
    send: (message) => {
      if (channel === undefined) waiting.push(message);
      else if (mounted) channel.send(message);
    },
  });
  const handle = (message: Uint8Array): void => server.handle(message);
  channel = isRoot()
    ? await openDevice(target, options.allowOther ?? true, handle, options.defect)
    : await openFusermount(target, options.allowOther ?? false, handle);
  for (const message of waiting) channel.send(message);
  const opened = channel;
  // The thread that reads ends with the mount alone, and the process with the thread.
  const detachNow = (): void => {
    const [command, args] = detaching(target);
    if (mounted) spawnSync(command, args, { stdio: 'ignore', timeout: UNMOUNT_MS });
  };
  process.on('exit', detachNow);
  const ended = opened.ended.then((reason) => {
    mounted = false;
    process.off('exit', detachNow);
    server.close();
    opened.close();
    return reason;
  });
  return {
    dir: target,
    ended,
    async unmount() {
      if (!mounted) return;
      // Aborted, it ends also where it has been bound elsewhere, or another namespace has a copy.
      await detach(target);
      await ended;
    },
  };
}

/** Aborts what is under way and detaches, and asks the file system nothing. */
const detaching = (target: string): readonly [command: string, args: readonly string[]] =>
  isRoot() ? ['umount', ['-i', '-c', '-f', '-l', target]] : FUSERMOUNT_DETACH(target);

async function detach(target: string): Promise<void> {
  const [command, args] = detaching(target);
  await finished(spawn(command, args, { stdio: 'ignore' }));
}

/** The device itself, as root. */
async function openDevice(
  target: string,
  allowOther: boolean,
  message: (bytes: Uint8Array) => void,
  defect: ((error: unknown) => void) | undefined,
): Promise<Channel> {
  const fd = openSync(DEVICE, 'r+');
  try {
    await runMount(target, fd, allowOther);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return {
    ended: readMessages(fd, FUSE_BUFFER_SIZE, message).ended,
    send(bytes) {
      try {
        writeSync(fd, bytes);
      } catch (error) {
        // ENOENT: the request was interrupted. ENODEV: the file system is gone.
        const { code } = error as NodeJS.ErrnoException;
        if (code !== 'ENOENT' && code !== 'ENODEV') defect?.(error);
      }
    },
    close: () => closeSync(fd),
  };
}

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
    await detach(dir);
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
