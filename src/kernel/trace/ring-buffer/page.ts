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

export const TS_SHIFT = 27n;
export const TS_MASK = (1n << TS_SHIFT) - 1n;
/** Upper bits of a time that an absolute stamp leaves out. */
export const TS_MSB = 0xf8n << 56n;

export const EVENT_HEADER_SIZE = 4;
export const TIME_EXTEND_SIZE = 8;
export const EVENT_MIN_SIZE = 8;

export const MISSED_EVENTS = 1 << 31;
export const MISSED_STORED = 1 << 30;

/** A page in a CPU's ring (`struct buffer_page`). */
export class Page {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView;
  next!: Page;
  prev!: Page;
  /** Bytes of data written. */
  write = 0;
  /** Bytes of data read. */
  read = 0;
  entries = 0;
  /** Where the events end in front of a padding; 0 when nothing was padded. */
  realEnd = 0;

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
    this.view = new DataView(this.bytes.buffer);
  }

  get timeStamp(): bigint {
    return this.view.getBigUint64(0, true);
  }

  set timeStamp(ts: bigint) {
    this.view.setBigUint64(0, ts, true);
  }

  clear(): void {
    this.write = 0;
    this.read = 0;
    this.entries = 0;
    this.realEnd = 0;
    this.bytes.fill(0, 0, PAGE_HEADER_SIZE);
  }
}

export interface PageEvent {
  readonly type: number;
  /** Bytes of the event with its header. */
  readonly size: number;
  /** Time behind this event. */
  readonly ts: bigint;
  /** Where the data begins in the page's bytes, and its length; of data events only. */
  readonly start: number;
  readonly length: number;
}

/** The event at `offset` of a page's data; `ts` is the time of the one before. */
export function eventAt(view: DataView, offset: number, ts: bigint): PageEvent {
  const at = PAGE_HEADER_SIZE + offset;
  const word = view.getUint32(at, true);
  const type = word & 31;
  const delta = BigInt(word >>> 5);
  const second = (): bigint => BigInt(view.getUint32(at + 4, true));
  switch (type) {
    case TYPE_PADDING:
      // Without a delta it is the end of the page.
      if (delta === 0n) return { type, size: 0, ts, start: 0, length: 0 };
      return { type, size: view.getUint32(at + 4, true) + EVENT_HEADER_SIZE, ts, start: 0, length: 0 };
    case TYPE_TIME_EXTEND:
      return { type, size: TIME_EXTEND_SIZE, ts: ts + (second() << TS_SHIFT) + delta, start: 0, length: 0 };
    case TYPE_TIME_STAMP:
      return {
        type,
        size: TIME_EXTEND_SIZE,
        ts: (second() << TS_SHIFT) | delta | (ts & TS_MSB),
        start: 0,
        length: 0,
      };
    case 0: {
      const size = view.getUint32(at + 4, true) + EVENT_HEADER_SIZE;
      return { type, size, ts: ts + delta, start: at + 8, length: size - 8 };
    }
    default:
      return { type, size: EVENT_HEADER_SIZE + type * 4, ts: ts + delta, start: at + 4, length: type * 4 };
  }
}
