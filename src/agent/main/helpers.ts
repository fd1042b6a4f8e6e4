/**
 * The kernel's helpers that a program imports as `helper.<name>` because only JavaScript knows the answer. Types are those
 * of the declarations in src/bpf/helpers.
 */
import {
  apply,
  asIntN,
  functionToString,
  getOwnPropertyDescriptor,
  hrtimeNow,
  indexOf,
  random,
  slice,
  toBigInt,
  toNumber,
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
}

/** Bytes of a thread's name, with its NUL. */
const TASK_COMM_LEN = 16;

const low = (value: bigint): number => toNumber(asIntN(32, value));
const high = (value: bigint): number => toNumber(asIntN(32, value >> 32n));

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

export function createHelpers({ strings, kfuncs, view, clockBase }: HelperParts): Helpers {
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
    // An address that is no handle points nowhere: this kernel has no other memory.
    probe_read_kernel: (dst: number, size: number, address: bigint) =>
      toBigInt(kfuncs.js_buf(dst, size, low(address), high(address), 0)!),
    probe_read_kernel_str: (dst: number, size: number, address: bigint) =>
      toBigInt(kfuncs.js_str(dst, size, low(address), high(address), 0)!),
    trace_printk: () => 0n,
  } as Helpers;
}
