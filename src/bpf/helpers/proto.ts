/**
 * The form of a helper's declaration (`struct bpf_func_proto`, include/linux/bpf.h): one for verifier, interpreter and JIT.
 */

/** enum bpf_arg_type: the kernel's names in lower case, shorter for memory. */
export type ArgType =
  | 'anything'
  | 'scalar'
  | 'const_map_ptr'
  /** Memory of the map's key size, readable. */
  | 'map_key'
  /** Memory of the map's value size, readable. */
  | 'map_value'
  /** Memory of the map's value size that the helper writes, may be uninitialised. */
  | 'uninit_map_value'
  /** Memory read by the helper; the next argument is its size. */
  | 'mem'
  | 'mem_or_null'
  /** Memory read by the helper, of `fixedSize`. */
  | 'mem_fixed'
  /** Memory of `fixedSize` that the helper writes, aligned to it. */
  | 'uninit_mem_fixed'
  /** Memory written by the helper, may be uninitialised; the next argument is its size. */
  | 'uninit_mem'
  /** Memory read and written by the helper; the next argument is its size. */
  | 'mem_rw'
  /** Size of the memory before; above 0. */
  | 'const_size'
  | 'const_size_or_zero'
  /** A scalar that the verifier knows: size of an allocation. */
  | 'const_alloc_size_or_zero'
  /** What a reserving helper returned; the call releases it. */
  | 'ringbuf_mem_release'
  | 'ctx'
  | 'ctx_or_null'
  /** A function of this program (BPF_PSEUDO_FUNC). */
  | 'func'
  /** Any pointer into the stack, or 0: given on to a callback. */
  | 'stack_or_null'
  /** A NUL-terminated constant string in a read-only map. */
  | 'const_str'
  | 'ptr_to_sock_common'
  | 'btf_id_sock_common'
  | 'btf_id_sock_common_or_null'
  | 'ptr_to_socket'
  | 'ptr_to_socket_or_null'
  /** A kernel structure, named in `structs`. */
  | 'ptr_to_btf_id'
  | 'ptr_to_btf_id_or_null'
  | 'ptr_to_percpu_btf_id'
  /** A `ptr_to_btf_id` or socket that the call releases. */
  | 'btf_id_sock_common_release'
  | 'ptr_to_spin_lock'
  | 'ptr_to_timer'
  | 'kptr_xchg_dest'
  | 'btf_id_or_null_release'
  /** A value for a storage map: NULL, or memory of its value size. */
  | 'map_value_or_null'
  /** A dynptr on the stack: initialised; to be initialised (of `dynptr`'s kind); released. */
  | 'ptr_to_dynptr'
  | 'ptr_to_dynptr_rdonly'
  | 'ptr_to_dynptr_uninit'
  | 'ptr_to_dynptr_release';

/** enum bpf_return_type */
export type RetType =
  | 'integer'
  | 'void'
  | 'map_value'
  | 'map_value_or_null'
  | 'ringbuf_mem_or_null'
  | 'dynptr_mem_or_null'
  | 'socket_or_null'
  | 'sock_common_or_null'
  | 'tcp_sock_or_null'
  | 'mem_or_btf_id'
  | 'mem_or_btf_id_or_null'
  /** `retStruct` */
  | 'btf_id'
  | 'btf_id_trusted'
  | 'btf_id_or_null';

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
  /** Names of the structures of `ptr_to_btf_id` arguments, in their order. */
  readonly structs?: readonly string[];
  readonly retStruct?: string;
  /** Kind of the dynptr that is made. */
  readonly dynptr?: 'local' | 'ringbuf';
  /** Types of the maps that the `const_map_ptr` argument may be; any when absent. */
  readonly maps?: readonly string[];
  /** Program types that may call it; those of prog-types/helpers.ts when absent. */
  readonly progTypes?: readonly string[];
  /** Only for programs with a GPL compatible licence. */
  readonly gplOnly?: boolean;
  /** Memory arguments may be packet data (`pkt_access`). */
  readonly pktAccess?: boolean;
  /** Packet pointers are stale after the call (bpf_helper_changes_pkt_data). */
  readonly changesPacket?: boolean;
  /** Only in sleepable programs. */
  readonly maySleep?: boolean;
  /** The result is within [-4095, max], where the kernel's verifier refines it (do_refine_retval_range). */
  readonly boundedBySize?: boolean;
  readonly wasm: { readonly params: readonly WasmType[]; readonly result: WasmType | undefined };
}
