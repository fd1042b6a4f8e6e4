/**
 * Symbols of scripts by content, in a folder of the user's own: listing the functions of a large application again needs no
 * parsing. `$XDG_CACHE_HOME/trapline/symbols` or `~/.cache/trapline/symbols`; TRAPLINE_SYMBOL_CACHE names another folder, `0`
 * none. Whatever fails leaves the cache out, silently.
 */
import { createHash } from 'node:crypto';
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { type ScriptSymbols, scanFunctions } from './symbols.ts';
import { type PackedSymbols, packSymbols, unpackSymbols } from './symbols-pack.ts';
import { scanInThreads } from './symbols-pool.ts';
import type { ScriptInfo } from './types.ts';

/** Changes whenever what is found in a text does. */
const FORMAT = 4;
/** Shorter texts are parsed about as fast as a file is read. */
const MIN_LENGTH = 16_384;
/** Bytes that the folder may take; the oldest files go first, when a process begins to write. */
const MAX_BYTES = 128 << 20;

/** As scanFunctions. */
export function scanCached(script: ScriptInfo, source: string, base: bigint): ScriptSymbols {
  const file = cacheFile(script, source);
  const known = file === undefined ? undefined : readSymbols(file, script, base);
  if (known !== undefined) return known;
  const scanned = scanFunctions(script, source, base);
  if (file !== undefined) writeSymbols(file, packSymbols(scanned));
  return scanned;
}

/** A script and its text. */
export interface ScriptText {
  readonly info: ScriptInfo;
  readonly source: string;
}

/**
 * As scanCached for each, but what has to be parsed is parsed in threads when it is much. Addresses count from 0 in each:
 * `place` puts a script's symbols where it is to be.
 */
export async function scanAll(scripts: readonly ScriptText[]): Promise<((base: bigint) => ScriptSymbols)[]> {
  const files = scripts.map(({ info, source }) => cacheFile(info, source));
  const packed = files.map((file) => (file === undefined ? undefined : readPacked(file)));
  const missing = [...packed.keys()].filter((i) => packed[i] === undefined);
  const found = await scanInThreads(
    missing.map((i) => ({ source: scripts[i]!.source, isModule: scripts[i]!.info.isModule })),
  );
  for (const [n, i] of missing.entries()) {
    packed[i] = found[n]!;
    const file = files[i];
    if (file !== undefined) writeSymbols(file, found[n]!);
  }
  return scripts.map(({ info, source }, i) => (base) => {
    try {
      return unpackSymbols(packed[i]!, info, base);
    } catch {
      return scanFunctions(info, source, base);
    }
  });
}

function cacheFile({ isModule }: ScriptInfo, source: string): string | undefined {
  const folder = source.length < MIN_LENGTH ? undefined : cacheFolder();
  if (folder === undefined) return undefined;
  const name = createHash('sha256').update(`${FORMAT}\0${isModule}\0`).update(source).digest('hex');
  return path.join(folder, name);
}

function readSymbols(file: string, script: ScriptInfo, base: bigint): ScriptSymbols | undefined {
  try {
    const packed = readPacked(file);
    return packed === undefined ? undefined : unpackSymbols(packed, script, base);
  } catch {
    return undefined;
  }
}

/** In a file: the number of numbers, the numbers, the strings as JSON. */
function readPacked(file: string): PackedSymbols | undefined {
  try {
    const bytes = readFileSync(file);
    const end = 4 + bytes.readUInt32LE(0) * 4;
    const strings = JSON.parse(bytes.toString('utf8', end)) as string[];
    const numbers = new Int32Array(bytes.buffer.slice(bytes.byteOffset + 4, bytes.byteOffset + end));
    return { numbers, strings, failure: undefined };
  } catch {
    return undefined;
  }
}

let trimmed = false;

function writeSymbols(file: string, { numbers, strings, failure }: PackedSymbols): void {
  if (failure !== undefined) return;
  const temporary = `${file}.${process.pid}`;
  const count = Buffer.alloc(4);
  count.writeUInt32LE(numbers.length);
  const words = Buffer.from(numbers.buffer, numbers.byteOffset, numbers.byteLength);
  try {
    if (!trimmed) trim(path.dirname(file));
    trimmed = true;
    writeFileSync(temporary, Buffer.concat([count, words, Buffer.from(JSON.stringify(strings))]), {
      mode: 0o600,
    });
    renameSync(temporary, file);
  } catch {
    // a full disk costs time at the next start, nothing else
  }
}

function trim(folder: string): void {
  const files = readdirSync(folder).map((name) => {
    const file = path.join(folder, name);
    const { size, mtimeMs } = statSync(file);
    return { file, size, mtimeMs };
  });
  let bytes = files.reduce((sum, { size }) => sum + size, 0);
  files.sort((a, b) => a.mtimeMs - b.mtimeMs);
  for (const { file, size } of files) {
    if (bytes <= MAX_BYTES) return;
    rmSync(file, { force: true });
    bytes -= size;
  }
}

let opened: { readonly folder: string | undefined } | undefined;

function cacheFolder(): string | undefined {
  opened ??= { folder: openFolder(process.env['TRAPLINE_SYMBOL_CACHE']) };
  return opened.folder;
}

function openFolder(named: string | undefined): string | undefined {
  if (named === '0') return undefined;
  try {
    const home = process.env['XDG_CACHE_HOME'] || path.join(homedir(), '.cache');
    const folder = named || path.join(home, 'trapline', 'symbols');
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const stat = lstatSync(folder);
    const uid = process.getuid?.();
    // nobody else may say what is in a script
    const own = uid === undefined || stat.uid === uid;
    return stat.isDirectory() && own && (stat.mode & 0o022) === 0 ? folder : undefined;
  } catch {
    return undefined;
  }
}
