/** What the machine gives to every program: operations on maps by address, tail calls, the clock, random numbers. */
import { ERRNO } from '../errors.ts';
import { MAX_TAIL_CALL_CNT } from '../isa.ts';
import { type MemoryLayout, type PercpuBlock, percpuBlock } from '../layout.ts';
import { ProgArray } from '../maps/fd-array.ts';
import { HashMap } from '../maps/hashtab.ts';
import { CgroupStorage, TaskStorage } from '../maps/local-storage.ts';
import { viewMemory } from '../maps/memory-view.ts';
import { PerfEventArray } from '../maps/perf-event-array.ts';
import { RingBuffer } from '../maps/ringbuf.ts';
import type { LoadedMap } from './types.ts';

/** Whose programs import these: a machine, or what another thread has of it. */
export interface ImportHost {
  readonly memory: WebAssembly.Memory;
  readonly layout: MemoryLayout;
  mapAt(address: number): LoadedMap | undefined;
  program(id: number): TailCallTarget | undefined;
}

/** What a tail call needs of the other program: its results as a u32 and in full. */
export interface TailCallTarget {
  tailCall32?(cpu: number): (ctx: number) => number;
  instance64(cpu: number): (ctx: bigint, second: bigint) => bigint;
}

/** The program that imports. */
export interface ImportCaller {
  /** Frames below a function that makes a tail call are still in use when the other program starts at the first one. */
  readonly hasFunctions: boolean;
}

export interface ImportOptions {
  readonly cpu: number;
  /** Nanoseconds. */
  readonly clock: () => number;
  readonly random: () => number;
}

/** Import functions by name, with the types of ../jit/README.md. */
// biome-ignore lint/suspicious/noExplicitAny: each has its own type
export type HelperFunctions = Record<string, (...args: any[]) => number | bigint | undefined>;

const MAX_UPDATE_FLAGS = 7n;
const RB_WAKEUP_FLAGS = 3n;

const u64 = (value: bigint): bigint => BigInt.asUintN(64, value);

/** Flags of map operations fit a number, or are wrong. */
const flagsOf = (flags: bigint): number => (u64(flags) > MAX_UPDATE_FLAGS ? -1 : Number(u64(flags)));

/** Runs `action` and puts the frames of a CPU back as they were. */
function savingFrames<T>(memory: WebAssembly.Memory, { stack, stackSize }: PercpuBlock, action: () => T): T {
  const saved = viewMemory(memory).u8.slice(stack, stack + stackSize);
  try {
    return action();
  } finally {
    viewMemory(memory).u8.set(saved, stack);
  }
}

export function helperImports(
  machine: ImportHost,
  caller: ImportCaller,
  { cpu, clock, random }: ImportOptions,
): HelperFunctions {
  const at = (address: number): LoadedMap => {
    const map = machine.mapAt(address);
    if (map === undefined) throw new RangeError(`no map at address ${address >>> 0}`);
    return map;
  };
  const ring = (address: number): RingBuffer | undefined => {
    const map = at(address);
    return map instanceof RingBuffer ? map : undefined;
  };
  const block = percpuBlock(machine.layout, cpu);
  const tailCall = (map: number, index: bigint, run: (target: TailCallTarget) => bigint): number => {
    const array = at(map);
    const wanted = Number(BigInt.asUintN(32, index));
    if (!(array instanceof ProgArray) || wanted >= array.spec.maxEntries) return 0;
    const { i32 } = viewMemory(machine.memory);
    const count = block.tailCalls >>> 2;
    if (i32[count]! >= MAX_TAIL_CALL_CNT) return 0;
    const target = machine.program(array.held(wanted));
    if (target === undefined) return 0;
    i32[count]!++;
    const call = () => run(target);
    const result = caller.hasFunctions ? savingFrames(machine.memory, block, call) : call();
    viewMemory(machine.memory).data.setBigUint64(block.resultSlot, u64(result), true);
    return 1;
  };
  return {
    ktime_get_ns: clock,
    get_prandom_u32: random,
    ...mapImports(at, cpu),
    ringbuf_reserve_dyn(map: number, size: number | bigint, flags: bigint) {
      if (flags !== 0n) return 0;
      return ring(map)?.reserve(Number(size), cpu) ?? 0;
    },
    ringbuf_output_dyn(map: number, data: number, size: number | bigint, flags: bigint) {
      if ((flags & ~RB_WAKEUP_FLAGS) !== 0n) return BigInt(-ERRNO.EINVAL);
      return BigInt(ring(map)?.output(data >>> 0, Number(size), cpu, Number(flags)) ?? -ERRNO.EINVAL);
    },
    ringbuf_query_dyn: (map: number, flags: bigint) => BigInt(ring(map)?.query(Number(u64(flags))) ?? 0),
    perf_event_output(_ctx: number, map: number, flags: bigint, data: number, size: number | bigint) {
      const array = at(map);
      if (!(array instanceof PerfEventArray)) return BigInt(-ERRNO.EINVAL);
      return BigInt(array.output(u64(flags), data >>> 0, Number(size), cpu));
    },
    get_local_storage(map: number) {
      const storage = at(map);
      return storage instanceof CgroupStorage ? storage.get(cpu) : 0;
    },
    /** 1 where the other program ran: its r0 is in the result slot. */
    tail_call: (ctx: number, map: number, index: bigint) =>
      tailCall(map, index, (target) => target.instance64(cpu)(BigInt(ctx >>> 0), 0n)),
    /** The same for programs of which only the low half of r0 counts. */
    tail_call32: (ctx: number, map: number, index: bigint) =>
      tailCall(map, index, (target) =>
        target.tailCall32 === undefined
          ? target.instance64(cpu)(BigInt(ctx >>> 0), 0n)
          : BigInt(target.tailCall32(cpu)(ctx) >>> 0),
      ),
  };
}

function mapImports(at: (address: number) => LoadedMap, cpu: number): HelperFunctions {
  return {
    map_lookup_elem_dyn: (map: number, key: number) => at(map).lookupElem(key >>> 0, cpu),
    map_update_elem_dyn(map: number, key: number, value: number, flags: bigint) {
      return BigInt(at(map).updateElem(key >>> 0, value >>> 0, flagsOf(flags), cpu));
    },
    map_delete_elem_dyn: (map: number, key: number) => BigInt(at(map).deleteElem(key >>> 0, cpu)),
    map_lookup_percpu_elem_dyn(map: number, key: number, other: bigint) {
      const found = at(map);
      const wanted = Number(BigInt.asUintN(32, other));
      return wanted < found.ncpu ? found.lookupElem(key >>> 0, wanted) : 0;
    },
    // Callbacks are functions of the program's module.
    for_each_map_elem_dyn: () => BigInt(-ERRNO.EINVAL),
    map_grow_dyn(map: number, slot: number) {
      const table = at(map);
      return table instanceof HashMap ? table.growChunk(slot >>> 0) : 0;
    },
    map_push_elem(map: number, value: number, flags: bigint) {
      return BigInt(at(map).pushElem(value >>> 0, flagsOf(flags), cpu));
    },
    map_pop_elem: (map: number, value: number) => BigInt(at(map).popElem(value >>> 0, cpu)),
    map_peek_elem: (map: number, value: number) => BigInt(at(map).peekElem(value >>> 0, cpu)),
    /** Tasks are threads: a task pointer is a thread's number, and one more, so that none is NULL. */
    task_storage_get(map: number, task: number | bigint, initial: number, flags: bigint) {
      const storage = at(map);
      return storage instanceof TaskStorage
        ? storage.get(Number(task) - 1, initial >>> 0, flagsOf(flags))
        : 0;
    },
    task_storage_delete(map: number, task: number | bigint) {
      const storage = at(map);
      return BigInt(storage instanceof TaskStorage ? storage.remove(Number(task) - 1) : -ERRNO.EINVAL);
    },
  };
}
