/** count(), sum(), hist() and the others: per-CPU cells that one thread at a time writes, so plain load, add, store. */
import { R0, R1, R2, R3, R4 } from '../../bpf/builder.ts';
import * as isa from '../../bpf/isa.ts';
import type * as ast from '../ast.ts';
import type { MapValueType } from '../script.ts';
import { emitMapFull } from './async.ts';
import { prepare } from './expr.ts';
import type { Place } from './frame.ts';
import { fitsImm, type Gen, type Held } from './gen.ts';
import { emitKey } from './maps.ts';
import type { MapRef } from './module.ts';

type Agg = Exclude<MapValueType, { kind: 'plain' }>;

/** Initial values above this come from the zero map. */
const LARGEST_ON_STACK = 64;

/** `@x[key] = count()` and so on. */
export function emitAggregate(gen: Gen, access: ast.MapAccess, call: ast.Call): void {
  const { b } = gen;
  const map = gen.module.map(access.name);
  const agg = (map.info.value as { agg: Agg }).agg;
  const [value] = call.args;
  const operand = value === undefined ? undefined : prepare(gen, value);
  const done = gen.label('done');
  emitKey(gen, access, (key) => {
    gen.lookup(map.index, key);
    if (map.isArray) b.jcond('==', R0, 0, done);
    else emitMissing(gen, access, map, key, done);
    if (agg.kind === 'hist') emitLog2(gen, agg.bits, operand!);
    else operand?.load(R1);
    emitCell(gen, agg, done);
    b.label(done);
  });
  operand?.free();
  gen.available.invalidate(access.name);
}

/** Inserts a zero cell where the lookup found none; falls through with R0 = the cell. */
function emitMissing(gen: Gen, access: ast.MapAccess, map: MapRef, key: Place, done: string): void {
  const { b } = gen;
  const have = gen.label('have');
  b.jcond('!=', R0, 0, have);
  if (map.valueSize <= LARGEST_ON_STACK) {
    gen.temp(map.valueSize, (zero) => {
      gen.zero(zero, map.valueSize);
      gen.update(map.index, key, zero, isa.BPF_NOEXIST);
    });
  } else {
    b.ldMap(R1, map.index);
    gen.addr(R2, key);
    b.ldMapValue(R3, gen.module.zeros(map.valueSize), 0);
    b.mov(R4, isa.BPF_NOEXIST).call(isa.BPF_FUNC_map_update_elem);
  }
  gen.lookup(map.index, key);
  b.jcond('!=', R0, 0, have);
  emitMapFull(gen, access);
  b.jump(done).label(have);
}

/** Adds R1 to the cell at R0 (hist: 1 to its bucket R2). Jumps to `done` or falls through. */
function emitCell(gen: Gen, agg: Agg, done: string): void {
  const { b } = gen;
  switch (agg.kind) {
    case 'count':
      b.ldx(8, R1, R0, 0).add(R1, 1).stx(8, R0, 0, R1);
      return;
    case 'sum':
      b.ldx(8, R2, R0, 0).add(R2, R1).stx(8, R0, 0, R2);
      return;
    case 'avg':
    case 'stats':
      b.ldx(8, R2, R0, 0).add(R2, R1).stx(8, R0, 0, R2);
      b.ldx(8, R2, R0, 8).add(R2, 1).stx(8, R0, 8, R2);
      return;
    case 'min':
    case 'max': {
      const set = gen.label('set');
      b.ldx(8, R2, R0, 8).jcond('==', R2, 0, set);
      b.ldx(8, R2, R0, 0);
      const op = agg.kind === 'min' ? '>=' : '<=';
      b.jcond(agg.signed ? `s${op}` : op, R1, R2, done);
      b.label(set).stx(8, R0, 0, R1).st(8, R0, 8, 1);
      return;
    }
    case 'hist':
      break;
    case 'lhist':
      emitLinear(gen, agg);
      break;
  }
  // R2 is the bucket; the check is for the verifier.
  b.jcond('>', R2, agg.buckets - 1, done);
  b.lsh(R2, 3).add(R0, R2);
  b.ldx(8, R1, R0, 0).add(R1, 1).stx(8, R0, 0, R1);
}

/** R2 = bucket of the number in hist(n, bits), see MapValueType. R0 stays; R1 and R3 to R5 are overwritten. */
function emitLog2(gen: Gen, bits: number, number: Pick<Held, 'load'>): void {
  const { b } = gen;
  const end = gen.label('bucket');
  const small = gen.label('small');
  const cell = gen.hold();
  number.load(R1);
  b.mov(R2, 0).jcond('s<', R1, 0, end);
  b.jcond('<=', R1, (1 << bits) - 1, small);
  gen.kcall('clz64');
  // R2 = index of the top bit.
  b.mov(R2, 63).sub(R2, R0);
  if (bits > 0) {
    b.sub(R2, bits);
    number.load(R1);
    b.rsh(R1, R2).and(R1, (1 << bits) - 1);
    b.add(R2, 1).lsh(R2, bits).add(R2, R1).add(R2, 1);
  } else b.add(R2, 2);
  b.jump(end).label(small);
  b.mov(R2, R1).add(R2, 1);
  b.label(end);
  cell.load(R0);
  cell.free();
}

/** R2 = bucket of R1 in lhist(n, min, max, step). */
function emitLinear(gen: Gen, agg: Extract<Agg, { kind: 'lhist' }>): void {
  const { b } = gen;
  const end = gen.label('bucket');
  const bound = (value: number): number | typeof R3 => {
    if (fitsImm(BigInt(value))) return value;
    gen.imm(R3, BigInt(value));
    return R3;
  };
  b.mov(R2, 0).jcond('s<', R1, bound(agg.min), end);
  b.mov(R2, agg.buckets - 1).jcond('s>=', R1, bound(agg.max), end);
  b.mov(R2, R1).sub(R2, bound(agg.min)).div(R2, bound(agg.step)).add(R2, 1);
  b.label(end);
}

/** Runs `emit` with each CPU's cell in R0, for the CPUs that there are. */
function forEachCpu(gen: Gen, map: MapRef, key: Place, emit: () => void): void {
  const { b } = gen;
  const head = gen.label('cpu');
  const done = gen.label('cpus');
  const cpu = gen.frame.allocOpaque(8);
  gen.zero(cpu, 8);
  b.label(head).mayGoto(done);
  b.ldx(8, R3, cpu.reg, cpu.off);
  b.mov(R4, R3).add(R4, 1).stx(8, cpu.reg, cpu.off, R4);
  b.ldMap(R1, map.index);
  gen.addr(R2, key);
  b.call(isa.BPF_FUNC_map_lookup_percpu_elem);
  b.jcond('==', R0, 0, done);
  emit();
  b.jump(head).label(done);
  gen.frame.free(cpu, 8);
}

/** delete() of a keyless aggregation: its array entry cannot go, so it becomes zero on every CPU. */
export function emitAggregateReset(gen: Gen, map: MapRef, key: Place): void {
  forEachCpu(gen, map, key, () => gen.zero({ reg: R0, off: 0 }, map.valueSize));
}

/** R0 = an aggregation's number, all CPUs together. */
export function emitAggregateRead(gen: Gen, map: MapRef, agg: Agg, key: Place): void {
  const { b } = gen;
  const next = gen.label('next');
  const [first, second] = [gen.frame.allocOpaque(8), gen.frame.allocOpaque(8)];
  for (const place of [first, second]) gen.zero(place, 8);
  forEachCpu(gen, map, key, () => {
    b.ldx(8, R1, R0, 0);
    b.ldx(8, R2, first.reg, first.off);
    if (agg.kind === 'min' || agg.kind === 'max') {
      const take = gen.label('take');
      b.ldx(8, R0, R0, 8).jcond('==', R0, 0, next);
      b.ldx(8, R3, second.reg, second.off).jcond('==', R3, 0, take);
      const op = agg.kind === 'min' ? '>=' : '<=';
      b.jcond(agg.signed ? `s${op}` : op, R1, R2, next);
      b.label(take).stx(8, first.reg, first.off, R1).st(8, second.reg, second.off, 1);
    } else {
      b.add(R2, R1).stx(8, first.reg, first.off, R2);
      if (agg.kind === 'avg') {
        b.ldx(8, R1, R0, 8).ldx(8, R2, second.reg, second.off);
        b.add(R2, R1).stx(8, second.reg, second.off, R2);
      }
    }
    b.label(next);
  });
  b.ldx(8, R0, first.reg, first.off);
  if (agg.kind === 'avg') {
    b.ldx(8, R1, second.reg, second.off);
    if (agg.signed) b.sdiv(R0, R1);
    else b.div(R0, R1);
  }
  for (const place of [first, second]) gen.frame.free(place, 8);
}
