import { closeSync, openSync, writeFileSync } from 'node:fs';
import { TraplineError } from '../errors.ts';
import type { Sinks } from '../output/index.ts';
import { cannotWrite } from './complain.ts';

/** Bytes of text that wait at most before they are written. */
const CHUNK = 1 << 16;

/** The two streams of a printer, and how to end them. */
export interface StandardSinks extends Sinks {
  /** A file could not be written (it was said): what was traced is not all there. */
  readonly failed: boolean;
  /** Writes what waits. */
  flush(): void;
  close(): void;
}

/**
 * Data to standard output or a file, progress to standard error. Data is gathered and written once a turn of the event
 * loop or when there is much of it. `onClosed` is called once, when the reader of a pipe has gone (EPIPE) or a file takes no more.
 */
export function standardSinks(file: string | undefined, onClosed: () => void): StandardSinks {
  let closed = false;
  const close = () => {
    if (closed) return;
    closed = true;
    onClosed();
  };
  // where that takes no more there is nobody to tell
  const report = streamWriter(process.stderr, () => {});
  let failed = false;
  const fail = (error: unknown) => {
    if (!closed) report.write(`ERROR: ${cannotWrite(file ?? 'standard output', error)}\n`);
    failed = true;
    close();
  };
  const write =
    file === undefined
      ? // the reader has what it wanted
        streamWriter(process.stdout, (error) => (error.code === 'EPIPE' ? close() : fail(error)))
      : fileWriter(file, fail);
  let ended = false;
  let waiting = '';
  let scheduled = false;
  const flush = () => {
    scheduled = false;
    const text = waiting;
    waiting = '';
    if (text !== '' && !closed) write.write(text);
  };
  return {
    data(text) {
      waiting += text;
      if (waiting.length >= CHUNK) flush();
      else if (!scheduled) {
        scheduled = true;
        setImmediate(flush);
      }
    },
    progress(text) {
      flush();
      report.write(text);
    },
    flush,
    close() {
      if (ended) return;
      ended = true;
      flush();
      write.close();
    },
    get failed() {
      return failed;
    },
  };
}

interface Writer {
  write(text: string): void;
  close(): void;
}

function streamWriter(stream: NodeJS.WriteStream, onFailed: (error: NodeJS.ErrnoException) => void): Writer {
  stream.on('error', onFailed);
  return {
    write: (text) => {
      try {
        stream.write(text);
      } catch (error) {
        // a file or a device is written at once
        onFailed(error as NodeJS.ErrnoException);
      }
    },
    close: () => {},
  };
}

function fileWriter(file: string, onFailed: (error: unknown) => void): Writer {
  let fd: number;
  try {
    fd = openSync(file, 'w');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new TraplineError(code ?? 'EIO', cannotWrite(file, error));
  }
  return {
    write: (text) => {
      try {
        // all of it: a device or a named pipe may take less at once
        writeFileSync(fd, text);
      } catch (error) {
        onFailed(error);
      }
    },
    close: () => closeSync(fd),
  };
}
