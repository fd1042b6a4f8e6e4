/**
 * JavaScript values as registers hold them (`convert_ctx_access` of this kernel): numbers, booleans and bigints as 64-bit
 * integers, everything else as a handle that lives as long as the hit.
 */

import type { MemoryLayout, PercpuBlock } from '../../kernel/trace/percpu.ts';
import {
  ARG_REGS,
  ARGUMENT_REF,
  HANDLE_SLOT_MASK,
  HANDLE_TAG_HI16,
  PT_REGS,
  PT_REGS_SIZE,
  READS,
  referenceOf,
} from '../../kernel/trace/pt-regs.ts';
import { asIntN, floor, toBigInt, toNumber, trunc } from './intrinsics.ts';
import type { SiteEventState } from './site-code.ts';

export const ENOENT = 2;
export const EFAULT = 14;
export const ESTALE = 116;
export const E2BIG = 7;
export const ENOMEM = 12;
export const EINVAL = 22;

const TAG_HI = (HANDLE_TAG_HI16 << 16) | 0;
/** Bits 10 to 31 of the low word and 0 to 15 of the high word hold the generation. */
const GENERATION_STEP = HANDLE_SLOT_MASK + 1;
const TWO_63 = 2 ** 63;
const MAX_BIGINT = 2n ** 64n;
const MIN_BIGINT = -(2n ** 63n);

/** A read that failed, told apart from every JavaScript value. */
export const FAULT: unique symbol = Symbol('fault');

export interface Values {
  readonly memory: WebAssembly.Memory;
  readonly i32: Int32Array;
  readonly u8: Uint8Array;
  readonly f64: Float64Array;
  readonly block: PercpuBlock;
  /** More than 0 while handles of this hit exist. */
  readonly handles: { used: number };
  /** What the hit's registers were converted from, for js_arg() and register references. */
  readonly hit: {
    /** All of them, where the mask has READS.allArgs. */
    args: ArrayLike<unknown> | undefined;
    /** Arguments 0 to 5, each with its bit in `holds`, where the mask has them among READS.refs. */
    readonly held: unknown[];
    holds: number;
    /** The mask has READS.raw: what follows is set. */
    raw: boolean;
    self: unknown;
    value: unknown;
    error: unknown;
  };
  /** Writes a value to two words. */
  put(word: number, value: unknown): void;
  /** The same, but so that resolve() gives the very value again. */
  putExact(word: number, value: unknown): void;
  putHandle(word: number, value: unknown): void;
  /** Words of the registers that sites write themselves. */
  readonly words: { readonly registers: Int32Array; readonly ip: number };
  /**
   * Writes the registers that the event's mask (READS) asks for, but for arguments and the address; `kept` are the arguments where it asks
   * for all of them.
   */
  loadRest(
    event: SiteEventState,
    self: unknown,
    argc: number,
    kept: ArrayLike<unknown> | undefined,
    value: unknown,
    error: unknown,
    failed: boolean,
  ): void;
  setCookie(cookie: number): void;
  /** Zeroes the whole context. */
  clear(): void;
  /** The value a register's words stand for; FAULT (with `errno`) for a stale handle. */
  resolve(lo: number, hi: number): unknown;
  isHandle(hi: number): boolean;
  /** Forgets the values of the hit; its handles no longer resolve. */
  release(): void;
  /** The errno of the last FAULT, and of a put() that had no slot left. */
  readonly failure: { errno: number };
}

export function createValues(memory: WebAssembly.Memory, _layout: MemoryLayout, block: PercpuBlock): Values {
  const { buffer } = memory;
  const i32 = new Int32Array(buffer);
  const u8 = new Uint8Array(buffer);
  const f64 = new Float64Array(buffer, 0, buffer.byteLength >> 3);
  const word = (offset: number) => (block.ctx + offset) >> 2;
  const words = { registers: new Int32Array(ARG_REGS.length), ip: word(PT_REGS.ip) };
  for (let n = 0; n < ARG_REGS.length; n++) words.registers[n] = word(PT_REGS[ARG_REGS[n]!]);
  const THIS = word(PT_REGS.r10);
  const ERROR = word(PT_REGS.r11);
  const ARGC = word(PT_REGS.r12);
  const AX = word(PT_REGS.ax);
  const BX = word(PT_REGS.bx);

  // handles are numbered from 1 up: the list grows to as many as a hit has had
  const slots: unknown[] = [undefined];
  const registers: ReturnType<typeof referenceOf>[] = [];
  for (let i = 0; i < ARGUMENT_REF; i++) registers[i] = referenceOf(i);
  const handles = { used: 0 };
  const held: unknown[] = [];
  for (let n = 0; n < ARG_REGS.length; n++) held[n] = undefined;
  const hit: Values['hit'] = {
    args: undefined,
    held,
    holds: 0,
    raw: false,
    self: undefined,
    value: undefined,
    error: undefined,
  };
  const failure = { errno: 0 };
  let generation = GENERATION_STEP;
  let tag = TAG_HI;

  function putHandle(at: number, value: unknown): void {
    const slot = handles.used + 1;
    if (slot > HANDLE_SLOT_MASK) {
      failure.errno = ENOMEM;
      i32[at] = 0;
      i32[at + 1] = 0;
      return;
    }
    handles.used = slot;
    slots[slot] = value;
    i32[at] = generation | slot;
    i32[at + 1] = tag;
  }

  function putDouble(at: number, value: number): void {
    if (value >= TWO_63) {
      i32[at] = -1;
      i32[at + 1] = 0x7fffffff;
    } else if (value < -TWO_63) {
      i32[at] = 0;
      i32[at + 1] = -0x80000000;
    } else {
      const whole = trunc(value);
      // Both conversions to int32 are modulo 2^32, and NaN gives 0.
      i32[at] = whole | 0;
      i32[at + 1] = floor(whole / 4294967296) | 0;
    }
  }

  function putBigint(at: number, value: bigint): void {
    if (value >= MAX_BIGINT || value < MIN_BIGINT) {
      putHandle(at, value);
    } else {
      const hi = toNumber(asIntN(32, value >> 32n));
      // One that looks like a handle becomes one.
      if (hi >>> 16 === HANDLE_TAG_HI16) {
        putHandle(at, value);
        return;
      }
      i32[at] = toNumber(asIntN(32, value));
      i32[at + 1] = hi;
    }
  }

  function put(at: number, value: unknown): void {
    if (typeof value === 'number') {
      const int = value | 0;
      if (int === value) {
        i32[at] = int;
        i32[at + 1] = int >> 31;
      } else {
        putDouble(at, value);
      }
    } else if (value === undefined || value === null) {
      i32[at] = 0;
      i32[at + 1] = 0;
    } else if (typeof value === 'boolean') {
      i32[at] = value ? 1 : 0;
      i32[at + 1] = 0;
    } else if (typeof value === 'bigint') {
      putBigint(at, value);
    } else {
      putHandle(at, value);
    }
  }

  /** A value that is to be read again: only what a register holds as it is needs no handle. */
  function putExact(at: number, value: unknown): void {
    if (typeof value === 'number' && (value | 0) === value) put(at, value);
    else putHandle(at, value);
  }

  function setCookie(cookie: number): void {
    i32[BX] = cookie;
    i32[BX + 1] = cookie / 4294967296;
  }

  function loadRest(
    { mask, single, cookies }: SiteEventState,
    self: unknown,
    argc: number,
    kept: ArrayLike<unknown> | undefined,
    value: unknown,
    error: unknown,
    failed: boolean,
  ): void {
    if ((mask & READS.this) !== 0) put(THIS, self);
    if ((mask & READS.retval) !== 0) put(AX, value);
    if ((mask & READS.error) !== 0) {
      put(ERROR, failed ? error : undefined);
      // A thrown 0 or undefined is still an error: as a handle, so that the register is not 0.
      if (failed && i32[ERROR] === 0 && i32[ERROR + 1] === 0) putHandle(ERROR, error);
    }
    if ((mask & READS.argc) !== 0) put(ARGC, argc);
    if ((mask & READS.cookie) !== 0 && single !== undefined) setCookie(cookies[0]!);
    if (kept !== undefined) hit.args = kept;
    if ((mask & READS.raw) !== 0) {
      hit.raw = true;
      hit.self = self;
      hit.value = value;
      hit.error = failed ? error : undefined;
    }
  }

  /** The value behind a register reference, as the application has it. */
  function reference(ref: number): unknown {
    const what = ref < ARGUMENT_REF ? registers[ref] : ref - ARGUMENT_REF;
    if (typeof what === 'number') {
      if (what < 6 && ((hit.holds >> what) & 1) !== 0) return held[what];
      const { args } = hit;
      if (args !== undefined) return what < args.length ? args[what] : undefined;
    } else if (hit.raw) {
      if (what === 'r10') return hit.self;
      if (what === 'ax') return hit.value;
      if (what === 'r11') return hit.error;
    }
    failure.errno = ESTALE;
    return FAULT;
  }

  function resolve(lo: number, hi: number): unknown {
    if (hi >>> 16 !== HANDLE_TAG_HI16) return resolveNumber(lo, hi);
    if (hi === TAG_HI && (lo & ~HANDLE_SLOT_MASK) === 0) return reference(lo);
    const slot = lo & HANDLE_SLOT_MASK;
    if (slot !== 0 && slot <= handles.used && (lo & ~HANDLE_SLOT_MASK) === generation && hi === tag) {
      return slots[slot];
    }
    failure.errno = ESTALE;
    return FAULT;
  }

  function resolveNumber(lo: number, hi: number): number | bigint {
    const number = hi * 4294967296 + (lo >>> 0);
    if (number <= 9007199254740991 && number >= -9007199254740991) return number;
    return (toBigInt(hi) << 32n) | toBigInt(lo >>> 0);
  }

  function release(): void {
    for (let slot = handles.used; slot > 0; slot--) slots[slot] = undefined;
    if (handles.used !== 0) {
      handles.used = 0;
      generation = (generation + GENERATION_STEP) | 0;
      if (generation === 0) {
        tag = TAG_HI | ((tag + 1) & 0xffff);
        // Generation 0 of the first tag is that of register references.
        generation = tag === TAG_HI ? GENERATION_STEP : 0;
      }
    }
    for (let i = 0, left = hit.holds; left !== 0; i++, left >>= 1) held[i] = undefined;
    hit.holds = 0;
    hit.args = undefined;
    if (hit.raw) {
      hit.raw = false;
      hit.self = undefined;
      hit.value = undefined;
      hit.error = undefined;
    }
  }

  return {
    memory,
    i32,
    u8,
    f64,
    block,
    handles,
    hit,
    put,
    putExact,
    putHandle,
    words,
    loadRest,
    setCookie,
    clear() {
      for (let w = block.ctx >> 2; w < (block.ctx + PT_REGS_SIZE) >> 2; w++) i32[w] = 0;
    },
    resolve,
    isHandle: (hi) => hi >>> 16 === HANDLE_TAG_HI16,
    release,
    failure,
  };
}
