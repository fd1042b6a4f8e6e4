/** Undefined symbols: `__kconfig` and `__ksym` variables, and kernel functions (bpf_object__collect_externs of libbpf). */
import { alignOf, type Btf, resolveType, sizeOf } from '../btf/index.ts';
import {
  type ElfFile,
  type ElfSymbol,
  ObjectError,
  SHN_UNDEF,
  STB_LOCAL,
  STB_WEAK,
  STT_NOTYPE,
} from '../elf/index.ts';
import type { ExternSpec, KconfigExtern } from './spec.ts';

export interface Externs {
  /** Values first, by falling alignment, then size, then name: their order in `.kconfig`. Then symbols by name. */
  readonly list: readonly ExternSpec[];
  /** Position in `list` by symbol index. */
  readonly bySymbol: ReadonlyMap<number, number>;
  /** Bytes of the `.kconfig` map. */
  readonly kconfigSize: number;
}

export function isExtern(symbol: ElfSymbol): boolean {
  return (
    symbol.section === SHN_UNDEF &&
    symbol.bind !== STB_LOCAL &&
    symbol.type === STT_NOTYPE &&
    symbol.name !== ''
  );
}

type Draft = { symbol: ElfSymbol; align: number; spec: ExternSpec };

/** Throws ObjectError OBJ_BAD_EXTERN. */
export function collectExterns(elf: ElfFile, btf: Btf | undefined): Externs {
  const symbols = elf.symbols.filter(isExtern);
  if (symbols.length === 0) return { list: [], bySymbol: new Map(), kconfigSize: 0 };
  const sections = externSections(btf);
  const drafts = symbols.map((symbol) => draftExtern(symbol, btf, sections));
  drafts.sort(
    (a, b) =>
      Number(a.spec.kind === 'ksym') - Number(b.spec.kind === 'ksym') ||
      b.align - a.align ||
      externSize(a.spec) - externSize(b.spec) ||
      (a.spec.name < b.spec.name ? -1 : a.spec.name > b.spec.name ? 1 : 0),
  );
  let end = 0;
  const list = drafts.map(({ spec, align }): ExternSpec => {
    if (spec.kind !== 'kconfig') return spec;
    const offset = Math.ceil(end / align) * align;
    end = offset + spec.size;
    return { ...spec, offset };
  });
  return {
    list,
    bySymbol: new Map(drafts.map(({ symbol }, index) => [symbol.index, index])),
    kconfigSize: end,
  };
}

function externSize(spec: ExternSpec): number {
  return spec.kind === 'kconfig' ? spec.size : 0;
}

/** Section and BTF id of every VAR and FUNC in a DATASEC of externs, by name. */
function externSections(btf: Btf | undefined): Map<string, { id: number; section: string }> {
  const found = new Map<string, { id: number; section: string }>();
  if (btf === undefined) return found;
  for (let id = 1; id < btf.typeCount; id++) {
    if (btf.kindName(id) !== 'DATASEC') continue;
    const section = btf.name(id);
    const type = btf.type(id);
    if (type.kind !== 'DATASEC') continue;
    for (const { type: member } of type.vars) {
      const kind = btf.kindName(member);
      if (kind !== 'VAR' && kind !== 'FUNC') continue;
      const one = btf.type(member);
      if ((one.kind === 'VAR' || one.kind === 'FUNC') && one.linkage === 'extern' && !found.has(one.name)) {
        found.set(one.name, { id: member, section });
      }
    }
  }
  return found;
}

function draftExtern(
  symbol: ElfSymbol,
  btf: Btf | undefined,
  sections: ReadonlyMap<string, { id: number; section: string }>,
): Draft {
  const { name } = symbol;
  const place = { symbol: name };
  const found = sections.get(name);
  if (btf === undefined || found === undefined) {
    throw new ObjectError('OBJ_BAD_EXTERN', `nothing is known about the undefined symbol ${name}`, place, {
      hint: 'declare it with __kconfig, or with __ksym, and compile with -g; a function that is defined elsewhere must be linked first',
    });
  }
  const { id, section } = found;
  const common = { name, weak: symbol.bind === STB_WEAK, btfId: id };
  const func = btf.kindName(id) === 'FUNC';
  const type = btf.word(id, 2);
  if (section === '.ksyms') {
    return {
      symbol,
      align: 0,
      spec: { ...common, kind: 'ksym', func, typeId: func ? type : resolveType(btf, type) },
    };
  }
  if (section !== '.kconfig' || func) {
    throw new ObjectError(
      'OBJ_BAD_EXTERN',
      `an extern ${func ? 'function' : 'variable'} cannot be in section ${section}`,
      place,
    );
  }
  const kconfig = kconfigType(btf, type);
  if (kconfig === undefined) {
    throw new ObjectError(
      'OBJ_BAD_EXTERN',
      'type of a kconfig value is none of integer, bool, char, char array, enum libbpf_tristate',
      place,
    );
  }
  return {
    symbol,
    align: alignOf(btf, type),
    spec: { ...common, kind: 'kconfig', ...kconfig, size: sizeOf(btf, type), offset: 0 },
  };
}

/** find_kcfg_type of libbpf. */
function kconfigType(btf: Btf, id: number): Pick<KconfigExtern, 'type' | 'signed'> | undefined {
  const type = btf.type(resolveType(btf, id));
  switch (type.kind) {
    case 'INT':
      if (type.bool) return type.size === 1 ? { type: 'bool', signed: false } : undefined;
      if (type.size === 1) return { type: 'char', signed: type.signed };
      return [2, 4, 8].includes(type.size) ? { type: 'int', signed: type.signed } : undefined;
    case 'ENUM':
    case 'ENUM64':
      return type.name === 'libbpf_tristate' && (type.kind === 'ENUM64' || type.size === 4)
        ? { type: 'tristate', signed: false }
        : undefined;
    case 'ARRAY': {
      const element = btf.type(resolveType(btf, type.type));
      const char = element.kind === 'INT' && element.size === 1 && !element.bool;
      return type.nelems > 0 && char ? { type: 'char_array', signed: false } : undefined;
    }
    default:
      return undefined;
  }
}
