/** Loads an opened object into a machine: maps with their contents, then programs (bpf_object__load of libbpf). */
import type { CoreReloReport } from '../core-relo/index.ts';
import { BpfError } from '../errors.ts';
import { MACHINE_KFUNCS } from '../helpers/impl/index.ts';
import { BPF_PSEUDO_MAP_IDX, BPF_PSEUDO_MAP_IDX_VALUE, isLdImm64 } from '../isa.ts';
import { createMachine, type LoadedMap, type LoadedProgram, type Machine } from '../machine/index.ts';
import { Arena } from '../maps/arena.ts';
import type { MapSpec } from '../maps/map-spec.ts';
import type { ProgramInput, VerifiedProgram } from '../verifier/types.ts';
import { verifyProgram } from '../verifier/verifier.ts';
import { resolveKsyms } from './externs-resolve.ts';
import { type DataStore, Globals, type GlobalVariable, InitialData } from './globals.ts';
import { DEFAULT_KERNEL_VERSION, resolveKconfig } from './kconfig.ts';
import { createMaps, DEFAULT_PIN_PATH, fillProgArrays, KEY_ZERO, machineSpec } from './load-maps.ts';
import type { LoadObjectOptions } from './load-options.ts';
import { type Loading, loadProgram, type ProgramMap } from './load-program.ts';
import type { ObjectMapSpec, ObjectSpec, ProgramSpec } from './spec.ts';

export interface LoadedObject {
  readonly spec: ObjectSpec;
  readonly machine: Machine;
  /** By name; `.rodata` is the section. */
  readonly maps: ReadonlyMap<string, LoadedMap>;
  readonly programs: ReadonlyMap<string, LoadedProgram>;
  /** The variables as they are now, in the machine's memory. */
  readonly globals: Globals;
  /** What CO-RE did, by program. */
  readonly coreRelos: ReadonlyMap<string, readonly CoreReloReport[]>;
  /** Gives up maps and programs, and empties its program arrays; maps that were given or pinned stay. */
  close(): void;
}

/** Loads everything, or throws ObjectError, ProgramLoadError or BpfError. */
export function loadObject(
  spec: ObjectSpec,
  initialData: ReadonlyMap<string, InitialData>,
  variables: readonly GlobalVariable[],
  options: LoadObjectOptions = {},
): LoadedObject {
  checkNames(spec, options);
  const machine = options.machine ?? createMachine();
  const wanted = [...spec.programs.values()].filter((one) =>
    options.programs === undefined ? one.autoload : options.programs.includes(one.name),
  );
  const kernel = kernelSymbols(spec, wanted, options);
  const data = contents(spec, initialData, options);
  const created: (LoadedMap | LoadedProgram)[] = [];
  const close = () => {
    const objects = created.splice(0).reverse();
    // A program array holds programs that hold the array: with its last user it is emptied (prog_array_map_clear).
    for (const object of objects) if (isMap(object) && object.spec.type === 'prog_array') object.clear();
    for (const object of objects) machine.release(object);
  };
  try {
    const maps = createMaps(spec, data, machine, options, created);
    const list = [...spec.maps.keys()].map((name) => maps.get(name));
    const loading: Loading<LoadedProgram> = {
      spec,
      maps: list.map((map) => map && { spec: map.spec, contents: () => map.lookup(KEY_ZERO) }),
      ...kernel,
      options,
      submit: (input, used) =>
        machine.loadProgram({
          ...input,
          loadedMaps: used.map((index) => list[index]!),
          ...(options.imports === undefined ? {} : { imports: options.imports }),
          ...(options.engine === undefined ? {} : { engine: options.engine }),
        }),
    };
    const programs = new Map<string, LoadedProgram>();
    const coreRelos = new Map<string, readonly CoreReloReport[]>();
    for (const program of wanted) {
      const { loaded, report } = loadProgram(loading, program);
      created.push(loaded);
      programs.set(program.name, loaded);
      coreRelos.set(program.name, report);
    }
    fillProgArrays(machine, spec, maps, programs);
    // Only an object that loaded leaves its maps behind.
    for (const [name, map] of maps) {
      if (spec.maps.get(name)!.pinning !== 'by_name' || options.pins === undefined) continue;
      options.pins.set(`${DEFAULT_PIN_PATH}/${name}`, map);
      // The pin holds it from now on.
      if (created.includes(map)) created.splice(created.indexOf(map), 1);
    }
    const globals = new Globals(spec.btf, variables, (name, write) =>
      liveStore(spec, machine, maps, name, write),
    );
    return { spec, machine, maps, programs, globals, coreRelos, close };
  } catch (error) {
    close();
    throw error;
  }
}

/** Kernel functions and symbols that the programs refer to. */
function kernelSymbols(
  spec: ObjectSpec,
  wanted: readonly ProgramSpec[],
  options: LoadObjectOptions,
): Pick<Loading<unknown>, 'ksyms' | 'kfuncs'> {
  const given = new Set((options.kfuncs ?? []).map(({ name }) => name));
  const kfuncs = [...(options.kfuncs ?? []), ...MACHINE_KFUNCS.filter(({ name }) => !given.has(name))];
  const ksyms = resolveKsyms(
    { ...spec, programs: new Map(wanted.map((one) => [one.name, one])) },
    { targetBtf: options.targetBtf, ksyms: options.ksyms, kfuncs },
  );
  return { ksyms, kfuncs };
}

/**
 * Verifies one program without a machine: no map is made, so the object may declare maps that only a kernel has. Helpers that this
 * engine does not have are no error. Throws as loadObject does.
 */
export function verifyObjectProgram(
  spec: ObjectSpec,
  initialData: ReadonlyMap<string, InitialData>,
  name: string,
  options: LoadObjectOptions = {},
): VerifiedProgram {
  checkNames(spec, { ...options, programs: [name] });
  const program = spec.programs.get(name)!;
  const data = contents(spec, initialData, options);
  const maps = [...spec.maps.values()].map((map): ProgramMap | undefined => {
    if (map.origin === 'struct_ops') return undefined;
    const mapSpec = machineSpec(map, { ncpu: 1 }, options);
    return {
      spec: mapSpec,
      contents: () => {
        const value = new Uint8Array(mapSpec.valueSize);
        value.set(data.get(map.name)?.bytes?.subarray(0, value.length) ?? []);
        return value;
      },
    };
  });
  const kernel = kernelSymbols(spec, [program], options);
  return loadProgram({ spec, maps, ...kernel, options, submit: verifyProgram }, program).loaded;
}

/** What an object is for a place that has a memory of its own: see BpfObject.compile(). */
export interface CompiledObject {
  readonly spec: ObjectSpec;
  /** In the order of the object; programs count these. */
  readonly maps: readonly {
    readonly name: string;
    readonly spec: MapSpec;
    readonly object: ObjectMapSpec;
    /** The first contents of a section of variables. */
    readonly value: Uint8Array | undefined;
  }[];
  readonly programs: readonly { readonly spec: ProgramSpec; readonly verified: VerifiedProgram }[];
}

/** Relocates and verifies programs against maps that somebody else will make. Throws as loadObject does. */
export function compileObject(
  spec: ObjectSpec,
  initialData: ReadonlyMap<string, InitialData>,
  options: LoadObjectOptions & { readonly ncpu?: number } = {},
): CompiledObject {
  checkNames(spec, options);
  const wanted = [...spec.programs.values()].filter((one) =>
    options.programs === undefined ? one.autoload : options.programs.includes(one.name),
  );
  const data = contents(spec, initialData, options);
  const maps = [...spec.maps.values()].map((map) => {
    if (map.origin === 'struct_ops')
      throw new BpfError(
        'OBJ_STRUCT_OPS',
        `${map.name}: struct_ops are called by a kernel, which is not here`,
      );
    const machine = machineSpec(map, { ncpu: options.ncpu ?? 1 }, options);
    const bytes = data.get(map.name)?.bytes;
    if (bytes === undefined) return { name: map.name, spec: machine, object: map, value: undefined };
    const value = new Uint8Array(machine.valueSize);
    value.set(bytes.subarray(0, value.length));
    return { name: map.name, spec: machine, object: map, value };
  });
  const specs = maps.map((map) => map.spec);
  const loading: Loading<VerifiedProgram> = {
    spec,
    maps: maps.map((map) => ({ spec: map.spec, contents: () => map.value })),
    ...kernelSymbols(spec, wanted, options),
    options,
    submit: (input, used) => verifyProgram(withAllMaps(input, used, specs)),
  };
  const programs = wanted.map((one) => ({ spec: one, verified: loadProgram(loading, one).loaded }));
  return { spec, maps, programs };
}

/** A program that counts its own maps made to count all. */
function withAllMaps(input: ProgramInput, used: readonly number[], maps: readonly MapSpec[]): ProgramInput {
  const insns = input.insns.map((insn) =>
    isLdImm64(insn) && (insn.src === BPF_PSEUDO_MAP_IDX || insn.src === BPF_PSEUDO_MAP_IDX_VALUE)
      ? { ...insn, imm: used[insn.imm] ?? insn.imm }
      : insn,
  );
  const frozen = new Map([...(input.frozen ?? [])].map(([index, value]) => [used[index] ?? index, value]));
  return { ...input, insns, maps, frozen };
}

function isMap(object: LoadedMap | LoadedProgram): object is LoadedMap {
  return 'spec' in object;
}

/** Names in options that are not in the object are mistakes. */
function checkNames(spec: ObjectSpec, options: LoadObjectOptions): void {
  const check = (kind: string, names: Iterable<string>, known: ReadonlyMap<string, unknown>) => {
    for (const name of names) {
      if (known.has(name)) continue;
      throw new BpfError('OBJ_NO_SUCH_NAME', `the object has no ${kind} ${name}`, {
        hint: `there are: ${[...known.keys()].slice(0, 20).join(', ') || 'none'}`,
      });
    }
  };
  check('program', options.programs ?? [], spec.programs);
  check('program', Object.keys(options.types ?? {}), spec.programs);
  check('program', Object.keys(options.attachTo ?? {}), spec.programs);
  check('map', Object.keys(options.maps ?? {}), spec.maps);
  check('map', Object.keys(options.mapSpecs ?? {}), spec.maps);
}

/** The initial contents of every section of variables: the object's own are left as they are, for another load. */
function contents(
  spec: ObjectSpec,
  initial: ReadonlyMap<string, InitialData>,
  options: LoadObjectOptions,
): Map<string, InitialData> {
  const data = new Map(initial);
  const kconfig = initial.get('.kconfig');
  if (kconfig !== undefined) {
    const copy = new InitialData(kconfig.size, kconfig.bytes);
    resolveKconfig(spec.externs, options.kconfig, options.kernelVersion ?? DEFAULT_KERNEL_VERSION, copy);
    data.set('.kconfig', copy);
  }
  return data;
}

/** A section of variables as it is in the machine's memory now. */
function liveStore(
  spec: ObjectSpec,
  machine: Machine,
  maps: ReadonlyMap<string, LoadedMap>,
  name: string,
  write: boolean,
): DataStore {
  const map = maps.get(name)!;
  if (write && spec.maps.get(name)!.frozen) {
    throw new BpfError('OBJ_FROZEN', `${name} holds constants, which cannot change after load`, {
      hint: 'set them on the opened object, before load()',
    });
  }
  if (map instanceof Arena) {
    return {
      read: (offset, length) => map.read(map.userStart + BigInt(offset), length),
      write: (offset, value) => map.write(map.userStart + BigInt(offset), value),
    };
  }
  const start = map.placed.address + map.placed.geometry.data;
  // The memory may grow, and has another buffer then.
  const bytes = () => new Uint8Array(machine.memory.buffer);
  return {
    read: (offset, length) => new Uint8Array(bytes().subarray(start + offset, start + offset + length)),
    write: (offset, value) => bytes().set(value, start + offset),
  };
}
