/** The eBPF machine's public interface: `trapline/bpf`. */
export { assemble } from './asm/assemble.ts';
export { type DisasmOptions, disassemble, printConformanceInsn, printInsn } from './asm/disasm.ts';
export { AsmError } from './asm/parse.ts';
export { type AccessSize, type Condition, type Operand, ProgramBuilder, type Reg } from './builder.ts';
export { checkClassic, convertFilter, decodeSockFilters, SKB_HELPERS, type SockFilter } from './classic.ts';
export { BpfError, ERRNO } from './errors.ts';
export { HELPERS, type HelperName, helperById } from './helpers/helpers.ts';
export type { KfuncArg, KfuncDecl, KfuncResult } from './helpers/kfunc.ts';
export type { ArgType, HelperProto, RetType, WasmType } from './helpers/proto.ts';
export { Interpreter, type InterpreterOptions } from './interpreter.ts';
export { type InterpretOptions, interpretProgram, type ProgramImports } from './interpreter-program.ts';
export * as isa from './isa.ts';
export { decodeInsns, encodeInsns, type Insn } from './isa.ts';
export { type JitModule, jitProgram } from './jit/jit.ts';
export { jitRaw, type RawOptions } from './jit/raw.ts';
export {
  createMemory,
  type LayoutOptions,
  layoutMemory,
  type MemoryLayout,
  type PercpuBlock,
  type PlacedMap,
  percpuBlock,
} from './layout.ts';
export { initMemory, openMap } from './maps/map.ts';
export { BPF_ANY, BPF_EXIST, BPF_NOEXIST, type MapSpec, type MapType } from './maps/map-layout.ts';
export type { BpfMap, MapEntry } from './maps/map-types.ts';
export { type RecordCallback, RingBuffer, RingBufferConsumer } from './maps/ringbuf.ts';
export { loadPacket, SK_BUFF, type SkBuffFields, writeSkBuff } from './sk-buff.ts';
export { callSkbHelper } from './skb-helpers.ts';
export { VerifierError } from './verifier/error.ts';
export type { ContextAccess, ProgramInput, ProgType, VerifiedProgram } from './verifier/types.ts';
export { verifyProgram } from './verifier/verifier.ts';
