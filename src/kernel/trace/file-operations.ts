import { KernelError } from '../errno.ts';

/** How a file was opened (fcntl). */
export interface OpenFlags {
  readonly read: boolean;
  readonly write: boolean;
  readonly append: boolean;
  readonly truncate: boolean;
  readonly nonblock: boolean;
}

/** An open file (`struct file`). Methods refuse with a KernelError. */
export interface FileHandle {
  /**
   * Bytes from `offset` on, at most `length`; empty at the end. A promise where the reader has to wait (trace_pipe): `signal` ends
   * the wait with EINTR, and takes nothing.
   */
  read?(offset: number, length: number, signal?: AbortSignal): Uint8Array | Promise<Uint8Array>;
  /** Bytes taken, which may be fewer than given. */
  write?(data: Uint8Array, offset: number): number;
  /**
   * Whether poll(2) says that there is something to read. If not, `wake` is called once when that may have changed. A buffer has to be
   * filled to its watermark for that; with `reading`, a record is enough, as for read(2).
   */
  poll?(wake?: () => void, reading?: boolean): boolean;
  release?(): void;
}

/** A file of tracefs (`struct file_operations` and its mode). */
export interface FileOps {
  /** Permission bits, 0o444 for example. */
  readonly mode: number;
  open(flags: OpenFlags): FileHandle;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export interface TextFileOptions {
  readonly mode: number;
  /** The whole content, made at the first read of an open file (a seq_file). */
  readonly show?: () => string;
  /** One write of at most a page; answers with the bytes taken (all, when undefined). */
  readonly store?: (text: string, bytes: number, flags: OpenFlags) => number | undefined;
  /** So many bytes of a write are looked at, where `store` takes a word of it only; the writer comes again with the rest. */
  readonly most?: number;
  /** The file was opened for writing with O_TRUNC. */
  readonly truncate?: () => void;
}

/** A file whose content is a text: what most files of tracefs are. */
export function textFile(options: TextFileOptions): FileOps {
  return {
    mode: options.mode,
    open(flags) {
      if (flags.write && flags.truncate) options.truncate?.();
      let content: Uint8Array | undefined;
      return {
        read(offset, length) {
          if (options.show === undefined) throw new KernelError('EINVAL', 'the file cannot be read');
          if (content === undefined || offset === 0) content = encoder.encode(options.show());
          return content.subarray(offset, offset + length);
        },
        write(data) {
          if (options.store === undefined) throw new KernelError('EINVAL', 'the file cannot be written');
          const seen = options.most === undefined ? data : data.subarray(0, options.most);
          return options.store(decoder.decode(seen), seen.length, flags) ?? seen.length;
        },
      };
    },
  };
}
