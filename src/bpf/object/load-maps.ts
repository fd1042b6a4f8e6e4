/** The maps of an object in a machine, with their first contents (bpf_object__create_maps of libbpf). */
import { BpfError } from '../errors.ts';
import type { LoadedMap, LoadedProgram, Machine } from '../machine/index.ts';
import { Arena } from '../maps/arena.ts';
import type { MapSpec } from '../maps/map-spec.ts';
import type { InitialData } from './globals.ts';
import { type LoadObjectOptions, own } from './load-options.ts';
import type { ObjectMapSpec, ObjectSpec } from './spec.ts';

/** Where maps are pinned by name. */
export const DEFAULT_PIN_PATH = '/sys/fs/bpf';

function wanted(map: ObjectMapSpec, programs: readonly string[]): boolean {
  return [...map.slots.values()].some((name) => programs.includes(name));
}

/** The only key of a section of variables. */
export const KEY_ZERO: Uint8Array = new Uint8Array(4);

/** Creates or finds every map of an object; new ones are added to `created`. */
export function createMaps(
  spec: ObjectSpec,
  data: ReadonlyMap<string, InitialData>,
  machine: Machine,
  options: LoadObjectOptions,
  created: (LoadedMap | LoadedProgram)[],
): Map<string, LoadedMap> {
  const maps = new Map<string, LoadedMap>();
  for (const map of spec.maps.values()) {
    if (map.origin === 'struct_ops') {
      // Only for programs that are wanted; libbpf leaves those of a section with `?` out.
      if (map.section.startsWith('?') || (options.programs !== undefined && !wanted(map, options.programs)))
        continue;
      throw new BpfError(
        'OBJ_STRUCT_OPS',
        `${map.name}: struct_ops are called by a kernel, which is not here`,
        {
          hint: 'load the other programs only, with the option programs',
        },
      );
    }
    maps.set(map.name, provideMap(map, data.get(map.name)?.bytes, machine, options, created));
  }
  for (const map of spec.maps.values()) {
    if (map.type !== 'array_of_maps' && map.type !== 'hash_of_maps') continue;
    for (const [index, inner] of map.slots) put(machine, maps.get(map.name)!, index, maps.get(inner)!, inner);
  }
  return maps;
}

/** A map given or pinned before, or a new one with its contents. */
function provideMap(
  map: ObjectMapSpec,
  bytes: Uint8Array | undefined,
  machine: Machine,
  options: LoadObjectOptions,
  created: (LoadedMap | LoadedProgram)[],
): LoadedMap {
  const pin = map.pinning === 'by_name' ? `${DEFAULT_PIN_PATH}/${map.name}` : undefined;
  const spec = machineSpec(map, machine, options);
  const given = own(options.maps, map.name) ?? (pin === undefined ? undefined : options.pins?.get(pin));
  if (given !== undefined) {
    checkAlike(spec, given.spec);
    return given;
  }
  const made = machine.createMap(spec);
  created.push(made);
  if (made instanceof Arena) {
    if (bytes !== undefined) made.write(made.userStart, bytes);
  } else if (bytes !== undefined) {
    const value = new Uint8Array(spec.valueSize);
    value.set(bytes.subarray(0, value.length));
    const error = made.update(KEY_ZERO, value);
    if (error !== 0)
      throw new BpfError('OBJ_MAP_INIT', `map ${map.name}: its initial value was refused (${error})`);
  }
  if (map.frozen) made.freeze();
  return made;
}

/** What the machine is asked for (bpf_object__create_map, map_set_def_max_entries). */
export function machineSpec(
  map: ObjectMapSpec,
  machine: Pick<Machine, 'ncpu'>,
  { mapSpecs }: LoadObjectOptions,
): MapSpec {
  const change = own(mapSpecs, map.name);
  const { type, keySize, valueSize, maxEntries, flags, mapExtra, numaNode } = { ...map, ...change };
  const { keyTypeId, valueTypeId, record, innerMap } = map;
  // Types of other sizes than the object's say nothing about the map any more.
  const typed = keySize === map.keySize && valueSize === map.valueSize;
  return {
    name: map.kernelName,
    type,
    keySize,
    valueSize,
    maxEntries: type === 'perf_event_array' && maxEntries === 0 ? machine.ncpu : maxEntries,
    flags,
    ...(mapExtra === 0n ? {} : { mapExtra }),
    ...(numaNode === undefined ? {} : { numaNode }),
    ...(!typed || keyTypeId === undefined || keyTypeId === 0 ? {} : { keyTypeId }),
    ...(!typed || valueTypeId === undefined || valueTypeId === 0 ? {} : { valueTypeId }),
    ...(!typed || record === undefined ? {} : { record }),
    ...(innerMap === undefined ? {} : { innerMap: machineSpec(innerMap, machine, {}) }),
  };
}

/** A map that is used in place of another must have the same shape (map_is_reuse_compat). */
function checkAlike(wanted: MapSpec, given: MapSpec): void {
  for (const field of ['type', 'keySize', 'valueSize', 'maxEntries'] as const) {
    if (wanted[field] !== given[field]) {
      throw new BpfError(
        'OBJ_MAP_MISMATCH',
        `map ${wanted.name}: the map to be reused has ${field} ${given[field]}, not ${wanted[field]}`,
      );
    }
  }
}

function put(
  machine: Machine,
  map: LoadedMap,
  index: number,
  object: LoadedMap | LoadedProgram,
  what: string,
): void {
  const error = machine.setElement(map, new Uint8Array(new Uint32Array([index]).buffer), object);
  if (error !== 0) {
    throw new BpfError(
      'OBJ_MAP_INIT',
      `map ${map.spec.name}: ${what} was refused as value ${index} (${error})`,
    );
  }
}

/** Programs as initial values; those that were not loaded leave their places empty (init_prog_array_slots). */
export function fillProgArrays(
  machine: Machine,
  spec: ObjectSpec,
  maps: ReadonlyMap<string, LoadedMap>,
  programs: ReadonlyMap<string, LoadedProgram>,
): void {
  for (const map of spec.maps.values()) {
    if (map.type !== 'prog_array') continue;
    for (const [index, name] of map.slots) {
      const program = programs.get(name);
      if (program !== undefined) put(machine, maps.get(map.name)!, index, program, name);
    }
  }
}
