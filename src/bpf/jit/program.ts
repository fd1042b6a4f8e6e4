/** The functions of one program in one module: entry points, BPF functions as they are called, and the function table. */
import { ENTRY_TYPES } from './emitter.ts';
import { type LowerContext, lowerFunction } from './lower.ts';
import { Code, type Func, I32, I64, OP, type WasmModule } from './wasm.ts';

/** Larger programs share one body between both entry points. */
const MAX_DUPLICATED = 4096;

export class ProgramFunctions {
  readonly #module: WasmModule;
  readonly #subprogs = new Map<number, Func>();
  readonly #pointers: number[] = [];
  readonly #queue: number[] = [];
  #thrown: number | undefined;
  #run: Func | undefined;

  constructor(module: WasmModule) {
    this.#module = module;
  }

  /** The Wasm function of the BPF function at `entry`. */
  subprog(entry: number): Func {
    let func = this.#subprogs.get(entry);
    if (func === undefined) {
      func = this.#module.declare(ENTRY_TYPES.sub.params, ENTRY_TYPES.sub.results);
      this.#subprogs.set(entry, func);
      this.#queue.push(entry);
    }
    return func;
  }

  /** Index of a BPF function in the table, from 1. */
  functionPointer(entry: number): number {
    const known = this.#pointers.indexOf(entry);
    if (known >= 0) return known + 1;
    this.subprog(entry);
    return this.#pointers.push(entry);
  }

  /** The exception of bpf_throw(): its value is the cookie. */
  get thrown(): number {
    this.#thrown ??= this.#module.addTag([I64]);
    return this.#thrown;
  }

  /**
   * Instead of emit(), for a program that throws: the entry points call the program and catch. `callback` is the function that gets
   * the cookie; without one, the cookie is the result.
   */
  emitCatching(
    context: LowerContext,
    prologue: (code: Code, frame: number) => void,
    callback: number | undefined,
  ): void {
    const run64 = this.#module.declare(ENTRY_TYPES.run64.params, ENTRY_TYPES.run64.results);
    const code = new Code(2);
    const frame = code.local(I32);
    prologue(code, frame);
    code.try(I64);
    code.get(0).get(1).i64(0).i64(0).i64(0).get(frame).call(this.subprog(0));
    code.catch(this.thrown);
    if (callback !== undefined) {
      code.i64(0).i64(0).i64(0).i64(0).get(frame).call(this.subprog(callback));
    }
    code.end();
    this.#module.define(run64, code);
    this.#module.export('run64', run64);
    this.#wrap(run64);
    this.#emitSubprogs(context, prologue);
  }

  /** Emits and exports `run`, `run64` or both, then every function that they need. `prologue` sets the frame of entry functions. */
  emit(
    context: LowerContext,
    prologue: (code: Code, frame: number) => void,
    wanted: readonly ('run' | 'run64')[],
  ): void {
    const isShared = wanted.length > 1 && context.insns.length > MAX_DUPLICATED;
    const entries: readonly ('run' | 'run64')[] = isShared ? ['run64'] : wanted;
    for (const kind of entries) {
      const func = this.#module.declare(ENTRY_TYPES[kind].params, ENTRY_TYPES[kind].results);
      this.#module.define(func, lowerFunction(context, 0, kind, prologue));
      this.#module.export(kind, func);
      if (kind === 'run') this.#run = func;
      if (isShared) this.#wrap(func);
    }
    this.#emitSubprogs(context, prologue);
  }

  #emitSubprogs(context: LowerContext, prologue: (code: Code, frame: number) => void): void {
    for (let entry = this.#queue.shift(); entry !== undefined; entry = this.#queue.shift()) {
      const func = this.#subprogs.get(entry)!;
      this.#module.define(func, lowerFunction(context, entry, 'sub', prologue));
    }
    if (this.#pointers.length > 0) {
      this.#module.table([undefined, ...this.#pointers.map((entry) => this.#subprogs.get(entry)!)]);
    }
  }

  #wrap(run64: Func): void {
    const func = this.#module.declare(ENTRY_TYPES.run.params, ENTRY_TYPES.run.results);
    const code = new Code(1);
    code.get(0).op(OP.i64ExtendI32U).i64(0).call(run64).op(OP.i32WrapI64);
    this.#module.define(func, code);
    this.#module.export('run', func);
    this.#run = func;
  }

  /** Emits and exports `start`: `run`, with the u32 at the address that `pushCount` pushes set to 0 before. */
  emitStart(pushCount: (code: Code) => void): void {
    const { params, results } = ENTRY_TYPES.run;
    const func = this.#module.declare(params, results);
    const code = new Code(1);
    pushCount(code);
    code.i32(0).mem(OP.i32Store, 0);
    code.get(0).call(this.#run!);
    this.#module.define(func, code);
    this.#module.export('start', func);
  }
}
