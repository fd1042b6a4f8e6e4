/** The FUSE protocol, version 7: numbers and layouts of include/uapi/linux/fuse.h. Everything is little-endian. */

export const FUSE_KERNEL_VERSION = 7;
/** The newest minor version whose layouts these are. */
export const FUSE_KERNEL_MINOR_VERSION = 31;
export const FUSE_ROOT_ID = 1n;

export const OPCODE = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  DESTROY: 38,
  IOCTL: 39,
  POLL: 40,
  BATCH_FORGET: 42,
  READDIRPLUS: 44,
  RENAME2: 45,
} as const;

/** Capabilities that INIT asks for. */
export const FUSE_ATOMIC_O_TRUNC = 1 << 3;
export const FUSE_BIG_WRITES = 1 << 5;
export const FUSE_DO_READDIRPLUS = 1 << 13;
export const FUSE_READDIRPLUS_AUTO = 1 << 14;
export const FUSE_PARALLEL_DIROPS = 1 << 18;
export const FUSE_MAX_PAGES = 1 << 22;

export const FOPEN_DIRECT_IO = 1;
export const FATTR_MODE = 1;
export const FATTR_UID = 2;
export const FATTR_GID = 4;
export const FUSE_POLL_SCHEDULE_NOTIFY = 1;
export const FUSE_NOTIFY_POLL = 1;

/** open(2) on x86-64 and arm64. */
export const O_ACCMODE = 3;
export const O_WRONLY = 1;
export const O_RDWR = 2;
export const O_TRUNC = 0o1000;
export const O_APPEND = 0o2000;
export const O_NONBLOCK = 0o4000;

export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;
export const DT_DIR = 4;
export const DT_REG = 8;

/** poll(2) */
export const POLLIN = 1;
export const POLLOUT = 4;
export const POLLRDNORM = 0x40;
export const POLLWRNORM = 0x100;

export const IN_HEADER_SIZE = 40;
export const OUT_HEADER_SIZE = 16;
export const WRITE_IN_SIZE = 40;
const ATTR_SIZE = 88;
const ENTRY_OUT_SIZE = 40 + ATTR_SIZE;
const DIRENT_SIZE = 24;
const BLOCK_SIZE = 4096;

/** A request as the kernel sends it (`struct fuse_in_header` and its argument). */
export interface FuseRequest {
  readonly opcode: number;
  readonly unique: bigint;
  readonly nodeid: bigint;
  readonly uid: number;
  readonly gid: number;
  /** The thread that waits for the answer; 0 where it is in no namespace that can be named. */
  readonly pid: number;
  readonly view: DataView;
  readonly bytes: Uint8Array;
}

/** The parts of a message from /dev/fuse: header off, argument in `view` and `bytes`. Undefined where it is cut. */
export function parseRequest(message: Uint8Array): FuseRequest | undefined {
  if (message.length < IN_HEADER_SIZE) return undefined;
  const head = new DataView(message.buffer, message.byteOffset, message.length);
  if (head.getUint32(0, true) !== message.length) return undefined;
  const bytes = message.subarray(IN_HEADER_SIZE);
  return {
    opcode: head.getUint32(4, true),
    unique: head.getBigUint64(8, true),
    nodeid: head.getBigUint64(16, true),
    uid: head.getUint32(24, true),
    gid: head.getUint32(28, true),
    pid: head.getUint32(32, true),
    bytes,
    view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length),
  };
}

/** An answer: `error` is 0 or a negative errno. Notifications have unique 0 and their code as `error`. */
export function encodeReply(unique: bigint, error: number, body: Uint8Array): Uint8Array {
  const message = new Uint8Array(OUT_HEADER_SIZE + body.length);
  const view = new DataView(message.buffer);
  view.setUint32(0, message.length, true);
  view.setInt32(4, error, true);
  view.setBigUint64(8, unique, true);
  message.set(body, OUT_HEADER_SIZE);
  return message;
}

/** What stat(2) shows. */
export interface FuseAttributes {
  readonly ino: bigint;
  /** Type and permissions. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  /** Milliseconds. */
  readonly time: number;
}

function putAttributes(view: DataView, at: number, attributes: FuseAttributes): void {
  const seconds = BigInt(Math.floor(attributes.time / 1000));
  view.setBigUint64(at, attributes.ino, true);
  for (const offset of [24, 32, 40]) view.setBigUint64(at + offset, seconds, true);
  view.setUint32(at + 60, attributes.mode, true);
  view.setUint32(at + 64, attributes.nlink, true);
  view.setUint32(at + 68, attributes.uid, true);
  view.setUint32(at + 72, attributes.gid, true);
  view.setUint32(at + 80, BLOCK_SIZE, true);
}

/** `struct fuse_attr_out`, for no time valid. */
export function attrOut(attributes: FuseAttributes): Uint8Array {
  const out = new Uint8Array(16 + ATTR_SIZE);
  putAttributes(new DataView(out.buffer), 16, attributes);
  return out;
}

/** `struct fuse_entry_out`, for no time valid: the tree changes by itself. */
export function entryOut(nodeid: bigint, attributes: FuseAttributes): Uint8Array {
  const out = new Uint8Array(ENTRY_OUT_SIZE);
  const view = new DataView(out.buffer);
  view.setBigUint64(0, nodeid, true);
  putAttributes(view, 40, attributes);
  return out;
}

/** `struct fuse_open_out` */
export function openOut(handle: bigint, flags: number): Uint8Array {
  const out = new Uint8Array(16);
  const view = new DataView(out.buffer);
  view.setBigUint64(0, handle, true);
  view.setUint32(8, flags, true);
  return out;
}

/** Two 32-bit numbers: `fuse_write_out`, `fuse_poll_out`. */
export function pairOut(value: number): Uint8Array {
  const out = new Uint8Array(8);
  new DataView(out.buffer).setUint32(0, value, true);
  return out;
}

/** `struct fuse_init_out` of 64 bytes. */
export function initOut(options: {
  readonly minor: number;
  readonly maxReadahead: number;
  readonly flags: number;
  readonly maxBackground: number;
  readonly maxWrite: number;
}): Uint8Array {
  const out = new Uint8Array(64);
  const view = new DataView(out.buffer);
  view.setUint32(0, FUSE_KERNEL_VERSION, true);
  view.setUint32(4, options.minor, true);
  view.setUint32(8, options.maxReadahead, true);
  view.setUint32(12, options.flags, true);
  view.setUint16(16, options.maxBackground, true);
  view.setUint16(18, options.maxBackground, true);
  view.setUint32(20, options.maxWrite, true);
  view.setUint32(24, 1, true);
  view.setUint16(28, options.maxWrite / BLOCK_SIZE, true);
  return out;
}

/** `struct fuse_statfs_out`: no blocks, no files, names of up to 255 bytes. */
export function statfsOut(): Uint8Array {
  const out = new Uint8Array(80);
  const view = new DataView(out.buffer);
  view.setUint32(40, BLOCK_SIZE, true);
  view.setUint32(44, 255, true);
  view.setUint32(48, BLOCK_SIZE, true);
  return out;
}

export interface Dirent {
  readonly ino: bigint;
  readonly name: string;
  readonly isDirectory: boolean;
}

/** `struct fuse_dirent`s from `offset` on, as many as fit into `size` bytes. Offsets are places in the list, from 1. */
export function direntsOut(entries: readonly Dirent[], offset: number, size: number): Uint8Array {
  const out = new Uint8Array(size);
  const view = new DataView(out.buffer);
  let at = 0;
  for (let index = offset; index < entries.length; index++) {
    const entry = entries[index]!;
    const name = new TextEncoder().encode(entry.name);
    const length = (DIRENT_SIZE + name.length + 7) & ~7;
    if (at + length > size) break;
    view.setBigUint64(at, entry.ino, true);
    view.setBigUint64(at + 8, BigInt(index + 1), true);
    view.setUint32(at + 16, name.length, true);
    view.setUint32(at + 20, entry.isDirectory ? DT_DIR : DT_REG, true);
    out.set(name, at + DIRENT_SIZE);
    at += length;
  }
  return out.subarray(0, at);
}
