/** A spool in a file beside the one that is made, as trace-cmd has them (`trace.dat.cpu0`). */

import { closeSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { checkArgument, stringOf } from '../../arguments.ts';
import { TraplineError } from '../../errors.ts';
import type { PageSpool } from './recorder.ts';

/** Bytes that are gathered before they are written. */
const BATCH = 256 << 10;

/** Errors of the file system by their names. */
export function fileSpool(path: string): PageSpool {
  checkArgument('fileSpool()', 'path', path, stringOf('a string: the path of a file'));
  const guard = <T>(run: () => T): T => {
    try {
      return run();
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? 'EIO';
      throw new TraplineError(code, `cannot write ${path}: ${(error as Error).message}`);
    }
  };
  const fd = guard(() => openSync(path, 'w+'));
  const batch = new Uint8Array(BATCH);
  let waiting = 0;
  let size = 0;
  let open = true;
  const put = (bytes: Uint8Array): void => {
    for (let at = 0; at < bytes.length; )
      at += guard(() => writeSync(fd, bytes, at, bytes.length - at, size + at));
    size += bytes.length;
  };
  const flush = (): void => {
    put(batch.subarray(0, waiting));
    waiting = 0;
  };
  return {
    append(page) {
      if (waiting + page.length > BATCH) flush();
      if (page.length > BATCH) return put(page);
      batch.set(page, waiting);
      waiting += page.length;
    },
    *pieces() {
      flush();
      for (let at = 0; at < size; ) {
        const piece = new Uint8Array(Math.min(BATCH, size - at));
        const count = guard(() => readSync(fd, piece, 0, piece.length, at));
        if (count === 0) throw new TraplineError('EIO', `${path} became shorter`);
        at += count;
        yield piece.subarray(0, count);
      }
    },
    remove() {
      if (!open) return;
      open = false;
      closeSync(fd);
      rmSync(path, { force: true });
    },
  };
}
