/** Open files: reads that wait, writes, polls. */

import { ERRNO, KernelError } from '../../kernel/errno.ts';
import type { OpenFile } from '../open-file.ts';
import type { Tracefs } from '../tracefs.ts';
import { Errno } from './errno.ts';
import * as p from './protocol.ts';

interface Handle {
  readonly file: OpenFile;
  readonly nonblock: boolean;
  readonly readable: boolean;
  readonly writable: boolean;
  /** The kernel's name for who polls, once asked to be told. */
  pollers: Set<bigint>;
}

export class FuseFiles {
  readonly #fs: Tracefs;
  readonly #wake: (poller: bigint) => void;
  readonly #files = new Map<bigint, Handle>();
  /** Requests that wait, by their numbers. */
  readonly #waiting = new Map<bigint, AbortController>();

  /** `wake` tells the kernel that who polled may look again. */
  constructor(fs: Tracefs, wake: (poller: bigint) => void) {
    this.#fs = fs;
    this.#wake = wake;
  }

  get openFiles(): number {
    return this.#files.size;
  }

  open(path: string, id: bigint, view: DataView): Uint8Array {
    const flags = view.getUint32(0, true);
    const access = flags & p.O_ACCMODE;
    const readable = access !== p.O_WRONLY;
    const writable = access === p.O_WRONLY || access === p.O_RDWR;
    const nonblock = (flags & p.O_NONBLOCK) !== 0;
    const file = this.#fs.open(path, {
      read: readable,
      write: writable,
      append: (flags & p.O_APPEND) !== 0,
      truncate: (flags & p.O_TRUNC) !== 0,
      nonblock,
    });
    this.#files.set(id, { file, nonblock, readable, writable, pollers: new Set() });
    return p.openOut(id, p.FOPEN_DIRECT_IO);
  }

  #handle(view: DataView): Handle {
    const handle = this.#files.get(view.getBigUint64(0, true));
    if (handle === undefined) throw new Errno(-ERRNO.EBADF);
    return handle;
  }

  read({ unique, view }: p.FuseRequest): Uint8Array | Promise<Uint8Array> {
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

  write({ view, bytes }: p.FuseRequest): Uint8Array {
    const handle = this.#handle(view);
    const offset = Number(view.getBigUint64(8, true));
    const size = view.getUint32(16, true);
    // A copy: what is kept of it must not change with the next message.
    const data = bytes.slice(p.WRITE_IN_SIZE, p.WRITE_IN_SIZE + size);
    return p.pairOut(handle.file.writeAt(offset, data));
  }

  poll(view: DataView): Uint8Array {
    const handle = this.#handle(view);
    const poller = view.getBigUint64(8, true);
    const notify = (view.getUint32(16, true) & p.FUSE_POLL_SCHEDULE_NOTIFY) !== 0;
    let events = handle.writable ? p.POLLOUT | p.POLLWRNORM : 0;
    if (!handle.readable) return p.pairOut(events);
    const first = handle.pollers.size === 0;
    const wake =
      notify && first
        ? (): void => {
            for (const known of handle.pollers) this.#wake(known);
            handle.pollers.clear();
          }
        : undefined;
    if (handle.file.poll(wake)) events |= p.POLLIN | p.POLLRDNORM;
    else if (notify) handle.pollers.add(poller);
    return p.pairOut(events);
  }

  /** The request with this number is to wait no more. */
  interrupt(unique: bigint): void {
    this.#waiting.get(unique)?.abort();
  }

  release(id: bigint): void {
    const handle = this.#files.get(id);
    this.#files.delete(id);
    handle?.file.close();
  }

  /** Closes all; `defect` is told of what a close may not throw. */
  close(defect: (error: unknown) => void): void {
    for (const controller of this.#waiting.values()) controller.abort();
    for (const { file } of this.#files.values()) {
      try {
        file.close();
      } catch (error) {
        defect(error);
      }
    }
    this.#files.clear();
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
