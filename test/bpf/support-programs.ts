/** Programs in linear memory for tests: verified, laid out, compiled and instantiated. */

import { expect } from 'vitest';
import { BtfBuilder } from '../../src/bpf/btf/index.ts';
import { ProgramBuilder } from '../../src/bpf/builder.ts';
import {
  type BpfMap,
  createMemory,
  initMemory,
  type KfuncDecl,
  layoutMemory,
  type MapSpec,
  type MemoryLayout,
  openMap,
  percpuBlock,
  type VerifiedProgram,
  verifyProgram,
} from '../../src/bpf/index.ts';
import { interpretProgram } from '../../src/bpf/interpreter/program.ts';
import type { Insn } from '../../src/bpf/isa.ts';
import { jitProgram } from '../../src/bpf/jit/jit.ts';

export interface Machine {
  readonly layout: MemoryLayout;
  readonly memory: WebAssembly.Memory;
  readonly bytes: Uint8Array;
  map(index: number): BpfMap;
  verify(emit: (b: ProgramBuilder) => void): VerifiedProgram;
  /** The exports of the compiled program. */
  jit(
    program: VerifiedProgram,
    cpu?: number,
  ): { run(ctx: number): number; run64(r1: bigint, r2: bigint): bigint };
  /** r0 of the program in the interpreter. */
  interpret(program: VerifiedProgram, ctx: bigint, cpu?: number): bigint;
}

type Functions = Record<string, (...args: never[]) => unknown>;

export function machine(
  maps: readonly MapSpec[],
  options: { ncpu?: number; kfuncs?: readonly KfuncDecl[]; helper?: Functions; kfunc?: Functions } = {},
): Machine {
  const { ncpu = 2, kfuncs = [], helper = {}, kfunc = {} } = options;
  const layout = layoutMemory(maps, { ncpu });
  const memory = createMemory(layout);
  initMemory(memory, layout);
  return {
    layout,
    memory,
    bytes: new Uint8Array(memory.buffer),
    map: (index) => openMap(memory, layout, index),
    verify(emit) {
      const b = new ProgramBuilder();
      emit(b);
      return verifyProgram({
        name: 'test',
        type: 'kprobe',
        insns: b.build(),
        maps,
        kfuncs,
        ctx: { size: 168, access: (_off, _size, write) => (write ? undefined : 'scalar') },
      });
    },
    jit(program, cpu = 0) {
      const { wasm, imports } = jitProgram(program, layout);
      expect(WebAssembly.validate(wasm)).toBe(true);
      const module = new WebAssembly.Module(wasm);
      expect(WebAssembly.Module.imports(module).map(({ module, name }) => ({ module, name }))).toEqual(
        imports,
      );
      const { exports } = new WebAssembly.Instance(module, {
        env: { memory, cpu: new WebAssembly.Global({ value: 'i32' }, cpu) },
        helper: helper as unknown as Record<string, WebAssembly.ImportValue>,
        kfunc: kfunc as unknown as Record<string, WebAssembly.ImportValue>,
      });
      return exports as unknown as ReturnType<Machine['jit']>;
    },
    interpret: (program, ctx, cpu = 0) =>
      interpretProgram(program, layout, memory, ctx, { cpu, imports: { helper, kfunc } }).run(10_000_000),
  };
}

/** Address of a CPU's context. */
export const ctxOf = (layout: MemoryLayout, cpu = 0): number => percpuBlock(layout, cpu).ctx;

/** BTF of a program and its functions, of which each gives a number and none is global, and the func_info that goes with it. */
export function functionTypes(insns: readonly Insn[]) {
  const b = new BtfBuilder();
  const int = b.int('int', 4, { signed: true });
  const md = b.struct('xdp_md', 4, [{ name: 'data', type: int, bitOffset: 0 }]);
  const proto = b.funcProto(int, [{ name: 'ctx', type: b.ptr(md) }]);
  const starts = new Set([0]);
  for (const [pc, { code, src, imm }] of insns.entries())
    if ((code === 0x85 && src === 1) || (code === 0x18 && src === 4)) starts.add(pc + 1 + imm);
  const funcInfo = [...starts]
    .sort((a, c) => a - c)
    .map((insn, n) => ({ insn, typeId: b.func(`f${n}`, proto) }));
  return { btf: b.build(), bytes: b.toBytes(), funcInfo };
}
