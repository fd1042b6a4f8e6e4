/**
 * Where everything is in the one linear memory that programs, maps and both agent threads share:
 *
 *     [0..1023 reserved: null page, then the memory's header][per-CPU blocks][maps…]
 *
 * A layout is plain data: the tracer makes it, sends it as JSON, and the agent creates memory and programs from it.
 * "CPU" means thread: 0 is the application's main thread, 1 the agent's worker.
 */

import { aLayout, aMapSpec } from './argument-shapes.ts';
import { anInteger, checkArgument, having, listOf } from './arguments.ts';
import { BpfError } from './errors.ts';
import { MAX_BPF_STACK, MAX_CALL_FRAMES } from './isa.ts';
import { type MapGeometry, type MapSpec, mapGeometry, roundUp } from './maps/map-layout.ts';

export const WASM_PAGE = 65536;
/** Most CPUs that a memory has. */
export const MAX_CPUS = 64;

/** Fixed addresses within the reserved first kilobyte. Address 0 is never valid: it is NULL. */
export const MEMORY_HEADER = {
  /** u32 `MEMORY_MAGIC` once initMemory() has run. */
  magic: 64,
  /** u32 */
  ncpu: 68,
  /** i64: CLOCK_MONOTONIC nanoseconds to add to `performance.now()` × 10^6, where the clock helper is computed from it. */
  clockBase: 72,
  /** u32, for a memory that grows: its size in pages, stored after each growth (views made before do not see the rest). */
  pages: 80,
  /** u32: end of the heap, in 16-byte units, changed under `heapLock`. */
  heapEnd: 84,
  /** u32 lock word of the heap's free lists. */
  heapLock: 88,
  /** u32: bytes in use on the heap, in 16-byte units. */
  heapUsed: 92,
  /** u32 × 208: heads of the heap's free lists, one a size class, in 16-byte units. */
  heapFree: 128,
  size: 1024,
} as const;
export const MEMORY_MAGIC = 0x4c415254;

/** Largest context: struct pt_regs and 32 more arguments behind it, which `sp` points to. */
export const CTX_SIZE = 432;
const STACK_ARGS = 176;
const SCRATCH_SIZE = 16384;

/** Offsets within a per-CPU block. */
const PERCPU = {
  ctx: 0,
  resultSlot: CTX_SIZE,
  progActive: CTX_SIZE + 8,
  tailCalls: CTX_SIZE + 12,
  stack: 448,
  scratch: 448 + MAX_CALL_FRAMES * MAX_BPF_STACK,
  size: 448 + MAX_CALL_FRAMES * MAX_BPF_STACK + SCRATCH_SIZE,
} as const;

export interface PlacedMap {
  readonly spec: MapSpec;
  readonly index: number;
  /** Byte address of the map's header, a multiple of 64. */
  readonly address: number;
  readonly byteLength: number;
  readonly geometry: MapGeometry;
  /** In a machine: the map's id. */
  readonly id?: number;
}

export interface MemoryLayout {
  readonly ncpu: number;
  /** Initial size of the memory, in 64 KiB pages. */
  readonly pages: number;
  /** End of the maps: what is behind has room for more (extendLayout()). */
  readonly end?: number;
  /** Maximum size of a memory that grows. Default `pages`. */
  readonly maxPages?: number;
  /**
   * The layout of a machine (../machine): programs meet maps that are not in `maps` (inner maps, types that the JIT does not
   * inline) and give them to imports by their address, not their index.
   */
  readonly dynamicMaps?: boolean;
  readonly byteLength: number;
  /** Address of the i64 clock base. */
  readonly clockBase: number;
  readonly percpuBase: number;
  readonly percpuStride: number;
  readonly maps: readonly PlacedMap[];
}

/** Byte addresses of one CPU's block. */
export interface PercpuBlock {
  /** struct pt_regs, 168 bytes; a test run's context. */
  readonly ctx: number;
  readonly ctxSize: number;
  /** Arguments beyond the sixth, u64 each. */
  readonly stackArgs: number;
  readonly stackArgsSize: number;
  /** 8 bytes: where `slot64` kfuncs leave their result. */
  readonly resultSlot: number;
  /** i32 that is not 0 while a program runs on this CPU (bpf_prog_active). */
  readonly progActive: number;
  /** u32: tail calls of the run that this CPU makes. */
  readonly tailCalls: number;
  /** Frame n is [stack + 512 n, stack + 512 (n + 1)); its r10 is the end. */
  readonly stack: number;
  readonly stackSize: number;
  /** For helpers' own use: never visible to programs. */
  readonly scratch: number;
  readonly scratchSize: number;
}

export interface LayoutOptions {
  readonly ncpu: number;
  /** Bytes to keep free behind the maps, for maps that come later. They cost nothing until they are used. Default 0. */
  readonly reserve?: number;
}

/**
 * Types that need nothing but their own memory, and two that whoever runs the programs fills: programs and stacks. All others need what a
 * machine has (../machine).
 */
export const PLAIN_TYPES: ReadonlySet<string> = new Set([
  'array',
  'percpu_array',
  'hash',
  'percpu_hash',
  'lru_hash',
  'lru_percpu_hash',
  'ringbuf',
  'prog_array',
  'stack_trace',
]);

/**
 * Places maps in memory. Throws BpfError EINVAL for a bad map, ENOTSUPP for a type that needs a machine, and ENOMEM where they do not fit.
 */
export function layoutMemory(maps: readonly MapSpec[], options: LayoutOptions): MemoryLayout {
  checkArgument('layoutMemory()', 'maps', maps, listOf(aMapSpec));
  checkArgument('layoutMemory()', 'options', options, having('options with ncpu', 'ncpu'));
  const { ncpu, reserve = 0 } = options;
  if (!Number.isInteger(ncpu) || ncpu < 1 || ncpu > MAX_CPUS) {
    throw new BpfError('EINVAL', `number of CPUs ${ncpu} is not between 1 and ${MAX_CPUS}`);
  }
  const percpuBase = MEMORY_HEADER.size;
  const percpuStride = roundUp(PERCPU.size, 64);
  const { placed, end } = placeMaps(maps, ncpu, { index: 0, end: percpuBase + percpuStride * ncpu });
  const pages = Math.ceil((end + reserve) / WASM_PAGE);
  return {
    ncpu,
    pages,
    byteLength: pages * WASM_PAGE,
    clockBase: MEMORY_HEADER.clockBase,
    percpuBase,
    percpuStride,
    maps: placed,
    end,
  };
}

/** The same memory with more maps behind those it has. Errors of layoutMemory(), ENOMEM where the reserve is used up. */
export function extendLayout(layout: MemoryLayout, maps: readonly MapSpec[]): MemoryLayout {
  checkArgument('extendLayout()', 'layout', layout, aLayout);
  checkArgument('extendLayout()', 'maps', maps, listOf(aMapSpec));
  const { placed, end } = placeMaps(maps, layout.ncpu, {
    index: layout.maps.length,
    end: layout.end ?? layout.byteLength,
  });
  if (end > layout.byteLength) {
    throw new BpfError('ENOMEM', `the maps end at ${end}, the memory at ${layout.byteLength}`);
  }
  return { ...layout, maps: [...layout.maps, ...placed], end };
}

function placeMaps(
  maps: readonly MapSpec[],
  ncpu: number,
  from: { readonly index: number; readonly end: number },
): { readonly placed: PlacedMap[]; readonly end: number } {
  let { end } = from;
  const placed: PlacedMap[] = [];
  for (const [n, spec] of maps.entries()) {
    const geometry = mapGeometry(spec, ncpu);
    if (!PLAIN_TYPES.has(spec.type)) {
      throw new BpfError('ENOTSUPP', `map ${spec.name}: a map of type ${spec.type} needs a machine`, {
        hint: 'createMachine().createMap()',
      });
    }
    const address = roundUp(end, 64);
    end = address + geometry.byteLength;
    // A tracer has no use for more, and a traced process no room.
    if (end > 2 ** 31) {
      throw new BpfError(
        'ENOMEM',
        `map ${spec.name} needs ${geometry.byteLength} bytes, maps end above 2 GiB`,
        {
          hint: 'lower its max entries',
        },
      );
    }
    placed.push({ spec, index: from.index + n, address, byteLength: geometry.byteLength, geometry });
  }
  return { placed, end };
}

/** The per-CPU part alone: what a memory without maps looks like. */
export function percpuEnd(ncpu: number): number {
  return MEMORY_HEADER.size + roundUp(PERCPU.size, 64) * ncpu;
}

/** The layout of a machine's memory (./machine), without maps. */
export function machineLayout(
  ncpu: number,
  maxPages: number,
): Omit<MemoryLayout, 'pages' | 'byteLength' | 'maps'> {
  return {
    ncpu,
    maxPages,
    dynamicMaps: true,
    clockBase: MEMORY_HEADER.clockBase,
    percpuBase: MEMORY_HEADER.size,
    percpuStride: (percpuEnd(ncpu) - MEMORY_HEADER.size) / ncpu,
  };
}

export function percpuBlock(layout: MemoryLayout, cpu: number): PercpuBlock {
  checkArgument('percpuBlock()', 'layout', layout, aLayout);
  checkArgument('percpuBlock()', 'cpu', cpu, anInteger());
  if (!Number.isInteger(cpu) || cpu < 0 || cpu >= layout.ncpu) {
    throw new BpfError('EINVAL', `CPU ${cpu} is not one of ${layout.ncpu}`);
  }
  const base = layout.percpuBase + cpu * layout.percpuStride;
  return {
    ctx: base + PERCPU.ctx,
    ctxSize: CTX_SIZE,
    stackArgs: base + STACK_ARGS,
    stackArgsSize: CTX_SIZE - STACK_ARGS,
    resultSlot: base + PERCPU.resultSlot,
    progActive: base + PERCPU.progActive,
    tailCalls: base + PERCPU.tailCalls,
    stack: base + PERCPU.stack,
    stackSize: MAX_CALL_FRAMES * MAX_BPF_STACK,
    scratch: base + PERCPU.scratch,
    scratchSize: SCRATCH_SIZE,
  };
}

/** The memory a layout needs; shared between threads. */
export function createMemory(layout: MemoryLayout): WebAssembly.Memory {
  checkArgument('createMemory()', 'layout', layout, aLayout);
  return new WebAssembly.Memory({ initial: layout.pages, maximum: layout.pages, shared: true });
}
