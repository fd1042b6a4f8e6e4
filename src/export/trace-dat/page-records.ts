/** The records of a page, of which nothing is taken for granted (libtraceevent's kbuffer). */
import {
  MISSED_EVENTS,
  MISSED_STORED,
  TS_MASK,
  TS_MSB,
  TS_SHIFT,
  TYPE_PADDING,
  TYPE_TIME_EXTEND,
  TYPE_TIME_STAMP,
} from '../../kernel/trace/ring-buffer/page.ts';
import { badFile } from './layout.ts';

/** Where a page has its parts, as `header_page` says. */
export interface PageShape {
  readonly commitOffset: number;
  readonly commitSize: 4 | 8;
  readonly dataOffset: number;
}

/** The low bits of the commit word that are a size. */
const COMMIT_MASK = (1 << 27) - 1;

/** A record in a page. `data` is a view into it. */
export interface PageRecord {
  readonly ts: bigint;
  readonly data: Uint8Array;
  /** Events that were lost in front of it; -1 where their number is not known. */
  readonly lost?: number;
}

export function parseHeaderPage(text: string): PageShape {
  const field = (name: string): { offset: number; size: number } => {
    const match = new RegExp(`\\b${name};\\s*offset:(\\d+);\\s*size:(\\d+);`).exec(text);
    if (match === null) throw badFile(`header_page has no field ${name}`);
    return { offset: Number(match[1]), size: Number(match[2]) };
  };
  const commit = field('commit');
  const { offset: dataOffset } = field('data');
  const end = commit.offset + commit.size;
  if ((commit.size !== 4 && commit.size !== 8) || commit.offset < 8 || dataOffset < end || dataOffset > 64)
    throw badFile('header_page describes no page');
  return { commitOffset: commit.offset, commitSize: commit.size, dataOffset };
}

/** The records of one page, in its order. ETRACEDAT where an event reaches over the data's end. */
export function* pageRecords(page: Uint8Array, shape: PageShape): IterableIterator<PageRecord> {
  const { dataOffset } = shape;
  if (page.length < dataOffset) throw badFile('a page is shorter than its head');
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  let ts = view.getBigUint64(0, true);
  const word = view.getUint32(shape.commitOffset, true);
  const commit = word & COMMIT_MASK;
  if (dataOffset + commit > page.length)
    throw badFile(`a page has ${commit} bytes of data where it has no room`);
  let lost = 0;
  if ((word & MISSED_EVENTS) !== 0) {
    lost = -1;
    if ((word & MISSED_STORED) !== 0 && dataOffset + commit + shape.commitSize <= page.length)
      lost = view.getUint32(dataOffset + commit, true);
  }
  const end = dataOffset + commit;
  for (let at = dataOffset; at + 4 <= end; ) {
    const head = view.getUint32(at, true);
    const type = head & 31;
    const delta = BigInt(head >>> 5);
    const second = (): number => {
      if (at + 8 > end) throw badFile('an event reaches over the end of its page');
      return view.getUint32(at + 4, true);
    };
    if (type === TYPE_PADDING) {
      // Without a delta it is the end of the page.
      if (delta === 0n) return;
      at += second() + 4;
      continue;
    }
    if (type === TYPE_TIME_EXTEND) {
      ts += (BigInt(second()) << TS_SHIFT) + delta;
      at += 8;
      continue;
    }
    if (type === TYPE_TIME_STAMP) {
      ts = (BigInt(second()) << TS_SHIFT) | (delta & TS_MASK) | (ts & TS_MSB);
      at += 8;
      continue;
    }
    ts += delta;
    const start = type === 0 ? at + 8 : at + 4;
    const next = type === 0 ? at + 4 + second() : start + type * 4;
    if (next > end || next < start) throw badFile('an event reaches over the end of its page');
    const data = page.subarray(start, next);
    yield lost === 0 ? { ts, data } : { ts, data, lost };
    lost = 0;
    at = next;
  }
}
