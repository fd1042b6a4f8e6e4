/**
 * Verified program → one WebAssembly module.
 *
 *     imports   env.memory (shared), env.cpu (immutable i32 global), helper.*, kfunc.*   only those that are called
 *     exports   run(ctx: i32) → i32, the low half of r0;  run64(r1: i64, r2: i64) → i64;  start, see JitOptions
 *
 * `README.md` has the types of the imports.
 */

import { aLayout, aVerifiedProgram } from '../argument-shapes.ts';
import { anObject, checkArgument, optional } from '../arguments.ts';
import type { MemoryLayout } from '../layout.ts';
import { probedLoads } from '../verifier/probes.ts';
import type { VerifiedProgram } from '../verifier/types.ts';
import { ArenaAccesses } from './arena.ts';
import { VerifiedCalls } from './calls.ts';
import { CpuBlock } from './cpu-block.ts';
import type { LowerContext } from './lower.ts';
import { PacketLoads } from './packet.ts';
import { ProgramFunctions } from './program.ts';
import { type Code, I32, type OutsideFunction, type WasmImport, WasmModule } from './wasm.ts';

export interface JitModule {
  readonly wasm: Uint8Array;
  readonly imports: readonly WasmImport[];
  /** With the option `outside`: the functions that belong into the exported table of that name. */
  readonly outside: readonly OutsideFunction[];
}

export interface JitOptions {
  /** Which entry points to make: each has the whole program. Default both. */
  readonly entries?: readonly ('run' | 'run64')[];
  /**
   * `run` makes tail calls itself, to programs in the table `env.programs`, where their `run` is by their id. Then there is the export
   * `start(ctx: i32) → i32`, which is `run` with no tail call made yet.
   */
  readonly programs?: boolean;
  /**
   * Helpers and kfuncs are called through a table, the export `outside` (if there are any), which whoever makes the instance fills with
   * functions of WebAssembly. For modules that are loaded once and run: V8 compiles an adapter for each type of an imported function, again in
   * each module, which takes longer than all the rest.
   */
  readonly outside?: boolean;
}

/** Compiles a verified program for a memory layout. Pure; throws BpfError EINVAL only for what the verifier has to refuse. */
export function jitProgram(
  verified: VerifiedProgram,
  layout: MemoryLayout,
  options: JitOptions = {},
): JitModule {
  checkArgument('jitProgram()', 'verified', verified, aVerifiedProgram);
  checkArgument('jitProgram()', 'layout', layout, aLayout);
  checkArgument('jitProgram()', 'options', options, optional(anObject));
  const { entries = ['run', 'run64'], programs = false, outside = false } = options;
  const module = new WasmModule({ outside });
  module.importMemory({ min: layout.pages, max: layout.maxPages ?? layout.pages, shared: true });
  const cpu = module.importGlobal('env', 'cpu', I32);
  const pushCpu = (code: Code): void => {
    code.global(cpu);
  };
  const callsOn = programs && verified.helpersUsed.includes('tail_call');
  const table = callsOn ? module.importTable('env', 'programs') : undefined;
  const functions = new ProgramFunctions(module);
  const block = new CpuBlock(layout, pushCpu);
  const calls = new VerifiedCalls(module, layout, verified.kfuncsUsed, functions, block, table);
  const packets = new PacketLoads(module);
  const context: LowerContext = {
    insns: verified.insns,
    reachable: verified.reachable,
    isVerified: true,
    probes: probedLoads(verified),
    arena: verified.arena === undefined ? undefined : new ArenaAccesses(module, verified, layout),
    mapAddress(index, off) {
      const map = layout.maps[index]!;
      return off === undefined ? map.address : map.address + map.geometry.data + off;
    },
    functionPointer: (entry) => functions.functionPointer(entry),
    readsIndex: (insn, state) => calls.readsIndex(insn, state),
    findsElement: (fn, pc) => calls.findsElement(fn, pc),
    emitCall: (fn, pc) => calls.emitCall(fn, pc),
    emitPacketLoad: (fn, insn) => packets.emit(fn, insn),
  };
  const prologue = (code: Code, frame: number): void => {
    block.emitAddress(code, block.first.stack).set(frame);
  };
  if (verified.kfuncsUsed.some(({ name }) => name === 'bpf_throw')) {
    functions.emitCatching(context, prologue, verified.exceptionCallback);
  } else functions.emit(context, prologue, entries);
  if (callsOn) {
    functions.emitStart((code) => block.emitAddress(code, block.first.tailCalls));
  }
  return { wasm: module.encode(), imports: module.imports, outside: module.outside ?? [] };
}
