import { aFunction, anInteger, atLeast, checkArgument } from '../../../arguments.ts';
import { KernelError } from '../../errno.ts';
import type { TraceBuffer, TraceBufferStats } from '../trace-buffer.ts';
import type { TraceRecord } from '../trace-entry.ts';
import { CpuBuffer } from './cpu-buffer.ts';
import { PAGE_HEADER_SIZE, PAGE_SIZE, splitHigh, splitLow } from './page.ts';
import type { RingReader } from './ring-reader.ts';
import type { SharedRing } from './shared-ring.ts';

/** Largest buffer of a CPU in KiB: what a page allocator would refuse long before. */
const MAX_CPU_KB = 4 << 20;
const MIN_PAGES = 2;

/** A trace buffer in the pages and events of Linux's ring buffer (kernel/trace/ring_buffer.c), one per CPU. */
export class RingBuffer implements TraceBuffer {
  readonly ncpu: number;
  onFullPage: ((cpu: number) => void) | undefined;
  #overwrite = true;
  #recording = true;
  #recordDisabled = 0;
  #timeStampAbs = false;
  readonly #now: () => bigint;
  #order = 0;
  readonly #cpus: CpuBuffer[] = [];
  /** Bytes of each CPU's buffer, as the last resize has made them. */
  #sizes: readonly number[];
  /** Of CPUs whose memory other threads have: where they look which one it is. */
  readonly #shares = new Map<number, { readonly ring: SharedRing; readonly buffers: readonly CpuBuffer[] }>();

  constructor(ncpu: number, sizeKb: number, now: () => bigint) {
    checkArgument('new RingBuffer()', 'ncpu', ncpu, anInteger(1));
    checkArgument('new RingBuffer()', 'sizeKb', sizeKb, atLeast(0));
    checkArgument('new RingBuffer()', 'now', now, aFunction);
    this.ncpu = ncpu;
    this.#now = now;
    for (let cpu = 0; cpu < ncpu; cpu++)
      this.#cpus.push(new CpuBuffer(cpu, this.#pagesOf(sizeKb), PAGE_SIZE));
    this.#sizes = this.#currentSizes();
  }

  get overwrite(): boolean {
    return this.#overwrite;
  }

  set overwrite(on: boolean) {
    this.#overwrite = on;
    for (const buffer of this.#cpus) buffer.overwrite = on;
  }

  get recording(): boolean {
    return this.#recording;
  }

  set recording(on: boolean) {
    this.#recording = on;
    this.#applyFlags();
  }

  get recordDisabled(): number {
    return this.#recordDisabled;
  }

  set recordDisabled(count: number) {
    this.#recordDisabled = count;
    this.#applyFlags();
  }

  /** Records carry absolute stamps (ring_buffer_set_time_stamp_abs()). */
  get timeStampAbs(): boolean {
    return this.#timeStampAbs;
  }

  set timeStampAbs(on: boolean) {
    this.#timeStampAbs = on;
    for (const buffer of this.#cpus) buffer.timeStampAbs = on;
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
    if (
      !this.#recording ||
      this.#recordDisabled > 0 ||
      buffer === undefined ||
      data.length > this.maxEventSize
    )
      return false;
    const written = buffer.write(splitLow(ts), splitHigh(), data);
    if (this.onFullPage !== undefined && buffer.takeClosed()) this.onFullPage(cpu);
    return written;
  }

  reset(cpu?: number): void {
    for (const buffer of this.#select(cpu)) buffer.reset();
  }

  resize(sizeKb: number, cpu?: number): void {
    if (sizeKb > MAX_CPU_KB) throw new KernelError('ENOMEM', 'the buffer would not fit into memory');
    const npages = this.#pagesOf(sizeKb);
    const ready = this.#select(cpu).map((buffer) => buffer.prepareResize(npages));
    for (const resize of ready) resize();
    this.#sizes = this.#currentSizes();
  }

  sizeKb(cpu: number): number {
    return this.#sizes[cpu]! >> 10;
  }

  #currentSizes(): number[] {
    return this.#cpus.map((_, cpu) => this.sizeBytes(cpu));
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
    if (cpu !== undefined || this.ncpu === 1) return this.#cpus[cpu ?? 0]!.peek();
    let oldest: TraceRecord | undefined;
    for (const buffer of this.#select(cpu)) {
      const record = buffer.peek();
      if (record !== undefined && (oldest === undefined || record.ts < oldest.ts)) oldest = record;
    }
    return oldest;
  }

  consume(cpu?: number): TraceRecord | undefined {
    if (cpu !== undefined || this.ncpu === 1) return this.#cpus[cpu ?? 0]!.consume();
    const record = this.peek();
    return record === undefined ? undefined : this.#cpus[record.cpu]!.consume();
  }

  /** rb_watermark_hit(): whether a CPU's ring has something to read, and is so full, in per cent; of all CPUs, anything counts. */
  watermarkHit(percent: number, cpu?: number): boolean {
    if (this.peek(cpu) === undefined) return false;
    if (cpu === undefined || percent === 0) return true;
    const buffer = this.#cpus[cpu]!;
    // One more, as it never equals the number of pages.
    return buffer.readerIsBehind() && (buffer.dirtyPages() + 1) * 100 >= percent * buffer.npages;
  }

  /** As RingReader.consumeEach(), of one CPU. The bytes are those of `bytes(cpu)`. */
  consumeEach(cpu: number, ...args: Parameters<RingReader['consumeEach']>): number {
    return this.#cpus[cpu]!.reader.consumeEach(...args);
  }

  /** A CPU's memory, in which reserve() and consumeEach() say where data is. Another one after a swap or a resize. */
  bytes(cpu: number): Uint8Array {
    return this.#cpus[cpu]!.memory.bytes;
  }

  /** ring_buffer_lock_reserve(): as RingWriter.reserve(). Each is ended by commit() or discard(), the latest first. */
  reserve(cpu: number, low: number, high: number, length: number): number {
    return length > this.maxEventSize ? -1 : this.#cpus[cpu]!.writer.reserve(low, high, length);
  }

  commit(cpu: number): void {
    const buffer = this.#cpus[cpu]!;
    buffer.writer.commit();
    if (this.onFullPage !== undefined && buffer.takeClosed()) this.onFullPage(cpu);
  }

  discard(cpu: number): void {
    this.#cpus[cpu]!.writer.discard();
  }

  readPage(cpu: number, full: boolean): Uint8Array | undefined {
    return this.#cpus[cpu]!.readPage(full);
  }

  /**
   * A CPU's ring for other threads: one that writes it (SharedRingWriter, and nobody here does then), and readers. With `snapshot`, what
   * swap() exchanges it with. From then on its memory is what it is: no reset, no other sub-buffers, no size beyond the largest so far.
   */
  share(cpu: number, snapshot?: RingBuffer): SharedRing {
    const known = this.#shares.get(cpu);
    if (known !== undefined) return known.ring;
    const buffers = [this, ...(snapshot === undefined ? [] : [snapshot])].map((one) => one.#cpus[cpu]!);
    for (const buffer of buffers) buffer.shared = true;
    const ring: SharedRing = {
      cpu,
      memories: buffers.map(({ memory }) => memory.buffer),
      current: new SharedArrayBuffer(4),
    };
    this.#shares.set(cpu, { ring, buffers });
    return ring;
  }

  swap(other: TraceBuffer, cpu?: number): void {
    if (!(other instanceof RingBuffer)) throw new KernelError('EINVAL', 'the buffers are of different kinds');
    for (const { cpu: n } of this.#select(cpu)) {
      const a = this.#cpus[n]!;
      const b = other.#cpus[n]!;
      if (a.npages !== b.npages || a.dataSize !== b.dataSize)
        throw new KernelError('EINVAL', 'the buffers have different sizes');
      this.#take(n, b);
      other.#take(n, a);
    }
    for (const buffer of [this, other]) buffer.#applyFlags();
  }

  #take(cpu: number, buffer: CpuBuffer): void {
    const share = this.#shares.get(cpu);
    const index = share?.buffers.indexOf(buffer) ?? 0;
    if (index < 0) throw new KernelError('EBUSY', 'other threads use the buffer');
    this.#cpus[cpu] = buffer;
    if (share !== undefined) Atomics.store(new Int32Array(share.ring.current), 0, index);
  }

  /** Flags are the buffer's, whatever memory it has. */
  #applyFlags(): void {
    for (const buffer of this.#cpus) {
      buffer.recording = this.#recording && this.#recordDisabled === 0;
      buffer.overwrite = this.#overwrite;
      buffer.timeStampAbs = this.#timeStampAbs;
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
