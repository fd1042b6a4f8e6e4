/**
 * The machine: one shared memory that grows, with maps and programs by id. Everything that bpf(2) does to a kernel is done to such a
 * machine (../syscall stands over it).
 */
import { aMapSpec } from '../argument-shapes.ts';
import {
  aFunction,
  anInteger,
  anObject,
  checkArgument,
  having,
  oneOf,
  optional,
  someOptions,
} from '../arguments.ts';
import { BpfError, errnoName } from '../errors.ts';
import { freeFields, HelperRuntime } from '../helpers/impl/index.ts';
import {
  MAX_CPUS,
  MEMORY_HEADER,
  MEMORY_MAGIC,
  type MemoryLayout,
  machineLayout,
  percpuEnd,
  WASM_PAGE,
} from '../layout.ts';
import { Heap } from '../maps/heap.ts';
import { clearMap, initMap, openPlacedMap } from '../maps/map.ts';
import { mapGeometry, roundUp } from '../maps/map-layout.ts';
import type { MapRecord, MapSpec } from '../maps/map-spec.ts';
import { viewMemory } from '../maps/memory-view.ts';
import { type HelperFunctions, helperImports } from './imports.ts';
import { Objects } from './objects.ts';
import { Program } from './program.ts';
import type { LoadedMap, LoadedProgram, LoadInput, Machine, MachineOptions, SharedMachine } from './types.ts';

const LOAD_INPUT = having(
  'a program: { name, type, insns, maps, loadedMaps }',
  'insns',
  'maps',
  'loadedMaps',
);
const MACHINE_OPTIONS = someOptions<MachineOptions>({
  ncpu: optional(anInteger(1, MAX_CPUS)),
  maxPages: optional(anInteger(1, 65_536)),
  clock: optional(aFunction),
  random: optional(aFunction),
  freeFields: optional(aFunction),
  task: optional(anObject),
  tracePrintk: optional(aFunction),
  effect: optional(aFunction),
  realClock: optional(aFunction),
  stack: optional(aFunction),
  timers: optional(oneOf('real', 'virtual')),
});

const MAX_PAGES = 65535;
const CACHE_LINE = 64;
const U32 = 2 ** 32;

/** Throws BpfError EINVAL for options out of range, ENOMEM where the memory cannot be had. */
export function createMachine(options: MachineOptions = {}): Machine {
  checkArgument('createMachine()', 'options', options, MACHINE_OPTIONS);
  return new MachineState(options);
}

export class MachineState implements Machine {
  readonly memory: WebAssembly.Memory;
  readonly ncpu: number;
  readonly heap: Heap;
  readonly objects = new Objects();
  readonly options: MachineOptions;
  readonly runtime: HelperRuntime;
  /** By CPU: `run` of programs by their id, for tail calls. */
  readonly #programTables: (WebAssembly.Table | undefined)[] = [];
  /** By CPU: what all programs import alike. */
  readonly #imports: HelperFunctions[] = [];
  readonly #cpuGlobals: WebAssembly.Global[] = [];
  /** BPF_ENABLE_STATS: how many ask for run times and counts. */
  statsUsers = 0;
  freeFields: ((value: number, record: MapRecord) => void) | undefined;
  readonly #base: Omit<MemoryLayout, 'pages' | 'byteLength' | 'maps'>;

  constructor(options: MachineOptions) {
    const { ncpu = 1, maxPages = MAX_PAGES } = options;
    if (!Number.isInteger(ncpu) || ncpu < 1 || ncpu > MAX_CPUS) {
      throw new BpfError('EINVAL', `number of CPUs ${ncpu} is not between 1 and ${MAX_CPUS}`);
    }
    const start = percpuEnd(ncpu);
    const initial = Math.ceil(start / WASM_PAGE);
    if (!Number.isInteger(maxPages) || maxPages < initial || maxPages > MAX_PAGES) {
      throw new BpfError('EINVAL', `maximum of ${maxPages} pages is not between ${initial} and ${MAX_PAGES}`);
    }
    this.options = options;
    this.ncpu = ncpu;
    try {
      this.memory = new WebAssembly.Memory({ initial, maximum: maxPages, shared: true });
    } catch (cause) {
      throw new BpfError('ENOMEM', `no memory of up to ${maxPages} pages`, { cause });
    }
    this.heap = new Heap(this.memory, maxPages, 0);
    this.heap.init(start);
    const { clock = () => performance.now() * 1e6 } = options;
    this.runtime = new HelperRuntime(options, clock);
    this.freeFields =
      options.freeFields ??
      ((value, record) =>
        freeFields({ memory: this.memory, heap: this.heap, runtime: this.runtime }, value, record));
    const { data } = viewMemory(this.memory);
    data.setUint32(MEMORY_HEADER.ncpu, ncpu, true);
    data.setUint32(MEMORY_HEADER.magic, MEMORY_MAGIC, true);
    this.#base = machineLayout(ncpu, maxPages);
  }

  get maps(): ReadonlyMap<number, LoadedMap> {
    return this.objects.all('map');
  }

  get programs(): ReadonlyMap<number, LoadedProgram> {
    return this.objects.all('prog');
  }

  get layout(): MemoryLayout {
    return this.layoutOf([]);
  }

  /** The layout that a program with these maps is compiled for. */
  layoutOf(maps: readonly LoadedMap[]): MemoryLayout {
    const byteLength = this.memory.buffer.byteLength;
    return {
      ...this.#base,
      pages: byteLength / WASM_PAGE,
      byteLength,
      maps: maps.map(({ placed }, index) => ({ ...placed, index })),
    };
  }

  createMap(spec: MapSpec): LoadedMap {
    checkArgument('createMap()', 'spec', spec, aMapSpec);
    const geometry = mapGeometry(spec, this.ncpu, { heap: true });
    const size = geometry.byteLength + CACHE_LINE;
    const block = this.heap.alloc(size, (at) =>
      clearMap(this.memory, spec, geometry, roundUp(at, CACHE_LINE)),
    );
    if (block === 0) {
      throw new BpfError('ENOMEM', `map ${spec.name}: no room for ${geometry.byteLength} bytes`, {
        hint: 'lower its max entries',
      });
    }
    const address = roundUp(block, CACHE_LINE);
    const id = this.objects.newId('map');
    const placed = { spec, index: 0, id, address, byteLength: geometry.byteLength, geometry };
    initMap(this.memory, placed);
    const map = openPlacedMap(this.memory, placed, this.ncpu, {
      heap: this.heap,
      objects: this.objects,
      freeFields: (value, record) => this.freeFields?.(value, record),
    });
    this.objects.add('map', id, map, () => {
      map.destroy();
      this.heap.free(block, size);
    });
    return map;
  }

  program(id: number): Program | undefined {
    return this.objects.get('prog', id);
  }

  share(): SharedMachine {
    return {
      memory: this.memory,
      ncpu: this.ncpu,
      maxPages: this.#base.maxPages ?? MAX_PAGES,
      maps: [...this.maps.values()].map(({ placed }) => placed),
      programs: [...this.objects.all<Program>('prog').values()].flatMap((program) => program.share() ?? []),
    };
  }

  mapAt(address: number): LoadedMap | undefined {
    return this.objects.mapAt(address);
  }

  setElement(map: LoadedMap, key: Uint8Array, object: LoadedMap | LoadedProgram): number {
    const fd = this.objects.open(object);
    try {
      return map.update(key, new Uint8Array(Uint32Array.of(fd).buffer));
    } finally {
      this.objects.close(fd);
    }
  }

  loadProgram(input: LoadInput): LoadedProgram {
    checkArgument('loadProgram()', 'input', input, LOAD_INPUT);
    for (const [index, map] of input.loadedMaps.entries()) {
      if (this.mapAt(map.address) !== map) {
        throw new BpfError('EINVAL', `map ${index} (${map.spec.name}) is not one of this machine`);
      }
    }
    if (input.maps.length !== input.loadedMaps.length) {
      throw new BpfError(
        'EINVAL',
        `${input.maps.length} maps in the program, ${input.loadedMaps.length} loaded`,
      );
    }
    const program = new Program(this, input);
    for (const map of program.maps) this.objects.hold(map);
    this.objects.add('prog', program.id, program, () => {
      for (const map of program.maps) this.objects.drop(map);
      for (const table of this.#programTables) {
        if (table !== undefined && program.id < table.length) table.set(program.id, null);
      }
    });
    return program;
  }

  /** The table that programs on a CPU make tail calls through. */
  programTable(cpu: number): WebAssembly.Table {
    this.#programTables[cpu] ??= new WebAssembly.Table({ element: 'anyfunc', initial: 0 });
    return this.#programTables[cpu];
  }

  release(object: LoadedMap | LoadedProgram): void {
    this.objects.entry(object);
    this.objects.release(object);
  }

  pin(path: string, object: LoadedMap | LoadedProgram): void {
    const error = this.objects.pin(path, object);
    if (error !== 0) throw new BpfError(errnoName(error), `cannot pin to ${JSON.stringify(path)}`);
  }

  unpin(path: string): void {
    const error = this.objects.unpin(path);
    if (error !== 0) throw new BpfError(errnoName(error), `nothing is pinned to ${JSON.stringify(path)}`);
  }

  pinned(path: string): LoadedMap | LoadedProgram | undefined {
    return this.objects.pinned(path)?.object as LoadedMap | LoadedProgram | undefined;
  }

  get pins(): readonly string[] {
    return this.objects.pins;
  }

  /** The number of a CPU, as programs import it. */
  cpuGlobal(cpu: number): WebAssembly.Global {
    this.#cpuGlobals[cpu] ??= new WebAssembly.Global({ value: 'i32' }, cpu);
    return this.#cpuGlobals[cpu];
  }

  /** What a program on `cpu` can import. */
  imports(cpu: number, program: Program): HelperFunctions {
    const { clock = () => performance.now() * 1e6, random = () => Math.random() * U32 } = this.options;
    const make = (): HelperFunctions => helperImports(this, program, { cpu, clock, random });
    // Only tail calls ask who called.
    if (program.verified.helpersUsed.includes('tail_call')) return make();
    this.#imports[cpu] ??= make();
    return this.#imports[cpu];
  }

  alloc(size: number): number {
    const address = this.heap.alloc(size);
    if (address === 0) throw new BpfError('ENOMEM', `no room for ${size} bytes`);
    return address;
  }

  free(address: number, size: number): void {
    this.heap.free(address, size);
  }
}
