import { KernelError } from '../../errno.ts';
import type { TraceBuffer, TraceBufferStats } from '../trace-buffer.ts';
import type { TraceRecord } from '../trace-entry.ts';
import { CpuBuffer } from './cpu-buffer.ts';
import { PAGE_HEADER_SIZE, PAGE_SIZE } from './page.ts';

/** Largest buffer of a CPU in KiB: what a page allocator would refuse long before. */
const MAX_CPU_KB = 4 << 20;
const MIN_PAGES = 2;

/** A trace buffer in the pages and events of Linux's ring buffer (kernel/trace/ring_buffer.c), one per CPU. */
export class RingBuffer implements TraceBuffer {
  readonly ncpu: number;
  overwrite = true;
  recording = true;
  /** Records carry absolute stamps (ring_buffer_set_time_stamp_abs()). */
  timeStampAbs = false;
  readonly #now: () => bigint;
  #order = 0;
  readonly #cpus: CpuBuffer[] = [];

  constructor(ncpu: number, sizeKb: number, now: () => bigint) {
    this.ncpu = ncpu;
    this.#now = now;
    for (let cpu = 0; cpu < ncpu; cpu++)
      this.#cpus.push(new CpuBuffer(cpu, this.#pagesOf(sizeKb), PAGE_SIZE));
  }

  get subbufSizeKb(): number {
    return (PAGE_SIZE << this.#order) >> 10;
  }

  /** ring_buffer_subbuf_order_set(): the contents are lost. EINVAL: no power of two, or too large. */
  set subbufSizeKb(sizeKb: number) {
    const order = Math.ceil(Math.log2(Math.max(1, Math.ceil((sizeKb << 10) / PAGE_SIZE))));
    if (sizeKb <= 0 || order > 7) throw new KernelError('EINVAL', 'a sub-buffer has 1 to 128 pages');
    if (order === this.#order) return;
    const sizes = this.#cpus.map((cpu) => cpu.npages * cpu.dataSize);
    this.#order = order;
    const size = PAGE_SIZE << order;
    for (const [cpu, bytes] of sizes.entries())
      this.#cpus[cpu]!.rebuild(Math.max(MIN_PAGES, Math.ceil(bytes / (size - PAGE_HEADER_SIZE))), size);
  }

  /** ring_buffer_max_event_size() */
  get maxEventSize(): number {
    const { dataSize } = this.#cpus[0]!;
    return dataSize - 8 - (this.timeStampAbs ? 8 : 0);
  }

  write(cpu: number, ts: bigint, data: Uint8Array): boolean {
    const buffer = this.#cpus[cpu];
    if (!this.recording || buffer === undefined || data.length > this.maxEventSize) return false;
    return buffer.write(ts, data, this.overwrite, this.timeStampAbs);
  }

  reset(cpu?: number): void {
    for (const buffer of this.#select(cpu)) buffer.reset();
  }

  resize(sizeKb: number, cpu?: number): void {
    if (sizeKb > MAX_CPU_KB) throw new KernelError('ENOMEM', 'the buffer would not fit into memory');
    const npages = this.#pagesOf(sizeKb);
    for (const buffer of this.#select(cpu)) buffer.resize(npages);
  }

  sizeKb(cpu: number): number {
    return this.sizeBytes(cpu) >> 10;
  }

  /** ring_buffer_size() */
  sizeBytes(cpu: number): number {
    const buffer = this.#cpus[cpu]!;
    return buffer.npages * buffer.dataSize;
  }

  stats(cpu: number): TraceBufferStats {
    return this.#cpus[cpu]!.stats(this.#now);
  }

  *iterate(cpu?: number): IterableIterator<TraceRecord> {
    const heads: { iterator: Iterator<TraceRecord>; record: TraceRecord }[] = [];
    for (const buffer of this.#select(cpu)) {
      const iterator = buffer.iterate();
      const first = iterator.next();
      if (first.done !== true) heads.push({ iterator, record: first.value });
    }
    while (heads.length > 0) {
      let oldest = heads[0]!;
      for (const head of heads) if (head.record.ts < oldest.record.ts) oldest = head;
      yield oldest.record;
      const next = oldest.iterator.next();
      if (next.done === true) heads.splice(heads.indexOf(oldest), 1);
      else oldest.record = next.value;
    }
  }

  /** The record that consume() would take. */
  peek(cpu?: number): TraceRecord | undefined {
    let oldest: TraceRecord | undefined;
    for (const buffer of this.#select(cpu)) {
      const record = buffer.peek();
      if (record !== undefined && (oldest === undefined || record.ts < oldest.ts)) oldest = record;
    }
    return oldest;
  }

  consume(cpu?: number): TraceRecord | undefined {
    const record = this.peek(cpu);
    return record === undefined ? undefined : this.#cpus[record.cpu]!.consume();
  }

  readPage(cpu: number, full: boolean): Uint8Array | undefined {
    return this.#cpus[cpu]!.readPage(full);
  }

  swap(other: TraceBuffer, cpu?: number): void {
    if (!(other instanceof RingBuffer)) throw new KernelError('EINVAL', 'the buffers are of different kinds');
    for (const { cpu: n } of this.#select(cpu)) {
      const a = this.#cpus[n]!;
      const b = other.#cpus[n]!;
      if (a.npages !== b.npages || a.dataSize !== b.dataSize)
        throw new KernelError('EINVAL', 'the buffers have different sizes');
      this.#cpus[n] = b;
      other.#cpus[n] = a;
    }
  }

  #select(cpu: number | undefined): CpuBuffer[] {
    return cpu === undefined ? this.#cpus : [this.#cpus[cpu]!];
  }

  #pagesOf(sizeKb: number): number {
    const data = (PAGE_SIZE << this.#order) - PAGE_HEADER_SIZE;
    return Math.max(MIN_PAGES, Math.ceil((sizeKb * 1024) / data));
  }
}
