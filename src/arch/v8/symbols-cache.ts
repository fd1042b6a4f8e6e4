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
import { deserialize, serialize } from 'node:v8';
import { type ScriptSymbols, scanFunctions } from './symbols.ts';
import { scriptPath } from './symbols-path.ts';
import type { FunctionSymbol, ScriptInfo } from './types.ts';

/** Changes whenever what is found in a text does. */
const FORMAT = 1;
/** Shorter texts are parsed about as fast as a file is read. */
const MIN_LENGTH = 4096;
/** Bytes that the folder may take; the oldest files go first, when a process begins to write. */
const MAX_BYTES = 128 << 20;

/** As scanFunctions. */
export function scanCached(script: ScriptInfo, source: string, base: bigint): ScriptSymbols {
  const folder = source.length < MIN_LENGTH ? undefined : cacheFolder();
  if (folder === undefined) return scanFunctions(script, source, base);
  const name = createHash('sha256').update(`${FORMAT}\0${script.isModule}\0`).update(source).digest('hex');
  const file = path.join(folder, name);
  const known = readSymbols(file, script, base);
  if (known !== undefined) return known;
  const scanned = scanFunctions(script, source, base);
  writeSymbols(folder, file, scanned);
  return scanned;
}

/** What does not depend on where the script was loaded. */
type Kept = Omit<FunctionSymbol, 'scriptId' | 'file' | 'address'>;
type Mutable = { -readonly [Key in 'scriptId' | 'file' | 'address']?: FunctionSymbol[Key] };

interface Entry {
  readonly symbols: readonly Kept[];
  readonly nameOffsets: readonly number[];
  readonly classOffsets: readonly number[];
}

function readSymbols(file: string, script: ScriptInfo, base: bigint): ScriptSymbols | undefined {
  try {
    const { symbols, nameOffsets, classOffsets } = deserialize(readFileSync(file)) as Entry;
    const { scriptId } = script;
    const fileOf = scriptPath(script.url);
    for (const symbol of symbols as (Kept & Mutable)[]) {
      symbol.scriptId = scriptId;
      symbol.file = fileOf;
      symbol.address = base + BigInt(symbol.start);
    }
    return {
      symbols: symbols as unknown as FunctionSymbol[],
      nameOffsets,
      classOffsets,
      failure: undefined,
    };
  } catch {
    return undefined;
  }
}

let trimmed = false;

function writeSymbols(folder: string, file: string, scanned: ScriptSymbols): void {
  if (scanned.failure !== undefined) return;
  const { nameOffsets, classOffsets } = scanned;
  const symbols = scanned.symbols.map(({ scriptId: _id, file: _file, address: _address, ...kept }) => kept);
  const entry: Entry = { symbols, nameOffsets, classOffsets };
  const temporary = `${file}.${process.pid}`;
  try {
    if (!trimmed) trim(folder);
    trimmed = true;
    writeFileSync(temporary, serialize(entry), { mode: 0o600 });
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
