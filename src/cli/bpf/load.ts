/** Loads what the command line says into a machine of its own. */
import {
  type BpfObject,
  type Btf,
  type BtfValue,
  createMachine,
  encodeValue,
  type Insn,
  type LoadedMap,
  type LoadedProgram,
  type LoadObjectOptions,
  type Machine,
  type MachineOptions,
  openObject,
  type ProgramSpec,
  parseBtf,
  sizeOf,
} from '../../bpf/index.ts';
import { TraplineError } from '../../errors.ts';
import { didYouMean } from '../../similar.ts';
import { parseHex, readAs, readBytes } from './files.ts';
import { type BpfInput, onlyProgram, programType } from './input.ts';
import { createNewMaps, newMapSpecs } from './new-map.ts';
import type { BpfArguments } from './options.ts';

/** One program, loaded, with what is known of it. */
export interface Loaded {
  readonly machine: Machine;
  readonly program: LoadedProgram;
  /** By name. */
  readonly maps: ReadonlyMap<string, LoadedMap>;
  /** Undefined for raw instructions. */
  readonly spec: ProgramSpec | undefined;
  readonly object: BpfObject | undefined;
  readonly globals: { get(name: string): BtfValue; has(name: string): boolean } | undefined;
}

/** BTF itself, or that of an object. */
export function readBtf(file: string, base?: Btf): Btf {
  const bytes = readBytes(file, 'BTF');
  return readAs(file, () => {
    if (bytes[0] !== 0x7f || bytes[1] !== 0x45) return parseBtf(bytes, base);
    const { btf } = openObject(bytes, file).spec;
    if (btf !== undefined) return btf;
    throw new TraplineError('EINPUT', 'there is no section .BTF', { hint: 'compile with -g' });
  });
}

/** Options of `object.load()` that the command line gives. */
export function loadOptions(args: BpfArguments): LoadObjectOptions {
  const target = args.text('target-btf');
  const kconfig = args.text('kconfig');
  return {
    ...(target === undefined ? {} : { targetBtf: readBtf(target) }),
    ...(kconfig === undefined ? {} : { kconfig: new TextDecoder().decode(readBytes(kconfig, 'kconfig')) }),
  };
}

/** `--set NAME=VALUE`, before the load. */
export function setGlobals(args: BpfArguments, object: BpfObject): void {
  for (const text of args.list('set')) {
    const [, name, value] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
    if (name === undefined || value === undefined) {
      throw new TraplineError('EUSAGE', `--set: ${text} is not NAME=VALUE`);
    }
    if (!object.globals.has(name)) {
      const names = [...object.globals].map((one) => one.name);
      throw new TraplineError('ENOENT', `--set: there is no global variable ${name}`, {
        hint:
          didYouMean(name, names) ??
          (names.length === 0 ? 'the object has none' : `there are: ${names.join(', ')}`),
      });
    }
    object.globals.set(name, parseValue('set', value));
  }
}

/** JSON with numbers of any size; a text that is no JSON is a string. */
export function parseValue(option: string, text: string): BtfValue {
  const trimmed = text.trim();
  if (/^-?(0x[0-9a-f]+|\d+)$/i.test(trimmed)) {
    return trimmed.startsWith('-') ? -BigInt(trimmed.slice(1)) : BigInt(trimmed);
  }
  if (trimmed.startsWith('hex:')) return parseHex(trimmed.slice(4)) ?? trimmed;
  if (!/^[[{"]|^(true|false)$/.test(trimmed)) return trimmed;
  try {
    // Numbers that a double cannot hold are quoted before JSON reads them.
    const quoted = trimmed.replace(/"(?:[^"\\]|\\.)*"|-?\d{16,}/g, (part) =>
      part.startsWith('"') ? part : `"\\u0000${part}"`,
    );
    return JSON.parse(quoted, (_key, value) => {
      if (typeof value !== 'string') return value;
      if (value.startsWith('\0')) return BigInt(value.slice(1));
      return value.startsWith('hex:') ? (parseHex(value.slice(4)) ?? value) : value;
    });
  } catch (error) {
    throw new TraplineError('EUSAGE', `--${option}: ${text} is not JSON: ${(error as Error).message}`);
  }
}

/** Loads one program of an object, or raw instructions. Without `running`, only verifies and links. */
export function loadInput(args: BpfArguments, input: BpfInput, machineOptions: MachineOptions = {}): Loaded {
  const machine = createMachine(machineOptions);
  if (input.kind === 'insns') return loadInsns(args, input.insns, machine);
  if (args.has('new-map'))
    throw new TraplineError('EUSAGE', '--new-map is for instructions: an object declares its maps');
  const { object } = input;
  const name = onlyProgram(args, object);
  setGlobals(args, object);
  const loaded = loadOne(args, object, name, machine);
  const program = loaded.programs.get(name)!;
  const { maps, globals } = loaded;
  putEntries(args, object, maps);
  return { machine, program, maps, spec: object.spec.programs.get(name)!, object, globals };
}

/** An object with all of its programs, as `object.load()` has it; `--set` and `--put` are done. */
export function loadWhole(
  args: BpfArguments,
  object: BpfObject,
): Pick<Loaded, 'machine' | 'maps' | 'object'> {
  const machine = createMachine();
  setGlobals(args, object);
  const { maps } = object.load({ ...loadOptions(args), machine, engine: engineOf(args) });
  putEntries(args, object, maps);
  return { machine, maps, object };
}

/** One program of an object. The other programs that its maps call are loaded with it. */
export function loadOne(
  args: BpfArguments,
  object: BpfObject,
  name: string,
  machine: Machine,
  more: LoadObjectOptions = {},
): ReturnType<BpfObject['load']> {
  const type = programType(args);
  const called = [...object.spec.maps.values()]
    .filter((map) => map.type === 'prog_array')
    .flatMap((map) => [...map.slots.values()]);
  return object.load({
    ...loadOptions(args),
    machine,
    programs: [name, ...called.filter((one) => one !== name && object.spec.programs.has(one))],
    engine: engineOf(args),
    ...(type === undefined ? {} : { types: { [name]: type } }),
    ...more,
  });
}

const engineOf = (args: BpfArguments): 'jit' | 'interpreter' =>
  args.choice('engine', ['jit', 'interpreter'] as const, 'jit');

function loadInsns(args: BpfArguments, insns: readonly Insn[], machine: Machine): Loaded {
  for (const option of ['set', 'prog']) {
    if (args.has(option)) throw new TraplineError('EUSAGE', `--${option} needs an object, not instructions`);
  }
  const type = programType(args) ?? (args.has('data-in') ? 'xdp' : 'syscall');
  const specs = newMapSpecs(args);
  const loadedMaps = createNewMaps(specs, machine);
  const maps = new Map(loadedMaps.map((map) => [map.spec.name, map]));
  const program = machine.loadProgram({
    name: 'prog',
    type,
    insns,
    maps: specs,
    loadedMaps,
    engine: engineOf(args),
    sleepable: type === 'syscall',
  });
  putEntries(args, undefined, maps);
  return { machine, program, maps, spec: undefined, object: undefined, globals: undefined };
}

/** `--put MAP=[KEY,VALUE]` */
function putEntries(
  args: BpfArguments,
  object: BpfObject | undefined,
  maps: ReadonlyMap<string, LoadedMap>,
): void {
  for (const text of args.list('put')) {
    const [, name, json] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
    const pair = json === undefined ? undefined : parseValue('put', json);
    if (name === undefined || !Array.isArray(pair) || pair.length !== 2) {
      throw new TraplineError('EUSAGE', `--put: ${text} is not MAP=[KEY,VALUE]`);
    }
    const map = findMap(maps, name);
    const types = object?.spec.maps.get(name);
    const { keySize, valueSize } = types ?? map.spec;
    const btf = object?.spec.btf;
    const key = toBytes(btf, types?.keyTypeId, keySize, pair[0], `${name} key`);
    const value = toBytes(btf, types?.valueTypeId, valueSize, pair[1], `${name} value`);
    const error = map.update(key, value);
    if (error !== 0) throw new TraplineError('EMAP', `--put: map ${name} refused the entry: errno ${-error}`);
  }
}

/** Throws TraplineError ENOENT with the nearest name. */
export function findMap<T>(maps: ReadonlyMap<string, T>, name: string): T {
  const map = maps.get(name);
  if (map !== undefined) return map;
  const names = [...maps.keys()];
  throw new TraplineError('ENOENT', `there is no map ${name}`, {
    hint:
      didYouMean(name, names) ??
      (names.length === 0 ? 'the object has none' : `there are: ${names.join(', ')}`),
  });
}

function toBytes(
  btf: Btf | undefined,
  typeId: number | undefined,
  size: number,
  value: BtfValue,
  path: string,
): Uint8Array {
  if (value instanceof Uint8Array) {
    if (value.length === size) return value;
    throw new TraplineError('EUSAGE', `${path}: ${value.length} bytes, not ${size}`);
  }
  const bytes = new Uint8Array(size);
  if (btf !== undefined && typeId !== undefined && typeId !== 0 && sizeOf(btf, typeId) <= size) {
    encodeValue(btf, typeId, value, bytes, path);
    return bytes;
  }
  if (typeof value !== 'bigint' && typeof value !== 'number') {
    throw new TraplineError('EUSAGE', `${path}: its type is not known; give a number or "hex:…"`);
  }
  let rest = BigInt.asUintN(size * 8, BigInt(value));
  for (let at = 0; at < size; at++, rest >>= 8n) bytes[at] = Number(rest & 0xffn);
  return bytes;
}
