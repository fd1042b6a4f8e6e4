/** Functions of JavaScript as functions of WebAssembly, for tables. V8 compiles an adapter once for each signature, not in each program. */
import { type OutsideFunction, WasmModule } from '../jit/wasm.ts';

// biome-ignore lint/suspicious/noExplicitAny: each has its own type
type AnyFunction = (...args: any[]) => unknown;

/** A module that exports what it imports, and what it has been made of so far. */
interface Adapter {
  readonly module: WebAssembly.Module;
  readonly made: WeakMap<AnyFunction, WebAssembly.ExportValue>;
}

const adapters = new Map<string, Adapter>();

/** `fn` with the types of `like`. */
export function adapted({ params, results }: OutsideFunction, fn: AnyFunction): WebAssembly.ExportValue {
  const key = `${params}>${results}`;
  let adapter = adapters.get(key);
  if (adapter === undefined) {
    const module = new WasmModule();
    module.export('fn', module.importFunc('env', 'fn', params, results));
    adapter = { module: new WebAssembly.Module(module.encode()), made: new WeakMap() };
    adapters.set(key, adapter);
  }
  let made = adapter.made.get(fn);
  if (made === undefined) {
    const env = { fn: fn as WebAssembly.ExportValue };
    made = new WebAssembly.Instance(adapter.module, { env }).exports.fn!;
    adapter.made.set(fn, made);
  }
  return made;
}
