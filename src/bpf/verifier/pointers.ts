/** Pointer arithmetic (adjust_ptr_min_max_vals, check_reg_sane_offset). */
import * as isa from '../isa.ts';
import { MAX_VAR_OFF } from './access.ts';
import { addRanges64, subRanges64 } from './alu.ts';
import type { Env } from './env.ts';
import { reject } from './error.ts';
import { isPacket, type Reg, UNKNOWN } from './reg.ts';
import { S64_MIN } from './reg-bounds.ts';
import { sanitizeAfter, sanitizeBefore } from './sanitize.ts';
import { s64, tnumAdd, tnumSub } from './tnum.ts';

const MAX_OFF = BigInt(MAX_VAR_OFF);
const OPERATORS = ['+=', '-=', '*=', '/=', '|=', '&=', '<<=', '>>=', 'neg', '%=', '^=', '=', 's>>='];

/** Pointers that may be moved. */
const MOVABLE: ReadonlySet<Reg['type']> = new Set<Reg['type']>([
  'ctx',
  'map_value',
  'map_key',
  'fp',
  'pkt',
  'pkt_meta',
  'tp_buffer',
  'ptr_',
  'mem',
  'buf',
  'dynptr_ptr',
]);

/** Offsets far outside of anything could wrap around. */
function checkSane(reg: Reg, typeName: string): void {
  if (reg.isConst) {
    const value = s64(reg.varOff.value);
    if (value >= MAX_OFF || value <= -MAX_OFF)
      reject('EINVAL', `math between ${typeName} pointer and ${value} is not allowed`);
  }
  if (reg.isPointer && (reg.off >= MAX_VAR_OFF || reg.off <= -MAX_VAR_OFF)) {
    reject('EINVAL', `${typeName} pointer offset ${reg.off} is not allowed`);
  }
  if (reg.smin === S64_MIN) {
    reject('EINVAL', `math between ${typeName} pointer and register with unbounded min value is not allowed`);
  }
  if (reg.smin >= MAX_OFF || reg.smin <= -MAX_OFF) {
    reject('EINVAL', `value ${reg.smin} makes ${typeName} pointer be out of bounds`);
  }
}

/** `pointer op offset`; `isSwapped` when the pointer is the source register. */
export function pointerOp(
  env: Env,
  insn: isa.Insn,
  op: number,
  ptr: Reg,
  offset: Reg,
  isSwapped: boolean,
): Reg {
  const dst = insn.dst;
  if (offset.smin > offset.smax || offset.umin > offset.umax) return UNKNOWN;
  if (isa.BPF_CLASS(insn.code) !== isa.BPF_ALU64) {
    // Meaningless, but root may have it.
    if (op === isa.BPF_SUB && env.allowPtrLeaks) return UNKNOWN;
    reject('EACCES', `R${dst} 32-bit pointer arithmetic prohibited`);
  }
  if (ptr.nullable)
    reject('EACCES', `R${dst} pointer arithmetic on ${ptr.typeName} prohibited, null-check it first`);
  if (!MOVABLE.has(ptr.type)) {
    const isNothing =
      ptr.type === 'map_ptr' && op === isa.BPF_ADD && offset.isConst && offset.varOff.value === 0n;
    if (!isNothing && !(ptr.type === 'flow_keys' && offset.isConst))
      reject('EACCES', `R${dst} pointer arithmetic on ${ptr.typeName} prohibited`);
  }
  checkSane(offset, ptr.typeName);
  checkSane(ptr, ptr.typeName);
  const window = sanitizeBefore(env, insn, ptr, offset, isSwapped);
  const result = ptr.copy();
  switch (op) {
    case isa.BPF_ADD: {
      const sum = BigInt(ptr.off) + offset.smin;
      if (offset.isConst && sum === BigInt.asIntN(32, sum)) {
        result.off = Number(sum);
        break;
      }
      addRanges64(result, offset);
      result.unbounded32();
      result.varOff = tnumAdd(ptr.varOff, offset.varOff);
      if (isPacket(ptr)) {
        result.id = env.newId();
        result.range = 0;
      }
      result.sync();
      break;
    }
    case isa.BPF_SUB: {
      if (isSwapped) reject('EACCES', `R${dst} tried to subtract pointer from scalar`);
      if (ptr.type === 'fp') reject('EACCES', `R${dst} subtraction from stack pointer prohibited`);
      const difference = BigInt(ptr.off) - offset.smin;
      if (offset.isConst && difference === BigInt.asIntN(32, difference)) {
        result.off = Number(difference);
        break;
      }
      subRanges64(result, offset);
      result.unbounded32();
      result.varOff = tnumSub(ptr.varOff, offset.varOff);
      if (isPacket(ptr)) {
        result.id = env.newId();
        if (offset.smin < 0n) result.range = 0;
      }
      result.sync();
      break;
    }
    case isa.BPF_AND:
    case isa.BPF_OR:
    case isa.BPF_XOR:
      return reject('EACCES', `R${dst} bitwise operator ${OPERATORS[op >> 4]} on pointer prohibited`);
    default:
      return reject('EACCES', `R${dst} pointer arithmetic with ${OPERATORS[op >> 4]} operator prohibited`);
  }
  checkSane(result, ptr.typeName);
  sanitizeAfter(env, insn, result, window);
  return result;
}
