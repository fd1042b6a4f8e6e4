/** The maps of an object in a process: which there can be, and what stands for those that hold no bytes. */

import {
  BpfError,
  type CompiledObject,
  type MapEntry,
  type MapSpec,
  type ObjectMapSpec,
} from '../../bpf/index.ts';
import { BPF_PSEUDO_MAP_IDX, isLdImm64 } from '../../bpf/isa.ts';
import { PLAIN_TYPES } from '../../bpf/layout.ts';
import { TraplineError } from '../../errors.ts';
import { ERRNO } from '../../kernel/errno.ts';
import { stackOf } from '../../kernel/trace/stack-map.ts';
import type { TraceSession } from '../session.ts';
import type { FrameAddresses } from './frames.ts';

/** Threads that a per-CPU map has values of: the application's main thread and the agent's worker. */
export const NCPU = 2;

const MAP_TYPES: ReadonlySet<string> = new Set([...PLAIN_TYPES, 'perf_event_array']);

/** A map of an object in a process. */
export interface ProcessMap {
  readonly name: string;
  readonly spec: MapSpec;
  readonly object: ObjectMapSpec;
  /**
   * Every entry; a per-CPU map has a value for the application's thread, and one for the agent's. Those of a stack map are addresses, which
   * AttachedObject.frame() names; those of a program array the ids of programs. Ring buffers and perf event arrays have none: see `onRecord`.
   */
  entries(): Promise<readonly MapEntry[]>;
  lookup(key: Uint8Array): Promise<Uint8Array | undefined>;
  /** 0 or -errno. */
  update(key: Uint8Array, value: Uint8Array, flags?: number): Promise<number>;
  delete(key: Uint8Array): Promise<number>;
  /** The frames of a stack of a stack map, innermost first: `name (file:line:column)`. Undefined for an id that it has not. */
  stack(id: number): Promise<readonly string[] | undefined>;
}

/**
 * The maps as they stand in the process, where a perf event array is a ring of `perfBytes` that its CPUs share. ENOTSUP for types that a
 * process does not have.
 */
export function placedMaps({ maps }: CompiledObject, perfBytes: number): readonly MapSpec[] {
  for (const { name, spec } of maps) {
    if (MAP_TYPES.has(spec.type)) continue;
    throw new TraplineError('ENOTSUP', `map ${name}: a process has no maps of type ${spec.type}`, {
      hint: `it has ${[...MAP_TYPES].join(', ')}`,
    });
  }
  return maps.map(
    ({ spec }): MapSpec =>
      spec.type === 'perf_event_array'
        ? { name: spec.name, type: 'ringbuf', keySize: 0, valueSize: 0, maxEntries: perfBytes }
        : spec,
  );
}

/** The programs of an object by their ids, and those that a program array takes. */
export interface ArrayPrograms {
  readonly types: ReadonlyMap<number, string>;
  /** The type of the programs that use the array; undefined where none does, or of another map. */
  readonly owner: string | undefined;
}

/** The type of the programs that use each program array, by the map's index. EINVAL for programs of several (bpf_prog_map_compatible()). */
export function arrayOwners({ maps, programs }: CompiledObject): ReadonlyMap<number, string> {
  const owners = new Map<number, string>();
  for (const { verified } of programs) {
    for (const insn of verified.insns) {
      const { src, imm } = insn;
      if (!isLdImm64(insn) || src !== BPF_PSEUDO_MAP_IDX || maps[imm]?.spec.type !== 'prog_array') continue;
      const known = owners.get(imm) ?? verified.type;
      owners.set(imm, known);
      if (known === verified.type) continue;
      const { name } = maps[imm];
      throw new TraplineError(
        'EINVAL',
        `map ${name}: programs of types ${known} and ${verified.type} use it`,
      );
    }
  }
  return owners;
}

/** What holds no entries of its own. */
const isStream = ({ type }: MapSpec): boolean => type === 'ringbuf' || type === 'perf_event_array';

export function processMap(
  session: TraceSession,
  index: number,
  { name, spec, object }: CompiledObject['maps'][number],
  addresses: FrameAddresses,
  { types, owner }: ArrayPrograms,
): ProcessMap {
  const { updateMap, deleteKey } = session;
  if (updateMap === undefined || deleteKey === undefined)
    throw new TraplineError('ENOTSUP', 'this session has no maps that can be written');
  const check = (what: string, bytes: Uint8Array, size: number): void => {
    if (bytes.length !== size)
      throw new BpfError('EINVAL', `map ${name}: a ${what} of ${bytes.length} bytes, not ${size}`);
  };
  const isStackMap = spec.type === 'stack_trace';
  const framesOf = (value: Uint8Array): readonly string[] => {
    const { stack, skip } = stackOf(value);
    return (session.stack(stack) ?? []).slice(skip, skip + spec.valueSize / 8);
  };
  const read = async (): Promise<readonly MapEntry[]> => (isStream(spec) ? [] : await session.readMap(index));
  const entry = (entries: readonly MapEntry[], wanted: Uint8Array): Uint8Array | undefined =>
    entries.find(({ key }) => Buffer.compare(key, wanted) === 0)?.values[0];
  const shown = (value: Uint8Array): Uint8Array =>
    isStackMap ? addresses.bytes(framesOf(value), spec.valueSize) : value;
  return {
    name,
    spec,
    object,
    entries: async () => (await read()).map(({ key, values }) => ({ key, values: values.map(shown) })),
    async lookup(key) {
      check('key', key, spec.keySize);
      const value = entry(await read(), key);
      return value === undefined ? undefined : shown(value);
    },
    async update(key, value, flags = 0) {
      check('key', key, spec.keySize);
      check('value', value, spec.valueSize);
      if (owner !== undefined && (types.get(readU32(value)) ?? owner) !== owner) return -ERRNO.EINVAL;
      // A descriptor of a perf event cannot be had here.
      return isStream(spec) ? -ERRNO.EBADF : await updateMap.call(session, index, key, value, flags);
    },
    async delete(key) {
      check('key', key, spec.keySize);
      return isStream(spec) ? -ERRNO.ENOENT : await deleteKey.call(session, index, key);
    },
    async stack(id) {
      if (!isStackMap) throw new BpfError('EINVAL', `map ${name} is no stack map`);
      const key = new Uint8Array(Uint32Array.of(id).buffer);
      const value = entry(await read(), key);
      return value === undefined ? undefined : framesOf(value);
    },
  };
}

const readU32 = (bytes: Uint8Array): number =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
