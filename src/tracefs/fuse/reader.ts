import { Worker } from 'node:worker_threads';

/**
 * The thread that waits in read(2) of /dev/fuse, so that no thread of the pool is taken: whoever reads the mount in this same
 * process may need them all. It ends when the file system is gone (ENODEV), and says so.
 */
const READER_TEXT = `
const { readSync } = require('node:fs');
const { parentPort, workerData: { fd, size } } = require('node:worker_threads');
const buffer = Buffer.allocUnsafeSlow(size);
let end;
while (end === undefined) {
  try {
    const length = readSync(fd, buffer, 0, size, null);
    if (length === 0) end = 'EOF';
    else {
      const message = new Uint8Array(length);
      message.set(buffer.subarray(0, length));
      parentPort.postMessage(message, [message.buffer]);
    }
  } catch (error) {
    // ENOENT: a request was withdrawn before it could be read.
    if (!['EINTR', 'EAGAIN', 'ENOENT'].includes(error.code)) end = error.code ?? 'EIO';
  }
}
parentPort.postMessage(end);
`;

export interface Reader {
  /** Resolves with the reason when nothing more comes: `ENODEV` for an unmount. */
  readonly ended: Promise<string>;
}

/** Reads messages of at most `size` bytes from `fd` in a thread of its own, and hands each on. */
export function readMessages(fd: number, size: number, message: (bytes: Uint8Array) => void): Reader {
  const worker = new Worker(READER_TEXT, { eval: true, workerData: { fd, size }, execArgv: [] });
  const ended = new Promise<string>((resolve) => {
    worker.on('message', (value: Uint8Array | string) => {
      if (typeof value === 'string') resolve(value);
      else message(value);
    });
    worker.on('error', (error) => resolve(error.message));
    worker.on('exit', () => resolve('EOF'));
  });
  return { ended };
}
