import { aFunction, anObject, checkArgument } from '../arguments.ts';
import { KernelError } from '../kernel/errno.ts';
import type { FileHandle, OpenFlags } from '../kernel/trace/file-operations.ts';

/** Bytes of one write(2) that echo and shells make. */
const READ_CHUNK = 65536;

/** An open file with its position (`struct file`). */
export class OpenFile {
  readonly #handle: FileHandle;
  readonly #flags: OpenFlags;
  readonly #closed: () => void;
  #position = 0;
  #open = true;

  constructor(handle: FileHandle, flags: OpenFlags, closed: () => void) {
    checkArgument('new OpenFile()', 'handle', handle, anObject);
    checkArgument('new OpenFile()', 'flags', flags, anObject);
    checkArgument('new OpenFile()', 'closed', closed, aFunction);
    this.#handle = handle;
    this.#flags = flags;
    this.#closed = closed;
  }

  /** read(2), or pread(2) with an offset. EBADF, EINVAL; EAGAIN where it would wait. */
  read(length: number, offset?: number): Uint8Array {
    const bytes = this.#read(length, offset ?? this.#position);
    if (bytes instanceof Promise) throw new KernelError('EAGAIN', 'the read would wait');
    if (offset === undefined) this.#position += bytes.length;
    return bytes;
  }

  /** As read(); waits where there is nothing yet. */
  async readAsync(length: number): Promise<Uint8Array> {
    const bytes = await this.#read(length, this.#position);
    this.#position += bytes.length;
    return bytes;
  }

  /** pread(2) that may wait: a promise then, which `signal` ends with EINTR. The position stays. */
  readAt(offset: number, length: number, signal?: AbortSignal): Uint8Array | Promise<Uint8Array> {
    return this.#read(length, offset, signal);
  }

  #read(length: number, offset: number, signal?: AbortSignal): Uint8Array | Promise<Uint8Array> {
    if (!this.#open || !this.#flags.read) throw new KernelError('EBADF', 'the file is not open for reading');
    if (this.#handle.read === undefined) throw new KernelError('EINVAL', 'the file cannot be read');
    return this.#handle.read(offset, length, signal);
  }

  /** Up to the end, or to where a read would wait. */
  readAll(): Uint8Array {
    const parts: Uint8Array[] = [];
    let length = 0;
    for (;;) {
      let part: Uint8Array;
      try {
        part = this.read(READ_CHUNK);
      } catch (error) {
        if (error instanceof KernelError && error.code === 'EAGAIN') break;
        throw error;
      }
      if (part.length === 0) break;
      parts.push(part);
      length += part.length;
    }
    const all = new Uint8Array(length);
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }

  /** write(2): bytes taken, which may be fewer. */
  write(data: string | Uint8Array): number {
    const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : data;
    const taken = this.writeAt(this.#position, bytes);
    this.#position += taken;
    return taken;
  }

  /** pwrite(2): the position stays. */
  writeAt(offset: number, bytes: Uint8Array): number {
    if (!this.#open || !this.#flags.write) throw new KernelError('EBADF', 'the file is not open for writing');
    if (this.#handle.write === undefined) throw new KernelError('EINVAL', 'the file cannot be written');
    return this.#handle.write(bytes, offset);
  }

  /** Writes until all is taken. */
  writeAll(data: string | Uint8Array): number {
    const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : data;
    let taken = this.write(bytes);
    while (taken < bytes.length) {
      const more = this.write(bytes.subarray(taken));
      if (more === 0) break;
      taken += more;
    }
    return taken;
  }

  /** As FileHandle.poll(); files that never wait are always ready. */
  poll(wake?: () => void, reading?: boolean): boolean {
    return this.#handle.poll?.(wake, reading) ?? true;
  }

  seek(position: number): void {
    this.#position = position;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    try {
      this.#handle.release?.();
    } finally {
      this.#closed();
    }
  }
}
