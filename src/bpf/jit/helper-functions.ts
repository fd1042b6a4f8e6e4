/** Helpers as functions of the module. */
import { ERRNO } from '../errors.ts';
import { BPF_MAX_LOOPS } from '../isa.ts';
import type { ModuleFunctions } from './module-functions.ts';
import { type Code, type Func, I32, I64, OP } from './wasm.ts';

/** bpf_loop: (nr: i64, callback: i32, ctx: i64, flags: i64, frame: i32) → i64, the number of iterations done. */
export function loopFunction(functions: ModuleFunctions): Func {
  return functions.once('loop', [I64, I32, I64, I64, I32], [I64], (code) => {
    const done = code.local(I64);
    code.get(3).op(OP.i64Eqz, OP.i32Eqz);
    code.if();
    code.i64(-ERRNO.EINVAL).op(OP.return);
    code.end();
    // u32 nr_loops
    code.get(0).i64(0xffffffff).op(OP.i64And).tee(0).i64(BPF_MAX_LOOPS).op(OP.i64GtU);
    code.if();
    code.i64(-ERRNO.E2BIG).op(OP.return);
    code.end();
    const end = code.block();
    const loop = code.loop();
    code.get(done).get(0).op(OP.i64GeU).brIf(end);
    code.get(done).get(2).i64(0).i64(0).i64(0).get(4).get(1);
    code.callIndirect(functions.module.type([I64, I64, I64, I64, I64, I32], [I64]), {
      table: functions.module.ownTable,
    });
    code.get(done).i64(1).op(OP.i64Add).set(done);
    code.op(OP.i64Eqz).brIf(loop);
    code.end();
    code.end();
    code.get(done);
  });
}

/** (a: i32, size: i32, b: i32) → i32, as strncmp(): below, equal or above 0. */
export function strncmpFunction(functions: ModuleFunctions): Func {
  return functions.once('strncmp', [I32, I32, I32], [I32], (code) => {
    const i64Load8 = (address: number): Code => code.get(address).mem(OP.i64Load8U, 0).op(OP.i32WrapI64);
    const left = code.local(I32);
    const end = code.block();
    const loop = code.loop();
    code.get(1).op(OP.i32Eqz).brIf(end);
    i64Load8(0).tee(left);
    i64Load8(2).op(OP.i32Ne);
    code.if();
    code.get(left);
    i64Load8(2).op(OP.i32Sub, OP.return);
    code.end();
    code.get(left).op(OP.i32Eqz).brIf(end);
    for (const pointer of [0, 2]) code.get(pointer).i32(1).op(OP.i32Add).set(pointer);
    code.get(1).i32(1).op(OP.i32Sub).set(1).br(loop);
    code.end();
    code.end();
    code.i32(0);
  });
}
