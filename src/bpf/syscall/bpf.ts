/**
 * bpf(2) on a machine: one function, a command and its attributes, 0 or a descriptor or -errno (kernel/bpf/syscall.c, __sys_bpf).
 */
import { BpfError, ERRNO } from '../errors.ts';
import { MachineState } from '../machine/machine.ts';
import type { Machine } from '../machine/types.ts';
import { ATTR_FIELDS, type BpfAttrs, type BpfCommand, REFUSED_COMMANDS } from './attrs.ts';
import * as maps from './maps.ts';
import * as objects from './objects.ts';
import * as programs from './programs.ts';

type Handlers = { readonly [C in BpfCommand]: (machine: MachineState, attr: BpfAttrs[C]) => number };

const HANDLERS: Handlers = {
  map_create: maps.mapCreate,
  map_lookup_elem: maps.mapLookupElem,
  map_update_elem: maps.mapUpdateElem,
  map_delete_elem: maps.mapDeleteElem,
  map_lookup_and_delete_elem: maps.mapLookupAndDeleteElem,
  map_get_next_key: maps.mapGetNextKey,
  map_freeze: maps.mapFreeze,
  map_lookup_batch: (machine, attr) => maps.mapBatch(machine, attr, 'lookup'),
  map_lookup_and_delete_batch: (machine, attr) => maps.mapBatch(machine, attr, 'lookup_and_delete'),
  map_update_batch: (machine, attr) => maps.mapBatch(machine, attr, 'update'),
  map_delete_batch: (machine, attr) => maps.mapBatch(machine, attr, 'delete'),
  prog_load: programs.progLoad,
  prog_test_run: programs.progTestRun,
  obj_pin: objects.objPin,
  obj_get: objects.objGet,
  prog_get_next_id: (machine, attr) => objects.getNextId(machine, 'prog', attr),
  map_get_next_id: (machine, attr) => objects.getNextId(machine, 'map', attr),
  btf_get_next_id: (machine, attr) => objects.getNextId(machine, 'btf', attr),
  link_get_next_id: (machine, attr) => objects.getNextId(machine, 'link', attr),
  prog_get_fd_by_id: (machine, attr) => objects.getFdById(machine, 'prog', attr),
  map_get_fd_by_id: (machine, attr) => objects.getFdById(machine, 'map', attr),
  btf_get_fd_by_id: (machine, attr) => objects.getFdById(machine, 'btf', attr),
  link_get_fd_by_id: (machine, attr) => objects.getFdById(machine, 'link', attr),
  obj_get_info_by_fd: objects.objGetInfoByFd,
  raw_tracepoint_open: objects.rawTracepointOpen,
  link_create: objects.linkCreate,
  link_update: objects.linkUpdate,
  link_detach: objects.linkDetach,
  btf_load: objects.btfLoad,
  prog_bind_map: objects.progBindMap,
  enable_stats: objects.enableStats,
};

const isSet = (value: unknown): boolean =>
  value !== undefined && value !== 0 && value !== 0n && value !== '' && value !== null;

const ALL_FIELDS: ReadonlySet<string> = new Set(Object.values(ATTR_FIELDS).flat());

const BYTES: ReadonlySet<string> = new Set([
  'key',
  'value',
  'nextKey',
  'inBatch',
  'outBatch',
  'keys',
  'values',
  'dataIn',
  'ctxIn',
  'dataOut',
  'ctxOut',
  'btf',
  'funcInfo',
  'lineInfo',
]);
const TEXTS: ReadonlySet<string> = new Set(['mapName', 'license', 'log', 'progName', 'pathname', 'name']);
const ENUMS: ReadonlySet<string> = new Set(['mapType', 'progType', 'expectedAttachType', 'attachType']);
const BIGS: ReadonlySet<string> = new Set(['mapExtra', 'cookie']);

const isInt = (value: unknown, low: number, high: number): boolean =>
  Number.isInteger(value) && (value as number) >= low && (value as number) <= high;
/** A descriptor may be negative: there is none like that. */
const is32 = (value: unknown): boolean => isInt(value, -(2 ** 31), 2 ** 32 - 1);

function isInsn(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const { code, dst, src, off, imm } = value as Record<string, unknown>;
  const isSmall = isInt(code, 0, 255) && isInt(dst, 0, 15) && isInt(src, 0, 15);
  return isSmall && isInt(off, -(2 ** 15), 2 ** 15 - 1) && is32(imm);
}

/** Whether a field's value is what attrs.ts says it is. */
function isRight(name: string, value: unknown): boolean {
  if (BYTES.has(name)) return value instanceof Uint8Array;
  if (TEXTS.has(name)) return typeof value === 'string';
  if (ENUMS.has(name)) return typeof value === 'string' || is32(value);
  if (BIGS.has(name)) return typeof value === 'bigint' && value === BigInt.asUintN(64, value);
  if (name === 'insns') return value instanceof Uint8Array || (Array.isArray(value) && value.every(isInsn));
  if (name === 'fdArray') return Array.isArray(value) && value.every(is32);
  return name === 'info' || is32(value);
}

/** What a call cannot do without; the kernel would find zeros there, which mean something else. */
const REQUIRED: Partial<Record<BpfCommand, readonly string[]>> = {
  map_create: ['mapType'],
  map_lookup_batch: ['count'],
  map_lookup_and_delete_batch: ['count'],
  map_update_batch: ['count'],
  map_delete_batch: ['count'],
  prog_load: ['progType', 'insns', 'license'],
  obj_pin: ['pathname'],
  obj_get: ['pathname'],
  btf_load: ['btf'],
};

/**
 * CHECK_ATTR: a field of another command has to be zero (-EINVAL), and one that no command has is of a later kernel (-E2BIG). A value
 * that is not of its field's type is -EINVAL.
 */
function checkAttr(command: BpfCommand, attr: object): number {
  const fields: readonly string[] = ATTR_FIELDS[command];
  for (const [name, value] of Object.entries(attr)) {
    if (!fields.includes(name)) {
      if (isSet(value)) return ALL_FIELDS.has(name) ? -ERRNO.EINVAL : -ERRNO.E2BIG;
    } else if (value !== undefined && !isRight(name, value)) return -ERRNO.EINVAL;
  }
  const given = attr as Readonly<Record<string, unknown>>;
  return REQUIRED[command]?.some((name) => given[name] === undefined) === true ? -ERRNO.EINVAL : 0;
}

/**
 * Runs a command. The result is what the system call returns: 0, a descriptor, or a negative errno; fields marked `out` in attrs.ts are
 * written. Throws only for what is no system call at all: an unknown command name (BpfError EINVAL).
 */
export function bpf<C extends BpfCommand>(machine: Machine, command: C, attr: BpfAttrs[C]): number {
  if (!(machine instanceof MachineState))
    throw new BpfError('EINVAL', 'bpf() needs a machine of createMachine()');
  if (!Object.hasOwn(HANDLERS, command)) {
    const reason = REFUSED_COMMANDS[command];
    if (reason !== undefined) return -ERRNO.EOPNOTSUPP;
    throw new BpfError('EINVAL', `there is no command ${String(command)}`);
  }
  if (typeof attr !== 'object' || attr === null) return -ERRNO.EFAULT;
  const refused = checkAttr(command, attr);
  if (refused !== 0) return refused;
  try {
    return HANDLERS[command](machine, attr);
  } catch (error) {
    if (error instanceof BpfError && error.code === 'EMFILE') return -ERRNO.EMFILE;
    throw error;
  }
}

/** close(2): 0 or -EBADF. */
export function closeFd(machine: Machine, fd: number): number {
  if (!(machine instanceof MachineState))
    throw new BpfError('EINVAL', 'closeFd() needs a machine of createMachine()');
  return machine.objects.close(fd);
}

/** unlink(2) of a pin: 0 or -ENOENT. */
export function unpin(machine: Machine, pathname: string): number {
  if (!(machine instanceof MachineState))
    throw new BpfError('EINVAL', 'unpin() needs a machine of createMachine()');
  return machine.objects.unpin(pathname);
}
