/**
 * The kernel's helpers that a program imports as `helper.<name>` because only JavaScript knows the answer. Types are those
 * of the declarations in src/bpf/helpers.
 */

import type { MemoryLayout } from '../../bpf/index.ts';
import { PT_REGS, PT_REGS_SIZE } from '../../kernel/trace/pt-regs.ts';
import {
  FRAME_ADDRESS,
  STACK_BUCKET,
  STACK_BUILD_ID,
  STACK_USER_BUILD_ID,
  STACKID,
  stackNumber,
} from '../../kernel/trace/stack-map.ts';
import type { PrintkCall } from '../protocol.ts';
import {
  type AnyFunction,
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
  toNumber,
} from './intrinsics.ts';
import type { Kfuncs } from './kfuncs.ts';
import type { Stacks } from './stacks.ts';
import type { StringWriter } from './strings.ts';
import { EFAULT, EINVAL, ENOMEM } from './values.ts';

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
  readonly stacks: Pick<Stacks, 'id' | 'length' | 'frames'>;
  /** The `struct pt_regs` of the hit. */
  readonly ctx: number;
  readonly maps: MemoryLayout['maps'];
}

/** What is below is no program's memory. */
const MEMORY_START = 1024;
/** Bytes of a text that trace_printk() shows. */
const MAX_TEXT = 512;

/** Other stacks are in its place. */
const EEXIST = 17;
/** Buckets of a stack map that a stack may be in. */
const PROBES = 16;
/** Words of a bucket. */
const FRAMES = STACK_BUCKET.frames >>> 2;
const HASH = STACK_BUCKET.hash >>> 2;
const DATA = STACK_BUCKET.data >>> 2;

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

export function createHelpers(parts: HelperParts): Helpers {
  const { strings, kfuncs, view, clockBase, scratch, print, stacks, maps, ctx } = parts;
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
  const words32 = new Int32Array(dataViewBuffer(view) as ArrayBuffer);
  const registers = new BigUint64Array(dataViewBuffer(view) as ArrayBuffer, ctx, PT_REGS_SIZE / 8);
  const end = bytes.length;

  // An address as two words, without a BigInt being made of either.
  const addressOf = new BigUint64Array(1);
  const halves = new Int32Array(addressOf.buffer);

  /** Whether the address in `addressOf` is one of this kernel's own memory: maps, stacks and contexts. */
  const isMemory = (size: number): boolean =>
    halves[1] === 0 && halves[0]! >= MEMORY_START && halves[0]! + size <= end;

  /** A C string of the memory, at most `max` bytes. */
  function textAt(at: number, max: number): string {
    let text = '';
    for (let i = at; i < end && i < at + max && bytes[i] !== 0; i++) text += fromCharCode(bytes[i]!);
    return text;
  }

  function pointedTo(address: bigint): string | undefined {
    addressOf[0] = address;
    if (isMemory(1)) return textAt(halves[0]!, MAX_TEXT - 1);
    const length = kfuncs.js_str(scratch, MAX_TEXT, halves[0]!, halves[1]!, 0) as number;
    return length > 0 ? textAt(scratch, MAX_TEXT - 1) : undefined;
  }

  function probeRead(dst: number, size: number, address: bigint): bigint {
    addressOf[0] = address;
    if (!isMemory(size)) return toBigInt(kfuncs.js_buf(dst, size, halves[0]!, halves[1]!, 0)!);
    const from = halves[0]!;
    for (let i = 0; i < size; i++) bytes[dst + i] = bytes[from + i]!;
    return 0n;
  }

  function probeReadStr(dst: number, size: number, address: bigint): bigint {
    addressOf[0] = address;
    if (!isMemory(1)) return toBigInt(kfuncs.js_str(dst, size, halves[0]!, halves[1]!, 0)!);
    if (size <= 0) return 0n;
    const from = halves[0]!;
    let i = 0;
    for (; i < size - 1 && from + i < end && bytes[from + i] !== 0; i++) bytes[dst + i] = bytes[from + i]!;
    bytes[dst + i] = 0;
    return toBigInt(i + 1);
  }

  /** The first word of a bucket of a stack map. */
  function bucketAt(map: number, id: number): number {
    const { address, geometry } = maps[map]!;
    return (address + geometry.data + id * geometry.stride) >>> 2;
  }

  /** __bpf_get_stackid: the kernel's and the user's stack are the same here. */
  function getStackid(_ctx: number, map: number, flags: bigint): bigint {
    const low = toNumber(asUintN(32, flags));
    const known = STACKID.skipMask | STACKID.userStack | STACKID.fastCompare | STACKID.reuse;
    if (asUintN(64, flags) !== toBigInt(low) || (low & ~known) !== 0) return toBigInt(-EINVAL);
    const { geometry, spec } = maps[map]!;
    const skip = low & STACKID.skipMask;
    let stack: number;
    try {
      stack = stacks.id(spec.valueSize / 8 + skip, getStackid as AnyFunction);
    } catch {
      return toBigInt(-EFAULT);
    }
    // The process has had so many different ones that no more are kept.
    if (stack === 0) return toBigInt(-ENOMEM);
    if (stacks.length(stack) <= skip) return toBigInt(-EFAULT);
    const number = stackNumber(stack, skip) | 0;
    // Numbers come one after the other, so that a place near their own is found where it is taken.
    let place = -1;
    for (let i = 0; i < PROBES && i <= geometry.mask; i++) {
      const bucket = bucketAt(map, (stack + i) & geometry.mask);
      if (words32[bucket + FRAMES] === 0) place = place < 0 ? (stack + i) & geometry.mask : place;
      else if (words32[bucket + HASH] === number) return toBigInt((stack + i) & geometry.mask);
    }
    if (place < 0) {
      if ((low & STACKID.reuse) === 0) return toBigInt(-EEXIST);
      place = stack & geometry.mask;
    }
    const bucket = bucketAt(map, place);
    words32[bucket + DATA] = number;
    words32[bucket + HASH] = number;
    // One frame, as far as the map knows.
    words32[bucket + FRAMES] = 2;
    return toBigInt(place);
  }

  /** A word at an address of any alignment. */
  function put32(at: number, value: number): void {
    for (let i = 0; i < 4; i++) bytes[at + i] = value >>> (8 * i);
  }

  /** bpf_get_stack: as for bpf_get_stackid, there is one stack. Of build ids only the addresses that stand for them are known. */
  function getStack(_ctx: number, buffer: number, size: number, flags: bigint): bigint {
    strings.zero(buffer, size);
    const low = toNumber(asUintN(32, flags));
    const known = STACKID.skipMask | STACKID.userStack | STACK_USER_BUILD_ID;
    if (asUintN(64, flags) !== toBigInt(low) || (low & ~known) !== 0) return toBigInt(-EINVAL);
    const byBuildId = (low & STACK_USER_BUILD_ID) !== 0;
    if (byBuildId && (low & STACKID.userStack) === 0) return toBigInt(-EINVAL);
    const each = byBuildId ? STACK_BUILD_ID.size : 8;
    if (size % each !== 0) return toBigInt(-EINVAL);
    const skip = low & STACKID.skipMask;
    let frames: readonly number[];
    try {
      const stack = stacks.id(size / each + skip, getStack as AnyFunction);
      if (stack === 0) return toBigInt(-ENOMEM);
      frames = stacks.frames(stack);
    } catch {
      return toBigInt(-EFAULT);
    }
    if (frames.length <= skip) return toBigInt(-EFAULT);
    let at = buffer;
    for (let i = skip; i < frames.length && at + each <= buffer + size; i++) {
      if (byBuildId) put32(at, STACK_BUILD_ID.isAddress);
      const address = byBuildId ? at + STACK_BUILD_ID.address : at;
      put32(address, frames[i]! * FRAME_ADDRESS.step);
      put32(address + 4, FRAME_ADDRESS.high);
      at += each;
    }
    return toBigInt(at - buffer);
  }

  return {
    get_stackid: getStackid,
    get_stack: getStack,
    // Of a probe on a function: where it begins, also when it returns. Events have no address.
    get_func_ip: () => registers[PT_REGS.ip >> 3]!,
    get_attach_cookie: () => registers[PT_REGS.bx >> 3]!,
    // Every program that an array may hold is in the table of programs, so that there is none to go on with.
    tail_call: () => 0,
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
