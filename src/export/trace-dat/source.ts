/** Reading with bounds: a file is looked at piece by piece, and no length in it is believed before it was held against the file's. */

import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { checkArgument, stringOf } from '../../arguments.ts';
import { TraplineError } from '../../errors.ts';
import { bytesToString } from '../../kernel/trace/byte-string.ts';
import { badFile } from './layout.ts';

/** Bytes of one piece (a section, a chunk) that are read into memory at most. */
export const PIECE_MAX = 256 << 20;
const STRING_MAX = 4096;

export interface DatSource {
  readonly size: number;
  /** Bytes from `offset` on; ETRACEDAT where the file is shorter. */
  read(offset: number, length: number): Uint8Array;
  close(): void;
}

function check(size: number, offset: number, length: number): void {
  if (!(offset >= 0 && length >= 0 && offset + length <= size))
    throw badFile(
      `the file ends at ${size}, and ${length} bytes are wanted at ${offset}`,
      'it may be truncated',
    );
  if (length > PIECE_MAX) throw badFile(`a part of ${length} bytes is more than can be read at once`);
}

export function bytesSource(bytes: Uint8Array): DatSource {
  return {
    size: bytes.length,
    read(offset, length) {
      check(bytes.length, offset, length);
      return bytes.subarray(offset, offset + length);
    },
    close: () => undefined,
  };
}

/** A file; errors of open(2) by their names. */
export function fileSource(path: string): DatSource {
  checkArgument('fileSource()', 'path', path, stringOf('a string: the path of a file'));
  let fd: number;
  let size: number;
  try {
    fd = openSync(path, 'r');
    size = fstatSync(fd).size;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'EIO';
    const what = code === 'ENOENT' ? 'there is no such file' : (error as Error).message;
    throw new TraplineError(code, `cannot read ${path}: ${what}`);
  }
  return {
    size,
    read(offset, length) {
      check(size, offset, length);
      const bytes = new Uint8Array(length);
      for (let at = 0; at < length; ) {
        const count = readSync(fd, bytes, at, length - at, offset + at);
        if (count === 0) throw badFile(`the file ends at ${offset + at}`, 'it was cut while it was read');
        at += count;
      }
      return bytes;
    },
    close: () => closeSync(fd),
  };
}

/** Reads one thing after the other. Little-endian. */
export class Cursor {
  readonly #source: DatSource;
  position: number;

  constructor(source: DatSource, position = 0) {
    this.#source = source;
    this.position = position;
  }

  get rest(): number {
    return this.#source.size - this.position;
  }

  bytes(length: number): Uint8Array {
    const bytes = this.#source.read(this.position, length);
    this.position += length;
    return bytes;
  }

  text(length: number): string {
    return bytesToString(this.bytes(length));
  }

  u8(): number {
    return this.bytes(1)[0] as number;
  }

  u16(): number {
    const bytes = this.bytes(2);
    return (bytes[0] as number) | ((bytes[1] as number) << 8);
  }

  u32(): number {
    const bytes = this.bytes(4);
    return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
  }

  u64(): bigint {
    const bytes = this.bytes(8);
    return new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true);
  }

  /** A size or an offset: ETRACEDAT where no file can be as large. */
  size(): number {
    const value = this.u64();
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw badFile(`there is a size of ${value} bytes`);
    return Number(value);
  }

  /** A text up to its NUL. */
  string(): string {
    const most = Math.min(STRING_MAX, this.rest);
    const bytes = this.#source.read(this.position, most);
    const end = bytes.indexOf(0);
    if (end < 0) throw badFile(`a text at ${this.position} has no end`);
    this.position += end + 1;
    return bytesToString(bytes.subarray(0, end));
  }
}
