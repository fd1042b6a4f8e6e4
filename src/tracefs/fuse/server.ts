import { ERRNO, KernelError } from '../../kernel/errno.ts';
import type { Tracefs } from '../tracefs.ts';
import { ENOSYS, ENOTTY, EPROTO, Errno } from './errno.ts';
import { FuseFiles } from './files.ts';
import * as p from './protocol.ts';
import { FuseTree } from './tree.ts';

const EIO = -ERRNO.EIO;
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
  readonly #options: FuseServerOptions;
  readonly #tree: FuseTree;
  readonly #files: FuseFiles;
  #nextHandle = 1n;
  #minor = p.FUSE_KERNEL_MINOR_VERSION;

  constructor(fs: Tracefs, options: FuseServerOptions) {
    this.#options = options;
    this.#tree = new FuseTree(fs, options);
    this.#files = new FuseFiles(fs, (poller) => this.#notifyPoll(poller));
  }

  /** Files and folders that are open now. */
  get openFiles(): number {
    return this.#files.openFiles + this.#tree.openFolders;
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
    this.#options.request?.(pid, opcode, this.#tree.nodes.path(nodeid));
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
    if (LOOKS.has(request.opcode) && isEventFolder(this.#tree.nodes.path(request.nodeid)))
      await this.#options.discover?.();
    if (FLUSHED.has(request.opcode)) await this.#options.flush?.();
    const answer = await this.#dispatchNow(request);
    if (this.#settles(request.opcode)) await this.#options.settle?.();
    return answer === NO_REPLY ? EMPTY : answer;
  }

  async #prepare({ opcode, view, bytes, nodeid }: p.FuseRequest): Promise<void> {
    const { prepare } = this.#options;
    const path = this.#tree.nodes.path(nodeid);
    if (prepare === undefined || path === undefined) return;
    if (opcode === p.OPCODE.OPEN) await prepare(path, undefined);
    if (opcode !== p.OPCODE.WRITE) return;
    const size = view.getUint32(16, true);
    await prepare(path, latin1.decode(bytes.subarray(p.WRITE_IN_SIZE, p.WRITE_IN_SIZE + size)));
  }

  /** The mount is gone: closes what is open. */
  close(): void {
    this.#files.close((error) => this.#errno(error));
    this.#tree.close();
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
        return this.#tree.entry(this.#tree.child(nodeid, nameOf(request, 0)));
      case p.OPCODE.FORGET:
        this.#tree.nodes.forget(nodeid, view.getBigUint64(0, true));
        return NO_REPLY;
      case p.OPCODE.BATCH_FORGET:
        for (let n = 0; n < view.getUint32(0, true); n++)
          this.#tree.nodes.forget(view.getBigUint64(8 + 16 * n, true), view.getBigUint64(16 + 16 * n, true));
        return NO_REPLY;
      case p.OPCODE.INTERRUPT:
        this.#files.interrupt(view.getBigUint64(0, true));
        return NO_REPLY;
      case p.OPCODE.GETATTR:
        return p.attrOut(this.#tree.attributes(this.#tree.path(nodeid)));
      case p.OPCODE.SETATTR:
        return this.#tree.setattr(nodeid, view);
      case p.OPCODE.MKDIR:
        return this.#tree.mkdir(this.#tree.child(nodeid, nameOf(request, 8)));
      case p.OPCODE.RMDIR:
        this.#tree.rmdir(this.#tree.child(nodeid, nameOf(request, 0)));
        return EMPTY;
      case p.OPCODE.UNLINK:
        this.#tree.unlink(this.#tree.child(nodeid, nameOf(request, 0)));
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
    const { opcode, view, nodeid } = request;
    switch (opcode) {
      case p.OPCODE.OPEN:
        return this.#files.open(this.#tree.path(nodeid), this.#nextHandle++, view);
      case p.OPCODE.READ:
        return this.#files.read(request);
      case p.OPCODE.WRITE:
        return this.#files.write(request);
      case p.OPCODE.POLL:
        return this.#files.poll(view);
      case p.OPCODE.RELEASE:
        this.#files.release(view.getBigUint64(0, true));
        return EMPTY;
      case p.OPCODE.OPENDIR:
        return this.#tree.opendir(nodeid, this.#nextHandle++);
      case p.OPCODE.READDIR:
        return this.#tree.readdir(view);
      case p.OPCODE.RELEASEDIR:
        this.#tree.releasedir(view.getBigUint64(0, true));
        return EMPTY;
      default:
        throw new Errno(ENOSYS);
    }
  }

  #init(view: DataView): Uint8Array {
    const major = view.getUint32(0, true);
    if (major !== p.FUSE_KERNEL_VERSION) throw new Errno(EPROTO);
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

  /** `struct fuse_notify_poll_wakeup_out`. The one who polled may be gone: that is no fault. */
  #notifyPoll(poller: bigint): void {
    const body = new Uint8Array(8);
    new DataView(body.buffer).setBigUint64(0, poller, true);
    this.#reply(0n, p.FUSE_NOTIFY_POLL, body);
  }
}

/** The name at an offset of the argument, up to its NUL. */
function nameOf({ bytes }: p.FuseRequest, offset: number): string {
  const end = bytes.indexOf(0, offset);
  return decoder.decode(bytes.subarray(offset, end < 0 ? bytes.length : end));
}
