/** The map commands of bpf(2) (kernel/bpf/syscall.c). */
import { ERRNO } from '../errors.ts';
import type { MachineState } from '../machine/machine.ts';
import { BloomFilter } from '../maps/bloom-filter.ts';
import type { MapBase } from '../maps/map-base.ts';
import { checkMapSpec } from '../maps/map-check.ts';
import { BPF_F_LOCK, BPF_MAP_TYPE, MAP_TYPES, type MapSpec, type MapType } from '../maps/map-spec.ts';
import type { BpfMap } from '../maps/map-types.ts';
import { recordOf } from '../object/map-record.ts';
import { accessOf } from './access.ts';
import type { MapBatchAttr, MapCreateAttr, MapElemAttr, MapFreezeAttr, MapNextKeyAttr } from './attrs.ts';
import { errnoOf } from './errno.ts';
import { btfOf } from './objects.ts';

const NAME_LENGTH = 16;
/** Stands for an inner map that is not there. */
const ANY_INNER: MapSpec = { name: '', type: 'array', keySize: 4, valueSize: 4, maxEntries: 1 };

const typeOf = (type: MapType | number): MapType | undefined =>
  typeof type === 'string' ? type : MAP_TYPES.find((name) => BPF_MAP_TYPE[name] === type);

export function mapCreate(machine: MachineState, attr: MapCreateAttr): number {
  const type = typeOf(attr.mapType);
  const access = accessOf(attr.mapFlags ?? 0);
  const { mapName = '' } = attr;
  const hasName = mapName.length < NAME_LENGTH && /^[\w.]*$/.test(mapName);
  if (type === undefined || access === undefined || !hasName) return -ERRNO.EINVAL;
  const isOuter = type === 'array_of_maps' || type === 'hash_of_maps';
  const inner = isOuter ? machine.objects.mapByFd(attr.innerMapFd ?? 0) : undefined;
  const innerMap = typeof inner === 'object' ? inner.spec : isOuter ? ANY_INNER : undefined;
  const { btfFd, btfKeyTypeId = 0, btfValueTypeId = 0 } = attr;
  if ((btfKeyTypeId !== 0 || btfValueTypeId !== 0) && btfValueTypeId === 0) return -ERRNO.EINVAL;
  const spec: MapSpec = {
    name: mapName,
    type,
    keySize: attr.keySize ?? 0,
    valueSize: attr.valueSize ?? 0,
    maxEntries: attr.maxEntries ?? 0,
    flags: attr.mapFlags ?? 0,
    ...(attr.numaNode === undefined ? {} : { numaNode: attr.numaNode }),
    ...(attr.mapExtra === undefined ? {} : { mapExtra: attr.mapExtra }),
    ...(innerMap === undefined ? {} : { innerMap }),
    ...(btfKeyTypeId === 0 ? {} : { keyTypeId: btfKeyTypeId }),
    ...(btfValueTypeId === 0 ? {} : { valueTypeId: btfValueTypeId }),
  };
  try {
    if (typeof inner === 'number') {
      // What is wrong with the map itself is said first.
      checkMapSpec(spec);
      // Number 0 is standard input in a process: a file, but no map.
      return (attr.innerMapFd ?? 0) === 0 ? -ERRNO.EINVAL : inner;
    }
    const btf = btfValueTypeId === 0 ? undefined : btfOf(machine, btfFd ?? 0);
    if (typeof btf === 'number') return btf;
    const record = btf === undefined ? undefined : recordOf(btf, btfValueTypeId);
    const map = machine.createMap(record === undefined ? spec : { ...spec, record });
    // The descriptor holds it from now on.
    const fd = machine.objects.open(map, access);
    machine.objects.release(map);
    return fd;
  } catch (error) {
    return errnoOf(error);
  }
}

interface Opened {
  readonly map: BpfMap & MapBase;
  readonly canRead: boolean;
  readonly canWrite: boolean;
}

/** map_get_sys_perms: a frozen map cannot be written. */
function opened(machine: MachineState, fd: number): Opened | number {
  const map = machine.objects.mapByFd(fd);
  if (typeof map === 'number') return map;
  const { canRead, canWrite } = machine.objects.file(fd)!;
  return { map: map as BpfMap & MapBase, canRead, canWrite: canWrite && !map.frozen };
}

/** __bpf_copy_key: the key's bytes, or -EFAULT, or -EINVAL for a key that the map does not have. */
function copyKey(map: BpfMap, key: Uint8Array | undefined): Uint8Array | number {
  const { keySize } = map.spec;
  if (keySize === 0) return key === undefined || key.length === 0 ? new Uint8Array(0) : -ERRNO.EINVAL;
  if (key === undefined || key.length < keySize) return -ERRNO.EFAULT;
  return key.length === keySize ? key : key.slice(0, keySize);
}

const lacksLock = (map: MapBase, flags: number): boolean =>
  (flags & BPF_F_LOCK) !== 0 && map.lockOffset === undefined;

/** Copies a result into the caller's buffer. */
function copyOut(bytes: Uint8Array | number, target: Uint8Array | undefined): number {
  if (typeof bytes === 'number') return bytes;
  if (target === undefined || target.length < bytes.length) return -ERRNO.EFAULT;
  target.set(bytes);
  return 0;
}

export function mapLookupElem(machine: MachineState, attr: MapElemAttr): number {
  const { flags = 0 } = attr;
  if ((flags & ~BPF_F_LOCK) !== 0) return -ERRNO.EINVAL;
  const file = opened(machine, attr.mapFd);
  if (typeof file === 'number') return file;
  const { map } = file;
  if (!file.canRead) return -ERRNO.EPERM;
  if (lacksLock(map, flags)) return -ERRNO.EINVAL;
  const key = copyKey(map, attr.key);
  if (typeof key === 'number') return key;
  if (map instanceof BloomFilter) {
    if (attr.value === undefined || attr.value.length < map.spec.valueSize) return -ERRNO.EFAULT;
    return map.sysPeek(attr.value.subarray(0, map.spec.valueSize));
  }
  return copyOut(map.sysLookup(key, flags), attr.value);
}

export function mapUpdateElem(machine: MachineState, attr: MapElemAttr): number {
  const { flags = 0, value } = attr;
  const file = opened(machine, attr.mapFd);
  if (typeof file === 'number') return file;
  const { map } = file;
  if (!file.canWrite) return -ERRNO.EPERM;
  if (lacksLock(map, flags)) return -ERRNO.EINVAL;
  const key = copyKey(map, attr.key);
  if (typeof key === 'number') return key;
  const size = map.sysValueSize;
  if (size > 0 && (value === undefined || value.length < size)) return -ERRNO.EFAULT;
  return map.sysUpdate(key, (value ?? new Uint8Array(0)).subarray(0, size), flags);
}

export function mapDeleteElem(machine: MachineState, attr: MapElemAttr): number {
  const file = opened(machine, attr.mapFd);
  if (typeof file === 'number') return file;
  if (!file.canWrite) return -ERRNO.EPERM;
  const key = copyKey(file.map, attr.key);
  return typeof key === 'number' ? key : file.map.sysDelete(key);
}

export function mapGetNextKey(machine: MachineState, attr: MapNextKeyAttr): number {
  const file = opened(machine, attr.mapFd);
  if (typeof file === 'number') return file;
  if (!file.canRead) return -ERRNO.EPERM;
  let key: Uint8Array | undefined;
  if (attr.key !== undefined) {
    const copied = copyKey(file.map, attr.key);
    if (typeof copied === 'number') return copied;
    key = copied;
  }
  return copyOut(file.map.sysNextKey(key), attr.nextKey);
}

export function mapLookupAndDeleteElem(machine: MachineState, attr: MapElemAttr): number {
  const { flags = 0 } = attr;
  if ((flags & ~BPF_F_LOCK) !== 0) return -ERRNO.EINVAL;
  const file = opened(machine, attr.mapFd);
  if (typeof file === 'number') return file;
  const { map } = file;
  if (!file.canRead || !file.canWrite) return -ERRNO.EPERM;
  if (flags !== 0 && (map.spec.type === 'queue' || map.spec.type === 'stack')) return -ERRNO.EINVAL;
  if (lacksLock(map, flags)) return -ERRNO.EINVAL;
  const key = copyKey(map, attr.key);
  if (typeof key === 'number') return key;
  return copyOut(map.sysLookupAndDelete(key, flags), attr.value);
}

export function mapFreeze(machine: MachineState, attr: MapFreezeAttr): number {
  const map = machine.objects.mapByFd(attr.mapFd);
  if (typeof map === 'number') return map;
  if (map.spec.record !== undefined) return -ERRNO.ENOTSUPP;
  if (!machine.objects.file(attr.mapFd)!.canWrite) return -ERRNO.EPERM;
  return map.freeze();
}

type BatchKind = 'lookup' | 'lookup_and_delete' | 'update' | 'delete';

/** bpf_map_do_batch: `attr.count` becomes the number of elements done. */
export function mapBatch(machine: MachineState, attr: MapBatchAttr, kind: BatchKind): number {
  const { inBatch, elemFlags = 0, flags = 0, count } = attr;
  const file = opened(machine, attr.mapFd);
  if (typeof file === 'number') return file;
  const { map } = file;
  const isLookup = kind === 'lookup' || kind === 'lookup_and_delete';
  if (isLookup && !file.canRead) return -ERRNO.EPERM;
  if (kind !== 'lookup' && !file.canWrite) return -ERRNO.EPERM;
  if (!Number.isInteger(count) || count < 0) return -ERRNO.EINVAL;
  const { keySize } = map.spec;
  const options = { elemFlags, flags, inBatch };
  const lacks = (bytes: Uint8Array | undefined, size: number): boolean =>
    count * size > 0 && (bytes === undefined || bytes.length < count * size);
  if (!isLookup) {
    const result =
      kind === 'update'
        ? map.updateBatch(attr.keys ?? NONE, attr.values ?? NONE, 0, options)
        : map.deleteBatch(attr.keys ?? NONE, 0, options);
    if (result.error !== 0) return result.error;
    if (count === 0) return 0;
    if (lacks(attr.keys, keySize) || (kind === 'update' && lacks(attr.values, map.sysValueSize))) {
      attr.count = 0;
      return -ERRNO.EFAULT;
    }
    const done =
      kind === 'update'
        ? map.updateBatch(attr.keys!, attr.values!, count, options)
        : map.deleteBatch(attr.keys!, count, options);
    attr.count = done.count;
    return done.error;
  }
  if (inBatch !== undefined && inBatch.length < Math.min(keySize, 4)) return -ERRNO.EFAULT;
  const before = map.lookupBatch(0, { ...options, remove: kind === 'lookup_and_delete' });
  if (before.error !== 0 || count === 0) return before.error;
  if (lacks(attr.keys, keySize) || lacks(attr.values, map.sysValueSize)) {
    // The kernel notices when it copies an element: not where there is none.
    const found = map.lookupBatch(count, options);
    attr.count = 0;
    return found.count === 0 && found.error !== 0 ? found.error : -ERRNO.EFAULT;
  }
  const result = map.lookupBatch(count, { ...options, remove: kind === 'lookup_and_delete' });
  attr.count = result.count;
  attr.keys?.set(result.keys);
  attr.values?.set(result.values);
  if (result.outBatch !== undefined) {
    if (attr.outBatch === undefined) return -ERRNO.EFAULT;
    attr.outBatch.set(result.outBatch.subarray(0, attr.outBatch.length));
  }
  return result.error;
}

const NONE = new Uint8Array(0);
