/** Rewritten texts by content, in a folder of the user's own. A cache that cannot be used is left out, silently. */
import { createHash } from 'node:crypto';
import { lstatSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { NopScript } from '../arch/v8/instrument-nop.ts';

/** Changes whenever the rewriting does. */
const FORMAT = 3;
/** Shorter texts are rewritten faster than a file is read. */
const MIN_LENGTH = 16_384;

export interface TextCache {
  get(key: string, length: number): NopScript | undefined;
  put(key: string, length: number, script: NopScript): void;
}

const OFF: TextCache = { get: () => undefined, put() {} };

export function hashOf(...parts: readonly string[]): string {
  const hash = createHash('sha1').update(String(FORMAT));
  for (const part of parts) hash.update('\0').update(part);
  return hash.digest('hex');
}

/** `folder` is TRAPLINE_CACHE: a path, `0` for none, or empty for one in the system's temporary folder. */
export function openCache(folder: string | undefined): TextCache {
  if (folder === '0') return OFF;
  const uid = process.getuid?.();
  const path = folder || join(tmpdir(), `trapline-register-${uid ?? 'user'}`);
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    const stat = lstatSync(path);
    // Its files become code: nobody else may be able to write there
    if (!stat.isDirectory() || (uid !== undefined && stat.uid !== uid) || (stat.mode & 0o022) !== 0)
      return OFF;
  } catch {
    return OFF;
  }
  return {
    get(key, length) {
      if (length < MIN_LENGTH) return undefined;
      try {
        const text = readFileSync(join(path, key), 'utf8');
        const end = text.indexOf('\n');
        const meta = JSON.parse(text.slice(0, end)) as Omit<NopScript, 'source'> & { length: number };
        const source = text.slice(end + 1);
        return source.length === meta.length ? { ...meta, source } : undefined;
      } catch {
        return undefined;
      }
    },
    put(key, length, { source, forms, selves }) {
      if (length < MIN_LENGTH) return;
      const temporary = join(path, `${key}.${process.pid}`);
      try {
        const meta = JSON.stringify({ forms, selves, length: source.length });
        writeFileSync(temporary, `${meta}\n${source}`, { mode: 0o600 });
        renameSync(temporary, join(path, key));
      } catch {
        // A full disk costs time at the next start, nothing else
      }
    },
  };
}
