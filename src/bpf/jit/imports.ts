/** What a module imports, with the types of ./README.md: helpers and kfuncs that are not emitted. */
import type { KfuncDecl } from '../helpers/kfunc.ts';
import type { HelperProto } from '../helpers/proto.ts';
import { F64, type Func, I32, I64, type ValType, type WasmModule } from './wasm.ts';

/** Imports whose types differ from the helper's declaration, because that is faster. */
const IMPORT_TYPES: Record<string, ValType> = {
  get_prandom_u32: I32,
  // 1: the other program ran, and its r0 is in the CPU's result slot.
  tail_call: I32,
};
/** Helpers that share the import of another one. */
export const SAME_IMPORT: Readonly<Record<string, string>> = { ktime_get_boot_ns: 'ktime_get_ns' };

const valType = (type: 'i32' | 'i64'): ValType => (type === 'i32' ? I32 : I64);

export class Imports {
  readonly #module: WasmModule;
  readonly #imports = new Map<string, Func>();

  constructor(module: WasmModule) {
    this.#module = module;
  }

  /** An import, made when it is first called: V8 takes its time over each. */
  imported(
    module: 'helper' | 'kfunc',
    name: string,
    params: readonly ValType[],
    results: readonly ValType[],
  ): Func {
    const key = `${module}.${name}`;
    let func = this.#imports.get(key);
    if (func === undefined) {
      func = this.#module.importFunc(module, name, params, results);
      this.#imports.set(key, func);
    }
    return func;
  }

  kfunc(kfunc: KfuncDecl): Func {
    const params = kfunc.args.flatMap((arg): ValType[] => (arg === 'u64' ? [I32, I32] : [I32]));
    const results: ValType[] = kfunc.result === 's32' ? [I32] : kfunc.result === 'f64' ? [F64] : [];
    return this.imported('kfunc', kfunc.name, params, results);
  }

  helper({ name, wasm }: HelperProto): Func {
    const result = IMPORT_TYPES[name] ?? (wasm.result === undefined ? undefined : valType(wasm.result));
    return this.imported('helper', name, wasm.params.map(valType), result === undefined ? [] : [result]);
  }

  /** For a map that is given by its address. */
  dynamic({ name, wasm }: HelperProto): Func {
    return this.imported('helper', `${name}_dyn`, wasm.params.map(valType), [
      wasm.result === 'i32' ? I32 : I64,
    ]);
  }
}
