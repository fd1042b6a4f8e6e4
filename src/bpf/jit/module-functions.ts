import { Code, type Func, type ValType, type WasmModule } from './wasm.ts';

/** Functions that a module has once, by name, made when they are first called. */
export class ModuleFunctions {
  readonly module: WasmModule;
  readonly #made = new Map<string, Func>();

  constructor(module: WasmModule) {
    this.module = module;
  }

  once(
    name: string,
    params: readonly ValType[],
    results: readonly ValType[],
    emit: (code: Code) => void,
  ): Func {
    const known = this.#made.get(name);
    if (known !== undefined) return known;
    const func = this.module.declare(params, results);
    this.#made.set(name, func);
    const code = new Code(params.length);
    emit(code);
    this.module.define(func, code);
    return func;
  }
}
