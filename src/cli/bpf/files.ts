/** Bytes from where the command line says, and text to where it says. */
import { closeSync, openSync, readSync, writeFileSync } from 'node:fs';
import type { BpfError } from '../../bpf/errors.ts';
import { formatDiagnostic, TraplineError } from '../../errors.ts';

/** More than any packet or context. */
const MAX_INPUT = 1 << 20;
/** More than a kernel with all its types. A device or a pipe may never end. */
const MAX_FILE = 1 << 30;
const CHUNK = 1 << 20;

/** A file's bytes; `-` is standard input. Throws TraplineError with the system's code, EFBIG for one of more than `most` bytes. */
export function readBytes(file: string, what = 'file', most = MAX_FILE): Uint8Array {
  let fd: number | undefined;
  try {
    fd = file === '-' ? 0 : openSync(file, 'r');
    const chunks: Buffer[] = [];
    let size = 0;
    for (;;) {
      const chunk = Buffer.allocUnsafe(CHUNK);
      const count = readSync(fd, chunk);
      if (count === 0) break;
      size += count;
      if (size > most) throw Object.assign(new Error(`it has more than ${most} bytes`), { code: 'EFBIG' });
      chunks.push(chunk.subarray(0, count));
    }
    const data = Buffer.concat(chunks, size);
    return new Uint8Array(data.buffer, data.byteOffset, data.length);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'EIO';
    const why = code === 'ENOENT' ? 'there is no such file' : (error as Error).message;
    throw new TraplineError(code, `cannot read the ${what} ${file}: ${why}`);
  } finally {
    if (fd !== undefined && fd !== 0) closeSync(fd);
  }
}

/** What `read` makes of a file; its errors name the file. */
export function readAs<T>(file: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw isCoded(error) ? inFile(file, error) : error;
  }
}

export function isCoded(error: unknown): error is TraplineError {
  return error instanceof Error && typeof (error as { code?: unknown }).code === 'string';
}

/** The error with the file's name in front, unless it says where it is, or nothing was named. */
export function inFile<E extends TraplineError | BpfError>(file: string, error: E): E | TraplineError {
  const { code, message, position, hint, log } = error;
  if (file === '-' || position !== undefined || message.includes(file)) return error;
  return new TraplineError(code, `${file}: ${message}`, { hint, log, cause: error });
}

export function writeFile(file: string, data: Uint8Array | string): void {
  try {
    writeFileSync(file, data);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'EIO';
    throw new TraplineError(code, `cannot write ${file}: ${(error as Error).message}`);
  }
}

/** Text goes to standard output, or to `-o`. */
export function emit(output: string | undefined, text: string): void {
  if (output === undefined || output === '-') process.stdout.write(text);
  else writeFile(output, text);
}

/** Hexadecimal digits, with blanks, colons or `0x` among them; undefined where the text is something else. */
export function parseHex(text: string): Uint8Array | undefined {
  const digits = text.replace(/0x|\\x/gi, ' ').replace(/[\s:,]+/g, '');
  if (digits.length % 2 !== 0 || /[^0-9a-f]/i.test(digits)) return undefined;
  return Uint8Array.from(digits.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
}

/** `hex:0102`, `zero:64` or the name of a file. `option` is named in errors. */
export function bytesArgument(option: string, value: string): Uint8Array {
  if (value.startsWith('hex:')) {
    const bytes = parseHex(value.slice(4));
    if (bytes !== undefined) return bytes;
    throw new TraplineError('EUSAGE', `--${option}: ${value} is not an even number of hexadecimal digits`);
  }
  if (value.startsWith('zero:')) {
    const count = Number(value.slice(5));
    if (/^\d+$/.test(value.slice(5)) && count <= MAX_INPUT) return new Uint8Array(count);
    throw new TraplineError('EUSAGE', `--${option}: ${value} is not a number of bytes up to ${MAX_INPUT}`);
  }
  return readBytes(value, option, MAX_INPUT);
}

export function hexString(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex');
}

/** Sixteen bytes a line, with addresses and characters. */
export function hexDump(bytes: Uint8Array, start = 0): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += 16) {
    const row = bytes.subarray(at, at + 16);
    const cells = [...row].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
    const chars = [...row]
      .map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : '.'))
      .join('');
    text += `${(start + at).toString(16).padStart(8, '0')}  ${cells.padEnd(47)}  ${chars}\n`;
  }
  return text;
}

/** An error as it is told: place, message, line of source, caret, hint. */
export function diagnostic(error: TraplineError | BpfError): string {
  const { code, message, position, hint, log } = error;
  if (position === undefined) return formatDiagnostic(error);
  // The message names the place as well, for those who see nothing else.
  const prefix = `${position.file}:${position.line}: `;
  const text = message.startsWith(prefix) ? message.slice(prefix.length) : message;
  return formatDiagnostic(new TraplineError(code, text, { position, hint, log }));
}
