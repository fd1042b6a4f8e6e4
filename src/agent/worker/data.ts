/** Maps, rings and the programs that run on the worker's own thread (BEGIN, END, interval), all off the main thread. */

import {
  type BpfMap,
  createMemory,
  initMap,
  initMemory,
  type MemoryLayout,
  openMap,
  type PlacedMap,
  percpuBlock,
  RingBufferConsumer,
} from '../../bpf/index.ts';
import { RING_RECORD } from '../../bpf/maps/map-layout.ts';
import { PT_REGS, PT_REGS_SIZE } from '../../kernel/trace/pt-regs.ts';
import type { ProgramImage } from '../protocol.ts';
import { instantiate } from './programs.ts';
import type { LoadParams } from './requests.ts';
import type { AgentServer } from './server.ts';

/** "CPU" of this thread. */
const WORKER_CPU = 1;
/** A ring is looked at every so many ms: as often as the first while it is busy, up to the second while it is not. */
const DRAIN_MIN_MS = 1;
const DRAIN_MAX_MS = 25;
/** Records go out in frames of about this size. */
const BATCH_BYTES = 256 << 10;

export class DataPlane {
  readonly memory: WebAssembly.Memory;
  readonly layout: MemoryLayout & { readonly maps: PlacedMap[] };
  /** The programs, in the order that they came in. */
  readonly modules: WebAssembly.Module[] = [];
  readonly #server: AgentServer;
  readonly #maps = new Map<number, BpfMap>();
  readonly #ring: RingBufferConsumer;
  readonly #ringIndex: number;
  readonly #batch = Buffer.alloc(BATCH_BYTES);
  readonly #programs = new Map<number, (ctx: number) => unknown>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #drainTimer: NodeJS.Timeout | undefined;
  #drainEvery = DRAIN_MIN_MS;
  #lost = 0;
  /** Bytes of the ring that were moved. */
  #consumed = 0;

  constructor(params: LoadParams, server: AgentServer) {
    this.#server = server;
    this.layout = { ...params.layout, maps: [...params.layout.maps] };
    this.memory = createMemory(params.layout);
    initMemory(this.memory, params.layout);
    this.#ringIndex = params.ring;
    const ring = params.layout.maps[params.ring];
    if (ring === undefined) throw new Error(`no ring map ${params.ring}`);
    this.#ring = new RingBufferConsumer(this.memory, ring);
    this.add(params.programs);
    this.#schedule();
  }

  /** The programs' modules, instantiated for this thread. Throws before any of them counts. */
  add(images: readonly ProgramImage[]): readonly WebAssembly.Module[] {
    const made = images.map((image) => {
      const module = new WebAssembly.Module(Buffer.from(image.wasm, 'base64'));
      const run = instantiate(image, module, this.memory, this.layout, WORKER_CPU);
      return { index: image.index, module, run };
    });
    for (const { index, module, run } of made) {
      this.modules.push(module);
      this.#programs.set(index, run);
    }
    return made.map(({ module }) => module);
  }

  /** Maps in the memory's reserve, behind those that are there. */
  addMaps(maps: readonly PlacedMap[]): void {
    for (const placed of maps) {
      if (placed.index !== this.layout.maps.length) throw new Error(`map ${placed.index} is out of order`);
      initMap(this.memory, placed);
      this.layout.maps.push(placed);
    }
  }

  map(index: number): BpfMap {
    let map = this.#maps.get(index);
    if (map === undefined) {
      map = openMap(this.memory, this.layout, index);
      this.#maps.set(index, map);
    }
    return map;
  }

  /** Runs a program with a context of zeros but for the cookie. */
  run(program: number, cookie = 0): void {
    const run = this.#programs.get(program);
    if (run === undefined) throw new Error(`no program ${program}`);
    const { ctx } = percpuBlock(this.layout, WORKER_CPU);
    const view = new DataView(this.memory.buffer, ctx, PT_REGS_SIZE);
    for (let at = 0; at < PT_REGS_SIZE; at += 8) view.setBigUint64(at, 0n, true);
    view.setBigUint64(PT_REGS.bx, BigInt(cookie), true);
    run(ctx);
  }

  /** Every period from now; a period that could not be kept is skipped, not made up for. */
  interval(periodNs: number, tick: () => void): void {
    const period = Math.max(1, periodNs / 1e6);
    let next = performance.now() + period;
    const arm = (): void => {
      const timer = setTimeout(
        () => {
          this.#timers.delete(timer);
          tick();
          const now = performance.now();
          next += period;
          if (next < now) next = now + period;
          arm();
        },
        Math.max(0, next - performance.now()),
      );
      this.#timers.add(timer);
    };
    arm();
  }

  /** Ends interval and profile programs; the ring is drained on. */
  stopTimers(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
  }

  #schedule(): void {
    this.#drainTimer = setTimeout(() => {
      const moved = this.#server.congested ? 0 : this.drain();
      this.#drainEvery = moved > 0 ? DRAIN_MIN_MS : Math.min(DRAIN_MAX_MS, this.#drainEvery * 2);
      this.reportLost();
      this.#schedule();
    }, this.#drainEvery);
  }

  /** Moves what is in the ring to the socket; stops when the socket is full. */
  drain(): number {
    let moved = 0;
    for (;;) {
      let used = 0;
      // one frame's worth at a time: a record longer than the rest of the batch leaves for the next one
      const count = this.#ring.drain((view, offset, length) => {
        used = this.#append(view, offset, length, used);
        this.#consumed += Math.ceil((length + RING_RECORD.size) / 8) * 8;
      }, 512);
      if (used > 0) this.#server.ring(this.#ringIndex, Buffer.from(this.#batch.subarray(0, used)));
      moved += count;
      if (count === 0 || this.#server.congested) return moved;
    }
  }

  /** Moves everything that was in the ring when it was called, at the pace of the tracer. */
  async drainAll(): Promise<void> {
    const end = this.#consumed + this.#ring.available;
    for (;;) {
      this.drain();
      // Otherwise a process that fills the ring as fast would keep this going.
      if (!this.#server.congested || this.#consumed >= end) return;
      await this.#server.relieved();
    }
  }

  #append(view: DataView, offset: number, length: number, used: number): number {
    const size = Math.ceil((4 + length) / 8) * 8;
    const record = new Uint8Array(view.buffer, view.byteOffset + offset, length);
    if (size > BATCH_BYTES) {
      const single = Buffer.alloc(size);
      single.writeUInt32LE(length);
      single.set(record, 4);
      if (used > 0) this.#server.ring(this.#ringIndex, Buffer.from(this.#batch.subarray(0, used)));
      this.#server.ring(this.#ringIndex, single);
      return 0;
    }
    if (used + size > BATCH_BYTES) {
      this.#server.ring(this.#ringIndex, Buffer.from(this.#batch.subarray(0, used)));
      used = 0;
    }
    this.#batch.writeUInt32LE(length, used);
    this.#batch.set(record, used + 4);
    this.#batch.fill(0, used + 4 + length, used + size);
    return used + size;
  }

  reportLost(): void {
    const lost = this.#ring.lost;
    if (lost === this.#lost) return;
    this.#server.json({ event: 'lost', params: { count: lost - this.#lost } });
    this.#lost = lost;
  }

  stop(): void {
    clearTimeout(this.#drainTimer);
    this.stopTimers();
  }

  /** Stops, and sends what there is still. */
  end(): void {
    this.stop();
    this.drain();
    this.reportLost();
  }
}
