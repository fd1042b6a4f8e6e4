/** Commands on objects of any kind: pins, ids, descriptors, information, BTF, links, statistics (kernel/bpf/syscall.c). */
import { type Btf, BtfError, parseBtf, validateBtf } from '../btf/index.ts';
import { ERRNO } from '../errors.ts';
import { Link } from '../machine/link.ts';
import type { MachineState } from '../machine/machine.ts';
import type { MachineObject, ObjectKind } from '../machine/objects.ts';
import type { Program } from '../machine/program.ts';
import { BPF_MAP_TYPE, MAP_FLAG } from '../maps/map-spec.ts';
import type { BpfMap } from '../maps/map-types.ts';
import { PROG_TYPES } from '../prog-types/index.ts';
import { accessOf } from './access.ts';
import type {
  BtfLoadAttr,
  EnableStatsAttr,
  FdByIdAttr,
  InfoAttr,
  LinkCreateAttr,
  LinkDetachAttr,
  LinkUpdateAttr,
  NextIdAttr,
  ObjectInfo,
  ObjGetAttr,
  ObjPinAttr,
  ProgBindMapAttr,
  RawTracepointOpenAttr,
} from './attrs.ts';

const INT_MAX = 0x7fff_ffff;
const OPEN_FLAGS = MAP_FLAG.BPF_F_RDONLY | MAP_FLAG.BPF_F_WRONLY;
const BPF_F_REPLACE = 1 << 2;
const BPF_STATS_RUN_TIME = 0;
/** BTF_MAX_SIZE */
const BTF_MAX_SIZE = 16 << 20;

/** A type description that was loaded (struct btf). */
export interface LoadedBtf {
  readonly id: number;
  readonly btf: Btf;
  readonly bytes: Uint8Array;
}

export function btfOf(machine: MachineState, fd: number): Btf | number {
  const loaded = machine.objects.byFd<LoadedBtf>('btf', fd);
  return typeof loaded === 'number' ? loaded : loaded.btf;
}

export function objPin(machine: MachineState, { pathname, bpfFd, fileFlags = 0 }: ObjPinAttr): number {
  if (fileFlags !== 0) return -ERRNO.EINVAL;
  const file = machine.objects.file(bpfFd);
  return file === undefined ? -ERRNO.EBADF : machine.objects.pin(pathname, file.entry.object);
}

export function objGet(machine: MachineState, { pathname, fileFlags = 0 }: ObjGetAttr): number {
  if ((fileFlags & ~OPEN_FLAGS) !== 0) return -ERRNO.EINVAL;
  const access = accessOf(fileFlags);
  if (access === undefined) return -ERRNO.EINVAL;
  const entry = machine.objects.pinned(pathname);
  if (entry === undefined) return -ERRNO.ENOENT;
  // Programs and links have no flags.
  if (entry.kind !== 'map' && fileFlags !== 0) return -ERRNO.EINVAL;
  return machine.objects.open(entry.object, access);
}

export function getNextId(machine: MachineState, kind: ObjectKind, attr: NextIdAttr): number {
  if (!Number.isInteger(attr.startId) || attr.startId < 0 || attr.startId >= INT_MAX) return -ERRNO.EINVAL;
  const next = machine.objects.nextId(kind, attr.startId);
  if (next === undefined) return -ERRNO.ENOENT;
  attr.nextId = next;
  return 0;
}

export function getFdById(
  machine: MachineState,
  kind: ObjectKind,
  { id, openFlags = 0 }: FdByIdAttr,
): number {
  const access = accessOf(openFlags);
  if (access === undefined || (openFlags & ~OPEN_FLAGS) !== 0) return -ERRNO.EINVAL;
  if (kind !== 'map' && openFlags !== 0) return -ERRNO.EINVAL;
  const object = machine.objects.get(kind, id);
  return object === undefined ? -ERRNO.ENOENT : machine.objects.open(object, access);
}

export function objGetInfoByFd(machine: MachineState, attr: InfoAttr): number {
  const file = machine.objects.file(attr.bpfFd);
  if (file === undefined) return -ERRNO.EBADFD;
  attr.info = infoOf(file.entry);
  return 0;
}

function infoOf({ kind, id, object }: MachineObject): ObjectInfo {
  switch (kind) {
    case 'map': {
      const { spec } = object as BpfMap;
      return {
        kind,
        id,
        type: BPF_MAP_TYPE[spec.type],
        keySize: spec.keySize,
        valueSize: spec.valueSize,
        maxEntries: spec.maxEntries,
        mapFlags: spec.flags ?? 0,
        name: spec.name,
        btfId: 0,
        btfKeyTypeId: spec.keyTypeId ?? 0,
        btfValueTypeId: spec.valueTypeId ?? 0,
        mapExtra: spec.mapExtra ?? 0n,
      };
    }
    case 'prog': {
      const program = object as Program;
      return {
        kind,
        id,
        type: Math.max(0, (PROG_TYPES as readonly string[]).indexOf(program.type)),
        jitedProgLen: program.wasm?.length ?? 0,
        xlatedProgLen: program.verified.insns.length * 8,
        mapIds: program.maps.map((map) => map.id),
        name: program.name,
        runTimeNs: program.runTimeNs,
        runCnt: program.runCnt,
        verifiedInsns: program.verified.verifiedInsns,
      };
    }
    case 'btf': {
      const { bytes } = object as LoadedBtf;
      return { kind, id, btfSize: bytes.length, btf: bytes.slice(), name: '' };
    }
    case 'link': {
      const link = object as Link;
      return {
        kind,
        id,
        type: link.type,
        progId: link.program?.id ?? 0,
        attachType: link.attachType,
        tpName: link.name,
      };
    }
  }
}

export function btfLoad(machine: MachineState, attr: BtfLoadAttr): number {
  if (attr.btf.length > BTF_MAX_SIZE) return -ERRNO.E2BIG;
  const bytes = attr.btf.slice();
  let btf: Btf;
  try {
    btf = parseBtf(bytes);
    validateBtf(btf);
  } catch (error) {
    if (!(error instanceof BtfError)) throw error;
    attr.log = error.message;
    return -error.errno;
  }
  const id = machine.objects.newId('btf');
  const loaded: LoadedBtf = { id, btf, bytes };
  machine.objects.add('btf', id, loaded, () => {});
  return openNew(machine, loaded);
}

/** A descriptor for an object that nobody else has. */
export function openNew(machine: MachineState, object: object): number {
  const fd = machine.objects.open(object);
  machine.objects.release(object);
  return fd;
}

function makeLink(
  machine: MachineState,
  progFd: number,
  what: { type: string; name?: string; attachType?: string | number },
): number {
  const program = machine.objects.byFd<Program>('prog', progFd);
  if (typeof program === 'number') return program;
  const link = new Link(machine.objects.newId('link'), program, what);
  machine.objects.hold(program);
  machine.objects.add('link', link.id, link, () => {
    const last = link.detach();
    if (last !== undefined) machine.objects.drop(last);
  });
  return openNew(machine, link);
}

const RAW_TRACEPOINTS: ReadonlySet<string> = new Set([
  'raw_tracepoint',
  'raw_tracepoint_writable',
  'tracing',
  'lsm',
  'ext',
]);

export function rawTracepointOpen(machine: MachineState, attr: RawTracepointOpenAttr): number {
  const program = machine.objects.byFd<Program>('prog', attr.progFd);
  if (typeof program === 'number') return program;
  if (!RAW_TRACEPOINTS.has(program.type)) return -ERRNO.EINVAL;
  const isRaw = program.type.startsWith('raw_tracepoint');
  // The others know their target from loading.
  if (isRaw && attr.name === undefined) return -ERRNO.EFAULT;
  if (!isRaw && attr.name !== undefined) return -ERRNO.EINVAL;
  return makeLink(machine, attr.progFd, {
    type: isRaw ? 'raw_tracepoint' : 'tracing',
    ...(attr.name === undefined ? {} : { name: attr.name }),
  });
}

/** A link to nothing: whoever has it runs the program (`Link.run`). */
export function linkCreate(machine: MachineState, attr: LinkCreateAttr): number {
  if ((attr.flags ?? 0) !== 0) return -ERRNO.EINVAL;
  const program = machine.objects.byFd<Program>('prog', attr.progFd);
  if (typeof program === 'number') return program;
  // bpf_prog_attach_check_attach_type: what these were loaded for, or nothing at all.
  if (program.type === 'socket_filter' || program.type === 'syscall') return -ERRNO.EINVAL;
  return makeLink(machine, attr.progFd, {
    type: program.type,
    ...(attr.attachType === undefined ? {} : { attachType: attr.attachType }),
  });
}

export function linkUpdate(machine: MachineState, attr: LinkUpdateAttr): number {
  const { flags = 0, oldProgFd } = attr;
  if ((flags & ~BPF_F_REPLACE) !== 0) return -ERRNO.EINVAL;
  const link = machine.objects.byFd<Link>('link', attr.linkFd);
  if (typeof link === 'number') return link;
  const next = machine.objects.byFd<Program>('prog', attr.newProgFd);
  if (typeof next === 'number') return next;
  let old: Program | undefined;
  if ((flags & BPF_F_REPLACE) !== 0) {
    const found = machine.objects.byFd<Program>('prog', oldProgFd ?? 0);
    if (typeof found === 'number') return found;
    old = found;
  } else if ((oldProgFd ?? 0) !== 0) return -ERRNO.EINVAL;
  const before = link.program;
  if (before === undefined) return -ERRNO.ENOLINK;
  if (old !== undefined && old !== before) return -ERRNO.EPERM;
  if (next.type !== before.type) return -ERRNO.EINVAL;
  machine.objects.hold(next);
  link.replace(next);
  machine.objects.drop(before);
  return 0;
}

export function linkDetach(machine: MachineState, attr: LinkDetachAttr): number {
  const link = machine.objects.byFd<Link>('link', attr.linkFd);
  if (typeof link === 'number') return link;
  const program = link.detach();
  if (program !== undefined) machine.objects.drop(program);
  return 0;
}

export function progBindMap(machine: MachineState, attr: ProgBindMapAttr): number {
  if ((attr.flags ?? 0) !== 0) return -ERRNO.EINVAL;
  const program = machine.objects.byFd<Program>('prog', attr.progFd);
  if (typeof program === 'number') return program;
  const map = machine.objects.mapByFd(attr.mapFd);
  if (typeof map === 'number') return map;
  program.bindMap(map);
  return 0;
}

/** A descriptor: statistics are kept while it is open. */
export function enableStats(machine: MachineState, { type }: EnableStatsAttr): number {
  if (type !== BPF_STATS_RUN_TIME) return -ERRNO.EINVAL;
  const id = machine.objects.newId('link');
  const stats = new Link(id, undefined, { type: 'stats' });
  machine.statsUsers++;
  machine.objects.add('link', id, stats, () => {
    machine.statsUsers--;
  });
  return openNew(machine, stats);
}
