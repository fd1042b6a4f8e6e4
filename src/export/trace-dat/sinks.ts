/** A trace.dat in memory, or in a file. */

import { closeSync, openSync, writeSync } from 'node:fs';
import { checkArgument, stringOf } from '../../arguments.ts';
import { TraplineError } from '../../errors.ts';
import type { DatSink } from './writer.ts';

/** Bytes that are gathered before they are written. */
const BATCH = 1 << 20;

export class MemorySink implements DatSink {
  #bytes = new Uint8Array(1 << 16);
  position = 0;

  append(bytes: Uint8Array): void {
    const end = this.position + bytes.length;
    if (end > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(end, 2 * this.#bytes.length));
      grown.set(this.#bytes.subarray(0, this.position));
      this.#bytes = grown;
    }
    this.#bytes.set(bytes, this.position);
    this.position = end;
  }

  patch(offset: number, bytes: Uint8Array): void {
    this.#bytes.set(bytes, offset);
  }

  bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.position);
  }
}

export class FileSink implements DatSink {
  readonly #fd: number;
  readonly #path: string;
  readonly #batch = new Uint8Array(BATCH);
  #waiting = 0;
  #written = 0;

  /** Errors of open(2) by their names. */
  constructor(path: string) {
    checkArgument('new FileSink()', 'path', path, stringOf('a string: the path of a file'));
    this.#path = path;
    this.#fd = this.#guard(() => openSync(path, 'w'));
  }

  get position(): number {
    return this.#written + this.#waiting;
  }

  append(bytes: Uint8Array): void {
    if (this.#waiting + bytes.length > BATCH) this.flush();
    if (bytes.length > BATCH) {
      this.#put(bytes, this.#written);
      this.#written += bytes.length;
      return;
    }
    this.#batch.set(bytes, this.#waiting);
    this.#waiting += bytes.length;
  }

  patch(offset: number, bytes: Uint8Array): void {
    this.flush();
    this.#put(bytes, offset);
  }

  flush(): void {
    if (this.#waiting === 0) return;
    this.#put(this.#batch.subarray(0, this.#waiting), this.#written);
    this.#written += this.#waiting;
    this.#waiting = 0;
  }

  close(): void {
    try {
      this.flush();
    } finally {
      closeSync(this.#fd);
    }
  }

  #put(bytes: Uint8Array, offset: number): void {
    for (let at = 0; at < bytes.length; )
      at += this.#guard(() => writeSync(this.#fd, bytes, at, bytes.length - at, offset + at));
  }

  #guard<T>(run: () => T): T {
    try {
      return run();
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? 'EIO';
      throw new TraplineError(code, `cannot write ${this.#path}: ${(error as Error).message}`);
    }
  }
}
