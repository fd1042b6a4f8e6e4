/**
 * Addresses within straight code, as an unknown value and a constant distance: accesses that differ in the distance only share
 * one i32 base, so that what is left of `r2 = r0; r2 += r1; r3 = *(r2 + 0)` in a copied loop body is a load.
 */
import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';

/** A register: value number `id` plus `off`. */
interface Form {
  readonly id: number;
  readonly off: number;
}

const MAX_OFF = 1 << 20;

export class AddressForms {
  readonly #forms: (Form | undefined)[] = [];
  readonly #sums = new Map<string, number>();
  /** By value number: the i32 local that holds it, plus `off`. */
  readonly #bases = new Map<number, { local: number; off: number }>();
  #ids = 0;

  form(reg: number): Form {
    let form = this.#forms[reg];
    if (form === undefined) {
      form = { id: this.#ids++, off: 0 };
      this.#forms[reg] = form;
    }
    return form;
  }

  /** The local that holds `form(reg)` but for a distance, with that distance. */
  base(reg: number): { local: number; distance: number } | undefined {
    const { id, off } = this.form(reg);
    const known = this.#bases.get(id);
    return known === undefined ? undefined : { local: known.local, distance: off - known.off };
  }

  /** `local` holds the register's low half now. */
  hold(reg: number, local: number): void {
    const { id, off } = this.form(reg);
    this.#bases.set(id, { local, off });
  }

  get held(): number {
    return this.#bases.size;
  }

  /** Goes past an instruction. */
  step(insn: Insn): void {
    const { code, dst, src, off, imm } = insn;
    switch (isa.BPF_CLASS(code)) {
      case isa.BPF_ALU64: {
        const op = isa.BPF_OP(code);
        const isReg = isa.BPF_SRC(code) === isa.BPF_X;
        if (op === isa.BPF_MOV && isReg && off === 0) this.#forms[dst] = this.form(src);
        else if (op === isa.BPF_ADD && isReg) this.#forms[dst] = this.#sum(this.form(dst), this.form(src));
        else if (op === isa.BPF_ADD) this.#move(dst, imm);
        else if (op === isa.BPF_SUB && !isReg) this.#move(dst, -imm);
        else this.#forms[dst] = undefined;
        return;
      }
      case isa.BPF_ALU:
      case isa.BPF_LDX:
        this.#forms[dst] = undefined;
        return;
      case isa.BPF_LD:
        if (isa.isLdImm64(insn)) this.#forms[dst] = undefined;
        else this.#forms.length = 0;
        return;
      case isa.BPF_ST:
        return;
      case isa.BPF_STX:
        if (isa.BPF_MODE(code) === isa.BPF_MEM) return;
    }
    // Atomics and calls change several registers.
    this.#forms.length = 0;
  }

  #move(reg: number, by: number): void {
    const { id, off } = this.form(reg);
    const moved = off + by;
    this.#forms[reg] = Math.abs(moved) <= MAX_OFF ? { id, off: moved } : undefined;
  }

  #sum(a: Form, b: Form): Form | undefined {
    const key = a.id < b.id ? `${a.id}+${b.id}` : `${b.id}+${a.id}`;
    let id = this.#sums.get(key);
    if (id === undefined) {
      id = this.#ids++;
      this.#sums.set(key, id);
    }
    const off = a.off + b.off;
    return Math.abs(off) <= MAX_OFF ? { id, off } : undefined;
  }
}
