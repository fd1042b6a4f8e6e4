/**
 * Runs fetch instructions against a hit (process_fetch_insn(), kernel/trace/trace_probe_tmpl.h). A value is a word, or
 * bytes that stand somewhere without an address of their own (comm, an immediate string, a record's field).
 */
import { symbolText } from '../symbols.ts';
import type { ProbeContext } from '../trace-arch.ts';
import { dataView } from '../trace-entry.ts';
import type { Tracing } from '../tracing.ts';
import type { FetchInsn } from './fetch-insn.ts';
import type { ProbeArg } from './parse-arg.ts';

/** PATH_MAX: bytes of a fetched string, its NUL among them. */
export const MAX_STRING_SIZE = 4096;

/** A number, or a string's bytes with their NUL. */
export type FetchValue = bigint | Uint8Array;

/** Where loads find values: the registers of a hit, a record. */
export interface FetchSource {
  readonly tracing: Tracing;
  /** The strings it loads lie in the system's own memory, where `ustring` finds none. */
  readonly hasKernelStrings?: boolean;
  /** Undefined where it cannot be had. */
  load(insn: FetchInsn): FetchValue | undefined;
  /** Copies memory; undefined on a fault. */
  read(address: bigint, length: number): Uint8Array | undefined;
  /** At most `max` bytes with the NUL; undefined on a fault. */
  readString(address: bigint, max: number): Uint8Array | undefined;
}

/** Writes an argument's fixed part at `at`. What faults leaves it zero. */
type StoreNumber = (source: FetchSource, view: DataView, at: number) => void;

/** The instructions of a probe's arguments, made ready to run for each hit. */
export class FetchProgram {
  /** The head of the next record: the caller fills it before run(). */
  readonly head: DataView;
  readonly #args: readonly ProbeArg[];
  readonly #stores: readonly (StoreNumber | undefined)[];
  readonly #fixed: Uint8Array;
  readonly #headSize: number;
  readonly #dynamic: boolean;

  /** `size` is that of the fixed parts, `headSize` of what stands in front of them. */
  constructor(args: readonly ProbeArg[], size: number, headSize: number) {
    this.#args = args;
    this.#headSize = headSize;
    this.#fixed = new Uint8Array(headSize + size);
    this.head = new DataView(this.#fixed.buffer);
    this.#stores = args.map((arg) => (arg.dynamic ? undefined : numberStore(arg)));
    this.#dynamic = args.some((arg) => arg.dynamic);
  }

  /**
   * A record: the head, the arguments' fixed parts one behind the other, the strings (store_trace_args()). What faults is zero,
   * or a string of length 0. Valid until the next run.
   */
  run(source: FetchSource): Uint8Array {
    const fixed = this.#fixed;
    fixed.fill(0, this.#headSize);
    for (let i = 0; i < this.#args.length; i++) {
      this.#stores[i]?.(source, this.head, this.#headSize + this.#args[i]!.offset);
    }
    return this.#dynamic ? this.#withStrings(source) : fixed;
  }

  #withStrings(source: FetchSource): Uint8Array {
    const strings: Uint8Array[] = [];
    let end = this.#fixed.length;
    for (const arg of this.#args) {
      if (!arg.dynamic) continue;
      for (const [n, string] of stringsOf(arg, source).entries()) {
        const length = string?.length ?? 0;
        const location = ((length << 16) | (end & 0xffff)) >>> 0;
        this.head.setUint32(this.#headSize + arg.offset + 4 * n, location, true);
        if (string !== undefined) strings.push(string);
        end += length;
      }
    }
    const data = new Uint8Array(end);
    data.set(this.#fixed);
    let at = this.#fixed.length;
    for (const string of strings) {
      data.set(string, at);
      at += string.length;
    }
    return data;
  }
}

/** An argument's load, dereferences and store, told apart. */
function partsOf({ code }: ProbeArg) {
  let pc = code[0]?.op === 'symbol' ? 1 : 0;
  const load = code[pc++] as FetchInsn;
  const derefs: FetchInsn[] = [];
  for (; isDeref(code[pc]); pc++) derefs.push(code[pc] as FetchInsn);
  const store = code[pc] as FetchInsn;
  const modify = code[pc + 1]?.op === 'mod_bf' ? (code[pc + 1] as FetchInsn) : undefined;
  return { load, derefs, store, modify };
}

/** Stores a number, or an array of them. */
function numberStore(arg: ProbeArg): StoreNumber {
  const { load, derefs, store, modify } = partsOf(arg);
  const { size } = store;
  if (store.op === 'st_raw' && derefs.length === 0 && modify === undefined) {
    return (source, view, at) => {
      const value = source.load(load);
      // A string's own address means nothing outside of its system.
      if (typeof value === 'bigint') writeWord(view, at, size, value);
    };
  }
  const count = arg.count || 1;
  return (source, view, at) => {
    const value = follow(source, source.load(load), derefs);
    if (value === undefined) return;
    for (let i = 0; i < count; i++) {
      const word = numberAt(source, store, value, BigInt(i * size));
      if (word === undefined) continue;
      writeWord(view, at + i * size, size, modify === undefined ? word : applyBitField(modify, word));
    }
  };
}

function follow(
  source: FetchSource,
  loaded: FetchValue | undefined,
  derefs: readonly FetchInsn[],
): FetchValue | undefined {
  let value = loaded;
  for (const { op, offset } of derefs) {
    if (value === undefined || (op === 'uderef' && !isUser(value, offset))) return undefined;
    value = readWord(source, value, offset);
  }
  return value;
}

/** access_ok(): the upper half of the addresses is the system's own. */
function isUser(value: FetchValue, offset: bigint): boolean {
  return typeof value !== 'bigint' || BigInt.asIntN(64, value + offset) >= 0n;
}

function numberAt(
  source: FetchSource,
  store: FetchInsn,
  value: FetchValue,
  index: bigint,
): bigint | undefined {
  if (store.op === 'st_raw') return typeof value === 'bigint' ? value : undefined;
  if (store.op === 'st_umem' && !isUser(value, store.offset)) return undefined;
  const bytes = readBytes(source, value, store.offset + index, store.size);
  if (bytes === undefined) return undefined;
  let word = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) word = (word << 8n) | BigInt(bytes[i] as number);
  return word;
}

function writeWord(view: DataView, at: number, size: number, value: bigint): void {
  if (size === 8) view.setBigUint64(at, value, true);
  else if (size === 4) view.setUint32(at, Number(BigInt.asUintN(32, value)), true);
  else if (size === 2) view.setUint16(at, Number(BigInt.asUintN(16, value)), true);
  else view.setUint8(at, Number(BigInt.asUintN(8, value)));
}

/** fetch_apply_bitfield() */
function applyBitField({ size, lshift, rshift }: FetchInsn, value: bigint): bigint {
  return BigInt.asUintN(size * 8, value << BigInt(lshift)) >> BigInt(rshift);
}

/** The string of an argument, or those of an array of pointers to them. */
function stringsOf(arg: ProbeArg, source: FetchSource): (Uint8Array | undefined)[] {
  const { load, derefs, store } = partsOf(arg);
  const loaded = source.load(load);
  if (arg.count === 0) {
    const value = follow(source, loaded, derefs);
    return [value === undefined ? undefined : fetchString(source, store, value)];
  }
  const last = derefs.at(-1);
  const array = last === undefined ? undefined : follow(source, loaded, derefs.slice(0, -1));
  const strings: (Uint8Array | undefined)[] = [];
  for (let i = 0; i < arg.count; i++) {
    const pointer = array === undefined ? undefined : readWord(source, array, last!.offset + BigInt(8 * i));
    // The kernel measures first, and a pointer that cannot be read leaves it without room for any.
    if (pointer === undefined) return new Array(arg.count).fill(undefined);
    strings.push(fetchString(source, store, pointer));
  }
  return strings;
}

function isDeref(insn: FetchInsn | undefined): boolean {
  return insn?.op === 'deref' || insn?.op === 'uderef';
}

function fetchString(source: FetchSource, store: FetchInsn, value: FetchValue): Uint8Array | undefined {
  if (typeof value !== 'bigint' && store.op === 'st_ustring' && source.hasKernelStrings === true)
    return undefined;
  if (typeof value !== 'bigint')
    return value.subarray(Math.max(0, Number(store.offset))).subarray(0, MAX_STRING_SIZE);
  if (store.op === 'st_ustring' && !isUser(value, store.offset)) return undefined;
  const address = BigInt.asUintN(64, value + store.offset);
  if (store.op === 'st_symstr')
    return new TextEncoder().encode(`${symbolText(source.tracing, address, true)}\0`);
  const bytes = source.readString(address, MAX_STRING_SIZE);
  if (bytes === undefined) return undefined;
  if (bytes.length > 0 && bytes[bytes.length - 1] === 0) return bytes;
  const whole = new Uint8Array(Math.min(bytes.length + 1, MAX_STRING_SIZE));
  whole.set(bytes.subarray(0, whole.length - 1));
  return whole;
}

function readWord(source: FetchSource, value: FetchValue, offset: bigint): bigint | undefined {
  const bytes = readBytes(source, value, offset, 8);
  return bytes === undefined ? undefined : dataView(bytes).getBigUint64(0, true);
}

function readBytes(
  source: FetchSource,
  value: FetchValue,
  offset: bigint,
  length: number,
): Uint8Array | undefined {
  if (typeof value === 'bigint') {
    const bytes = source.read(BigInt.asUintN(64, value + offset), length);
    return bytes?.length === length ? bytes : undefined;
  }
  const at = Number(offset);
  return at >= 0 && at + length <= value.length ? value.subarray(at, at + length) : undefined;
}

const ARGUMENT_REGISTERS = ['di', 'si', 'dx', 'cx', 'r8', 'r9'];

/** The registers and memory of a probe's hit: one for the probe, its context changes with each. */
export class ContextSource implements FetchSource {
  readonly tracing: Tracing;
  context: ProbeContext | undefined;

  constructor(tracing: Tracing) {
    this.tracing = tracing;
  }

  read(address: bigint, length: number): Uint8Array | undefined {
    return this.context?.read(address, length);
  }

  readString(address: bigint, max: number): Uint8Array | undefined {
    return this.context?.readString(address, max);
  }

  load(insn: FetchInsn): FetchValue | undefined {
    const { context } = this;
    if (context === undefined) return undefined;
    switch (insn.op) {
      case 'reg':
        return context.register(insn.name);
      case 'stack':
        return stackWord(context, insn.param);
      case 'stackp':
        return context.register('sp');
      case 'retval':
        return context.register('ax');
      case 'arg': {
        const register = ARGUMENT_REGISTERS[insn.param];
        if (register !== undefined) return context.register(register);
        // Those beyond the sixth stand behind the return address.
        return stackWord(context, 1 + insn.param - ARGUMENT_REGISTERS.length);
      }
      case 'edata':
        return context.entryValue?.(insn.param);
      case 'prop': {
        const value = context.property?.(insn.param, insn.path, insn);
        return typeof value === 'string' ? stringBytes(value) : value;
      }
      case 'comm':
        return stringBytes(context.comm ?? this.tracing.arch.current().comm);
      default:
        return loadConstant(insn);
    }
  }
}

/** regs_get_kernel_stack_nth(): 0 where there is no such word. */
function stackWord(context: ProbeContext, index: number): bigint {
  const address = BigInt.asUintN(64, context.register('sp') + BigInt(8 * index));
  const bytes = context.read(address, 8);
  return bytes?.length === 8 ? dataView(bytes).getBigUint64(0, true) : 0n;
}

/** process_common_fetch_insn(), what needs no hit. */
export function loadConstant(insn: FetchInsn): FetchValue | undefined {
  if (insn.op === 'imm') return insn.immediate;
  if (insn.op === 'data') return Uint8Array.from(`${insn.data}\0`, (c) => c.charCodeAt(0));
  return undefined;
}

export function stringBytes(text: string): Uint8Array {
  return new TextEncoder().encode(`${text}\0`);
}
