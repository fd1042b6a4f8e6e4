import { closeSync, openSync, writeSync } from 'node:fs';
import { TraplineError } from '../errors.ts';
import type { Sinks } from '../output/index.ts';

/** Bytes of text that wait at most before they are written. */
const CHUNK = 1 << 16;

/** The two streams of a printer, and how to end them. */
export interface StandardSinks extends Sinks {
  /** Writes what waits. */
  flush(): void;
  close(): void;
}

/**
 * Data to standard output or a file, progress to standard error. Data is gathered and written once a turn of the event
 * loop or when there is much of it. `onClosed` is called once, when the reader of a pipe has gone (EPIPE).
 */
export function standardSinks(file: string | undefined, onClosed: () => void): StandardSinks {
  let closed = false;
  const close = () => {
    if (closed) return;
    closed = true;
    onClosed();
  };
  const write = file === undefined ? streamWriter(process.stdout, close) : fileWriter(file);
  const report = streamWriter(process.stderr, () => {});
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
      flush();
      write.close();
    },
  };
}

interface Writer {
  write(text: string): void;
  close(): void;
}

function streamWriter(stream: NodeJS.WriteStream, onClosed: () => void): Writer {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    onClosed();
  });
  return {
    write: (text) => void stream.write(text),
    close: () => {},
  };
}

function fileWriter(file: string): Writer {
  let fd: number;
  try {
    fd = openSync(file, 'w');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new TraplineError(code ?? 'EIO', `cannot write ${file}: ${message.replace(/^\w+: /, '')}`);
  }
  return {
    write: (text) => void writeSync(fd, text),
    close: () => closeSync(fd),
  };
}
