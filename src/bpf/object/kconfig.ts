/** Values of `__kconfig` externs: from a kernel configuration, and the virtual ones (bpf_object__resolve_externs of libbpf). */
import { ObjectError } from '../elf/index.ts';
import type { DataStore } from './globals.ts';
import type { ExternSpec, KconfigExtern } from './spec.ts';

export type KconfigValue = string | number | bigint | boolean;

/**
 * A configuration: the text of a `.config` file (`CONFIG_SMP=y`, `CONFIG_HZ=250`, `CONFIG_CC_VERSION_TEXT="gcc"`), or values by
 * name. In an object a boolean is `y` or `n`, and a string other than `y`, `n`, `m` is text.
 */
export type Kconfig = string | Readonly<Record<string, KconfigValue>>;

/** KERNEL_VERSION(6, 12, 0): the kernel that this machine is measured against. */
export const DEFAULT_KERNEL_VERSION = 0x060c00;

const toUtf8 = new TextEncoder();

function refuse(name: string, message: string): never {
  throw new ObjectError('OBJ_BAD_KCONFIG', `${name}: ${message}`, { section: '.kconfig', symbol: name });
}

/**
 * Writes every value into the `.kconfig` section. A weak one that the configuration does not have stays 0; the others throw
 * ObjectError OBJ_UNRESOLVED, values that do not fit OBJ_BAD_KCONFIG.
 */
export function resolveKconfig(
  externs: readonly ExternSpec[],
  kconfig: Kconfig | undefined,
  kernelVersion: number,
  data: DataStore,
): void {
  const wanted = externs.filter((ext) => ext.kind === 'kconfig');
  if (wanted.length === 0) return;
  const values = kconfigValues(kconfig ?? {});
  for (const ext of wanted) {
    const value = virtualValue(ext, kernelVersion) ?? values.get(ext.name);
    if (value !== undefined) {
      data.write(ext.offset, encode(ext, value));
    } else if (!ext.weak) {
      throw new ObjectError(
        'OBJ_UNRESOLVED',
        `${ext.name} is not in the kernel configuration`,
        { section: '.kconfig', symbol: ext.name },
        { hint: 'give it with the option kconfig, or declare it __weak' },
      );
    }
  }
}

/** What libbpf fills in itself: names that begin with LINUX_. */
function virtualValue({ name, weak }: KconfigExtern, kernelVersion: number): string | undefined {
  if (name.startsWith('CONFIG_')) return undefined;
  switch (name) {
    case 'LINUX_KERNEL_VERSION':
      return String(kernelVersion);
    case 'LINUX_HAS_BPF_COOKIE':
    case 'LINUX_HAS_SYSCALL_WRAPPER':
      return '1';
    default:
      if (!name.startsWith('LINUX_') || !weak)
        refuse(name, 'is neither CONFIG_… nor a value that the loader knows');
      return '0';
  }
}

/** Values in the notation of a .config file, by name; the first of several counts (bpf_object__process_kconfig_line). */
function kconfigValues(kconfig: Kconfig): Map<string, string> {
  const values = new Map<string, string>();
  if (typeof kconfig === 'string') {
    for (const line of kconfig.split('\n')) {
      if (!line.startsWith('CONFIG_')) continue;
      const equals = line.indexOf('=');
      if (equals < 0) refuse(line.slice(0, 64), 'a line without =');
      const name = line.slice(0, equals);
      const value = line.slice(equals + 1).trimEnd();
      if (value === '') refuse(name, 'no value');
      if (!values.has(name)) values.set(name, value);
    }
    return values;
  }
  for (const [name, value] of Object.entries(kconfig)) values.set(name, notation(value));
  return values;
}

function notation(value: KconfigValue): string {
  if (typeof value === 'boolean') return value ? 'y' : 'n';
  if (typeof value !== 'string') return String(value);
  return /^[ynm]$/.test(value) ? value : `"${value}"`;
}

function encode(ext: KconfigExtern, text: string): Uint8Array {
  if (text === 'y' || text === 'n' || text === 'm') return encodeTristate(ext, text);
  if (text.startsWith('"')) return encodeText(ext, text);
  return encodeNumber(ext, text);
}

/** enum libbpf_tristate */
const TRISTATE = { n: 0, y: 1, m: 2 } as const;

function encodeTristate({ name, type, size }: KconfigExtern, value: 'y' | 'n' | 'm'): Uint8Array {
  const bytes = new Uint8Array(size);
  switch (type) {
    case 'bool':
      if (value === 'm') refuse(name, 'm does not fit into a bool');
      bytes[0] = value === 'y' ? 1 : 0;
      return bytes;
    case 'tristate':
      bytes[0] = TRISTATE[value];
      return bytes;
    case 'char':
      bytes[0] = value.charCodeAt(0);
      return bytes;
    default:
      return refuse(name, `${value} is for bool, char and enum libbpf_tristate`);
  }
}

/** Cut to the array's length, its end included. */
function encodeText({ name, type, size }: KconfigExtern, text: string): Uint8Array {
  if (type !== 'char_array') refuse(name, 'a text is for char arrays');
  if (text.length < 2 || !text.endsWith('"')) refuse(name, 'a text without its closing quote');
  const bytes = new Uint8Array(size);
  bytes.set(toUtf8.encode(text.slice(1, -1)).subarray(0, size - 1));
  return bytes;
}

/** As strtoull(3) with base 0: decimal, 0x…, 0…; a sign is taken modulo 2^64. */
function parseU64(name: string, text: string): bigint {
  const match = /^([+-]?)(0[xX][0-9a-fA-F]+|[0-9]+)$/.exec(text.trim());
  if (match === null) refuse(name, `${text.slice(0, 64)} is no number`);
  const digits = match[2]!;
  if (digits.length > 32) refuse(name, `${text.slice(0, 64)} is too large`);
  const octal = /^0[0-9]+$/.test(digits);
  if (octal && /[89]/.test(digits)) refuse(name, `${text} is no octal number`);
  const value = BigInt(octal ? `0o${digits.slice(1)}` : digits);
  if (value >= 1n << 64n) refuse(name, `${text} is too large`);
  return match[1] === '-' ? BigInt.asUintN(64, -value) : value;
}

function encodeNumber({ name, type, signed, size }: KconfigExtern, text: string): Uint8Array {
  if (type !== 'int' && type !== 'char' && type !== 'bool')
    refuse(name, `a number is for integers: ${text.slice(0, 64)}`);
  const value = parseU64(name, text);
  if (type === 'bool' && value > 1n) refuse(name, `${value} does not fit into a bool`);
  const bits = size * 8;
  const exact = signed ? BigInt.asIntN(64, value) : value;
  const fits = bits === 64 || (signed ? BigInt.asIntN(bits, exact) : BigInt.asUintN(bits, exact)) === exact;
  if (!fits) refuse(name, `${exact} does not fit into ${size} bytes`);
  const bytes = new Uint8Array(size);
  for (let i = 0; i < size; i++) bytes[i] = Number((value >> BigInt(8 * i)) & 0xffn);
  return bytes;
}
