/**
 * The form of a context's description: plain data that verifier, machine and JIT read alike. A context lies in memory in the layout
 * that programs see (`struct __sk_buff`, `struct xdp_md` …), so that loads need no conversion; pointers in it are linear-memory addresses.
 */

/** What a load of a context field gives when it is no number. */
export interface CtxPointer {
  readonly type:
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
    | 'mem'
    | 'scalar';
  readonly nullable?: boolean;
  /** Flags of the register (`F_*` of verifier/reg.ts). */
  readonly flags?: number;
  /** `ptr_`: name of the structure in the target BTF. */
  readonly struct?: string;
  /** `ptr_`: type id in the target BTF. */
  readonly btfId?: number;
  readonly memSize?: number;
  readonly refObjId?: number;
  /** `scalar`: values that the low half may have, as a signed number. */
  readonly range?: readonly [number, number];
}

export type CtxResult = 'scalar' | CtxPointer | undefined;

/** One field: `mode` is how it may be read and written. */
export interface Field {
  readonly name: string;
  readonly off: number;
  /** Bytes, of all elements together. */
  readonly size: number;
  /** Bytes that a plain access has. */
  readonly unit: 1 | 2 | 4 | 8;
  /** Parts of `unit` may be read (bpf_ctx_narrow_access_ok); 'start': only its first bytes. */
  readonly narrow?: boolean | 'start';
  /** Two words of a longer field at once, at a multiple of 8 (bpf_ctx_wide_access_ok). */
  readonly wide?: boolean;
  readonly read?: boolean;
  readonly write?: boolean;
  /** Reading gives a pointer. */
  readonly pointer?: CtxPointer;
}

/** A structure by its fields; padding belongs to none and may not be touched. */
export interface Layout {
  readonly name: string;
  readonly size: number;
  readonly fields: readonly Field[];
}

type Options = Partial<Omit<Field, 'name' | 'off' | 'size'>>;
/** `name: [offset, bytes, options]` */
export type FieldList = Readonly<Record<string, readonly [off: number, size: number, options?: Options]>>;

export function layout(name: string, size: number, list: FieldList): Layout {
  return {
    name,
    size,
    fields: Object.entries(list).map(([field, [off, bytes, options]]) => ({
      name: field,
      off,
      size: bytes,
      unit: bytes === 8 || bytes === 2 || bytes === 1 ? bytes : 4,
      read: true,
      ...options,
    })),
  };
}

/** Which fields a program type may read and write, on top of a layout: names, or the layout's own rules. */
export interface FieldRules {
  readonly hidden?: ReadonlySet<string>;
  readonly writable?: ReadonlySet<string>;
  /** Instead of what the layout says reading gives. */
  readonly pointers?: Readonly<Record<string, CtxPointer>>;
}

/** The access function of a layout: aligned, inside of one field. */
export function accessOf(
  { size: total, fields }: Layout,
  { hidden, writable, pointers }: FieldRules = {},
): (off: number, size: number, write: boolean) => CtxResult {
  return (off, size, write) => {
    if (off < 0 || off >= total || off % size !== 0) return undefined;
    const field = fields.find((one) => off >= one.off && off < one.off + one.size);
    if (field === undefined || hidden?.has(field.name) === true) return undefined;
    const isWide = field.wide === true && size === 8 && off % 8 === 0 && off + 8 <= field.off + field.size;
    if (write) {
      const may = writable === undefined ? field.write === true : writable.has(field.name);
      if (!may) return undefined;
      return size === field.unit || isWide ? 'scalar' : undefined;
    }
    if (field.read === false) return undefined;
    const sizeOk =
      size === field.unit ||
      isWide ||
      (field.narrow === true && size <= field.unit) ||
      (field.narrow === 'start' && off === field.off && size <= field.unit);
    if (!sizeOk) return undefined;
    return pointers?.[field.name] ?? field.pointer ?? 'scalar';
  };
}

export const PKT: CtxPointer = { type: 'pkt' };
export const PKT_META: CtxPointer = { type: 'pkt_meta' };
export const PKT_END: CtxPointer = { type: 'pkt_end' };
export const SOCK: CtxPointer = { type: 'sock' };
export const SOCK_OR_NULL: CtxPointer = { type: 'sock', nullable: true };
export const SOCK_COMMON_OR_NULL: CtxPointer = { type: 'sock_common', nullable: true };
