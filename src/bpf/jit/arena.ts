/**
 * Accesses to an arena: addresses of 32 bits and an offset, whose pages are found in the arena's tables (../maps/arena-memory.ts). Where there
 * is no page, loads give 0, stores are dropped, and atomics leave their registers alone (BPF_PROBE_MEM32, BPF_PROBE_ATOMIC).
 */
import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import type { MemoryLayout } from '../layout.ts';
import { ARENA_PAGE, ARENA_TABLE } from '../maps/map-layout.ts';
import { arenaAccesses } from '../verifier/probes.ts';
import type { VerifiedProgram } from '../verifier/types.ts';
import { READ_MODIFY_WRITE } from './atomics.ts';
import type { FunctionEmitter } from './emitter.ts';
import { LOADS, STORES } from './memory.ts';
import { ModuleFunctions } from './module-functions.ts';
import { ATOMIC, type Code, type Func, I32, I64, OP, type ValType, type WasmModule } from './wasm.ts';

const PAGE_SHIFT = 12;
/** Address bits of a page and of one table's pages. */
const TABLE_SHIFT = PAGE_SHIFT + Math.log2(ARENA_TABLE.entries);
/** Of an index into a table, times 4. */
const INDEX_MASK = (ARENA_TABLE.entries - 1) * 4;

const bits = (bytes: number): string => `${bytes * 8}`;

export class ArenaAccesses {
  readonly #functions: ModuleFunctions;
  readonly #slots: ReadonlySet<number>;
  readonly #directory: number;
  readonly #userHigh: bigint;

  constructor(module: WasmModule, verified: VerifiedProgram, layout: MemoryLayout) {
    this.#functions = new ModuleFunctions(module);
    this.#slots = arenaAccesses(verified);
    const { map, userStart } = verified.arena!;
    const { address, geometry } = layout.maps[map]!;
    this.#directory = address + geometry.data + ARENA_TABLE.directory;
    this.#userHigh = (userStart >> 32n) << 32n;
  }

  /** Emits the instruction at `pc`, if it is about the arena. */
  emit(fn: FunctionEmitter, insn: Insn, pc: number): boolean {
    const { code, off } = insn;
    if (this.#slots.has(pc)) {
      this.#access(fn, insn);
      return true;
    }
    if (code !== (isa.BPF_ALU64 | isa.BPF_MOV | isa.BPF_X) || off !== isa.BPF_ADDR_SPACE_CAST) return false;
    this.#castToUser(fn, insn);
    return true;
  }

  /** What is NULL within an arena is NULL in user space. */
  #castToUser(fn: FunctionEmitter, { dst, src }: Insn): void {
    const low = fn.scratch(I64);
    fn.get(src).i64(0xffffffff).op(OP.i64And).tee(low);
    fn.code.i64(BigInt.asIntN(64, this.#userHigh)).op(OP.i64Or).i64(0);
    fn.code.get(low).op(OP.i64Eqz, OP.i32Eqz, OP.select);
    fn.set(dst);
  }

  #access(fn: FunctionEmitter, insn: Insn): void {
    const { code, dst, src, imm } = insn;
    const bytes = isa.sizeBytes(code);
    const isAtomic = isa.BPF_MODE(code) === isa.BPF_ATOMIC;
    const isLoad = isa.BPF_CLASS(code) === isa.BPF_LDX || (isAtomic && imm === isa.BPF_LOAD_ACQ);
    if (isLoad) {
      this.#inline(fn, insn, src, I64, {
        fast: () => fn.code.mem(loadOf(bytes), 0),
        slow: () => fn.code.call(this.#load(bytes)),
      });
      fn.set(dst);
      if (isAtomic) fn.code.op(0xfe, ATOMIC.fence, 0);
      return;
    }
    if (isa.BPF_CLASS(code) === isa.BPF_ST || !isAtomic || imm === isa.BPF_STORE_REL) {
      const value = (): Code => (isa.BPF_CLASS(code) === isa.BPF_ST ? fn.code.i64(imm) : fn.get(src));
      if (isAtomic) fn.code.op(0xfe, ATOMIC.fence, 0);
      this.#inline(fn, insn, dst, undefined, {
        fast: () => value().mem(storeOf(bytes), 0),
        slow: () => value().call(this.#store(bytes)),
      });
      return;
    }
    const wide = bytes as 4 | 8;
    const isCompare = imm === isa.BPF_CMPXCHG;
    const operation = imm & ~isa.BPF_FETCH;
    this.#inline(fn, insn, dst, I64, {
      fast() {
        if (isCompare) {
          fn.get(0);
          if (bytes === 4) fn.code.i64(0xffffffff).op(OP.i64And);
        }
        fn.get(src).atomic(isCompare ? compareExchange(wide) : readModifyWrite(operation, wide), wide, 0);
      },
      slow: () => {
        if (isCompare) fn.get(0);
        fn.get(src).call(isCompare ? this.#compareExchange(wide) : this.#modify(operation, wide));
      },
    });
    if (isCompare) fn.set(0);
    else if ((imm & isa.BPF_FETCH) !== 0) fn.set(src);
    else fn.code.op(OP.drop);
  }

  /**
   * The steps of `#at` in place: `fast` is emitted with the address on the stack where that is a page's, and all bytes are on it (of an atomic:
   * where it is aligned); `slow` with the arena's address.
   */
  #inline(
    fn: FunctionEmitter,
    insn: Insn,
    reg: number,
    result: ValType | undefined,
    { fast, slow }: { fast(): void; slow(): void },
  ): void {
    const { code } = fn;
    const { off } = insn;
    const bytes = isa.sizeBytes(insn.code);
    const low = fn.scratch(I32);
    const page = fn.scratch(I32, 1);
    fn.get32(reg);
    if (off !== 0) code.i32(off).op(OP.i32Add);
    code
      .tee(low)
      .i32(TABLE_SHIFT - 2)
      .op(OP.i32ShrU);
    code.i32(INDEX_MASK).op(OP.i32And).mem(OP.i32Load, this.#directory);
    code
      .get(low)
      .i32(PAGE_SHIFT - 2)
      .op(OP.i32ShrU)
      .i32(INDEX_MASK);
    code.op(OP.i32And, OP.i32Add).mem(OP.i32Load, 0).tee(page).i32(0).op(OP.i32Ne);
    if (isa.BPF_MODE(insn.code) === isa.BPF_ATOMIC && bytes >= 4) {
      code
        .get(low)
        .i32(bytes - 1)
        .op(OP.i32And, OP.i32Eqz, OP.i32And);
    } else if (bytes > 1) {
      code.get(low).i32(ARENA_PAGE - 1);
      code
        .op(OP.i32And)
        .i32(ARENA_PAGE - bytes)
        .op(OP.i32LeU, OP.i32And);
    }
    // The sum is above all addresses, or below.
    if (off > 0) code.get(low).i32(off).op(OP.i32GeU, OP.i32And);
    else if (off < 0) code.get(low).i32(off).op(OP.i32LtU, OP.i32And);
    code.if(result);
    code
      .get(page)
      .get(low)
      .i32(ARENA_PAGE - 1);
    code.op(OP.i32And, OP.i32Add);
    fast();
    code.else();
    fn.get(reg).i64(0xffffffff).op(OP.i64And).i64(off).op(OP.i64Add);
    slow();
    code.end();
  }

  /** (address) → i32: where the byte is, or 0. */
  get #at(): Func {
    return this.#functions.once('arena_at', [I64], [I32], (code) => {
      const page = code.local(I32);
      code.get(0).i64(32).op(OP.i64ShrU, OP.i64Eqz);
      code.if(I32);
      code.get(0).i64(TABLE_SHIFT).op(OP.i64ShrU, OP.i32WrapI64).i32(2).op(OP.i32Shl);
      code.mem(OP.i32Load, this.#directory);
      code.get(0).i64(PAGE_SHIFT).op(OP.i64ShrU, OP.i32WrapI64);
      code.i32(ARENA_TABLE.entries - 1).op(OP.i32And);
      code.i32(2).op(OP.i32Shl, OP.i32Add).mem(OP.i32Load, 0).tee(page);
      code
        .get(0)
        .op(OP.i32WrapI64)
        .i32(ARENA_PAGE - 1);
      code.op(OP.i32And, OP.i32Add).i32(0).get(page).op(OP.select);
      code.else().i32(0).end();
    });
  }

  /** Pushes whether `bytes` bytes at the address in local 0 lie on one page. */
  #isWhole(code: Code, bytes: number): void {
    code
      .get(0)
      .op(OP.i32WrapI64)
      .i32(ARENA_PAGE - 1)
      .op(OP.i32And)
      .i32(ARENA_PAGE - bytes)
      .op(OP.i32LeU);
  }

  /** Returns where the byte `distance` behind the address in local 0 is not there. */
  #leaveWithout(code: Code, distance: number, place: number, result: (() => void) | undefined): void {
    code.get(0).i64(distance).op(OP.i64Add).call(this.#at).tee(place).op(OP.i32Eqz);
    code.if();
    result?.();
    code.op(OP.return).end();
  }

  /** Pushes where byte `n` of an access to two pages is: they have their first byte at `first`, their last one at `last`. */
  #byteAt(code: Code, n: number, bytes: number, first: number, last: number): void {
    code.get(first).i32(n).op(OP.i32Add);
    code
      .get(last)
      .i32(n - bytes + 1)
      .op(OP.i32Add);
    // On the first page: offset within the page plus n stays below its end.
    code
      .get(0)
      .op(OP.i32WrapI64)
      .i32(ARENA_PAGE - 1);
    code
      .op(OP.i32And)
      .i32(ARENA_PAGE - n)
      .op(OP.i32LtU, OP.select);
  }

  /** (address) → i64 */
  #load(bytes: number): Func {
    return this.#functions.once(`arena_load${bits(bytes)}`, [I64], [I64], (code) => {
      const first = code.local(I32);
      const last = code.local(I32);
      const nothing = (): void => {
        code.i64(0);
      };
      this.#leaveWithout(code, 0, first, nothing);
      this.#isWhole(code, bytes);
      code.if();
      code.get(first).mem(loadOf(bytes), 0).op(OP.return).end();
      this.#leaveWithout(code, bytes - 1, last, nothing);
      for (let n = 0; n < bytes; n++) {
        this.#byteAt(code, n, bytes, first, last);
        code
          .mem(OP.i64Load8U, 0)
          .i64(8 * n)
          .op(OP.i64Shl);
        if (n > 0) code.op(OP.i64Or);
      }
    });
  }

  /** (address, value) */
  #store(bytes: number): Func {
    return this.#functions.once(`arena_store${bits(bytes)}`, [I64, I64], [], (code) => {
      const first = code.local(I32);
      const last = code.local(I32);
      this.#leaveWithout(code, 0, first, undefined);
      this.#isWhole(code, bytes);
      code.if();
      code.get(first).get(1).mem(storeOf(bytes), 0).op(OP.return).end();
      this.#leaveWithout(code, bytes - 1, last, undefined);
      for (let n = 0; n < bytes; n++) {
        this.#byteAt(code, n, bytes, first, last);
        code
          .get(1)
          .i64(8 * n)
          .op(OP.i64ShrU)
          .mem(OP.i64Store8, 0);
      }
    });
  }

  /** (address, value) → i64: what was there; the value where nothing is. Aligned ones are atomic. */
  #modify(operation: number, bytes: 4 | 8): Func {
    const rmw = READ_MODIFY_WRITE[operation];
    return this.#functions.once(`arena_rmw${operation}_${bits(bytes)}`, [I64, I64], [I64], (code) => {
      const opcode = readModifyWrite(operation, bytes);
      this.#exchange(code, bytes, 1, () => code.get(1).atomic(opcode, bytes, 0));
      const old = code.local(I64);
      code.get(0).call(this.#load(bytes)).set(old);
      code.get(0);
      if (rmw === undefined) code.get(1);
      else code.get(old).get(1).op(rmw.plain);
      code.call(this.#store(bytes)).get(old);
    });
  }

  /** (address, expected, value) → i64: what was there; what was expected where nothing is. */
  #compareExchange(bytes: 4 | 8): Func {
    return this.#functions.once(`arena_cmpxchg_${bits(bytes)}`, [I64, I64, I64], [I64], (code) => {
      const expected = code.local(I64);
      code.get(1);
      if (bytes === 4) code.i64(0xffffffff).op(OP.i64And);
      code.set(expected);
      this.#exchange(code, bytes, 1, () =>
        code.get(expected).get(2).atomic(compareExchange(bytes), bytes, 0),
      );
      const old = code.local(I64);
      code.get(0).call(this.#load(bytes)).tee(old).get(expected).op(OP.i64Eq);
      code.if();
      code.get(0).get(2).call(this.#store(bytes)).end();
      code.get(old);
    });
  }

  /** Returns what `atomic` gives for an aligned address, and the local `otherwise` where a page is not there; goes on for others. */
  #exchange(code: Code, bytes: 4 | 8, otherwise: number, atomic: () => void): void {
    const place = code.local(I32);
    const last = code.local(I32);
    const nothing = (): void => {
      code.get(otherwise);
    };
    this.#leaveWithout(code, 0, place, nothing);
    code
      .get(place)
      .i32(bytes - 1)
      .op(OP.i32And, OP.i32Eqz);
    code.if();
    code.get(place);
    atomic();
    code.op(OP.return).end();
    this.#leaveWithout(code, bytes - 1, last, nothing);
  }
}

const SIZE_CODES: Readonly<Record<number, number>> = {
  1: isa.BPF_B,
  2: isa.BPF_H,
  4: isa.BPF_W,
  8: isa.BPF_DW,
};
const loadOf = (bytes: number): number => LOADS[SIZE_CODES[bytes]!]!;
const storeOf = (bytes: number): number => STORES[SIZE_CODES[bytes]!]!;

const compareExchange = (bytes: 4 | 8): number => (bytes === 4 ? ATOMIC.i64Cmpxchg32 : ATOMIC.i64Cmpxchg);

function readModifyWrite(operation: number, bytes: 4 | 8): number {
  const known = READ_MODIFY_WRITE[operation];
  if (known === undefined) return bytes === 4 ? ATOMIC.i64Xchg32 : ATOMIC.i64Xchg;
  return bytes === 4 ? known.narrow : known.wide;
}
