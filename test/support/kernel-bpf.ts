/**
 * The machine's own kernel as an oracle: bpf(2) through koffi. For tests that compare with the kernel; it needs root and
 * Linux on x86-64, elsewhere `kernelBpf.reason` says why such tests are skipped:
 *
 *     describe('as in the kernel', unless(kernelBpf.reason), …)
 *
 * Touches only what the test itself creates. Every function gives a negative errno where the call fails, as the system call does.
 */
import { createRequire } from 'node:module';
import { encodeInsns, type Insn } from '../../src/bpf/isa.ts';

export const BPF_CMD = {
  MAP_CREATE: 0,
  MAP_LOOKUP_ELEM: 1,
  MAP_UPDATE_ELEM: 2,
  MAP_DELETE_ELEM: 3,
  MAP_GET_NEXT_KEY: 4,
  PROG_LOAD: 5,
  OBJ_PIN: 6,
  OBJ_GET: 7,
  PROG_ATTACH: 8,
  PROG_DETACH: 9,
  PROG_TEST_RUN: 10,
  PROG_GET_NEXT_ID: 11,
  MAP_GET_NEXT_ID: 12,
  PROG_GET_FD_BY_ID: 13,
  MAP_GET_FD_BY_ID: 14,
  OBJ_GET_INFO_BY_FD: 15,
  BTF_LOAD: 18,
  BTF_GET_FD_BY_ID: 19,
  MAP_LOOKUP_AND_DELETE_ELEM: 21,
  MAP_FREEZE: 22,
  BTF_GET_NEXT_ID: 23,
  MAP_LOOKUP_BATCH: 24,
  MAP_LOOKUP_AND_DELETE_BATCH: 25,
  MAP_UPDATE_BATCH: 26,
  MAP_DELETE_BATCH: 27,
} as const;

export interface KernelMapSpec {
  /** enum bpf_map_type */
  type: number;
  keySize: number;
  valueSize: number;
  maxEntries: number;
  flags?: number;
  innerMapFd?: number;
  numaNode?: number;
  name?: string;
  btfFd?: number;
  keyTypeId?: number;
  valueTypeId?: number;
  mapExtra?: bigint;
}

export interface KernelProgSpec {
  /** enum bpf_prog_type */
  type: number;
  insns: readonly Insn[] | Uint8Array;
  license?: string;
  name?: string;
  flags?: number;
  expectedAttachType?: number;
  btfFd?: number;
  /** Types of the functions, of the BTF in `btfFd`. */
  funcInfo?: readonly { insn: number; typeId: number }[];
  /** Records as they are, of any size. */
  funcRecords?: { bytes: Uint8Array; size: number; count: number };
  lineRecords?: { bytes: Uint8Array; size: number; count: number };
  attachBtfId?: number;
  logLevel?: number;
  logSize?: number;
}

export interface KernelTestRun {
  dataIn?: Uint8Array;
  /** Size of the output buffer; default the input's and 256 more, none without input. */
  dataOutSize?: number;
  ctxIn?: Uint8Array;
  ctxOutSize?: number;
  repeat?: number;
  flags?: number;
  cpu?: number;
}

export interface KernelTestRunResult {
  /** 0 or -errno */
  error: number;
  retval: number;
  duration: number;
  dataOut: Uint8Array;
  ctxOut: Uint8Array;
  dataSizeOut: number;
}

interface Native {
  syscall(number: number, command: number, attr: Buffer, size: number): number | bigint;
  close(fd: number): number;
  sysconf(name: number): number | bigint;
  errno(): number;
  address(buffer: Buffer): bigint;
}

const SYS_bpf = 321;
const ENOTSUPP_MISSING = 'bpf(2) is for root only here';

function open(): { native?: Native; reason?: string } {
  if (process.platform !== 'linux' || process.arch !== 'x64') return { reason: 'no Linux on x86-64' };
  if (process.getuid?.() !== 0) return { reason: 'bpf(2) needs root' };
  try {
    const koffi = createRequire(import.meta.url)('koffi');
    const libc = koffi.load('libc.so.6');
    const native: Native = {
      syscall: libc.func('long syscall(long number, long command, void *attr, unsigned long size)'),
      close: libc.func('int close(int fd)'),
      sysconf: libc.func('long sysconf(int name)'),
      errno: () => koffi.errno(),
      address: (buffer) => BigInt(koffi.address(buffer)),
    };
    // An array map of one entry tells whether the kernel lets us.
    const attr = Buffer.alloc(120);
    for (const [n, value] of [2, 4, 8, 1].entries()) attr.writeUInt32LE(value, n * 4);
    const fd = Number(native.syscall(SYS_bpf, 0, attr, attr.length));
    if (fd < 0) return { reason: `${ENOTSUPP_MISSING} (errno ${native.errno()})` };
    native.close(fd);
    return { native };
  } catch (error) {
    return { reason: `koffi is not here: ${String(error)}` };
  }
}

const ATTR_SIZE = 152;

/** Attributes of one call: numbers at offsets, and buffers that stay alive while it runs. */
class Attr {
  readonly bytes = Buffer.alloc(ATTR_SIZE);
  readonly keep: Buffer[] = [];
  readonly #native: Native;

  constructor(native: Native) {
    this.#native = native;
  }

  u32(offset: number, value: number | undefined): this {
    if (value !== undefined) this.bytes.writeUInt32LE(value >>> 0, offset);
    return this;
  }

  u64(offset: number, value: bigint | undefined): this {
    if (value !== undefined) this.bytes.writeBigUInt64LE(BigInt.asUintN(64, value), offset);
    return this;
  }

  /** A pointer to a buffer; an empty or absent one is NULL. */
  buffer(offset: number, data: Uint8Array | undefined): Buffer {
    if (data === undefined || data.length === 0) return Buffer.alloc(0);
    const copy = Buffer.from(data);
    this.keep.push(copy);
    this.bytes.writeBigUInt64LE(this.#native.address(copy), offset);
    return copy;
  }

  text(offset: number, text: string | undefined): this {
    if (text !== undefined) this.bytes.write(text.slice(0, 15), offset, 'latin1');
    return this;
  }
}

const state = open();

/** Possible CPUs: how many values a per-CPU map's element has outside of programs. */
function possibleCpus(native: Native): number {
  const SC_NPROCESSORS_CONF = 83;
  return Number(native.sysconf(SC_NPROCESSORS_CONF));
}

class KernelBpf {
  /** Why the kernel is not available, or undefined. */
  readonly reason: string | undefined = state.reason;
  readonly #fds = new Set<number>();

  get #native(): Native {
    if (state.native === undefined) throw new Error(state.reason);
    return state.native;
  }

  get ncpu(): number {
    return possibleCpus(this.#native);
  }

  /** The system call itself with raw attributes: its result, or -errno. */
  call(command: number, attr: Buffer, size = attr.length): number {
    const result = Number(this.#native.syscall(SYS_bpf, command, attr, size));
    return result < 0 ? -this.#native.errno() : result;
  }

  #call(command: number, attr: Attr, size?: number): number {
    return this.call(command, attr.bytes, size);
  }

  /** A file descriptor, or -errno. */
  mapCreate(spec: KernelMapSpec): number {
    const attr = new Attr(this.#native)
      .u32(0, spec.type)
      .u32(4, spec.keySize)
      .u32(8, spec.valueSize)
      .u32(12, spec.maxEntries)
      .u32(16, spec.flags)
      .u32(20, spec.innerMapFd)
      .u32(24, spec.numaNode)
      .text(28, spec.name)
      .u32(48, spec.btfFd)
      .u32(52, spec.keyTypeId)
      .u32(56, spec.valueTypeId)
      .u64(64, spec.mapExtra);
    return this.#opened(this.#call(BPF_CMD.MAP_CREATE, attr, 80));
  }

  #elem(command: number, fd: number, key?: Uint8Array, value?: Uint8Array, flags?: bigint) {
    const attr = new Attr(this.#native).u32(0, fd).u64(24, flags);
    attr.buffer(8, key);
    const out = attr.buffer(16, value);
    return { error: this.#call(command, attr, 32), out: new Uint8Array(out) };
  }

  /** The value (`size` bytes: 8-rounded × CPUs for per-CPU maps), or -errno. `value` is what the buffer holds before (bloom filters). */
  mapLookup(
    fd: number,
    key: Uint8Array | undefined,
    size: number,
    flags = 0n,
    value?: Uint8Array,
  ): Uint8Array | number {
    const buffer = value ?? new Uint8Array(size);
    const { error, out } = this.#elem(BPF_CMD.MAP_LOOKUP_ELEM, fd, key, buffer, flags);
    return error < 0 ? error : out;
  }

  mapLookupAndDelete(fd: number, key: Uint8Array | undefined, size: number, flags = 0n): Uint8Array | number {
    const command = BPF_CMD.MAP_LOOKUP_AND_DELETE_ELEM;
    const { error, out } = this.#elem(command, fd, key, new Uint8Array(size), flags);
    return error < 0 ? error : out;
  }

  mapUpdate(fd: number, key: Uint8Array | undefined, value: Uint8Array, flags = 0n): number {
    return this.#elem(BPF_CMD.MAP_UPDATE_ELEM, fd, key, value, flags).error;
  }

  mapDelete(fd: number, key: Uint8Array): number {
    return this.#elem(BPF_CMD.MAP_DELETE_ELEM, fd, key).error;
  }

  mapNextKey(fd: number, key: Uint8Array | undefined, size: number): Uint8Array | number {
    const { error, out } = this.#elem(BPF_CMD.MAP_GET_NEXT_KEY, fd, key, new Uint8Array(size));
    return error < 0 ? error : out;
  }

  mapFreeze(fd: number): number {
    return this.#call(BPF_CMD.MAP_FREEZE, new Attr(this.#native).u32(0, fd), 4);
  }

  /** A batch command: keys and values lie one behind the other; `count` is how many there are (or fit). */
  mapBatch(
    command: number,
    fd: number,
    options: {
      inBatch?: Uint8Array | undefined;
      outBatchSize?: number;
      keys?: Uint8Array;
      values?: Uint8Array;
      count: number;
      elemFlags?: bigint;
      flags?: bigint;
    },
  ): { error: number; count: number; keys: Uint8Array; values: Uint8Array; outBatch: Uint8Array } {
    const attr = new Attr(this.#native)
      .u32(32, options.count)
      .u32(36, fd)
      .u64(40, options.elemFlags)
      .u64(48, options.flags);
    attr.buffer(0, options.inBatch);
    const outBatch = attr.buffer(8, new Uint8Array(options.outBatchSize ?? 0));
    const keys = attr.buffer(16, options.keys);
    const values = attr.buffer(24, options.values);
    const error = this.#call(command, attr, 56);
    return {
      error,
      count: attr.bytes.readUInt32LE(32),
      keys: new Uint8Array(keys),
      values: new Uint8Array(values),
      outBatch: new Uint8Array(outBatch),
    };
  }

  /** A file descriptor or -errno, and the verifier's log where `logLevel` asks for it. */
  progLoad(spec: KernelProgSpec): { fd: number; log: string } {
    const { logLevel = 0, logSize = 1 << 20 } = spec;
    const bytes = spec.insns instanceof Uint8Array ? spec.insns : encodeInsns(spec.insns);
    const attr = new Attr(this.#native)
      .u32(0, spec.type)
      .u32(4, bytes.length / 8)
      .u32(24, logLevel)
      .u32(44, spec.flags)
      .text(48, spec.name)
      .u32(68, spec.expectedAttachType)
      .u32(72, spec.btfFd)
      .u32(108, spec.attachBtfId);
    const { funcInfo = [] } = spec;
    if (funcInfo.length > 0) {
      const records = Uint32Array.from(funcInfo.flatMap(({ insn, typeId }) => [insn, typeId]));
      attr.u32(76, 8).u32(88, funcInfo.length);
      attr.buffer(80, new Uint8Array(records.buffer));
    }
    const { funcRecords, lineRecords } = spec;
    if (funcRecords !== undefined) {
      attr.u32(76, funcRecords.size).u32(88, funcRecords.count).buffer(80, funcRecords.bytes);
    }
    if (lineRecords !== undefined) {
      attr.u32(92, lineRecords.size).u32(104, lineRecords.count).buffer(96, lineRecords.bytes);
    }
    attr.buffer(8, bytes);
    attr.buffer(16, Buffer.from(`${spec.license ?? 'GPL'}\0`));
    let log = Buffer.alloc(0);
    if (logLevel > 0) {
      attr.u32(28, logSize);
      log = attr.buffer(32, new Uint8Array(logSize)) as typeof log;
    }
    const fd = this.#opened(this.#call(BPF_CMD.PROG_LOAD, attr, 144));
    const end = log.indexOf(0);
    return { fd, log: log.toString('latin1', 0, end < 0 ? log.length : end) };
  }

  progTestRun(fd: number, run: KernelTestRun = {}): KernelTestRunResult {
    const { dataIn, ctxIn } = run;
    const dataOutSize = run.dataOutSize ?? (dataIn === undefined ? 0 : dataIn.length + 256);
    const ctxOutSize = run.ctxOutSize ?? ctxIn?.length ?? 0;
    const attr = new Attr(this.#native)
      .u32(0, fd)
      .u32(8, dataIn?.length)
      .u32(12, dataOutSize)
      .u32(32, run.repeat)
      .u32(40, ctxIn?.length)
      .u32(44, ctxOutSize)
      .u32(64, run.flags)
      .u32(68, run.cpu);
    attr.buffer(16, dataIn);
    const dataOut = attr.buffer(24, new Uint8Array(dataOutSize));
    attr.buffer(48, ctxIn);
    const ctxOut = attr.buffer(56, new Uint8Array(ctxOutSize));
    const error = this.#call(BPF_CMD.PROG_TEST_RUN, attr, 80);
    const size = (offset: number, most: number): number => Math.min(most, attr.bytes.readUInt32LE(offset));
    return {
      error,
      retval: attr.bytes.readUInt32LE(4),
      duration: attr.bytes.readUInt32LE(36),
      dataSizeOut: attr.bytes.readUInt32LE(12),
      dataOut: new Uint8Array(dataOut.subarray(0, size(12, dataOutSize))),
      ctxOut: new Uint8Array(ctxOut.subarray(0, size(44, ctxOutSize))),
    };
  }

  /** A file descriptor, or -errno. */
  btfLoad(bytes: Uint8Array): number {
    const attr = new Attr(this.#native).u32(16, bytes.length);
    attr.buffer(0, bytes);
    return this.#opened(this.#call(BPF_CMD.BTF_LOAD, attr, 28));
  }

  #opened(fd: number): number {
    if (fd >= 0) this.#fds.add(fd);
    return fd;
  }

  close(fd: number): void {
    if (this.#fds.delete(fd)) this.#native.close(fd);
  }

  /** Closes whatever is still open: for afterEach and afterAll. */
  closeAll(): void {
    for (const fd of [...this.#fds]) this.close(fd);
  }
}

export const kernelBpf = new KernelBpf();
