/** Types of registers and their flags (enum bpf_reg_type, enum bpf_type_flag), and how the log names them (reg_type_str of kernel/bpf/log.c). */
import type { Btf } from '../btf/btf.ts';

/** enum bpf_reg_type. */
export type RegType =
  | 'not_init'
  | 'scalar'
  | 'ctx'
  | 'map_ptr'
  | 'map_key'
  | 'map_value'
  | 'fp'
  | 'mem'
  | 'func'
  | 'pkt'
  | 'pkt_meta'
  | 'pkt_end'
  | 'flow_keys'
  | 'sock'
  | 'sock_common'
  | 'tcp_sock'
  | 'xdp_sock'
  | 'tp_buffer'
  | 'ptr_'
  | 'buf'
  | 'arena'
  | 'dynptr_ptr';

/** Type flags (enum bpf_type_flag), `Reg.flags`. */
export const F_RDONLY = 1;

/** Memory of bpf_obj_new (MEM_ALLOC). */
export const F_ALLOC = 2;
export const F_USER = 4;
export const F_PERCPU = 8;
export const F_UNTRUSTED = 16;
export const F_TRUSTED = 32;
export const F_RCU = 64;

/** Valid as long as the lock is held (NON_OWN_REF). */
export const F_NON_OWN = 128;

/** The verifier's view of a BTF that types come from. */
export interface StructRef {
  readonly btf: Btf;
  /** The program's own types (bpf_obj_new), not the target's. */
  readonly isLocal: boolean;
}

/** Kinds of dynptr (enum bpf_dynptr_type). */
export type DynptrKind = 'local' | 'ringbuf' | 'skb' | 'xdp';

/** reg_type_str */
export function typeString(type: RegType, flags: number, nullable: boolean, ringbuf = false): string {
  const base = type === 'not_init' ? '?' : type;
  if (flags === 0 && !ringbuf && !nullable) return base;
  let prefix = '';
  if ((flags & F_RDONLY) !== 0) prefix += 'rdonly_';
  if (ringbuf) prefix += 'ringbuf_';
  if ((flags & F_USER) !== 0) prefix += 'user_';
  if ((flags & F_PERCPU) !== 0) prefix += 'percpu_';
  if ((flags & F_RCU) !== 0) prefix += 'rcu_';
  if ((flags & F_UNTRUSTED) !== 0) prefix += 'untrusted_';
  if ((flags & F_TRUSTED) !== 0) prefix += 'trusted_';
  return `${prefix}${base}${nullable ? (type === 'ptr_' ? 'or_null_' : '_or_null') : ''}`;
}
