/** Maps and the programs that run on the worker's own thread (BEGIN, END, interval), all off the main thread. */

import {
  type BpfMap,
  createMemory,
  ERRNO,
  initMap,
  initMemory,
  type MemoryLayout,
  type PlacedMap,
  percpuBlock,
} from '../../bpf/index.ts';
import { openPlacedMap } from '../../bpf/maps/map.ts';
import type { MapObjects } from '../../bpf/maps/map-types.ts';
import { programId } from '../../kernel/trace/prog-array.ts';
import { PT_REGS, PT_REGS_SIZE } from '../../kernel/trace/pt-regs.ts';
import type { ProgramImage } from '../protocol.ts';
import { instantiate } from './programs.ts';
import type { LoadParams } from './requests.ts';
import { Rings } from './rings.ts';
import type { AgentServer } from './server.ts';

/** "CPU" of this thread. */
const WORKER_CPU = 1;

export class DataPlane {
  readonly memory: WebAssembly.Memory;
  readonly layout: MemoryLayout & { readonly maps: PlacedMap[] };
  readonly rings: Rings;
  /** The programs, in the order that they came in. */
  readonly modules: WebAssembly.Module[] = [];
  readonly #maps = new Map<number, BpfMap>();
  readonly #programs = new Map<number, (ctx: number) => unknown>();
  readonly #ids = new Set<number>();
  /** What program arrays hold: in the place of a descriptor stands a program's id. */
  readonly #objects: MapObjects = {
    programByFd: (id) => (this.#ids.has(id) ? { id } : -ERRNO.EBADF),
    programById: (id) => ({ id }),
    mapByFd: () => -ERRNO.EBADF,
    mapAt: () => undefined,
    hold: () => undefined,
    drop: () => undefined,
  };
  readonly #timers = new Set<NodeJS.Timeout>();

  constructor(params: LoadParams, server: AgentServer) {
    this.layout = { ...params.layout, maps: [...params.layout.maps] };
    this.memory = createMemory(params.layout);
    initMemory(this.memory, params.layout);
    this.add(params.programs);
    this.rings = new Rings(this.memory, params.layout.maps, server);
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
      this.#ids.add(programId(index));
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
      const placed = this.layout.maps[index];
      if (placed === undefined) throw new Error(`no map ${index}`);
      map = openPlacedMap(this.memory, placed, this.layout.ncpu, { objects: this.#objects });
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

  stop(): void {
    this.rings.stop();
    this.stopTimers();
  }

  /** Stops, and sends what there is still. */
  end(): void {
    this.stop();
    this.rings.end();
  }
}
