/** The link between a loaded program and the implementations of helpers: callbacks through its module's table, or its interpreter. */

import type { Callback, CallingProgram } from '../helpers/impl/context.ts';
import type { HelperContext, HelperRuntime } from '../helpers/impl/index.ts';
import type { Interpreter } from '../interpreter/interpreter.ts';
import { type MemoryLayout, percpuBlock } from '../layout.ts';
import type { Heap } from '../maps/heap.ts';
import { viewMemory } from '../maps/memory-view.ts';
import type { LoadedMap } from './types.ts';

export interface ContextHost {
  readonly memory: WebAssembly.Memory;
  readonly layout: MemoryLayout;
  readonly heap: Heap;
  readonly ncpu: number;
  readonly runtime: HelperRuntime;
  mapAt(address: number): LoadedMap | undefined;
}

type TableFunction = (a: bigint, b: bigint, c: bigint, d: bigint, e: bigint, frame: number) => bigint;

/** The program on one CPU, as its helpers see it. */
export class ProgramContext implements HelperContext {
  readonly memory: WebAssembly.Memory;
  readonly cpu: number;
  readonly ncpu: number;
  readonly block: HelperContext['block'];
  readonly heap: Heap;
  readonly program: CallingProgram;
  readonly runtime: HelperRuntime;
  readonly #host: ContextHost;
  /** Its module's functions, once there is an instance. */
  table: WebAssembly.Table | undefined;
  /** Interpreters that run now, the innermost last. */
  readonly running: Interpreter[] = [];
  /** Gives an idle interpreter, for a callback that comes from outside. */
  idle: (<T>(use: (vm: Interpreter) => T) => T) | undefined;

  constructor(host: ContextHost, cpu: number, program: CallingProgram) {
    this.#host = host;
    this.memory = host.memory;
    this.cpu = cpu;
    this.ncpu = host.ncpu;
    this.block = percpuBlock(host.layout, cpu);
    this.heap = host.heap;
    this.program = program;
    this.runtime = host.runtime;
  }

  mapAt(address: number): LoadedMap | undefined {
    return this.#host.mapAt(address);
  }

  #compiled(frame: number): Callback {
    return (fn, ...args) => {
      const call = this.table?.get(fn) as TableFunction;
      const [a = 0, b = 0, c = 0, d = 0, e = 0] = args;
      return call(BigInt(a), BigInt(b), BigInt(c), BigInt(d), BigInt(e), frame);
    };
  }

  callbacks(): Callback {
    const vm = this.running.at(-1);
    if (vm !== undefined)
      return (fn, ...args) =>
        vm.callback(
          fn,
          args.map((arg) => BigInt(arg)),
        );
    // The caller leaves its next frame in the result slot (../jit/calls.ts).
    return this.#compiled(viewMemory(this.memory).data.getUint32(this.block.resultSlot, true));
  }

  later(): Callback {
    const { idle } = this;
    if (idle === undefined) return this.#compiled(this.block.stack);
    return (fn, ...args) =>
      idle((vm) => {
        vm.reset();
        return vm.callback(
          fn,
          args.map((arg) => BigInt(arg)),
        );
      });
  }
}
