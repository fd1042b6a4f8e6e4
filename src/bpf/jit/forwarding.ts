/**
 * Stores to the stack that are read again in the same function: spilled registers, and keys of array lookups. V8 does not forward stores to
 * loads in linear memory, and the way through memory is long where an address depends on it. Whether the store itself is needed
 * dead-stores.ts finds out.
 */
import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import type { Cfg } from './cfg.ts';
import { largest, type RegState, step } from './values.ts';

/** What a load finds: the value in a local that the store left it in, or an immediate. */
export type Forwarded =
  | {
      readonly kind: 'saved';
      readonly index: number;
      readonly size: number;
      /** The largest number that it may be, if that is known. */
      readonly max: number | undefined;
    }
  | { readonly kind: 'imm'; readonly value: number; readonly size: number };

export interface Forwards {
  /** Stores whose value is kept: the index of its local. */
  readonly saves: ReadonlyMap<number, number>;
  /** Loads and array lookups, and what they find. */
  readonly uses: ReadonlyMap<number, Forwarded>;
}

interface Stored {
  readonly at: number;
  readonly size: number;
  readonly pc: number;
  readonly max: number | undefined;
}

/** Values that a function keeps: functions with very many locals compile slowly. */
const MAX_SAVED = 128;
/** Key size of every array map. */
const INDEX_SIZE = 4;

/** `readsIndex`: whether a call reads an array's index through r2, given what is known of registers then. */
export function findForwards(
  insns: readonly Insn[],
  cfg: Cfg,
  entries: readonly RegState[],
  readsIndex: (insn: Insn, state: RegState) => boolean,
): Forwards | undefined {
  if (!insns.some(({ code }) => isStore(code))) return undefined;
  const pass = new StoresPass(insns, cfg, entries, readsIndex);
  // Stores that every way to a block has made, and nothing has written over: from all towards fewer, until nothing changes.
  const { blocks, order } = cfg;
  const outs: (readonly Stored[] | undefined)[] = new Array(blocks.length);
  for (let changed = true; changed; ) {
    changed = false;
    for (const index of order) {
      const known = outs[index];
      const out = pass.block(index, meet(index, cfg, outs));
      if (known !== undefined && known.length === out.length) continue;
      outs[index] = out;
      changed = true;
    }
  }
  for (const index of order) pass.block(index, meet(index, cfg, outs), true);
  const { saves, uses } = pass;
  return uses.size === 0 ? undefined : { saves, uses };
}

const isStore = (code: number): boolean =>
  isa.BPF_CLASS(code) === isa.BPF_ST || isa.BPF_CLASS(code) === isa.BPF_STX;

/** What reaches a block: what all predecessors that were visited leave. Nothing reaches the first one. */
function meet(
  index: number,
  { predecessors, predecessorsAt }: Cfg,
  outs: readonly (readonly Stored[] | undefined)[],
): readonly Stored[] {
  if (index === 0) return [];
  let result: readonly Stored[] | undefined;
  for (let at = predecessorsAt[index]!; at < predecessorsAt[index + 1]!; at++) {
    const out = outs[predecessors[at]!];
    if (out === undefined) continue;
    result = result === undefined ? out : result.filter(({ pc }) => out.some((one) => one.pc === pc));
  }
  return result ?? [];
}

class StoresPass {
  readonly saves = new Map<number, number>();
  readonly uses = new Map<number, Forwarded>();
  readonly #insns: readonly Insn[];
  readonly #cfg: Cfg;
  readonly #entries: readonly RegState[];
  readonly #readsIndex: (insn: Insn, state: RegState) => boolean;

  constructor(
    insns: readonly Insn[],
    cfg: Cfg,
    entries: readonly RegState[],
    readsIndex: (insn: Insn, state: RegState) => boolean,
  ) {
    this.#insns = insns;
    this.#cfg = cfg;
    this.#entries = entries;
    this.#readsIndex = readsIndex;
  }

  /** Goes through a block with the stores that reach it, and gives those that leave it. `collect` writes down who uses them. */
  block(index: number, entry: readonly Stored[], collect = false): readonly Stored[] {
    const insns = this.#insns;
    const block = this.#cfg.blocks[index]!;
    const state = this.#entries[index]!.slice();
    let stored = [...entry];
    for (let pc = block.start; pc < block.end; pc++) {
      const insn = insns[pc]!;
      const { code, dst, src, off } = insn;
      switch (isa.BPF_CLASS(code)) {
        case isa.BPF_LDX: {
          const base = state[src];
          if (collect && base?.kind === 'frame' && isa.BPF_MODE(code) === isa.BPF_MEM) {
            this.#use(stored, pc, base.off + off, isa.sizeBytes(code));
          }
          break;
        }
        case isa.BPF_ST:
        case isa.BPF_STX: {
          const base = state[dst];
          if (base === undefined || base.kind === 'const' || base.kind === 'bounded') stored = [];
          else if (base.kind === 'frame') {
            const at = base.off + off;
            const size = isa.sizeBytes(code);
            stored = stored.filter((one) => one.at + one.size <= at || at + size <= one.at);
            // In the frame, so that there are never many.
            if (isa.BPF_MODE(code) === isa.BPF_MEM && at >= -isa.MAX_BPF_STACK && at < 0) {
              const value = isa.BPF_CLASS(code) === isa.BPF_STX ? state[src] : undefined;
              stored.push({ at, size, pc, max: largest(value) });
            }
          }
          break;
        }
        case isa.BPF_LD:
          if (!isa.isLdImm64(insn)) stored = [];
          break;
        case isa.BPF_JMP:
        case isa.BPF_JMP32: {
          if (pc === block.terminator) break;
          const key = state[2];
          if (key?.kind === 'frame' && this.#readsIndex(insn, state)) {
            if (collect) this.#use(stored, pc, key.off, INDEX_SIZE);
          } else {
            // Whatever is called may write to the stack.
            stored = [];
          }
          break;
        }
      }
      step(state, insns, pc);
      if (isa.isLdImm64(insn)) pc++;
    }
    return stored;
  }

  #use(stored: readonly Stored[], pc: number, at: number, size: number): void {
    const found = stored.find((one) => one.at === at && one.size === size);
    if (found === undefined) return;
    const store = this.#insns[found.pc]!;
    if (isa.BPF_CLASS(store.code) === isa.BPF_ST) {
      this.uses.set(pc, { kind: 'imm', value: store.imm, size });
      return;
    }
    let index = this.saves.get(found.pc);
    if (index === undefined) {
      if (this.saves.size >= MAX_SAVED) return;
      index = this.saves.size;
      this.saves.set(found.pc, index);
    }
    const fits = found.max !== undefined && found.max < 2 ** (8 * size);
    this.uses.set(pc, { kind: 'saved', index, size, max: fits ? found.max : undefined });
  }
}
