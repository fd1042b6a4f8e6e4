/** Programs in linear memory for tests: verified, laid out, compiled and instantiated. */
import { expect } from 'vitest';
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
import { interpretProgram } from '../../src/bpf/interpreter-program.ts';
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
        helper: helper as unknown as WebAssembly.ModuleImports,
        kfunc: kfunc as unknown as WebAssembly.ModuleImports,
      });
      return exports as unknown as ReturnType<Machine['jit']>;
    },
    interpret: (program, ctx, cpu = 0) =>
      interpretProgram(program, layout, memory, ctx, { cpu, imports: { helper, kfunc } }).run(10_000_000),
  };
}

/** Address of a CPU's context. */
export const ctxOf = (layout: MemoryLayout, cpu = 0): number => percpuBlock(layout, cpu).ctx;
