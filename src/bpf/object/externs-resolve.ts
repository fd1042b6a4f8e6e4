/** Kernel symbols and functions at load: addresses and ids into the instructions (bpf_object__relocate_data of libbpf). */
import type { Btf } from '../btf/index.ts';
import { ObjectError } from '../elf/index.ts';
import type { KfuncDecl } from '../helpers/kfunc.ts';
import { BPF_CALL, BPF_JMP, BPF_PSEUDO_BTF_ID, type Insn } from '../isa.ts';
import type { KsymExtern, ObjectSpec, ProgramSpec } from './spec.ts';

/** A call of a weak function that is not there: no helper has this number, and the rest of it tells which extern. */
export const POISON_KFUNC_BASE = 2_002_000_000;

/** What a symbol became. */
export type ResolvedKsym =
  | { readonly kind: 'kfunc'; readonly id: number }
  | { readonly kind: 'btf'; readonly id: number }
  | { readonly kind: 'address'; readonly address: bigint }
  | { readonly kind: 'missing' };

export interface KsymSources {
  readonly targetBtf?: Btf | undefined;
  /** Addresses of symbols that have no type among the target's. */
  readonly ksyms?: Readonly<Record<string, bigint>> | undefined;
  readonly kfuncs: readonly KfuncDecl[];
}

/** A name without its flavour: `bpf_f___v2` is `bpf_f`. */
function essentialName(name: string): string {
  const flavour = name.indexOf('___', 1);
  return flavour < 0 ? name : name.slice(0, flavour);
}

/** By position in `spec.externs`. Throws ObjectError OBJ_UNRESOLVED where a symbol that is not weak cannot be found. */
export function resolveKsyms(spec: ObjectSpec, sources: KsymSources): Map<number, ResolvedKsym> {
  const resolved = new Map<number, ResolvedKsym>();
  const kfuncs = new Map(sources.kfuncs.map((decl) => [decl.name, decl.id]));
  const used = usedExterns(spec);
  for (const [index, ext] of spec.externs.entries()) {
    if (ext.kind !== 'ksym' || !used.has(ext.name)) continue;
    const found = resolveKsym(ext, sources, kfuncs);
    if (found.kind === 'missing' && !ext.weak) {
      throw new ObjectError(
        'OBJ_UNRESOLVED',
        ext.func ? `there is no kernel function ${ext.name}` : `there is no kernel symbol ${ext.name}`,
        { symbol: ext.name },
        {
          hint: ext.func
            ? 'declare it __weak and test its address, or give it with the option kfuncs'
            : 'declare it __weak and test its address, or give it with the option ksyms or targetBtf',
        },
      );
    }
    resolved.set(index, found);
  }
  return resolved;
}

/** An extern that is only in programs that are not loaded does no harm. */
function usedExterns({ programs }: ObjectSpec): Set<string> {
  const used = new Set<string>();
  for (const { relocations } of programs.values()) {
    for (const one of relocations) if (one.kind === 'ksym' || one.kind === 'kfunc') used.add(one.extern);
  }
  return used;
}

function resolveKsym(
  ext: KsymExtern,
  { targetBtf, ksyms }: KsymSources,
  kfuncs: ReadonlyMap<string, number>,
): ResolvedKsym {
  const names = [ext.name, essentialName(ext.name)];
  for (const name of names) {
    if (ext.func) {
      const id = kfuncs.get(name);
      if (id !== undefined) return { kind: 'kfunc', id };
      continue;
    }
    const id = ext.typeId === 0 ? undefined : targetBtf?.byName(name, 'VAR');
    if (id !== undefined) return { kind: 'btf', id };
    const address = ksyms !== undefined && Object.hasOwn(ksyms, name) ? ksyms[name] : undefined;
    if (address !== undefined) return { kind: 'address', address };
  }
  return { kind: 'missing' };
}

/** Patches the uses of kernel symbols in a copy of a program's instructions. */
export function patchKsyms(
  insns: Insn[],
  program: ProgramSpec,
  resolved: ReadonlyMap<number, ResolvedKsym>,
): void {
  for (const { insn: at, kind } of program.relocations) {
    if (kind !== 'ksym' && kind !== 'kfunc') continue;
    const insn = insns[at]!;
    const index = insn.imm;
    const found = resolved.get(index) ?? { kind: 'missing' };
    if (kind === 'kfunc') {
      if (found.kind === 'kfunc') insn.imm = found.id;
      else insns[at] = { code: BPF_JMP | BPF_CALL, dst: 0, src: 0, off: 0, imm: POISON_KFUNC_BASE + index };
      continue;
    }
    const high = insns[at + 1]!;
    if (found.kind === 'btf') {
      insn.src = BPF_PSEUDO_BTF_ID;
      insn.imm = found.id;
      high.imm = 0;
      continue;
    }
    // The address of a function is only ever compared with 0.
    const address = found.kind === 'address' ? found.address : found.kind === 'kfunc' ? 1n : 0n;
    insn.src = 0;
    insn.imm = Number(BigInt.asIntN(32, address));
    high.imm = Number(BigInt.asIntN(32, address >> 32n));
  }
}
