/**
 * How a kernel function (kfunc) is declared. Programs call kfuncs with BPF_PSEUDO_KFUNC_CALL and the declaration's id;
 * which exist is the business of whoever loads the program (the tracer's are in `src/kernel/trace/js-kfuncs.ts`).
 */

/** How a kfunc argument is checked by the verifier and passed to JavaScript. */
export type KfuncArg =
  /** Any scalar; passed as two i32, low word first. */
  | 'u64'
  /** A scalar of which the low 32 bits count; passed as one i32. */
  | 'u32'
  /** A constant known to the verifier; passed as one i32. */
  | 'const'
  /** Memory written by the kfunc; its size is the next argument. Passed as one i32 address. */
  | 'mem_out'
  /** Size of the preceding memory, 1 to 1 MiB and proven in bounds. Passed as one i32. */
  | 'size';

/** How the result arrives in r0. */
export type KfuncResult =
  /** i32 result, sign-extended. */
  | 's32'
  /** f64 result, an integer below 2^53, converted. */
  | 'f64'
  /** The kfunc leaves 8 bytes at the per-CPU result slot and returns nothing. */
  | 'slot64'
  /** Nothing: r0 is unreadable after the call. */
  | 'void';

/** Kernel functions as kernel/bpf declares them; for the verifier. */
export interface KernelKfunc {
  readonly name: string;
  /**
   * What each argument is: `int`, `const` (__k), `ctx`, `map`, `iter:NAME`, `dynptr`, `dynptr_uninit`, `ptr:STRUCT` (with `?` behind
   * it: may be NULL), `mem:BYTES`, `mem` and then `size` (`mem_or_null`, `size_const`), `str`, `alloc`, `alloc_percpu`, `refcounted`,
   * `rb_root`, `rb_node`, `list_head`, `list_node`, `func`, `wq`, `any` (`any64`: all 64 bits of it count).
   */
  readonly args: readonly string[];
  /**
   * `void`, `int`, `int64` (all of r0 counts), `ptr:STRUCT`, `mem:BYTES`, `slice` (of the size argument), `obj` (of the type argument), `node`, `kern_ctx` (what the
   * kernel has as the program's context), `rdonly_cast` (the target's type that the constant argument names).
   */
  readonly ret: string;
  /** KF_* flags in lower case: acquire release ret_null trusted_args rcu rcu_protected sleepable destructive iter_new iter_next iter_destroy. */
  readonly flags: readonly string[];
  /** Program types that may call it; every type when absent. */
  readonly progTypes?: readonly string[];
}

export interface KfuncDecl {
  readonly id: number;
  readonly name: string;
  readonly args: readonly KfuncArg[];
  readonly result: KfuncResult;
  /** Emitted in place, nothing is imported: `clz64` gives the leading zero bits of its one `u64`, 0 to 64. Its result is `s32`. */
  readonly inline?: 'clz64';
  /** Checked as this function of the kernel is; `args` and `result` only say how it is called. */
  readonly kernel?: KernelKfunc;
}
