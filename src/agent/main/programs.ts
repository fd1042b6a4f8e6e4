/** Compiled programs by index. */
import { programId } from '../../kernel/trace/prog-array.ts';
import { READS } from '../../kernel/trace/pt-regs.ts';
import type { CompiledImage } from '../protocol.ts';
import {
  MapConstructor,
  mapGet,
  mapSet,
  parseBase64,
  tableGrow,
  tableLength,
  tableSet,
  WasmGlobal,
  WasmInstance,
  WasmModule,
  WasmTable,
} from './intrinsics.ts';
import type { Program } from './site-code.ts';

const moduleImports = WebAssembly.Module.imports;

export interface Programs {
  /** Compiles and instantiates all or throws. */
  load(images: readonly CompiledImage[]): void;
  get(index: number): Program;
}

/**
 * What a hit has to load; registers that a program only refers to are not written. Where it refers to something, each argument
 * that it names may be meant; and not more than arguments, where it names nothing else.
 */
function readsIn({ reads, converts = reads }: CompiledImage): number {
  const known = reads & ((READS.raw << 1) - 1);
  if ((known & READS.raw) === 0) return known;
  const written = known & (converts | ~(READS.args | READS.retval));
  const refs = (known & READS.args) << READS.refShift;
  const others = READS.this | READS.retval | READS.error;
  return (known & others) === 0 ? (written & ~READS.raw) | refs : written | refs;
}

export function createPrograms(
  memory: WebAssembly.Memory,
  cpu: number,
  kfunc: Record<string, unknown>,
  helper: Record<string, unknown>,
  onImport: (name: string) => void,
): Programs {
  const table = new MapConstructor<number, Program>();
  /** For tail calls: `run` of each program by its id. */
  const callable = new WasmTable({ element: 'anyfunc', initial: 1 });
  const imports = {
    env: { memory, cpu: new WasmGlobal({ value: 'i32', mutable: false }, cpu), programs: callable },
    kfunc,
    helper,
  } as unknown as WebAssembly.Imports;

  return {
    load(images) {
      const made: Program[] = [];
      const runs: (readonly [id: number, run: unknown])[] = [];
      let last = 0;
      for (let i = 0; i < images.length; i++) {
        const image = images[i]!;
        const { wasm } = image;
        const module = typeof wasm === 'string' ? new WasmModule(parseBase64(wasm)) : wasm;
        const needed = moduleImports(module);
        for (let j = 0; j < needed.length; j++) {
          onImport(needed[j]!.name);
        }
        const exports = new WasmInstance(module, imports).exports as Record<string, (ctx: number) => number>;
        if (typeof exports['run'] !== 'function') throw new Error(`program ${image.index} exports no run()`);
        const id = programId(image.index);
        runs[i] = [id, exports['run']];
        if (id > last) last = id;
        // One that makes tail calls begins with none made.
        const run = exports['start'] ?? exports['run'];
        const program: Program = { index: image.index, reads: readsIn(image), run, broken: false };
        made[i] = program;
        if (image.context !== undefined) {
          const { by, at } = image.context;
          let first = mapGet(table, by) as Program | undefined;
          for (let j = 0; j < i; j++) if (made[j]!.index === by) first = made[j];
          if (first === undefined) throw new Error(`program ${by} is not loaded`);
          const prepare = first.run;
          made[i] = {
            ...program,
            run(ctx) {
              prepare(ctx);
              return run(at);
            },
          };
        }
      }
      const room = tableLength(callable);
      if (room <= last) tableGrow(callable, last + 1 - room);
      for (let i = 0; i < runs.length; i++) tableSet(callable, runs[i]![0], runs[i]![1]);
      for (let i = 0; i < made.length; i++) mapSet(table, made[i]!.index, made[i]!);
    },
    get(index) {
      const program = mapGet(table, index) as Program | undefined;
      if (program === undefined) throw new Error(`program ${index} is not loaded`);
      return program;
    },
  };
}
