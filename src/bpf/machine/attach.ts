/**
 * A machine in another thread: the same memory, maps and programs, on a CPU of its own. Plain data goes over; the other thread opens maps
 * where they lie and instantiates the modules that the first one compiled.
 */
import { checkArgument, having } from '../arguments.ts';
import { BpfError } from '../errors.ts';
import {
  bindHelpers,
  bindKfuncs,
  freeFields,
  type HelperOptions,
  HelperRuntime,
} from '../helpers/impl/index.ts';
import { type MemoryLayout, machineLayout, type PlacedMap, percpuBlock } from '../layout.ts';
import { Heap } from '../maps/heap.ts';
import { openPlacedMap } from '../maps/map.ts';
import { geometryOf, MAP_HEADER, MAP_MAGIC } from '../maps/map-layout.ts';
import { BPF_MAP_TYPE, MAP_TYPES, type MapSpec } from '../maps/map-spec.ts';
import { viewMemory } from '../maps/memory-view.ts';
import { ProgramContext } from './helper-context.ts';
import { type HelperFunctions, helperImports, type ImportHost } from './imports.ts';
import type { LoadedMap, SharedMachine, SharedProgram } from './types.ts';

/** Options of helpers are this thread's own: its task, its trace buffer, its timers. */
export interface AttachOptions extends HelperOptions {
  /** This thread's CPU: one that no other thread runs programs on. */
  readonly cpu: number;
  readonly clock?: () => number;
  readonly random?: () => number;
  /** Helpers and kfuncs beyond the machine's own. */
  readonly imports?: { readonly helper?: HelperFunctions; readonly kfunc?: HelperFunctions };
}

type Run64 = (ctx: bigint, second: bigint) => bigint;

const U32 = 2 ** 32;

/** A map by its header alone, for one that was made after this thread attached: without name, record and inner map. */
function placedAt(memory: WebAssembly.Memory, address: number, ncpu: number): PlacedMap | undefined {
  const { data } = viewMemory(memory);
  const get = (field: number): number => data.getUint32(address + field, true);
  if (address % 64 !== 0 || address + MAP_HEADER.size > data.byteLength) return undefined;
  if (get(MAP_HEADER.magic) !== MAP_MAGIC) return undefined;
  const type = MAP_TYPES.find((name) => BPF_MAP_TYPE[name] === get(MAP_HEADER.type));
  if (type === undefined) return undefined;
  const spec: MapSpec = {
    name: '',
    type,
    keySize: get(MAP_HEADER.keySize),
    valueSize: get(MAP_HEADER.valueSize),
    maxEntries: get(MAP_HEADER.maxEntries),
    flags: get(MAP_HEADER.flags),
    mapExtra: (BigInt(get(MAP_HEADER.mapExtraHigh)) << 32n) | BigInt(get(MAP_HEADER.mapExtra)),
  };
  const geometry = geometryOf(spec, ncpu, { heap: true });
  return { spec, index: 0, id: get(MAP_HEADER.id), address, byteLength: geometry.byteLength, geometry };
}

export class AttachedMachine implements ImportHost {
  readonly memory: WebAssembly.Memory;
  readonly ncpu: number;
  readonly cpu: number;
  readonly layout: MemoryLayout;
  readonly heap: Heap;
  readonly runtime: HelperRuntime;
  readonly #options: AttachOptions;
  readonly #maps = new Map<number, LoadedMap>();
  readonly #programs = new Map<number, AttachedProgram>();

  constructor(shared: SharedMachine, options: AttachOptions) {
    const { memory, ncpu, maxPages } = shared;
    if (!Number.isInteger(options.cpu) || options.cpu < 0 || options.cpu >= ncpu) {
      throw new BpfError('EINVAL', `CPU ${options.cpu} is not one of ${ncpu}`);
    }
    this.memory = memory;
    this.ncpu = ncpu;
    this.cpu = options.cpu;
    this.layout = { ...machineLayout(ncpu, maxPages), pages: 0, byteLength: 0, maps: [] };
    this.heap = new Heap(memory, maxPages, options.cpu);
    this.#options = options;
    this.runtime = new HelperRuntime(options, options.clock ?? (() => performance.now() * 1e6));
    for (const placed of shared.maps) this.#open(placed);
    for (const program of shared.programs) this.#programs.set(program.id, new AttachedProgram(this, program));
  }

  #open(placed: PlacedMap): LoadedMap {
    const map = openPlacedMap(this.memory, placed, this.ncpu, {
      heap: this.heap,
      freeFields: (value, record) => freeFields(this, value, record),
    });
    this.#maps.set(placed.address, map);
    return map;
  }

  mapAt(address: number): LoadedMap | undefined {
    const known = this.#maps.get(address >>> 0);
    if (known !== undefined) return known;
    const placed = placedAt(this.memory, address >>> 0, this.ncpu);
    return placed === undefined ? undefined : this.#open(placed);
  }

  /** A map by its id. Throws BpfError ENOENT. */
  map(id: number): LoadedMap {
    for (const map of this.#maps.values()) if (map.id === id) return map;
    throw new BpfError('ENOENT', `there is no map ${id}`);
  }

  program(id: number): AttachedProgram | undefined {
    return this.#programs.get(id);
  }

  /** r0 of a program on a context in the memory. Throws BpfError ENOENT. */
  run(program: number, ctx: number): bigint {
    const found = this.program(program);
    if (found === undefined) throw new BpfError('ENOENT', `there is no program ${program}`);
    viewMemory(this.memory).i32[percpuBlock(this.layout, this.cpu).tailCalls >>> 2] = 0;
    return BigInt.asUintN(64, found.instance64()(BigInt(ctx), 0n));
  }

  imports(
    caller: AttachedProgram,
    context: ProgramContext,
    names: SharedProgram['imports'],
  ): { helper: HelperFunctions; kfunc: HelperFunctions } {
    const {
      cpu,
      clock = () => performance.now() * 1e6,
      random = () => Math.random() * U32,
      imports,
    } = this.#options;
    const of = (wanted: string): string[] =>
      names.flatMap(({ module, name }) => (module === wanted ? [name.replace(/_dyn$/, '')] : []));
    return {
      helper: {
        ...helperImports(this, caller, { cpu, clock, random }),
        ...bindHelpers(context, of('helper')),
        ...imports?.helper,
      },
      kfunc: { ...bindKfuncs(context, of('kfunc')), ...imports?.kfunc },
    };
  }
}

export class AttachedProgram {
  readonly id: number;
  readonly #machine: AttachedMachine;
  readonly #shared: SharedProgram;
  #run: Run64 | undefined;

  constructor(machine: AttachedMachine, shared: SharedProgram) {
    this.#machine = machine;
    this.#shared = shared;
    this.id = shared.id;
  }

  get hasFunctions(): boolean {
    return this.#shared.hasFunctions;
  }

  instance64(): Run64 {
    if (this.#run === undefined) {
      const { memory, cpu } = this.#machine;
      const { id, name, type } = this.#shared;
      const context = new ProgramContext(this.#machine, cpu, { id, name, type });
      const imports = this.#machine.imports(this, context, this.#shared.imports);
      const { exports } = new WebAssembly.Instance(new WebAssembly.Module(this.#shared.wasm), {
        env: { memory, cpu: new WebAssembly.Global({ value: 'i32' }, cpu) },
        ...(imports as Record<string, Record<string, WebAssembly.ImportValue>>),
      });
      context.table = exports.table as WebAssembly.Table | undefined;
      this.#run = exports.run64 as Run64;
    }
    return this.#run;
  }
}

/** Opens a machine that another thread shares (`Machine.share()`). Throws BpfError EINVAL for a CPU that it does not have. */
export function attachMachine(shared: SharedMachine, options: AttachOptions): AttachedMachine {
  checkArgument(
    'attachMachine()',
    'shared',
    shared,
    having('what share() of a machine gave', 'memory', 'ncpu', 'maps', 'programs'),
  );
  checkArgument('attachMachine()', 'options', options, having('options with cpu', 'cpu'));
  return new AttachedMachine(shared, options);
}
