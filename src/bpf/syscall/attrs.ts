/**
 * The attributes of bpf(2) by command (`union bpf_attr`, include/uapi/linux/bpf.h) as plain objects. Names are the kernel's in
 * camelCase; pointers are the bytes themselves. Fields marked `out` are written by the call.
 */
import type { Insn } from '../isa.ts';
import type { MapType } from '../maps/map-spec.ts';

export interface MapCreateAttr {
  /** Name, or number of enum bpf_map_type. */
  mapType: MapType | number;
  keySize?: number;
  valueSize?: number;
  maxEntries?: number;
  mapFlags?: number;
  innerMapFd?: number;
  numaNode?: number;
  mapName?: string;
  btfFd?: number;
  btfKeyTypeId?: number;
  btfValueTypeId?: number;
  mapExtra?: bigint;
}

export interface MapElemAttr {
  mapFd: number;
  key?: Uint8Array | undefined;
  /** In, or out: as long as the map's values at bpf(2) (`sysValueSize`). */
  value?: Uint8Array;
  flags?: number;
}

export interface MapNextKeyAttr {
  mapFd: number;
  key?: Uint8Array | undefined;
  /** out */
  nextKey: Uint8Array;
}

export interface MapFreezeAttr {
  mapFd: number;
}

export interface MapBatchAttr {
  mapFd: number;
  inBatch?: Uint8Array | undefined;
  /** out */
  outBatch?: Uint8Array;
  keys?: Uint8Array;
  values?: Uint8Array;
  /** In: elements there is room for. Out: elements done. */
  count: number;
  elemFlags?: number;
  flags?: number;
}

export interface ProgLoadAttr {
  /** Name, or number of enum bpf_prog_type. */
  progType: string | number;
  insns: readonly Insn[] | Uint8Array;
  license: string;
  logLevel?: number;
  /** out: the verifier's log. */
  log?: string;
  progFlags?: number;
  progName?: string;
  /** Name, or number of enum bpf_attach_type. */
  expectedAttachType?: string | number;
  /** Descriptors that BPF_PSEUDO_MAP_IDX refers to. */
  fdArray?: readonly number[];
  /** BTF of btf_load, which func_info and line_info refer to. */
  progBtfFd?: number;
  /** Records of struct bpf_func_info and bpf_line_info, little endian, and their sizes (default 8 and 16). */
  funcInfo?: Uint8Array;
  funcInfoRecSize?: number;
  lineInfo?: Uint8Array;
  lineInfoRecSize?: number;
}

export interface ProgTestRunAttr {
  progFd: number;
  dataIn?: Uint8Array;
  ctxIn?: Uint8Array;
  repeat?: number;
  flags?: number;
  cpu?: number;
  batchSize?: number;
  /** Room for the packet and the context; made as long as they are where it is not given. out */
  dataOut?: Uint8Array;
  ctxOut?: Uint8Array;
  /** out */
  dataSizeOut?: number;
  ctxSizeOut?: number;
  retval?: number;
  duration?: number;
}

export interface ObjPinAttr {
  pathname: string;
  bpfFd: number;
  fileFlags?: number;
}

export interface ObjGetAttr {
  pathname: string;
  fileFlags?: number;
}

export interface NextIdAttr {
  startId: number;
  /** out */
  nextId?: number;
}

export interface FdByIdAttr {
  id: number;
  openFlags?: number;
}

export interface InfoAttr {
  bpfFd: number;
  /** out */
  info?: ObjectInfo;
}

export interface LinkCreateAttr {
  progFd: number;
  targetFd?: number;
  attachType?: string | number;
  flags?: number;
  cookie?: bigint;
}

export interface RawTracepointOpenAttr {
  name?: string;
  progFd: number;
  cookie?: bigint;
}

export interface LinkUpdateAttr {
  linkFd: number;
  newProgFd: number;
  oldProgFd?: number;
  flags?: number;
}

export interface LinkDetachAttr {
  linkFd: number;
}

export interface BtfLoadAttr {
  btf: Uint8Array;
  btfLogLevel?: number;
  /** out */
  log?: string;
}

export interface ProgBindMapAttr {
  progFd: number;
  mapFd: number;
  flags?: number;
}

export interface EnableStatsAttr {
  /** 0: BPF_STATS_RUN_TIME */
  type: number;
}

export interface MapInfo {
  readonly kind: 'map';
  readonly type: number;
  readonly id: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly mapFlags: number;
  readonly name: string;
  readonly btfId: number;
  readonly btfKeyTypeId: number;
  readonly btfValueTypeId: number;
  readonly mapExtra: bigint;
}

export interface ProgInfo {
  readonly kind: 'prog';
  readonly type: number;
  readonly id: number;
  /** Bytes of the module, and of the instructions. */
  readonly jitedProgLen: number;
  readonly xlatedProgLen: number;
  readonly mapIds: readonly number[];
  readonly name: string;
  readonly runTimeNs: bigint;
  readonly runCnt: bigint;
  readonly verifiedInsns: number;
}

export interface BtfInfo {
  readonly kind: 'btf';
  readonly id: number;
  readonly btfSize: number;
  readonly btf: Uint8Array;
  readonly name: string;
}

export interface LinkInfo {
  readonly kind: 'link';
  readonly type: string;
  readonly id: number;
  readonly progId: number;
  readonly attachType: string | number | undefined;
  readonly tpName: string | undefined;
}

export type ObjectInfo = MapInfo | ProgInfo | BtfInfo | LinkInfo;

/** Commands, in lower case without BPF_. */
export interface BpfAttrs {
  map_create: MapCreateAttr;
  map_lookup_elem: MapElemAttr;
  map_update_elem: MapElemAttr;
  map_delete_elem: MapElemAttr;
  map_lookup_and_delete_elem: MapElemAttr;
  map_get_next_key: MapNextKeyAttr;
  map_freeze: MapFreezeAttr;
  map_lookup_batch: MapBatchAttr;
  map_lookup_and_delete_batch: MapBatchAttr;
  map_update_batch: MapBatchAttr;
  map_delete_batch: MapBatchAttr;
  prog_load: ProgLoadAttr;
  prog_test_run: ProgTestRunAttr;
  obj_pin: ObjPinAttr;
  obj_get: ObjGetAttr;
  prog_get_next_id: NextIdAttr;
  map_get_next_id: NextIdAttr;
  btf_get_next_id: NextIdAttr;
  link_get_next_id: NextIdAttr;
  prog_get_fd_by_id: FdByIdAttr;
  map_get_fd_by_id: FdByIdAttr;
  btf_get_fd_by_id: FdByIdAttr;
  link_get_fd_by_id: FdByIdAttr;
  obj_get_info_by_fd: InfoAttr;
  raw_tracepoint_open: RawTracepointOpenAttr;
  link_create: LinkCreateAttr;
  link_update: LinkUpdateAttr;
  link_detach: LinkDetachAttr;
  btf_load: BtfLoadAttr;
  prog_bind_map: ProgBindMapAttr;
  enable_stats: EnableStatsAttr;
}

export type BpfCommand = keyof BpfAttrs;

const ELEM = ['mapFd', 'key', 'value', 'flags'] as const;
const BATCH = ['mapFd', 'inBatch', 'outBatch', 'keys', 'values', 'count', 'elemFlags', 'flags'] as const;
const NEXT_ID = ['startId', 'nextId'] as const;
const FD_BY_ID = ['id', 'openFlags'] as const;

/** The fields that each command has. */
export const ATTR_FIELDS: { readonly [C in BpfCommand]: readonly (keyof BpfAttrs[C])[] } = {
  map_create: [
    'mapType',
    'keySize',
    'valueSize',
    'maxEntries',
    'mapFlags',
    'innerMapFd',
    'numaNode',
    'mapName',
    'btfFd',
    'btfKeyTypeId',
    'btfValueTypeId',
    'mapExtra',
  ],
  map_lookup_elem: ELEM,
  map_update_elem: ELEM,
  map_delete_elem: ['mapFd', 'key'],
  map_lookup_and_delete_elem: ELEM,
  map_get_next_key: ['mapFd', 'key', 'nextKey'],
  map_freeze: ['mapFd'],
  map_lookup_batch: BATCH,
  map_lookup_and_delete_batch: BATCH,
  map_update_batch: BATCH,
  map_delete_batch: BATCH,
  prog_load: [
    'progType',
    'insns',
    'license',
    'logLevel',
    'log',
    'progFlags',
    'progName',
    'expectedAttachType',
    'fdArray',
    'progBtfFd',
    'funcInfo',
    'funcInfoRecSize',
    'lineInfo',
    'lineInfoRecSize',
  ],
  prog_test_run: [
    'progFd',
    'dataIn',
    'ctxIn',
    'repeat',
    'flags',
    'cpu',
    'batchSize',
    'dataOut',
    'ctxOut',
    'dataSizeOut',
    'ctxSizeOut',
    'retval',
    'duration',
  ],
  obj_pin: ['pathname', 'bpfFd', 'fileFlags'],
  obj_get: ['pathname', 'fileFlags'],
  prog_get_next_id: NEXT_ID,
  map_get_next_id: NEXT_ID,
  btf_get_next_id: NEXT_ID,
  link_get_next_id: NEXT_ID,
  prog_get_fd_by_id: FD_BY_ID,
  map_get_fd_by_id: FD_BY_ID,
  btf_get_fd_by_id: FD_BY_ID,
  link_get_fd_by_id: FD_BY_ID,
  obj_get_info_by_fd: ['bpfFd', 'info'],
  raw_tracepoint_open: ['name', 'progFd', 'cookie'],
  link_create: ['progFd', 'targetFd', 'attachType', 'flags', 'cookie'],
  link_update: ['linkFd', 'newProgFd', 'oldProgFd', 'flags'],
  link_detach: ['linkFd'],
  btf_load: ['btf', 'btfLogLevel', 'log'],
  prog_bind_map: ['progFd', 'mapFd', 'flags'],
  enable_stats: ['type'],
};

/** Commands of Linux that a machine in user space does not have, and why. */
export const REFUSED_COMMANDS: Readonly<Record<string, string>> = {
  prog_attach:
    'there are no control groups, sockets or devices to attach to: use link_create and run the link',
  prog_detach: 'there are no control groups, sockets or devices to detach from',
  prog_query: 'there are no control groups, sockets or devices to ask',
  task_fd_query: 'there are no perf events of tasks',
  iter_create: 'there are no kernel objects to iterate over',
  token_create: 'there are no user namespaces to delegate to',
};
