/** The compression of version 7: by name, as the file's head has it. */
import zlib from 'node:zlib';
import { TraplineError } from '../../errors.ts';
import { badFile } from './layout.ts';

export const COMPRESSIONS = ['none', 'zlib', 'zstd'] as const;
export type CompressionName = (typeof COMPRESSIONS)[number];

export interface Compression {
  readonly name: CompressionName;
  /** Of the library, as the file says it. */
  readonly version: string;
  compress(bytes: Uint8Array): Uint8Array;
  /** Exactly `size` bytes, or ETRACEDAT. */
  uncompress(bytes: Uint8Array, size: number): Uint8Array;
}

interface ZstdFunctions {
  readonly zstdCompressSync?: (bytes: Uint8Array) => Uint8Array;
  readonly zstdDecompressSync?: (bytes: Uint8Array, options: { maxOutputLength: number }) => Uint8Array;
}
const zstd = zlib as unknown as ZstdFunctions;

function checked(run: (most: number) => Uint8Array, size: number): Uint8Array {
  let result: Uint8Array;
  try {
    // zlib refuses a limit of 0
    result = run(Math.max(1, size));
  } catch (error) {
    throw badFile(`a compressed part cannot be read: ${(error as Error).message}`);
  }
  if (result.length !== size)
    throw badFile(`a compressed part has ${result.length} bytes where it says ${size}`);
  return result;
}

/** ENOTSUP: there is no such compression, or this Node has none of it (zstd came with 22.15). */
export function compressionOf(name: string): Compression {
  switch (name) {
    case 'none':
      return { name, version: '', compress: (bytes) => bytes, uncompress: (bytes) => bytes };
    case 'zlib':
      return {
        name,
        version: process.versions['zlib'] ?? '1',
        compress: (bytes) => zlib.deflateSync(bytes),
        uncompress: (bytes, size) =>
          checked((maxOutputLength) => zlib.inflateSync(bytes, { maxOutputLength }), size),
      };
    case 'zstd': {
      const { zstdCompressSync, zstdDecompressSync } = zstd;
      if (zstdCompressSync === undefined || zstdDecompressSync === undefined) break;
      return {
        name,
        version: process.versions['zstd'] ?? '1',
        compress: (bytes) => zstdCompressSync(bytes),
        uncompress: (bytes, size) =>
          checked((maxOutputLength) => zstdDecompressSync(bytes, { maxOutputLength }), size),
      };
    }
  }
  throw new TraplineError('ENOTSUP', `this Node cannot compress by ${JSON.stringify(name)}`, {
    hint:
      name === 'zstd'
        ? 'Node 22.15 and later can; trace-cmd convert --compression none makes a file that is not compressed'
        : `there are ${COMPRESSIONS.join(', ')}`,
  });
}

/** The best that this Node has. */
export function bestCompression(): CompressionName {
  return zstd.zstdCompressSync === undefined ? 'zlib' : 'zstd';
}
