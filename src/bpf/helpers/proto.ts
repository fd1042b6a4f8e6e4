/**
 * The form of a helper's declaration (`struct bpf_func_proto`, include/linux/bpf.h): one for verifier, interpreter and JIT.
 */

/** enum bpf_arg_type, as far as declared helpers need it. */
export type ArgType =
  | 'anything'
  | 'const_map_ptr'
  /** Memory of the map's key size, readable. */
  | 'map_key'
  /** Memory of the map's value size, readable. */
  | 'map_value'
  /** Memory read by the helper; the next argument is its size. */
  | 'mem'
  | 'mem_or_null'
  /** Memory read by the helper, of `fixedSize`. */
  | 'mem_fixed'
  /** Memory written by the helper, may be uninitialised; the next argument is its size. */
  | 'uninit_mem'
  /** Size of the memory before; above 0. */
  | 'const_size'
  | 'const_size_or_zero'
  /** A scalar that the verifier knows: size of an allocation. */
  | 'const_alloc_size_or_zero'
  /** What a reserving helper returned; the call releases it. */
  | 'ringbuf_mem_release'
  | 'ctx'
  /** A function of this program (BPF_PSEUDO_FUNC). */
  | 'func'
  /** Any pointer into the stack, or 0: given on to a callback. */
  | 'stack_or_null'
  /** A NUL-terminated constant string in a read-only map. */
  | 'const_str';

/** enum bpf_return_type */
export type RetType = 'integer' | 'void' | 'map_value_or_null' | 'ringbuf_mem_or_null';

/** WebAssembly parameter and result types of the import `helper.<name>`. Pointers are i32 addresses, maps i32 indexes. */
export type WasmType = 'i32' | 'i64';

export interface HelperProto {
  readonly id: number;
  /** The kernel's name without `bpf_`. */
  readonly name: string;
  readonly args: readonly ArgType[];
  readonly ret: RetType;
  /** Bytes of a `mem_fixed` argument. */
  readonly fixedSize?: number;
  /** Types of the maps that the `const_map_ptr` argument may be; any when absent. */
  readonly maps?: readonly string[];
  /** Program types that may call it; every type when absent. */
  readonly progTypes?: readonly string[];
  /** Only for programs with a GPL compatible licence. */
  readonly gplOnly?: boolean;
  /** The result is within [-4095, max], where the kernel's verifier refines it (do_refine_retval_range). */
  readonly boundedBySize?: boolean;
  readonly wasm: { readonly params: readonly WasmType[]; readonly result: WasmType | undefined };
}
