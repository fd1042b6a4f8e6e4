/**
 * A sub-buffer as `trace_pipe_raw` gives it (`struct buffer_data_page`), little-endian:
 *
 *     0   u64 time_stamp   of the first event
 *     8   u64 commit       bytes of data; bit 31: events were lost in front, bit 30: their number is behind the data
 *     16  events
 *
 * An event begins with a u32: `type_len` in the low 5 bits, `time_delta` in the upper 27.
 */
export const PAGE_SIZE = 4096;
export const PAGE_HEADER_SIZE = 16;

/** Data of up to this many words has its length in `type_len`; longer data has it in the word behind. */
export const TYPE_LEN_MAX = 28;
export const TYPE_PADDING = 29;
export const TYPE_TIME_EXTEND = 30;
export const TYPE_TIME_STAMP = 31;

/** Bits of a delta in an event's first word, and the largest. */
export const DELTA_BITS = 27;
export const DELTA_MAX = 2 ** DELTA_BITS - 1;
/** The same as BigInts, and the upper bits of a time that an absolute stamp leaves out. */
export const TS_SHIFT = 27n;
export const TS_MASK = (1n << TS_SHIFT) - 1n;
export const TS_MSB = 0xf8n << 56n;
const TS_MSB_HIGH = 0xf800_0000;

export const EVENT_HEADER_SIZE = 4;
export const TIME_EXTEND_SIZE = 8;
export const EVENT_MIN_SIZE = 8;

export const MISSED_EVENTS = 1 << 31;
export const MISSED_STORED = 1 << 30;

/** Bytes that an event with so much data takes, its header among them (rb_calculate_event_length()). */
export function eventSize(length: number): number {
  let size = length === 0 ? 1 : length;
  if (size > TYPE_LEN_MAX * 4) size += 4;
  size = (size + EVENT_HEADER_SIZE + 3) & ~3;
  // A time extend can take the place of any event that is discarded.
  return size === TIME_EXTEND_SIZE ? size + 4 : size;
}

/** Steps through the events of a page. Times are two words, as a BigInt for each event costs more than the event. */
export class EventCursor {
  /** Of the event that next() has come to: bytes with its header. 0 where no event follows. */
  size = 0;
  /** Where its data begins, in bytes of the memory; 0 where it has none: padding, a time. */
  start = 0;
  length = 0;
  /** The time behind it. */
  low = 0;
  high = 0;

  setTime(low: number, high: number): void {
    this.low = low;
    this.high = high;
  }

  /** The event at byte `at` of the memory whose words these are; the cursor's time is that of the one before. */
  next(words: Uint32Array, at: number): void {
    const word = words[at >> 2] as number;
    const type = word & 31;
    const delta = word >>> 5;
    this.start = 0;
    this.length = 0;
    switch (type) {
      case TYPE_PADDING:
        // Without a delta it is the end of the page.
        this.size = delta === 0 ? 0 : (words[(at >> 2) + 1] as number) + EVENT_HEADER_SIZE;
        return;
      case TYPE_TIME_EXTEND: {
        const second = words[(at >> 2) + 1] as number;
        this.size = TIME_EXTEND_SIZE;
        this.#add(((second << DELTA_BITS) | delta) >>> 0, second >>> (32 - DELTA_BITS));
        return;
      }
      case TYPE_TIME_STAMP: {
        const second = words[(at >> 2) + 1] as number;
        this.size = TIME_EXTEND_SIZE;
        this.low = ((second << DELTA_BITS) | delta) >>> 0;
        this.high = ((second >>> (32 - DELTA_BITS)) | (this.high & TS_MSB_HIGH)) >>> 0;
        return;
      }
      case 0:
        this.size = (words[(at >> 2) + 1] as number) + EVENT_HEADER_SIZE;
        this.start = at + 8;
        this.length = this.size - 8;
        break;
      default:
        this.length = type * 4;
        this.size = EVENT_HEADER_SIZE + this.length;
        this.start = at + EVENT_HEADER_SIZE;
    }
    this.#add(delta, 0);
  }

  #add(low: number, high: number): void {
    const sum = this.low + low;
    this.low = sum >>> 0;
    this.high = (this.high + high + (sum > 0xffff_ffff ? 1 : 0)) >>> 0;
  }
}

const wide = new BigUint64Array(1);
const halves = new Uint32Array(wide.buffer);

/** A time of two words. */
export function joinTime(low: number, high: number): bigint {
  halves[0] = low;
  halves[1] = high;
  return wide[0] as bigint;
}

/** The low word of a time; splitHigh() then gives the other. */
export function splitLow(ts: bigint): number {
  wide[0] = ts;
  return halves[0] as number;
}

export function splitHigh(): number {
  return halves[1] as number;
}
