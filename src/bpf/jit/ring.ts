/** Ring buffer helpers as functions of the module. */
import { ERRNO } from '../errors.ts';
import type { PlacedMap } from '../layout.ts';
import {
  BPF_RINGBUF_BUSY_BIT,
  BPF_RINGBUF_DISCARD_BIT,
  RING_HEADER,
  RING_RECORD,
} from '../maps/map-layout.ts';
import { emitLock, type MapContext } from './map-context.ts';
import { emitCopy } from './memory.ts';
import { ATOMIC, type Code, type Func, I32, I64, OP } from './wasm.ts';

const BPF_RB_NO_WAKEUP = 1;

/** (size: i64, flags: i64) → i32: address of a record's payload, or 0. */
export function ringReserve(context: MapContext, map: PlacedMap): Func {
  return context.functions.once(`ring_reserve.${map.index}`, [I64, I64], [I32], (code) => {
    const { address, geometry, spec } = map;
    const base = code.local(I32);
    const producer = code.local(I32);
    const next = code.local(I32);
    const header = code.local(I32);
    const drop = (): void => {
      code
        .i32(address + RING_HEADER.dropped)
        .i64(1)
        .atomic(ATOMIC.i64Add, 8, 0)
        .op(OP.drop);
      code.i32(0).op(OP.return);
    };
    code.get(1).op(OP.i64Eqz, OP.i32Eqz);
    code.if();
    code.i32(0).op(OP.return);
    code.end();
    code
      .get(0)
      .i64(spec.maxEntries - RING_RECORD.size)
      .op(OP.i64GtU);
    code.if();
    drop();
    code.end();
    code.i32(address).set(base);
    emitLock(context, code, base, RING_HEADER.lock, drop);
    code
      .i32(address + RING_HEADER.producerPos)
      .mem(OP.i32Load, 0)
      .tee(producer);
    code
      .get(0)
      .op(OP.i32WrapI64)
      .i32(RING_RECORD.size + 7)
      .op(OP.i32Add)
      .i32(-8)
      .op(OP.i32And);
    code.op(OP.i32Add).tee(next);
    code.i32(address + RING_HEADER.consumerPos).atomic(ATOMIC.i32Load, 4, 0);
    code.op(OP.i32Sub).i32(geometry.mask).op(OP.i32GtU);
    code.if();
    code
      .i32(address + RING_HEADER.lock)
      .i32(0)
      .atomic(ATOMIC.i32Store, 4, 0);
    drop();
    code.end();
    code.get(producer).i32(geometry.mask).op(OP.i32And).tee(producer);
    code
      .i32(address + geometry.data)
      .op(OP.i32Add)
      .set(header);
    code.get(header).get(0).op(OP.i32WrapI64).i32(BPF_RINGBUF_BUSY_BIT).op(OP.i32Or);
    code.mem(OP.i32Store, RING_RECORD.len);
    code.get(header).get(producer).mem(OP.i32Store, RING_RECORD.offset);
    // The position, and the lock behind it becomes 0: one store in place of two, each of which would wait for what was stored before.
    code
      .i32(address + RING_HEADER.producerPos)
      .get(next)
      .op(OP.i64ExtendI32U)
      .atomic(ATOMIC.i64Store, 8, 0);
    code.get(header).i32(RING_RECORD.size).op(OP.i32Add);
  });
}

/** (payload: i32, flags: i64): hands a record to the consumer, or gives it up; wakes the consumer where it sleeps. */
export function ringCommit(context: MapContext, discard: boolean): Func {
  return context.functions.once(discard ? 'ring_discard' : 'ring_submit', [I32, I64], [], (code) => {
    const header = code.local(I32);
    const ring = code.local(I32);
    code.get(0).i32(RING_RECORD.size).op(OP.i32Sub).set(header);
    // Once it is committed the record may be consumed, and another one written over it.
    code.get(header).get(header).mem(OP.i32Load, RING_RECORD.offset).op(OP.i32Sub);
    code.i32(RING_HEADER.size).op(OP.i32Sub).set(ring);
    code.get(header).get(header).mem(OP.i32Load, RING_RECORD.len).i32(~BPF_RINGBUF_BUSY_BIT).op(OP.i32And);
    if (discard) code.i32(BPF_RINGBUF_DISCARD_BIT).op(OP.i32Or);
    code.atomic(ATOMIC.i32Store, 4, RING_RECORD.len);
    code.get(ring).atomic(ATOMIC.i32Load, 4, RING_HEADER.waiting);
    code.if();
    code.get(1).i64(BPF_RB_NO_WAKEUP).op(OP.i64Ne);
    code.if();
    code.get(ring).i32(0).atomic(ATOMIC.i32Store, 4, RING_HEADER.waiting);
    code.get(ring).i32(1).atomic(ATOMIC.notify, 4, RING_HEADER.waiting).op(OP.drop);
    code.end();
    code.end();
  });
}

/** (data: i32, size: i64, flags: i64) → i64. With `size`, the copy is unrolled for that many bytes. */
export function ringOutput(context: MapContext, map: PlacedMap, size: number | undefined): Func {
  const reserve = ringReserve(context, map);
  const submit = ringCommit(context, false);
  return context.functions.once(`ring_output.${map.index}.${size}`, [I32, I64, I64], [I64], (code) => {
    const payload = code.local(I32);
    const BPF_RB_WAKEUP_FLAGS = 3;
    code.get(2).i64(~BPF_RB_WAKEUP_FLAGS).op(OP.i64And, OP.i64Eqz, OP.i32Eqz);
    code.if();
    code.i64(-ERRNO.EINVAL).op(OP.return);
    code.end();
    code.get(1).i64(0).call(reserve).tee(payload).op(OP.i32Eqz);
    code.if();
    code.i64(-ERRNO.EAGAIN).op(OP.return);
    code.end();
    if (size !== undefined) emitCopy(code, payload, 0, 0, 0, size);
    else code.get(payload).get(0).get(1).op(OP.i32WrapI64).memoryCopy();
    code.get(payload).get(2).call(submit);
    code.i64(0);
  });
}

/**
 * (flags: i64, data: i32, size: i64) → i64: bpf_perf_event_output into the one ring that all CPUs share; -errno as the kernel's. `size` as
 * ringOutput() takes it.
 */
export function perfOutput(context: MapContext, map: PlacedMap, size: number | undefined): Func {
  const output = ringOutput(context, map, size);
  return context.functions.once(`perf_output.${map.index}.${size}`, [I64, I32, I64], [I64], (code) => {
    const BPF_F_INDEX_MASK = 0xffff_ffffn;
    const refuseIf = (errno: number): void => {
      code.if();
      code.i64(-errno).op(OP.return);
      code.end();
    };
    code.get(0).i64(~BPF_F_INDEX_MASK).op(OP.i64And, OP.i64Eqz, OP.i32Eqz);
    refuseIf(ERRNO.EINVAL);
    code.get(0).i64(BPF_F_INDEX_MASK).op(OP.i64Ne);
    code.if();
    code.get(0).i64(context.layout.ncpu).op(OP.i64GeU);
    refuseIf(ERRNO.E2BIG);
    code.get(0).op(OP.i32WrapI64);
    context.pushCpu(code);
    code.op(OP.i32Ne);
    refuseIf(ERRNO.EOPNOTSUPP);
    code.end();
    code.get(1).get(2).i64(0).call(output).op(OP.i64Eqz, OP.i32Eqz);
    refuseIf(ERRNO.ENOSPC);
    code.i64(0);
  });
}

/** (flags: i64) → i64: bpf_ringbuf_query. */
export function ringQuery(context: MapContext, map: PlacedMap): Func {
  return context.functions.once(`ring_query.${map.index}`, [I64], [I64], (code) => {
    const load = (field: number): Code =>
      code
        .i32(map.address + field)
        .atomic(ATOMIC.i32Load, 4, 0)
        .op(OP.i64ExtendI32U);
    const when = (flag: number, push: () => void): void => {
      code.get(0).i64(flag).op(OP.i64Eq);
      code.if();
      push();
      code.op(OP.return);
      code.end();
    };
    when(0, () => {
      code.i32(map.address + RING_HEADER.producerPos).atomic(ATOMIC.i32Load, 4, 0);
      code.i32(map.address + RING_HEADER.consumerPos).atomic(ATOMIC.i32Load, 4, 0);
      code.op(OP.i32Sub, OP.i64ExtendI32U);
    });
    when(1, () => code.i64(map.spec.maxEntries));
    when(2, () => load(RING_HEADER.consumerPos));
    when(3, () => load(RING_HEADER.producerPos));
    code.i64(0);
  });
}
