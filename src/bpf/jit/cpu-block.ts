/** This CPU's block of the memory (`percpuBlock` of ../layout.ts), for code that runs on any CPU. */
import * as isa from '../isa.ts';
import { type MemoryLayout, type PercpuBlock, percpuBlock } from '../layout.ts';
import type { FunctionEmitter } from './emitter.ts';
import type { PushCpu } from './map-context.ts';
import { type Code, OP } from './wasm.ts';

export class CpuBlock {
  /** CPU 0's. */
  readonly first: PercpuBlock;
  /** Pushes the CPU's number. */
  readonly pushCpu: PushCpu;
  readonly #layout: MemoryLayout;

  constructor(layout: MemoryLayout, pushCpu: PushCpu) {
    this.first = percpuBlock(layout, 0);
    this.#layout = layout;
    this.pushCpu = pushCpu;
  }

  /** Pushes the address of a field, of which CPU 0's is given. */
  emitAddress(code: Code, address: number): Code {
    if (this.#layout.ncpu === 1) return code.i32(address);
    this.pushCpu(code);
    return code.i32(this.#layout.percpuStride).op(OP.i32Mul).i32(address).op(OP.i32Add);
  }

  /** Pushes what the result slot has, as i64. */
  emitResult(code: Code): void {
    this.emitAddress(code, this.first.resultSlot).mem(OP.i64Load, 0);
  }

  /** The frame below is where a helper's callbacks begin: left in the result slot, before the call. */
  emitPassFrame({ code, frame }: FunctionEmitter): void {
    this.emitAddress(code, this.first.resultSlot);
    code.get(frame).i32(isa.MAX_BPF_STACK).op(OP.i32Add).mem(OP.i32Store, 0);
  }
}
