/**
 * perf_event_array (kernel/trace/bpf_trace.c, kernel/bpf/arraymap.c): a buffer a CPU for bpf_perf_event_output. A slot holds the
 * address of a ring with the ring buffer's format; the reader makes and frees the rings.
 */
import { aFunction, aList, checkArgument } from '../arguments.ts';
import { BpfError, ERRNO } from '../errors.ts';
import { u32Bytes } from './array.ts';
import { ObjectArray } from './fd-array.ts';
import { MAP_HEADER, MAP_MAGIC, mapGeometry } from './map-layout.ts';
import type { BytesOrErrno } from './map-types.ts';
import { viewMemory } from './memory-view.ts';
import { RingBuffer, RingBufferConsumer } from './ringbuf.ts';

const BPF_F_INDEX_MASK = 0xffff_ffffn;
const BPF_F_CURRENT_CPU = 0xffff_ffffn;
const CACHE_LINE = 64;

/** A map header at an address, for a ring that is no map of its own. */
function ringAt(memory: WebAssembly.Memory, address: number) {
  const maxEntries = viewMemory(memory).data.getUint32(address + MAP_HEADER.maxEntries, true);
  const spec = { name: 'perf', type: 'ringbuf', keySize: 0, valueSize: 0, maxEntries } as const;
  const geometry = mapGeometry(spec, 1);
  return { spec, index: 0, address, byteLength: geometry.byteLength, geometry };
}

export class PerfEventArray extends ObjectArray {
  protected override canLookup = false;

  /** bpf_perf_event_output: 0; -EINVAL for flags, -E2BIG for a slot beyond the map, -ENOENT without a reader, -ENOSPC when full. */
  output(flags: bigint, data: number, size: number, cpu: number): number {
    const wanted = BigInt.asUintN(64, flags);
    if ((wanted & ~BPF_F_INDEX_MASK) !== 0n) return -ERRNO.EINVAL;
    const index = wanted === BPF_F_CURRENT_CPU ? cpu : Number(wanted);
    if (index >= this.spec.maxEntries) return -ERRNO.E2BIG;
    const address = this.held(index);
    if (address === 0) return -ERRNO.ENOENT;
    // A buffer belongs to its CPU.
    if (index !== cpu) return -ERRNO.EOPNOTSUPP;
    const ring = new RingBuffer(this.memory, ringAt(this.memory, address), 1);
    return ring.output(data, size, cpu) === 0 ? 0 : -ERRNO.ENOSPC;
  }

  /** A descriptor of a perf event cannot be had here: openReader() fills the slots. */
  protected override acquire(): number {
    return -ERRNO.EBADF;
  }

  override sysLookup(): BytesOrErrno {
    return -ERRNO.ENOTSUPP;
  }

  /**
   * Gives every CPU a buffer of `bytes` (a power of two of at least 4096). Throws BpfError EBUSY where there is a reader, ENOMEM
   * without room.
   */
  openReader(bytes = 1 << 16): PerfReader {
    const { heap } = this.environment;
    if (heap === undefined) throw new BpfError('ENOTSUPP', `map ${this.spec.name}: this memory has no heap`);
    const spec = { name: 'perf', type: 'ringbuf', keySize: 0, valueSize: 0, maxEntries: bytes } as const;
    const { byteLength } = mapGeometry(spec, 1);
    const cpus = Math.min(this.ncpu, this.spec.maxEntries);
    const rings: { block: number; address: number }[] = [];
    const close = (): void => {
      for (const [cpu, { block, address }] of rings.entries()) {
        if (this.held(cpu) === address) this.exchange(this.slot(cpu), 0);
        heap.free(block, byteLength + CACHE_LINE);
      }
      rings.length = 0;
    };
    for (let cpu = 0; cpu < cpus; cpu++) {
      if (this.held(cpu) !== 0) {
        close();
        throw new BpfError('EBUSY', `map ${this.spec.name}: there is a reader already`);
      }
      const block = heap.alloc(byteLength + CACHE_LINE);
      if (block === 0) {
        close();
        throw new BpfError('ENOMEM', `map ${this.spec.name}: no room for buffers of ${bytes} bytes`);
      }
      const address = Math.ceil(block / CACHE_LINE) * CACHE_LINE;
      const { data } = viewMemory(this.memory);
      data.setUint32(address + MAP_HEADER.maxEntries, bytes, true);
      data.setUint32(address + MAP_HEADER.magic, MAP_MAGIC, true);
      rings.push({ block, address });
      this.exchange(this.slot(cpu), address);
    }
    const consumers = rings.map(
      ({ address }) => new RingBufferConsumer(this.memory, ringAt(this.memory, address)),
    );
    return new PerfReader(consumers, close);
  }

  override destroy(): void {
    for (let i = 0; i < this.spec.maxEntries; i++) this.sysDelete(u32Bytes(i));
  }
}

/** perf_buffer of libbpf: the records of all CPUs. */
export class PerfReader {
  readonly #consumers: readonly RingBufferConsumer[];
  readonly #close: () => void;

  constructor(consumers: readonly RingBufferConsumer[], close: () => void) {
    checkArgument('new PerfReader()', 'consumers', consumers, aList);
    checkArgument('new PerfReader()', 'close', close, aFunction);
    this.#consumers = consumers;
    this.#close = close;
  }

  /** Gives every record to `callback`, each CPU's in order; the bytes are valid during the call only. How many. */
  drain(callback: (cpu: number, view: DataView, offset: number, length: number) => void): number {
    let count = 0;
    for (const [cpu, consumer] of this.#consumers.entries()) {
      count += consumer.drain((view, offset, length) => callback(cpu, view, offset, length));
    }
    return count;
  }

  /** Records that found no room, by CPU. */
  get lost(): number[] {
    return this.#consumers.map((consumer) => consumer.lost);
  }

  close(): void {
    this.#close();
  }
}
