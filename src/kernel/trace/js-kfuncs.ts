/**
 * Kernel functions (kfuncs) that read JavaScript values. They are the probe_read_kernel() of this kernel: none of them
 * runs code of the application, a failed read returns 0 or an empty string and counts a fault against its path.
 * Programs call them with BPF_PSEUDO_KFUNC_CALL and these ids.
 */

import type { KfuncDecl } from '../../bpf/helpers/kfunc.ts';

export type { KfuncArg, KfuncDecl, KfuncResult } from '../../bpf/helpers/kfunc.ts';

export const JS_KFUNCS = {
  /** u64 js_path(u64 value, u32 path): the value a property path leads to, as registers hold values. */
  js_path: { id: 1, name: 'js_path', args: ['u64', 'const'], result: 'slot64' },
  /** s32 js_str(void *dst, u32 size, u64 value, u32 path): the string as UTF-8, NUL-terminated and zero-filled to size;
   *  bytes written including the NUL, or a negative errno (dst is then all zero). Path 0 is the value itself. */
  js_str: { id: 2, name: 'js_str', args: ['mem_out', 'size', 'u64', 'const'], result: 's32' },
  /** s32 js_value(void *dst, u32 size, u64 value, u32 path): a tagged value (struct js_value, see JS_VALUE). */
  js_value: { id: 3, name: 'js_value', args: ['mem_out', 'size', 'u64', 'const'], result: 's32' },
  /** s32 js_buf(void *dst, u32 size, u64 value, u32 path): bytes of a Buffer, typed array or ArrayBuffer, zero-filled. */
  js_buf: { id: 4, name: 'js_buf', args: ['mem_out', 'size', 'u64', 'const'], result: 's32' },
  /** s32 js_len(u64 value, u32 path): length of a string (UTF-16 units), array or bytes; size of a Map or Set. */
  js_len: { id: 5, name: 'js_len', args: ['u64', 'const'], result: 's32' },
  /** u64 js_id(u64 value): a stable number for an object's identity; integers are returned as they are. */
  js_id: { id: 6, name: 'js_id', args: ['u64'], result: 'slot64' },
  /** u64 js_arg(u32 n): any argument, also beyond the sixth. */
  js_arg: { id: 7, name: 'js_arg', args: ['u32'], result: 'slot64' },
  /** s32 js_stackid(u32 depth): interns the current JavaScript stack; its id (from 1). */
  js_stackid: { id: 8, name: 'js_stackid', args: ['u32'], result: 's32' },
  /** u64 js_asyncid(void): the number of the current asynchronous context. */
  js_asyncid: { id: 9, name: 'js_asyncid', args: [], result: 'f64' },
  /** s32 js_truthy(u64 value, u32 path): 1 where JavaScript would take the branch, else 0. */
  js_truthy: { id: 10, name: 'js_truthy', args: ['u64', 'const'], result: 's32' },
  /**
   * u64 js_at(u64 value, u64 key, u32 path): the property `key`, a number or a string, of what the path leads to. As it is: what
   * is no integer of 32 bits (undefined, 1.5, true too) is a handle, for the other js_* to read.
   */
  js_at: { id: 11, name: 'js_at', args: ['u64', 'u64', 'const'], result: 'slot64' },
} as const satisfies Record<string, KfuncDecl>;

/** Kernel functions that are instructions of this machine. */
export const INLINE_KFUNCS = {
  /** s32 clz64(u64 value): leading zero bits, 64 for 0. */
  clz64: { id: 64, name: 'clz64', args: ['u64'], result: 's32', inline: 'clz64' },
} as const satisfies Record<string, KfuncDecl>;

/** Everything a tracing program may call. */
export const JS_KFUNC_DECLS: readonly KfuncDecl[] = [
  ...Object.values(JS_KFUNCS),
  ...Object.values(INLINE_KFUNCS),
];

export type JsKfuncName = keyof typeof JS_KFUNCS;

/**
 * struct js_value { u32 tag; u32 len; u8 data[]; }: a JavaScript value as bytes, zero-filled, so that equal values are
 * equal map keys. `len` is the number of data bytes used (a string's true UTF-8 length when it was cut).
 */
export const JS_VALUE = {
  headerSize: 8,
  tags: {
    undefined: 0,
    null: 1,
    /** data: u64 0 or 1 */
    boolean: 2,
    /** data: s64 (safe integers, and bigints that fit) */
    int: 3,
    /** data: f64 */
    double: 4,
    /** data: UTF-8 */
    string: 5,
    /** data: UTF-8, a bounded literal such as `{ url: '/x', n: 2 }` or `[1, 2]`, written without running application code */
    object: 6,
    /** data: UTF-8, the function's name */
    function: 7,
    /** data: UTF-8, the description */
    symbol: 8,
    /** data: UTF-8 decimal digits, of a bigint beyond 64 bits */
    bigint: 9,
    /** data: UTF-8, `name: message` from own data properties */
    error: 10,
  },
} as const;

/** A property path at one place of a script. Entry 0 of a table is the empty path. */
export interface PropertyPath {
  /** Property names; a number is an array index. */
  readonly keys: readonly (string | number)[];
  /** Where failed reads are reported, as an index into the script's positions. */
  readonly position: number;
}
