/** Reading and writing maps. */
import { R0, R1, R2 } from '../../bpf/builder.ts';
import * as isa from '../../bpf/isa.ts';
import type * as ast from '../ast.ts';
import { intTypeOf, type LType } from '../types.ts';
import { emitAggregateRead, emitAggregateReset } from './aggregates.ts';
import { emitMapFull } from './async.ts';
import { emitAlu, keep, prepare } from './expr.ts';
import type { Place } from './frame.ts';
import type { Gen } from './gen.ts';
import { emitTo, placeOf } from './memory.ts';
import type { MapRef } from './module.ts';
import { emitStoredInt } from './stored.ts';

/** What an update of a full map gives, negated. */
const E2BIG = 7;

/** Builds the key of an access and hands its place to `use`. */
export function emitKey(gen: Gen, access: ast.MapAccess, use: (key: Place) => void): void {
  const key = access.key ?? [];
  emitKeyParts(
    gen,
    gen.module.map(access.name),
    key.length === 1 && key[0]!.kind === 'tuple' ? key[0]!.elements : key,
    use,
  );
}

/** The same for a key that is an argument: has_key(@m, key). */
function emitKeyArgument(gen: Gen, map: MapRef, key: ast.Expr, use: (key: Place) => void): void {
  emitKeyParts(gen, map, key.kind === 'tuple' ? key.elements : [key], use);
}

function emitKeyParts(gen: Gen, map: MapRef, parts: readonly ast.Expr[], use: (key: Place) => void): void {
  gen.temp(Math.max(8, map.keySize), (place) => {
    if (map.isArray) gen.b.st(4, place.reg, place.off, 0);
    else if (map.key.length === 0) gen.b.st(8, place.reg, place.off, 0);
    for (const [i, part] of map.key.entries()) {
      emitTo(gen, parts[i]!, part.type, { reg: place.reg, off: place.off + part.offset });
    }
    use(place);
  });
}

/** R0 = the number in a map's entry; 0 when there is none. */
export function emitMapInt(gen: Gen, access: ast.MapAccess): void {
  const map = gen.module.map(access.name);
  const { value } = map.info;
  if (value.kind === 'agg') {
    emitKey(gen, access, (key) => emitAggregateRead(gen, map, value.agg, key));
    return;
  }
  if (value.kind === 'stored') {
    placeOf(gen, access, (place) => emitStoredInt(gen, place));
    return;
  }
  const none = gen.label('none');
  emitKey(gen, access, (key) => gen.lookup(map.index, key));
  gen.b.jcond('==', R0, 0, none).ldx(8, R0, R0, 0).label(none);
  keep(gen, access);
}

/** Writes an entry, and tells when there is no room for it. */
function emitUpdate(gen: Gen, access: ast.MapAccess, map: MapRef, key: Place, value: Place): void {
  gen.update(map.index, key, value, isa.BPF_ANY);
  if (map.key.length === 0) return;
  const fine = gen.label('fine');
  gen.b.jcond('!=', R0, -E2BIG, fine);
  emitMapFull(gen, access);
  gen.b.label(fine);
}

/** `@x[key] = value` for everything but aggregations. */
export function emitMapAssign(gen: Gen, access: ast.MapAccess, value: ast.Expr): void {
  const map = gen.module.map(access.name);
  const type: LType = map.info.value;
  const size = gen.sizeOf(type);
  gen.temp(size, (place) => {
    emitTo(gen, value, type, place);
    emitKey(gen, access, (key) => emitUpdate(gen, access, map, key, place));
  });
  gen.available.invalidate(access.name);
}

/** `@x[key] op= value` on integers; an entry that does not exist starts at 0. */
export function emitMapCompound(gen: Gen, access: ast.MapAccess, op: ast.BinaryOp, value: ast.Expr): void {
  const { b } = gen;
  const map = gen.module.map(access.name);
  const { signed } = intTypeOf(map.info.value);
  const operand = prepare(gen, value);
  const none = gen.label('none');
  const end = gen.label('end');
  emitKey(gen, access, (key) => {
    gen.lookup(map.index, key);
    operand.load(R2);
    b.jcond('==', R0, 0, none);
    b.ldx(8, R1, R0, 0);
    emitAlu(gen, op, R1, R2, signed);
    b.stx(8, R0, 0, R1).jump(end);
    b.label(none).mov(R1, 0);
    emitAlu(gen, op, R1, R2, signed);
    gen.temp(8, (place) => {
      b.stx(8, place.reg, place.off, R1);
      emitUpdate(gen, access, map, key, place);
    });
    b.label(end);
  });
  operand.free();
  gen.available.invalidate(access.name);
}

/** `@x++` and the like; R0 = the old number, or the new one for the prefix forms. */
export function emitIncDecMap(gen: Gen, access: ast.MapAccess, step: 1 | -1, prefix: boolean): void {
  const { b } = gen;
  const map = gen.module.map(access.name);
  const none = gen.label('none');
  const end = gen.label('end');
  emitKey(gen, access, (key) => {
    gen.lookup(map.index, key);
    b.jcond('==', R0, 0, none);
    b.ldx(8, R1, R0, 0).mov(R2, R1).add(R2, step).stx(8, R0, 0, R2);
    b.mov(R0, prefix ? R2 : R1).jump(end);
    b.label(none);
    gen.temp(8, (place) => {
      b.st(8, place.reg, place.off, step);
      emitUpdate(gen, access, map, key, place);
    });
    b.mov(R0, prefix ? step : 0).label(end);
  });
  gen.available.invalidate(access.name);
}

/** R0 = 1 where the map has the key. */
export function emitHasKey(gen: Gen, call: ast.Call): void {
  const end = gen.label('end');
  const map = gen.module.map((call.args[0] as ast.MapAccess).name);
  emitKeyArgument(gen, map, call.args[1]!, (key) => gen.lookup(map.index, key));
  gen.b.jcond('==', R0, 0, end).mov(R0, 1).label(end);
}

/** R0 = 1 where there was something to delete, if anybody wants to know. */
export function emitDelete(gen: Gen, call: ast.Call, wanted: boolean): void {
  const access = call.args[0] as ast.MapAccess;
  const map = gen.module.map(access.name);
  const none = gen.label('none');
  const end = gen.label('end');
  const remove = (key: Place): void => {
    if (map.isArray) {
      emitAggregateReset(gen, map, key);
      gen.b.mov(R0, 0);
      return;
    }
    gen.b.ldMap(R1, map.index);
    gen.addr(R2, key);
    gen.b.call(isa.BPF_FUNC_map_delete_elem);
  };
  if (call.args.length === 2) emitKeyArgument(gen, map, call.args[1]!, remove);
  else emitKey(gen, access, remove);
  if (wanted) gen.b.jcond('!=', R0, 0, none).mov(R0, 1).jump(end).label(none).mov(R0, 0);
  gen.b.label(end);
  gen.available.invalidate(access.name);
}
