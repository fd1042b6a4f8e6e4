/** BPF_PROG_LOAD and BPF_PROG_TEST_RUN (kernel/bpf/syscall.c, resolve_pseudo_ldimm64 of verifier.c). */
import { BpfError, ERRNO, type ErrnoName } from '../errors.ts';
import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import type { MachineState } from '../machine/machine.ts';
import type { Program } from '../machine/program.ts';
import { hasTestRun } from '../machine/test-run.ts';
import type { LoadInput } from '../machine/types.ts';
import type { BpfMap } from '../maps/map-types.ts';
import {
  ATTACH_TYPES,
  type AttachType,
  attachTypeAtLoad,
  contextOf,
  PROG_TYPES,
  type ProgType,
} from '../prog-types/index.ts';
import type { ProgLoadAttr, ProgTestRunAttr } from './attrs.ts';
import { debugInfo, Refused } from './debug-info.ts';
import { errnoOf } from './errno.ts';
import { openNew } from './objects.ts';

const NAME_LENGTH = 16;
const MAX_INSNS = 1_000_000;
const BPF_F_STRICT_ALIGNMENT = 1;
const BPF_F_ANY_ALIGNMENT = 2;
const BPF_F_SLEEPABLE = 16;
const BPF_F_TEST_RUN_ON_CPU = 1;
/** BPF_LOG_MASK */
const LOG_LEVELS = 15;
/** Types that are attached to a function of the kernel: bpf(2) of a machine has none to name. */
const NEEDS_TARGET: ReadonlySet<ProgType> = new Set(['tracing', 'lsm', 'ext']);
const PROG_FLAGS = 0xff;

/** The name of an enumerator that is given by name or number. */
function nameOf<T extends string>(
  values: readonly string[],
  given: string | number,
  first = 0,
): T | undefined {
  const name = typeof given === 'number' ? values[given - first] : given;
  return name !== undefined && values.includes(name) ? (name as T) : undefined;
}

/** Instructions with map indexes instead of descriptors, and the maps. */
function resolveMaps(
  machine: MachineState,
  insns: readonly Insn[],
  fdArray: readonly number[],
): { insns: Insn[]; maps: BpfMap[] } | Refused {
  const maps: BpfMap[] = [];
  const out = insns.map((insn) => ({ ...insn }));
  for (let at = 0; at < out.length; at++) {
    const insn = out[at]!;
    if (insn.code !== (isa.BPF_LD | isa.BPF_IMM | isa.BPF_DW)) continue;
    at++;
    const isValue = insn.src === isa.BPF_PSEUDO_MAP_VALUE || insn.src === isa.BPF_PSEUDO_MAP_IDX_VALUE;
    const isIndex = insn.src === isa.BPF_PSEUDO_MAP_IDX || insn.src === isa.BPF_PSEUDO_MAP_IDX_VALUE;
    if (!isValue && !isIndex && insn.src !== isa.BPF_PSEUDO_MAP_FD) continue;
    const fd = isIndex ? fdArray[insn.imm] : insn.imm;
    if (fd === undefined) return new Refused(ERRNO.EPROTO, `fd_idx without fd_array is invalid`);
    const map = machine.objects.mapByFd(fd);
    if (typeof map === 'number') return new Refused(-map, `fd ${fd} is not pointing to valid bpf_map`);
    let index = maps.indexOf(map);
    if (index < 0) index = maps.push(map) - 1;
    const src = isValue ? isa.BPF_PSEUDO_MAP_IDX_VALUE : isa.BPF_PSEUDO_MAP_IDX;
    out[at - 1] = { ...insn, src, imm: index };
  }
  return { insns: out, maps };
}

export function progLoad(machine: MachineState, attr: ProgLoadAttr): number {
  const { progFlags = 0, logLevel = 0, progName = '', fdArray = [] } = attr;
  if ((progFlags & ~PROG_FLAGS) !== 0) return -ERRNO.EINVAL;
  if (attr.insns instanceof Uint8Array && attr.insns.length % 8 !== 0) return -ERRNO.EINVAL;
  const insns = attr.insns instanceof Uint8Array ? isa.decodeInsns(attr.insns) : attr.insns;
  if (insns.length === 0 || insns.length > MAX_INSNS) return -ERRNO.E2BIG;
  const type = nameOf<ProgType>(PROG_TYPES.slice(1), attr.progType, 1);
  const given =
    attr.expectedAttachType === undefined
      ? undefined
      : nameOf<AttachType>(ATTACH_TYPES, attr.expectedAttachType);
  const isBad =
    type === undefined ||
    (attr.expectedAttachType !== undefined && given === undefined) ||
    progName.length >= NAME_LENGTH ||
    !/^[\w.]*$/.test(progName) ||
    (logLevel & ~LOG_LEVELS) !== 0;
  const attachType = isBad ? undefined : attachTypeAtLoad(type, given);
  if (isBad || attachType === undefined) return -ERRNO.EINVAL;
  const isSleepable = (progFlags & BPF_F_SLEEPABLE) !== 0;
  if (type === 'syscall' && !isSleepable) {
    attr.log = 'Syscall programs can only be sleepable\n';
    return -ERRNO.EINVAL;
  }
  if (NEEDS_TARGET.has(type)) {
    attr.log = 'Tracing programs must provide btf_id\n';
    return -ERRNO.EINVAL;
  }
  if (type === 'struct_ops') return -ERRNO.ENOTSUPP;
  const resolved = resolveMaps(machine, insns, fdArray);
  if (resolved instanceof Refused) {
    attr.log = `${resolved.message}\n`;
    return -resolved.errno;
  }
  const info = debugInfo(machine, attr);
  if (info instanceof Refused) {
    attr.log = `${info.message}\n`;
    return -info.errno;
  }
  const input = {
    ...info,
    name: progName,
    type,
    ...(attachType === 'none' ? {} : { attachType }),
    sleepable: isSleepable,
    insns: resolved.insns,
    maps: resolved.maps.map((map) => map.spec),
    loadedMaps: resolved.maps,
    ctx: contextOf(type, attachType === 'none' ? undefined : attachType),
    license: attr.license,
    allowUninitStack: true,
    strictAlignment: (progFlags & (BPF_F_STRICT_ALIGNMENT | BPF_F_ANY_ALIGNMENT)) === BPF_F_STRICT_ALIGNMENT,
    logLevel: Math.min(logLevel & 3, 2),
  } as unknown as LoadInput;
  try {
    const program = machine.loadProgram(input);
    if (logLevel > 0) attr.log = program.verified.log;
    return openNew(machine, program);
  } catch (error) {
    if (error instanceof BpfError) attr.log = error.log ?? `${error.message}\n`;
    return errnoOf(error);
  }
}

export function progTestRun(machine: MachineState, attr: ProgTestRunAttr): number {
  const program = machine.objects.byFd<Program>('prog', attr.progFd);
  if (typeof program === 'number') return program;
  const { dataIn, ctxIn, repeat, flags = 0, cpu = 0, batchSize } = attr;
  if (!hasTestRun(program.type)) return -ERRNO.ENOTSUPP;
  const isContextOnly = program.type.startsWith('raw_tracepoint') || program.type === 'syscall';
  if (isContextOnly && (attr.dataOut !== undefined || attr.ctxOut !== undefined)) return -ERRNO.EINVAL;
  // Only raw tracepoints run on a CPU of the caller's choice, and only when asked to.
  const canChoose = program.type.startsWith('raw_tracepoint') && (flags & BPF_F_TEST_RUN_ON_CPU) !== 0;
  if (cpu !== 0 && !canChoose) return -ERRNO.EINVAL;
  try {
    const result = program.testRun({
      ...(dataIn === undefined ? {} : { dataIn }),
      ...(ctxIn === undefined ? {} : { ctxIn }),
      ...(repeat === undefined ? {} : { repeat }),
      flags: canChoose ? 0 : flags,
      cpu,
      ...(batchSize === undefined ? {} : { batchSize }),
    });
    attr.retval = result.retval;
    attr.duration = result.duration;
    if (program.type === 'syscall') {
      if (result.ctxOut !== undefined) ctxIn?.set(result.ctxOut);
      return 0;
    }
    let error = 0;
    if (result.dataOut !== undefined) {
      attr.dataSizeOut = result.dataOut.length;
      error = give(result.dataOut, attr.dataOut, (bytes) => {
        attr.dataOut = bytes;
      });
    }
    if (result.ctxOut !== undefined) {
      attr.ctxSizeOut = result.ctxOut.length;
      error ||= give(result.ctxOut, attr.ctxOut, (bytes) => {
        attr.ctxOut = bytes;
      });
    }
    return error;
  } catch (error) {
    return errnoOf(error);
  }
}

/** Copies into the room there is: -ENOSPC where it is too small; without room, hands the bytes over. */
function give(bytes: Uint8Array, room: Uint8Array | undefined, set: (bytes: Uint8Array) => void): number {
  if (room === undefined) {
    set(bytes);
    return 0;
  }
  room.set(bytes.subarray(0, room.length));
  return room.length < bytes.length ? -ERRNO.ENOSPC : 0;
}

export type { ErrnoName };
