/**
 * The kernel's helpers that a program imports as `helper.<name>` because only JavaScript knows the answer. Types are those
 * of the declarations in src/bpf/helpers.
 */

import type { PrintkCall } from '../protocol.ts';
import {
  apply,
  asUintN,
  bigintToString,
  dataViewBuffer,
  fromCharCode,
  functionToString,
  getOwnPropertyDescriptor,
  hrtimeNow,
  indexOf,
  random,
  slice,
  toBigInt,
} from './intrinsics.ts';
import type { Kfuncs } from './kfuncs.ts';
import type { StringWriter } from './strings.ts';

export type Helpers = Record<string, (...args: never[]) => unknown>;

export interface HelperParts {
  readonly strings: StringWriter;
  readonly kfuncs: Kfuncs['imports'];
  readonly view: DataView;
  /** Where the i64 stands that makes CLOCK_MONOTONIC of performance.now(). */
  readonly clockBase: number;
  /** Memory of the helpers' own. */
  readonly scratch: number;
  readonly print: (call: PrintkCall) => void;
}

/** What is below is no program's memory. */
const MEMORY_START = 1024;
/** Bytes of a text that trace_printk() shows. */
const MAX_TEXT = 512;

/** Bytes of a thread's name, with its NUL. */
const TASK_COMM_LEN = 16;

/** The process's title as the kernel shows it: the last part of the command's path, if it is one. */
function taskName(): string {
  const found = getOwnPropertyDescriptor(process, 'title');
  let title: unknown = found?.value;
  // An accessor of the application's own is not asked.
  if (found?.get !== undefined && indexOf(functionToString(found.get), '[native code]') > 0) {
    title = apply(found.get, process, []);
  }
  if (typeof title !== 'string' || title === '') return 'node';
  const first = indexOf(title, ' ') < 0 ? title : slice(title, 0, indexOf(title, ' '));
  let start = 0;
  for (let i = 0; i < first.length; i++) if (first[i] === '/') start = i + 1;
  return start === first.length ? 'node' : slice(first, start);
}

export function createHelpers({ strings, kfuncs, view, clockBase, scratch, print }: HelperParts): Helpers {
  // CLOCK_MONOTONIC goes through memory of our own, as two words: V8 makes no BigInt of it then, and calls the clock directly.
  const stamp = new BigUint64Array(1);
  const words = new Uint32Array(stamp.buffer);
  stamp[0] = hrtimeNow();
  view.setBigInt64(clockBase, stamp[0], true);
  const baseLow = words[0]!;
  const baseHigh = words[1]!;
  const pid = process.pid;
  const ids = toBigInt(pid) * 4294967297n;
  const { getuid, getgid } = process;
  const uid = getuid === undefined ? 0 : (apply(getuid, process, []) as number);
  const gid = getgid === undefined ? 0 : (apply(getgid, process, []) as number);
  const owner = (toBigInt(gid) << 32n) | toBigInt(uid);

  const comm = taskName();

  const bytes = new Uint8Array(dataViewBuffer(view) as ArrayBuffer);
  const end = bytes.length;

  // An address as two words, without a BigInt being made of either.
  const addressOf = new BigUint64Array(1);
  const parts = new Int32Array(addressOf.buffer);

  /** Whether the address in `addressOf` is one of this kernel's own memory: maps, stacks and contexts. */
  const isMemory = (size: number): boolean =>
    parts[1] === 0 && parts[0]! >= MEMORY_START && parts[0]! + size <= end;

  /** A C string of the memory, at most `max` bytes. */
  function textAt(at: number, max: number): string {
    let text = '';
    for (let i = at; i < end && i < at + max && bytes[i] !== 0; i++) text += fromCharCode(bytes[i]!);
    return text;
  }

  function pointedTo(address: bigint): string | undefined {
    addressOf[0] = address;
    if (isMemory(1)) return textAt(parts[0]!, MAX_TEXT - 1);
    const length = kfuncs.js_str(scratch, MAX_TEXT, parts[0]!, parts[1]!, 0) as number;
    return length > 0 ? textAt(scratch, MAX_TEXT - 1) : undefined;
  }

  function probeRead(dst: number, size: number, address: bigint): bigint {
    addressOf[0] = address;
    if (!isMemory(size)) return toBigInt(kfuncs.js_buf(dst, size, parts[0]!, parts[1]!, 0)!);
    const from = parts[0]!;
    for (let i = 0; i < size; i++) bytes[dst + i] = bytes[from + i]!;
    return 0n;
  }

  function probeReadStr(dst: number, size: number, address: bigint): bigint {
    addressOf[0] = address;
    if (!isMemory(1)) return toBigInt(kfuncs.js_str(dst, size, parts[0]!, parts[1]!, 0)!);
    if (size <= 0) return 0n;
    const from = parts[0]!;
    let i = 0;
    for (; i < size - 1 && from + i < end && bytes[from + i] !== 0; i++) bytes[dst + i] = bytes[from + i]!;
    bytes[dst + i] = 0;
    return toBigInt(i + 1);
  }

  return {
    // The program adds the clock base in the memory's header. What is left is exact for a hundred days of a thread's life.
    ktime_get_ns: () => {
      stamp[0] = hrtimeNow();
      return (words[1]! - baseHigh) * 4294967296 + (words[0]! - baseLow);
    },
    get_prandom_u32: () => (random() * 4294967296) | 0,
    get_current_pid_tgid: () => ids,
    get_current_uid_gid: () => owner,
    get_current_comm(dst: number, size: number) {
      strings.writeString(dst, size < TASK_COMM_LEN ? size : TASK_COMM_LEN, comm);
      if (size > TASK_COMM_LEN) strings.zero(dst + TASK_COMM_LEN, size - TASK_COMM_LEN);
      return 0n;
    },
    // An address is one of the memory that programs share, or a handle; this kernel has no other memory.
    probe_read: probeRead,
    probe_read_kernel: probeRead,
    probe_read_user: probeRead,
    probe_read_str: probeReadStr,
    probe_read_kernel_str: probeReadStr,
    probe_read_user_str: probeReadStr,
    trace_printk(format: number, size: number, ...args: bigint[]) {
      const text = textAt(format, size);
      const values: string[] = [];
      const texts: (string | undefined)[] = [];
      const wantsTexts = indexOf(text, '%s') >= 0;
      for (let i = 0; i < args.length && i < 3; i++) {
        values[i] = bigintToString(asUintN(64, args[i]!));
        texts[i] = wantsTexts ? pointedTo(args[i]!) : undefined;
      }
      print({ format: text, args: values, texts });
      return toBigInt(text.length);
    },
  } as Helpers;
}
