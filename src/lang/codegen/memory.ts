/** Puts values of any type into memory: keys, map values, tuples and records are all made here. */
import { R0, R1, R2, R3, R4 } from '../../bpf/builder.ts';
import type * as ast from '../ast.ts';
import { type LType, layout, roundUp8 } from '../types.ts';
import { emitCondition } from './condition.ts';
import { emitInt, emitIntTo } from './expr.ts';
import type { Place } from './frame.ts';
import { type Gen, offset } from './gen.ts';
import { emitKey } from './maps.ts';
import { storeIntAsValue, stringHeader } from './stored.ts';
import { emitLength, emitString, literalBytes } from './strings.ts';
import { emitValue, isArgsMember } from './values.ts';

/** Writes an expression as `type` (what the map, field or record holds); every byte of it is written. */
export function emitTo(gen: Gen, expr: ast.Expr, type: LType, place: Place): void {
  switch (type.kind) {
    case 'string':
      emitString(gen, expr, place, gen.sizeOf(type));
      return;
    case 'stored':
    case 'buf':
    case 'strftime':
    case 'tuple':
      if (expr.kind === 'ternary') {
        emitTernaryTo(gen, expr, type, place);
        return;
      }
      break;
    default: {
      if (expr.kind === 'int') {
        gen.storeImm(place, expr.value, R0);
        return;
      }
      emitInt(gen, expr);
      gen.b.stx(8, place.reg, place.off, R0);
      return;
    }
  }
  switch (type.kind) {
    case 'stored':
      emitStored(gen, expr, place, gen.sizeOf(type));
      return;
    case 'buf':
      if (expr.kind === 'call') {
        emitBuf(gen, expr, place, gen.sizeOf(type));
        return;
      }
      break;
    case 'strftime':
      if (expr.kind === 'call') {
        emitStrftime(gen, expr, place);
        return;
      }
      break;
    case 'tuple':
      if (expr.kind === 'tuple') {
        const { fields } = layout(type.fields, gen.module.config);
        for (const [i, field] of fields.entries()) {
          emitTo(gen, expr.elements[i]!, field.type, offset(place, field.offset));
        }
        return;
      }
  }
  placeOf(gen, expr, (from) => convert(gen, from, gen.type(expr), place, type));
}

function emitTernaryTo(gen: Gen, expr: ast.Ternary, type: LType, place: Place): void {
  const no = gen.label('no');
  const end = gen.label('end');
  gen.available.branch(() => emitCondition(gen, expr.condition, no, false));
  gen.available.branch(() => emitTo(gen, expr.yes, type, place));
  gen.b.jump(end).label(no);
  gen.available.branch(() => emitTo(gen, expr.no, type, place));
  gen.b.label(end);
}

function emitStored(gen: Gen, expr: ast.Expr, place: Place, size: number): void {
  const { b } = gen;
  const type = gen.type(expr);
  switch (type.kind) {
    case 'value': {
      const path = emitValue(gen, expr, R3);
      gen.addr(R1, place);
      b.mov(R2, size).mov(R4, path);
      gen.kcall('js_value');
      return;
    }
    case 'stored':
      placeOf(gen, expr, (from) => gen.copy(from, place, size));
      return;
    case 'string': {
      if (expr.kind === 'string') {
        const { length } = literalBytes(expr.value, size - 8);
        gen.storeImm(place, stringHeader(length));
      }
      emitString(gen, expr, offset(place, 8), size - 8);
      if (expr.kind !== 'string') {
        emitLength(gen, offset(place, 8), size - 8);
        b.stx(4, place.reg, place.off + 4, R0);
        b.st(4, place.reg, place.off, Number(stringHeader(0)));
      }
      return;
    }
    default:
      emitInt(gen, expr);
      storeIntAsValue(gen, place, size);
  }
}

/** buf(): u32 length, then the bytes. */
export function emitBuf(gen: Gen, call: ast.Call, place: Place, size: number): void {
  const { b } = gen;
  const type = gen.type(call);
  const room = (type.kind === 'buf' ? type.size : size) - 4;
  const fine = gen.label('fine');
  gen.zero(offset(place, roundUp8(4 + room) - 8), size - roundUp8(4 + room) + 8);
  const path = emitValue(gen, call.args[0]!, R3);
  gen.addr(R1, offset(place, 4));
  b.mov(R2, room).mov(R4, path);
  gen.kcall('js_buf');
  b.jcond('s>=', R0, 0, fine).mov(R0, 0).label(fine);
  b.stx(4, place.reg, place.off, R0);
}

function emitStrftime(gen: Gen, call: ast.Call, place: Place): void {
  const [format, ns] = call.args;
  const action = gen.module.action(call, () => ({
    kind: 'strftime',
    format: format!.kind === 'string' ? format!.value : '',
  }));
  emitIntTo(gen, ns!, R0);
  gen.b.stx(8, place.reg, place.off, R0).st(8, place.reg, place.off + 8, action);
}

/** Hands a place that holds the expression's value to `use`: its own one where it has one, else a temporary. */
export function placeOf(gen: Gen, expr: ast.Expr, use: (place: Place) => void): void {
  const type = gen.type(expr);
  if (expr.kind === 'var') {
    use(gen.vars.get(gen.module.semantics.vars.get(expr)!)!);
    return;
  }
  if (expr.kind === 'member' && !isArgsMember(expr)) {
    const object = gen.type(expr.object);
    if (object.kind === 'tuple') {
      const field = layout(object.fields, gen.module.config).fields[Number(expr.name)]!;
      placeOf(gen, expr.object, (place) => use(offset(place, field.offset)));
      return;
    }
  }
  const size = gen.sizeOf(type);
  gen.temp(size, (place) => {
    if (expr.kind === 'map') emitMapCopy(gen, expr, place, size);
    else emitTo(gen, expr, type, place);
    use(place);
  });
}

/** Copies a map's entry; zeros when there is none. */
function emitMapCopy(gen: Gen, expr: ast.MapAccess, place: Place, size: number): void {
  const { b } = gen;
  const none = gen.label('none');
  const end = gen.label('end');
  emitKey(gen, expr, (key) => gen.lookup(gen.module.map(expr.name).index, key));
  b.jcond('==', R0, 0, none);
  gen.copy({ reg: R0, off: 0 }, place, size);
  b.jump(end).label(none);
  gen.zero(place, size);
  b.label(end);
}

/** Copies between places of types that merge: shorter strings are filled up, fields of tuples go one by one. */
function convert(gen: Gen, from: Place, fromType: LType, to: Place, toType: LType): void {
  if (fromType.kind === 'tuple' && toType.kind === 'tuple') {
    const source = layout(fromType.fields, gen.module.config).fields;
    const target = layout(toType.fields, gen.module.config).fields;
    for (const [i, field] of target.entries()) {
      const part = source[i]!;
      convert(gen, offset(from, part.offset), part.type, offset(to, field.offset), field.type);
    }
    return;
  }
  const size = gen.sizeOf(toType);
  if (toType.kind === 'stored' && fromType.kind === 'int') {
    gen.b.ldx(8, R0, from.reg, from.off);
    storeIntAsValue(gen, to, size);
    return;
  }
  if (toType.kind === 'stored' && fromType.kind === 'string') {
    const text = Math.min(gen.sizeOf(fromType), size - 8);
    gen.copy(from, offset(to, 8), text);
    gen.zero(offset(to, 8 + text), size - 8 - text);
    emitLength(gen, offset(to, 8), size - 8);
    gen.b.stx(4, to.reg, to.off + 4, R0).st(4, to.reg, to.off, Number(stringHeader(0)));
    return;
  }
  const have = Math.min(size, gen.sizeOf(fromType));
  gen.copy(from, to, have);
  gen.zero(offset(to, have), size - have);
}
