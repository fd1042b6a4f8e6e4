/**
 * Whether an executable is Node: it (or a libnode it is linked with) exports Node-API. The name does not matter:
 * single executable applications and renamed binaries are Node too, and a script called `node` is not.
 */

import { closeSync, openSync, readSync } from 'node:fs';

const MARK = Buffer.from('\0napi_create_function\0');
const SHT_STRTAB = 3;
const SHF_ALLOC = 2;
const SHT_DYNSYM = 11;

/** Searches the dynamic string table of a 64-bit ELF file; undefined when it cannot be read or is no ELF file. */
export function exportsNodeApi(file: string): boolean | undefined {
  let fd: number;
  try {
    fd = openSync(file, 'r');
  } catch {
    return undefined;
  }
  try {
    const header = at(fd, 0, 64);
    if (header.length < 64 || header.readUInt32BE(0) !== 0x7f454c46 || header[4] !== 2 || header[5] !== 1)
      return undefined;
    const offset = Number(header.readBigUInt64LE(40));
    const entrySize = header.readUInt16LE(58);
    const count = header.readUInt16LE(60);
    const sections = at(fd, offset, entrySize * count);
    let table = -1;
    for (let index = 0; index < count; index++) {
      const section = sections.subarray(index * entrySize, (index + 1) * entrySize);
      if (section.length === entrySize && section.readUInt32LE(4) === SHT_DYNSYM)
        table = section.readUInt32LE(40);
    }
    const strings = sections.subarray(table * entrySize, (table + 1) * entrySize);
    if (table < 0 || strings.length < 64 || strings.readUInt32LE(4) !== SHT_STRTAB) return false;
    if ((strings.readUInt32LE(8) & SHF_ALLOC) === 0) return false;
    return contains(fd, Number(strings.readBigUInt64LE(24)), Number(strings.readBigUInt64LE(32)));
  } finally {
    closeSync(fd);
  }
}

function at(fd: number, position: number, length: number): Buffer {
  const buffer = Buffer.alloc(length);
  return buffer.subarray(0, readSync(fd, buffer, 0, length, position));
}

function contains(fd: number, position: number, length: number): boolean {
  const step = 1 << 20;
  for (let done = 0; done < length; done += step) {
    // an overlap of the mark's length, for one that lies across two pieces
    if (at(fd, position + done, Math.min(step + MARK.length, length - done)).includes(MARK)) return true;
  }
  return false;
}
