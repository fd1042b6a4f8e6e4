/** Asynchronous actions: a record in the ring buffer, filled in place. */
import { R0, R1, R2, R3, type Reg } from '../../bpf/builder.ts';
import * as isa from '../../bpf/isa.ts';
import type * as ast from '../ast.ts';
import { parseFormat } from '../format.ts';
import type { AsyncAction } from '../script.ts';
import type { LType } from '../types.ts';
import * as t from '../types.ts';
import { emitInt } from './expr.ts';
import type { Place } from './frame.ts';
import { type Gen, offset } from './gen.ts';
import { emitTo } from './memory.ts';

/** Reserves a record with its action number in place and submits it after `fill`; nothing happens when the ring is full. */
function emitRecord(gen: Gen, action: number, size: number, fill?: (record: Place) => void): void {
  const { b } = gen;
  const full = gen.label('full');
  b.ldMap(R1, gen.module.ring).mov(R2, size).mov(R3, 0).call(isa.BPF_FUNC_ringbuf_reserve);
  b.jcond('==', R0, 0, full);
  b.st(8, R0, 0, action);
  if (fill === undefined) {
    b.mov(R1, R0);
  } else {
    const reg: Reg | undefined = gen.takeReg();
    if (reg === undefined) throw new Error('no register for a record');
    b.mov(reg, R0);
    fill({ reg, off: 0 });
    b.mov(R1, reg);
    gen.giveReg(reg);
  }
  b.mov(R2, 0).call(isa.BPF_FUNC_ringbuf_submit).label(full);
}

/** Tells once that a map has no room; R0 and the argument registers are overwritten. */
export function emitMapFull(gen: Gen, access: ast.MapAccess): void {
  const { b, module } = gen;
  const told = gen.label('told');
  const { map, off } = module.reported(access);
  b.ldMapValue(R1, map, off).ldx(8, R2, R1, 0).jcond('!=', R2, 0, told).st(8, R1, 0, 1);
  emitError(
    gen,
    access,
    `Map full; can't update element of @${access.name}. Try increasing max_map_keys or deleting entries`,
  );
  b.label(told);
}

/** Reports a run-time error of a place in the script. */
export function emitError(gen: Gen, at: ast.Expr | ast.Statement, message: string): void {
  const { module } = gen;
  const action = module.action(at, () => ({ kind: 'error', position: module.position(at), message }));
  emitRecord(gen, action, 8);
}

/** What a printf argument is in the record. */
function argumentType(gen: Gen, arg: ast.Expr, conversion: string): LType {
  const type = gen.type(arg);
  if (conversion === 's') {
    if (type.kind === 'value') return { kind: 'string', size: gen.module.config.maxStrlen };
    return t.storedType(type);
  }
  if (conversion.startsWith('r') || type.kind === 'func' || type.kind === 'probe') return type;
  return { kind: 'int', size: 8, signed: t.intTypeOf(type).signed };
}

function emitArguments(
  gen: Gen,
  call: ast.Call,
  kind: 'printf' | 'system' | 'print',
  args: readonly ast.Expr[],
  types: readonly LType[],
): void {
  const { fields, size } = t.layout(types, gen.module.config);
  const described = fields.map((field) => ({
    offset: 8 + field.offset,
    type: t.toScriptType(field.type, gen.module.config),
  }));
  const [format] = call.args;
  const action = gen.module.action(
    call,
    (): AsyncAction =>
      kind !== 'print'
        ? { kind, format: format!.kind === 'string' ? format!.value : '', args: described }
        : { kind, args: described },
  );
  // Inside the reservation what an argument computes is only there if there was room.
  gen.available.branch(() =>
    emitRecord(gen, action, 8 + size, (record) => {
      for (const [i, field] of fields.entries())
        emitTo(gen, args[i]!, field.type, offset(record, 8 + field.offset));
    }),
  );
}

/** Emits a call that is a statement; false when it is none of these. */
export function emitAction(gen: Gen, call: ast.Call): boolean {
  const { b, module } = gen;
  const [first] = call.args;
  switch (call.name) {
    case 'printf':
    case 'system': {
      const args = call.args.slice(1);
      const { specs } = parseFormat(first!.kind === 'string' ? first!.value : '');
      const types = args.map((arg, i) => argumentType(gen, arg, specs[i]!.conversion));
      emitArguments(gen, call, call.name, args, types);
      return true;
    }
    case 'print': {
      if (first!.kind === 'map' && first!.key === undefined) {
        const { index } = module.map(first!.name);
        const action = module.action(call, () => ({ kind: 'print_map', map: index }));
        const number = (arg: ast.Expr | undefined): number => (arg?.kind === 'int' ? Number(arg.value) : 0);
        emitRecord(gen, action, 16, (record) => {
          b.st(4, record.reg, 8, number(call.args[1]) | 0).st(4, record.reg, 12, number(call.args[2]) | 0);
        });
        return true;
      }
      const type = gen.type(first!);
      const stored = type.kind === 'agg' ? t.intTypeOf(type) : t.storedType(type);
      emitArguments(gen, call, 'print', [first!], [stored]);
      return true;
    }
    case 'clear':
    case 'zero': {
      const { index } = module.map((first as ast.MapAccess).name);
      const { name } = call;
      emitRecord(
        gen,
        module.action(call, () => ({ kind: name, map: index })),
        8,
      );
      return true;
    }
    case 'time': {
      const format = first?.kind === 'string' ? first.value : '%H:%M:%S\n';
      emitRecord(
        gen,
        module.action(call, () => ({ kind: 'time', format })),
        16,
        (record) => {
          b.call(isa.BPF_FUNC_ktime_get_ns).stx(8, record.reg, 8, R0);
        },
      );
      return true;
    }
    case 'exit': {
      const action = module.action(call, () => ({ kind: 'exit' }));
      emitRecord(gen, action, 16, (record) => {
        if (first === undefined || first.kind === 'int') {
          gen.storeImm(offset(record, 8), first?.kind === 'int' ? first.value : 0n);
          return;
        }
        emitInt(gen, first);
        b.stx(8, record.reg, 8, R0);
      });
      b.jump(gen.exitLabel);
      return true;
    }
    default:
      return false;
  }
}
