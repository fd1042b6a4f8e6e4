import { ERRNO, KernelError } from '../../kernel/errno.ts';
import type { OpenFile } from '../open-file.ts';
import type { Tracefs } from '../tracefs.ts';
import { NodeTable, type Ownership } from './nodes.ts';
import * as p from './protocol.ts';

const EIO = -ERRNO.EIO;
const ENOSYS = -38;
const ENOTTY = -25;
const EMPTY = new Uint8Array();
const MAX_WRITE = 1 << 20;
/** Answers to RELEASE and the like that the kernel does not wait for. */
const MAX_BACKGROUND = 256;
const decoder = new TextDecoder();
const latin1 = new TextDecoder('latin1');

/** The bytes that the reader of /dev/fuse has to offer room for. */
export const FUSE_BUFFER_SIZE = MAX_WRITE + 4096;

export interface FuseServerOptions {
  /** Sends a message to the kernel. */
  readonly send: (message: Uint8Array) => void;
  /** Told right before every request is handled by whose thread it is made, which one it is (OPCODE), and of what. */
  readonly request?: (pid: number, opcode: number, path: string | undefined) => void;
  /** What has to be known before a file is opened for reading, or before a text (bytes as characters of latin1) is written. */
  readonly prepare?: (path: string, text: string | undefined) => Promise<void>;
  /** Before a name is looked up, or names are listed, among events: they may have come or gone. */
  readonly discover?: () => Promise<void>;
  /** Brings up to date what files show, before one is opened, read or written. */
  readonly flush?: () => Promise<void>;
  /** Waits until what was written has happened; rejects with the refusal that the writer is to get. */
  readonly settle?: () => Promise<void>;
  /** Who owns everything; 0 where not given. */
  readonly uid?: number;
  readonly gid?: number;
  /** Told of errors that no request may cause; they are answered with EIO. */
  readonly defect?: (error: unknown) => void;
}

interface Handle {
  readonly file: OpenFile;
  readonly nonblock: boolean;
  readonly readable: boolean;
  readonly writable: boolean;
  /** The kernel's name for who polls, once asked to be told. */
  pollers: Set<bigint>;
}

class Errno extends Error {
  readonly errno: number;
  constructor(errno: number) {
    super(`errno ${errno}`);
    this.errno = errno;
  }
}

/** Requests before which what is recorded is brought in, and those after which what they asked for is waited for. */
const FLUSHED = new Set<number>([p.OPCODE.OPEN, p.OPCODE.READ, p.OPCODE.WRITE]);
const CHANGES = new Set<number>([p.OPCODE.OPEN, p.OPCODE.WRITE, p.OPCODE.MKDIR, p.OPCODE.RMDIR]);

/** What looks at the names in a folder. */
const LOOKS = new Set<number>([p.OPCODE.LOOKUP, p.OPCODE.OPENDIR]);

function isEventFolder(path: string | undefined): boolean {
  return path !== undefined && /(?:^|\/)events(?:\/|$)/.test(path);
}

/** Answered already, later, or never. */
const NO_REPLY = Symbol('no reply');
type Answer = Uint8Array | typeof NO_REPLY | Promise<Uint8Array>;

/** Serves a Tracefs through the FUSE protocol: `handle()` takes what /dev/fuse gives, `send` what it is answered. */
export class FuseServer {
  readonly #fs: Tracefs;
  readonly #options: FuseServerOptions;
  readonly #nodes = new NodeTable();
  readonly #files = new Map<bigint, Handle>();
  readonly #folders = new Map<bigint, { readonly path: string; entries: p.Dirent[] | undefined }>();
  /** Requests that wait, by their numbers. */
  readonly #waiting = new Map<bigint, AbortController>();
  readonly #started = Date.now();
  #nextHandle = 1n;
  #minor = p.FUSE_KERNEL_MINOR_VERSION;

  constructor(fs: Tracefs, options: FuseServerOptions) {
    this.#fs = fs;
    this.#options = options;
  }

  /** Files and folders that are open now. */
  get openFiles(): number {
    return this.#files.size + this.#folders.size;
  }

  /** Handles one message. Never throws. */
  handle(message: Uint8Array): void {
    const request = p.parseRequest(message);
    if (request === undefined) return;
    const { unique } = request;
    try {
      const answer = this.#waits(request.opcode) ? this.#dispatchLater(request) : this.#dispatchNow(request);
      if (answer === NO_REPLY) return;
      if (answer instanceof Promise)
        answer.then(
          (body) => this.#reply(unique, 0, body),
          (error) => this.#reply(unique, this.#errno(error), EMPTY),
        );
      else this.#reply(unique, 0, answer);
    } catch (error) {
      this.#reply(unique, this.#errno(error), EMPTY);
    }
  }

  #dispatchNow(request: p.FuseRequest): Answer {
    const { pid, opcode, nodeid } = request;
    this.#options.request?.(pid, opcode, this.#nodes.path(nodeid));
    return this.#dispatch(request);
  }

  #waits(opcode: number): boolean {
    const { flush, prepare, discover } = this.#options;
    if (discover !== undefined && LOOKS.has(opcode)) return true;
    return ((flush ?? prepare) !== undefined && FLUSHED.has(opcode)) || this.#settles(opcode);
  }

  #settles(opcode: number): boolean {
    return this.#options.settle !== undefined && CHANGES.has(opcode);
  }

  async #dispatchLater(request: p.FuseRequest): Promise<Uint8Array> {
    await this.#prepare(request);
    if (LOOKS.has(request.opcode) && isEventFolder(this.#nodes.path(request.nodeid)))
      await this.#options.discover?.();
    if (FLUSHED.has(request.opcode)) await this.#options.flush?.();
    const answer = await this.#dispatchNow(request);
    if (this.#settles(request.opcode)) await this.#options.settle?.();
    return answer === NO_REPLY ? EMPTY : answer;
  }

  async #prepare({ opcode, view, bytes, nodeid }: p.FuseRequest): Promise<void> {
    const { prepare } = this.#options;
    const path = this.#nodes.path(nodeid);
    if (prepare === undefined || path === undefined) return;
    if (opcode === p.OPCODE.OPEN) await prepare(path, undefined);
    if (opcode !== p.OPCODE.WRITE) return;
    const size = view.getUint32(16, true);
    await prepare(path, latin1.decode(bytes.subarray(p.WRITE_IN_SIZE, p.WRITE_IN_SIZE + size)));
  }

  /** The mount is gone: closes what is open. */
  close(): void {
    for (const controller of this.#waiting.values()) controller.abort();
    for (const { file } of this.#files.values()) {
      try {
        file.close();
      } catch (error) {
        this.#errno(error);
      }
    }
    this.#files.clear();
    this.#folders.clear();
  }

  #reply(unique: bigint, error: number, body: Uint8Array): void {
    this.#options.send(p.encodeReply(unique, error, body));
  }

  #errno(error: unknown): number {
    // /dev/fuse takes no numbers from 512 on.
    if (error instanceof KernelError) return error.errno <= -512 ? -ERRNO.EOPNOTSUPP : error.errno;
    if (error instanceof Errno) return error.errno;
    this.#options.defect?.(error);
    return EIO;
  }

  #dispatch(request: p.FuseRequest): Answer {
    const { opcode, view, nodeid } = request;
    switch (opcode) {
      case p.OPCODE.INIT:
        return this.#init(view);
      case p.OPCODE.DESTROY:
        this.close();
        return EMPTY;
      case p.OPCODE.LOOKUP:
        return this.#entry(this.#child(nodeid, nameOf(request, 0)));
      case p.OPCODE.FORGET:
        this.#nodes.forget(nodeid, view.getBigUint64(0, true));
        return NO_REPLY;
      case p.OPCODE.BATCH_FORGET:
        for (let n = 0; n < view.getUint32(0, true); n++)
          this.#nodes.forget(view.getBigUint64(8 + 16 * n, true), view.getBigUint64(16 + 16 * n, true));
        return NO_REPLY;
      case p.OPCODE.INTERRUPT:
        this.#waiting.get(view.getBigUint64(0, true))?.abort();
        return NO_REPLY;
      case p.OPCODE.GETATTR:
        return p.attrOut(this.#attributes(this.#path(nodeid)));
      case p.OPCODE.SETATTR:
        return this.#setattr(nodeid, view);
      case p.OPCODE.MKDIR: {
        const path = this.#child(nodeid, nameOf(request, 8));
        this.#fs.mkdir(path);
        return this.#entry(path);
      }
      case p.OPCODE.RMDIR: {
        const path = this.#child(nodeid, nameOf(request, 0));
        this.#fs.rmdir(path);
        this.#nodes.remove(path);
        return EMPTY;
      }
      case p.OPCODE.UNLINK:
        this.#fs.unlink(this.#child(nodeid, nameOf(request, 0)));
        return EMPTY;
      case p.OPCODE.CREATE:
        throw new Errno(-ERRNO.EACCES);
      case p.OPCODE.MKNOD:
      case p.OPCODE.SYMLINK:
      case p.OPCODE.LINK:
      case p.OPCODE.RENAME:
      case p.OPCODE.RENAME2:
        throw new Errno(-ERRNO.EPERM);
      case p.OPCODE.ACCESS:
      case p.OPCODE.FLUSH:
        // The kernel checks modes itself, and a flush means nothing: it need not ask again.
        throw new Errno(ENOSYS);
      case p.OPCODE.FSYNC:
      case p.OPCODE.FSYNCDIR:
        throw new Errno(-ERRNO.EINVAL);
      case p.OPCODE.IOCTL:
        throw new Errno(ENOTTY);
      case p.OPCODE.STATFS:
        return p.statfsOut();
      default:
        return this.#dispatchFile(request);
    }
  }

  #dispatchFile(request: p.FuseRequest): Answer {
    const { opcode, view } = request;
    switch (opcode) {
      case p.OPCODE.OPEN:
        return this.#open(request);
      case p.OPCODE.READ:
        return this.#read(request);
      case p.OPCODE.WRITE:
        return this.#write(request);
      case p.OPCODE.POLL:
        return this.#poll(view);
      case p.OPCODE.RELEASE: {
        const id = view.getBigUint64(0, true);
        const handle = this.#files.get(id);
        this.#files.delete(id);
        handle?.file.close();
        return EMPTY;
      }
      case p.OPCODE.OPENDIR: {
        const path = this.#path(request.nodeid);
        if (!this.#fs.stat(path).isDirectory) throw new Errno(-ERRNO.ENOTDIR);
        this.#folders.set(this.#nextHandle, { path, entries: undefined });
        return p.openOut(this.#nextHandle++, 0);
      }
      case p.OPCODE.READDIR:
        return this.#readdir(view);
      case p.OPCODE.RELEASEDIR:
        this.#folders.delete(view.getBigUint64(0, true));
        return EMPTY;
      default:
        throw new Errno(ENOSYS);
    }
  }

  #init(view: DataView): Uint8Array {
    const major = view.getUint32(0, true);
    if (major !== p.FUSE_KERNEL_VERSION) throw new Errno(-71);
    this.#minor = Math.min(view.getUint32(4, true), p.FUSE_KERNEL_MINOR_VERSION);
    const offered = view.getUint32(12, true);
    const wanted = p.FUSE_ATOMIC_O_TRUNC | p.FUSE_BIG_WRITES | p.FUSE_MAX_PAGES | p.FUSE_PARALLEL_DIROPS;
    return p.initOut({
      minor: this.#minor,
      maxReadahead: view.getUint32(8, true),
      flags: offered & wanted,
      maxBackground: MAX_BACKGROUND,
      maxWrite: MAX_WRITE,
    });
  }

  #path(nodeid: bigint): string {
    const path = this.#nodes.path(nodeid);
    if (path === undefined) throw new Errno(-ERRNO.ESTALE);
    return path;
  }

  #child(nodeid: bigint, name: string): string {
    const parent = this.#path(nodeid);
    return parent === '' ? name : `${parent}/${name}`;
  }

  #attributes(path: string): p.FuseAttributes {
    const stat = this.#fs.stat(path);
    const own: Ownership = this.#nodes.ownership(path) ?? {};
    return {
      ino: path === '' ? p.FUSE_ROOT_ID : this.#nodes.inode(path),
      mode: (stat.isDirectory ? p.S_IFDIR : p.S_IFREG) | (own.mode ?? stat.mode),
      uid: own.uid ?? this.#options.uid ?? 0,
      gid: own.gid ?? this.#options.gid ?? 0,
      // A folder with one link is one whose children are not counted.
      nlink: 1,
      time: this.#started,
    };
  }

  #entry(path: string): Uint8Array {
    this.#fs.stat(path);
    const id = this.#nodes.lookup(path);
    return p.entryOut(id, this.#attributes(path));
  }

  /** chmod(2) and chown(2) are kept; a size or a time means nothing here. */
  #setattr(nodeid: bigint, view: DataView): Uint8Array {
    const path = this.#path(nodeid);
    const valid = view.getUint32(0, true);
    const change: Ownership = {};
    if ((valid & p.FATTR_MODE) !== 0) change.mode = view.getUint32(68, true) & 0o7777;
    if ((valid & p.FATTR_UID) !== 0) change.uid = view.getUint32(76, true);
    if ((valid & p.FATTR_GID) !== 0) change.gid = view.getUint32(80, true);
    const attributes = this.#attributes(path);
    if (Object.keys(change).length === 0) return p.attrOut(attributes);
    this.#nodes.setOwnership(path, change);
    return p.attrOut(this.#attributes(path));
  }

  #open({ nodeid, view }: p.FuseRequest): Uint8Array {
    const flags = view.getUint32(0, true);
    const access = flags & p.O_ACCMODE;
    const readable = access !== p.O_WRONLY;
    const writable = access === p.O_WRONLY || access === p.O_RDWR;
    const nonblock = (flags & p.O_NONBLOCK) !== 0;
    const file = this.#fs.open(this.#path(nodeid), {
      read: readable,
      write: writable,
      append: (flags & p.O_APPEND) !== 0,
      truncate: (flags & p.O_TRUNC) !== 0,
      nonblock,
    });
    const id = this.#nextHandle++;
    this.#files.set(id, { file, nonblock, readable, writable, pollers: new Set() });
    return p.openOut(id, p.FOPEN_DIRECT_IO);
  }

  #handle(view: DataView): Handle {
    const handle = this.#files.get(view.getBigUint64(0, true));
    if (handle === undefined) throw new Errno(-ERRNO.EBADF);
    return handle;
  }

  #read({ unique, view }: p.FuseRequest): Answer {
    const handle = this.#handle(view);
    const offset = Number(view.getBigUint64(8, true));
    const length = view.getUint32(16, true);
    // fcntl(2) may have changed how the file waits since it was opened.
    const nonblock = (view.getUint32(32, true) & p.O_NONBLOCK) !== 0;
    const controller = new AbortController();
    let result: Uint8Array | Promise<Uint8Array>;
    try {
      result = handle.file.readAt(offset, length, controller.signal);
    } catch (error) {
      const waits = error instanceof KernelError && error.code === 'EAGAIN' && handle.nonblock && !nonblock;
      if (!waits) throw error;
      result = readLater(handle.file, offset, length, controller.signal);
    }
    if (!(result instanceof Promise)) return bounded(result, length);
    if (nonblock) {
      result.catch(() => {});
      controller.abort();
      throw new Errno(-ERRNO.EAGAIN);
    }
    this.#waiting.set(unique, controller);
    return result.then((bytes) => bounded(bytes, length)).finally(() => this.#waiting.delete(unique));
  }

  #write({ view, bytes }: p.FuseRequest): Uint8Array {
    const handle = this.#handle(view);
    const offset = Number(view.getBigUint64(8, true));
    const size = view.getUint32(16, true);
    // A copy: what is kept of it must not change with the next message.
    const data = bytes.slice(p.WRITE_IN_SIZE, p.WRITE_IN_SIZE + size);
    return p.pairOut(handle.file.writeAt(offset, data));
  }

  #poll(view: DataView): Uint8Array {
    const handle = this.#handle(view);
    const poller = view.getBigUint64(8, true);
    const notify = (view.getUint32(16, true) & p.FUSE_POLL_SCHEDULE_NOTIFY) !== 0;
    let events = handle.writable ? p.POLLOUT | p.POLLWRNORM : 0;
    if (!handle.readable) return p.pairOut(events);
    const first = handle.pollers.size === 0;
    const wake =
      notify && first
        ? (): void => {
            for (const known of handle.pollers) this.#notifyPoll(known);
            handle.pollers.clear();
          }
        : undefined;
    if (handle.file.poll(wake)) events |= p.POLLIN | p.POLLRDNORM;
    else if (notify) handle.pollers.add(poller);
    return p.pairOut(events);
  }

  /** `struct fuse_notify_poll_wakeup_out`. The one who polled may be gone: that is no fault. */
  #notifyPoll(poller: bigint): void {
    const body = new Uint8Array(8);
    new DataView(body.buffer).setBigUint64(0, poller, true);
    this.#reply(0n, p.FUSE_NOTIFY_POLL, body);
  }

  #readdir(view: DataView): Uint8Array {
    const folder = this.#folders.get(view.getBigUint64(0, true));
    if (folder === undefined) throw new Errno(-ERRNO.EBADF);
    const offset = Number(view.getBigUint64(8, true));
    // Listed anew from the start: rewinddir(3).
    if (offset === 0 || folder.entries === undefined) folder.entries = this.#list(folder.path);
    return p.direntsOut(folder.entries, offset, view.getUint32(16, true));
  }

  #list(path: string): p.Dirent[] {
    const below = (name: string): string => (path === '' ? name : `${path}/${name}`);
    const entries: p.Dirent[] = [
      { ino: this.#nodes.inode(path), name: '.', isDirectory: true },
      { ino: 0xffff_ffffn, name: '..', isDirectory: true },
    ];
    for (const name of this.#fs.readdir(path)) {
      try {
        const { isDirectory } = this.#fs.stat(below(name));
        entries.push({ ino: this.#nodes.inode(below(name)), name, isDirectory });
      } catch (error) {
        // Gone since it was listed.
        if (!(error instanceof KernelError)) throw error;
      }
    }
    return entries;
  }
}

/** Reads when there is something, from a file that was opened not to wait. */
async function readLater(
  file: OpenFile,
  offset: number,
  length: number,
  signal: AbortSignal,
): Promise<Uint8Array> {
  for (;;) {
    await new Promise<void>((resolve, reject) => {
      signal.addEventListener('abort', () => reject(new KernelError('EINTR', 'the reader was interrupted')));
      if (file.poll(resolve, true)) resolve();
    });
    try {
      return await file.readAt(offset, length, signal);
    } catch (error) {
      if (!(error instanceof KernelError) || error.code !== 'EAGAIN') throw error;
    }
  }
}

function bounded(bytes: Uint8Array, length: number): Uint8Array {
  return bytes.length > length ? bytes.subarray(0, length) : bytes;
}

/** The name at an offset of the argument, up to its NUL. */
function nameOf({ bytes }: p.FuseRequest, offset: number): string {
  const end = bytes.indexOf(0, offset);
  return decoder.decode(bytes.subarray(offset, end < 0 ? bytes.length : end));
}
