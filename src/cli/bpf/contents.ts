/** Contents of maps as text: by their types as bpftool prints them, else as hexadecimal bytes. */
import {
  Arena,
  type LoadedMap,
  type MapEntry,
  type MapSpec,
  type ObjectMapSpec,
  printMapEntries,
} from '../../bpf/index.ts';
import { hexString } from './files.ts';
import type { Loaded } from './load.ts';

/** Map types whose entries are not data to look at. */
const OPAQUE = new Set([
  'ringbuf',
  'user_ringbuf',
  'bloom_filter',
  'queue',
  'stack',
  'perf_event_array',
  'struct_ops',
]);

/** The section of an arena's variables, as the object's types name it. */
const ARENA_SECTION = '.addr_space.1';

/** The variables at the start of an arena; all else in it has no types. */
function arenaVariables(object: Loaded['object'], arena: Arena, name: string, json: boolean): string {
  const size = object?.initialData.get(name)?.size ?? 0;
  const btf = object?.spec.btf;
  const types = btf?.byName(ARENA_SECTION, 'DATASEC');
  if (btf === undefined || types === undefined || size === 0) return '[]';
  const values = [arena.read(arena.userStart, size)];
  return printMapEntries(btf, 0, types, [{ key: new Uint8Array(0), values }], {
    format: json ? 'json' : 'plain',
  });
}

/** One map, `json` on one line. */
export function mapContents(
  loaded: Pick<Loaded, 'object'>,
  map: Pick<LoadedMap, 'spec' | 'entries'>,
  spec: ObjectMapSpec | undefined,
  json: boolean,
): string {
  if (map instanceof Arena) return arenaVariables(loaded.object, map, spec?.name ?? '', json);
  return entriesText(loaded, map.spec, OPAQUE.has(map.spec.type) ? [] : [...map.entries()], spec, json);
}

/** The entries of a map, `json` on one line. */
export function entriesText(
  loaded: Pick<Loaded, 'object'>,
  { type }: Pick<MapSpec, 'type'>,
  entries: readonly MapEntry[],
  spec: ObjectMapSpec | undefined,
  json: boolean,
): string {
  if (OPAQUE.has(type)) return '[]';
  const btf = loaded.object?.spec.btf;
  const perCpu = type.includes('percpu');
  const types = spec?.valueTypeId !== undefined && spec.valueTypeId !== 0;
  if (btf !== undefined && types && (spec.keyTypeId ?? 0) + (spec.origin === 'user' ? 0 : 1) !== 0) {
    return printMapEntries(btf, spec.keyTypeId ?? 0, spec.valueTypeId, entries, {
      format: json ? 'json' : 'plain',
      perCpu,
    });
  }
  const rows = entries.map(({ key, values }) =>
    perCpu
      ? { key: hexString(key), values: values.map((value, cpu) => ({ cpu, value: hexString(value) })) }
      : { key: hexString(key), value: hexString(values[0]!) },
  );
  return JSON.stringify(rows, undefined, json ? undefined : 4);
}
