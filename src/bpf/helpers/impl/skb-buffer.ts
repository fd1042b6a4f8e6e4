/** A socket buffer as helpers change it: bounds, headers, room before and behind the packet (net/core/skbuff.c). */
import { SK_BUFF, SK_BUFF_PRIVATE } from '../../sk-buff.ts';
import { type HelperContext, view } from './context.ts';

/** The block of a test run, but for struct skb_shared_info behind the packet. */
const ROOM = 4096 - 320;
export const MAX_LENGTH = 65536;
/** The largest offset that helpers take. */
export const MAX_OFFSET = 0xffff;
export const ETH_P_IP = 0x0800;
export const ETH_P_IPV6 = 0x86dd;
export const SKB_META = { dataMeta: 140, tstamp: 152, tstampType: 180 } as const;

export class Skb {
  readonly #c: HelperContext;
  readonly #at: number;

  constructor(c: HelperContext, ctx: number) {
    this.#c = c;
    this.#at = ctx >>> 0;
  }

  get(field: number): number {
    return view(this.#c).data.getUint32(this.#at + field, true);
  }
  set(field: number, value: number): void {
    view(this.#c).data.setUint32(this.#at + field, value >>> 0, true);
  }
  get data(): number {
    return this.get(SK_BUFF.data);
  }
  get length(): number {
    return this.get(SK_BUFF.len);
  }
  get headroom(): number {
    return this.data - this.get(SK_BUFF_PRIVATE.head);
  }
  /** Only a packet with room before it lies in a block of its own. */
  get tailroom(): number {
    const head = this.get(SK_BUFF_PRIVATE.head);
    return head === this.get(SK_BUFF_PRIVATE.macHeader)
      ? 0
      : Math.max(0, head + ROOM - this.data - this.length);
  }
  get networkOffset(): number {
    return this.get(SK_BUFF_PRIVATE.networkHeader) - this.data;
  }
  get macLength(): number {
    return this.get(SK_BUFF_PRIVATE.networkHeader) - this.get(SK_BUFF_PRIVATE.macHeader);
  }
  /** Host order. */
  get protocol(): number {
    return view(this.#c).data.getUint16(this.#at + SK_BUFF.protocol, false);
  }
  set protocol(value: number) {
    view(this.#c).data.setUint16(this.#at + SK_BUFF.protocol, value, false);
  }
  get u8(): Uint8Array {
    return view(this.#c).u8;
  }

  /** New bounds of the packet; metadata before it is gone (bpf_compute_data_end). */
  place(data: number, length: number): void {
    this.set(SK_BUFF.data, data);
    this.set(SK_BUFF.len, length);
    this.set(SK_BUFF.data_end, data + length);
    this.set(SK_BUFF_PRIVATE.tail, data + length);
    this.set(SKB_META.dataMeta, data);
  }

  /** Room of `size` bytes before the packet, moving it back where that is needed (skb_cow_head). */
  makeHeadroom(size: number): boolean {
    const missing = size - this.headroom;
    if (missing <= 0) return true;
    if (missing > this.tailroom) return false;
    const { data, length } = this;
    const mac = this.get(SK_BUFF_PRIVATE.macHeader);
    const network = this.get(SK_BUFF_PRIVATE.networkHeader);
    const from = Math.min(mac, data);
    this.u8.copyWithin(from + missing, from, data + length);
    this.place(data + missing, length);
    this.set(SK_BUFF_PRIVATE.macHeader, mac + missing);
    this.set(SK_BUFF_PRIVATE.networkHeader, network + missing);
    return true;
  }

  /** bpf_skb_generic_push: `size` zero bytes at `offset`. */
  insert(offset: number, size: number): boolean {
    if (!this.makeHeadroom(size)) return false;
    const { data, length } = this;
    const start = data - size;
    this.u8.copyWithin(start, data, data + offset);
    this.u8.fill(0, start + offset, start + offset + size);
    this.place(start, length + size);
    return true;
  }

  /** bpf_skb_generic_pop */
  remove(offset: number, size: number): boolean {
    const { data, length } = this;
    if (offset + size > length) return false;
    this.u8.copyWithin(data + size, data, data + offset);
    this.place(data + size, length - size);
    return true;
  }

  set16(address: number, value: number): void {
    view(this.#c).data.setUint16(address, value, false);
  }
  get16(address: number): number {
    return view(this.#c).data.getUint16(address, false);
  }
}
