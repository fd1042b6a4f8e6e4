/** The eBPF machine's public interface: `trapline/bpf`. */
export { assemble } from './asm/assemble.ts';
export { type DisasmOptions, disassemble, printConformanceInsn, printInsn } from './asm/disasm.ts';
export { AsmError } from './asm/parse.ts';
export * from './btf/index.ts';
export { parseBtf } from './btf/index.ts';
export { type AccessSize, type Condition, type Operand, ProgramBuilder, type Reg } from './builder.ts';
export { checkClassic, convertFilter, SKB_HELPERS } from './classic.ts';
export * from './core-relo/index.ts';
export { BpfError, ERRNO, type ErrnoName, type ErrorPosition } from './errors.ts';
export * from './gen/index.ts';
export { HELPERS, type HelperName, helperById } from './helpers/helpers.ts';
export { formatText } from './helpers/impl/format.ts';
export {
  type HelperEffect,
  type HelperOptions,
  MACHINE_KFUNCS,
  type TaskOptions,
} from './helpers/impl/index.ts';
export { KERNEL_KFUNCS } from './helpers/kernel-kfuncs.ts';
export type { KfuncArg, KfuncDecl, KfuncResult } from './helpers/kfunc.ts';
export type { ArgType, HelperProto, RetType, WasmType } from './helpers/proto.ts';
export { Interpreter } from './interpreter/interpreter.ts';
export type { InterpreterOptions } from './interpreter/options.ts';
export { type InterpretOptions, interpretProgram, type ProgramImports } from './interpreter/program.ts';
export * as isa from './isa.ts';
export { decodeInsns, encodeInsns, type Insn } from './isa.ts';
export { type JitModule, jitProgram } from './jit/jit.ts';
export { jitRaw, type RawOptions } from './jit/raw.ts';
export {
  createMemory,
  extendLayout,
  type LayoutOptions,
  layoutMemory,
  type MemoryLayout,
  type PercpuBlock,
  type PlacedMap,
  percpuBlock,
} from './layout.ts';
export {
  createMap,
  defaultMachine,
  type InMachine,
  type Instructions,
  type LoadProgramInput,
  loadProgram,
  type VerifyInput,
  verify,
} from './library.ts';
export * from './linker/index.ts';
export * from './machine/index.ts';
export { Arena } from './maps/arena.ts';
export { BloomFilter } from './maps/bloom-filter.ts';
export { CgroupStorage, TaskStorage } from './maps/local-storage.ts';
export { initMap, initMemory, openMap } from './maps/map.ts';
export {
  BPF_ANY,
  BPF_EXIST,
  BPF_F_LOCK,
  BPF_MAP_TYPE,
  BPF_NOEXIST,
  MAP_FLAG,
  type MapRecord,
  type MapSpec,
  type MapType,
  type RecordField,
  type RecordFieldKind,
} from './maps/map-spec.ts';
export type { BatchResult, BpfMap, MapEntry } from './maps/map-types.ts';
export { PerfEventArray, PerfReader } from './maps/perf-event-array.ts';
export { type RecordCallback, RingBuffer, RingBufferConsumer } from './maps/ringbuf.ts';
export { StackTraceMap } from './maps/stack-trace.ts';
export { UserRingBuffer } from './maps/user-ringbuf.ts';
export {
  BpfObject,
  type BtfValue,
  type CompiledObject,
  decodeValue,
  type ExternSpec,
  encodeValue,
  type GlobalVariable,
  type Kconfig,
  type LoadedObject,
  type LoadObjectOptions,
  lineOf,
  ObjectError,
  type ObjectMapSpec,
  type ObjectSpec,
  openObject,
  ProgramLoadError,
  type ProgramSpec,
  parseSectionName,
} from './object/index.ts';
export { ATTACH_TYPES, PROG_TYPES } from './prog-types/index.ts';
export { loadPacket, SK_BUFF, type SkBuffFields, writeSkBuff } from './sk-buff.ts';
export { callSkbHelper } from './skb-helpers.ts';
export { decodeSockFilters, type SockFilter } from './sock-filter.ts';
export * from './syscall/index.ts';
export { VerifierError } from './verifier/error.ts';
export type {
  ContextAccess,
  ProgramArena,
  ProgramInput,
  ProgType,
  VerifiedProgram,
} from './verifier/types.ts';
export { verifyProgram } from './verifier/verifier.ts';
