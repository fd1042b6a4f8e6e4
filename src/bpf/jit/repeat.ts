import { Code, I32, OP, WasmModule } from './wasm.ts';

/**
 * A module that runs a program many times: imports env.run (a program's `run`), exports `repeat(ctx: i32, times: i32) → i32`, the last
 * result. The loop costs about a nanosecond a run, where one in JavaScript has to convert numbers each time.
 */
export function repeatModule(): Uint8Array {
  const module = new WasmModule();
  const run = module.importFunc('env', 'run', [I32], [I32]);
  const repeat = module.declare([I32, I32], [I32]);
  const code = new Code(2);
  const result = code.local(I32);
  const again = code.loop();
  code.get(0).call(run).set(result);
  code.get(1).i32(1).op(OP.i32Sub).tee(1).brIf(again);
  code.end();
  code.get(result);
  module.define(repeat, code);
  module.export('repeat', repeat);
  return module.encode();
}
