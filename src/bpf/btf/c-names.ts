/** Names for C: what BTF allows and C does not, and what two types want at once. */
import type { Btf } from './btf.ts';
import { isAnyEnum, isComposite } from './kinds.ts';

const KEYWORDS = new Set(
  (
    'auto break case char const continue default do double else enum extern float for goto if inline int long register ' +
    'restrict return short signed sizeof static struct switch typedef typeof union unsigned void volatile while asm ' +
    '_Alignas _Alignof _Atomic _Bool _Complex _Generic _Imaginary _Noreturn _Static_assert _Thread_local'
  ).split(' '),
);

/** A name as a C identifier. */
export function identifier(name: string): string {
  if (/^[A-Za-z_]\w*$/.test(name)) return KEYWORDS.has(name) ? `${name}_` : name;
  const clean = name.replace(/\W/g, '_');
  return /^\d/.test(clean) || clean === '' ? `_${clean}` : clean;
}

/** Hands each name out once; later ones get ___2, ___3, which CO-RE takes for flavours. */
class NameSpace {
  readonly #taken = new Set<string>();
  readonly #counts = new Map<string, number>();

  take(name: string): string {
    if (!this.#taken.has(name)) {
      this.#taken.add(name);
      return name;
    }
    for (let n = (this.#counts.get(name) ?? 1) + 1; ; n++) {
      const flavour = `${name}___${n}`;
      if (this.#taken.has(flavour)) continue;
      this.#taken.add(flavour);
      this.#counts.set(name, n);
      return flavour;
    }
  }
}

/** The C names of one BTF: tags of structs, unions and enums are one name space, typedefs and enumerators another. */
export class CNames {
  readonly #names = new Map<number, string>();
  readonly #enumerators = new Map<number, readonly string[]>();

  constructor(btf: Btf) {
    const tags = new NameSpace();
    const idents = new NameSpace();
    // The compiler's own.
    for (const name of ['__builtin_va_list', '__int128_t', '__uint128_t', '__builtin_ms_va_list'])
      idents.take(name);
    const composites = new Map<string, number>();
    const forwards: number[] = [];
    for (let id = 1; id < btf.typeCount; id++) {
      const kind = btf.kind(id);
      if (btf.kindName(id) === 'FWD') {
        forwards.push(id);
        continue;
      }
      const enumeration = isAnyEnum(kind);
      const typedef = btf.kindName(id) === 'TYPEDEF';
      if (!enumeration && !typedef && !isComposite(kind)) continue;
      const name = btf.name(id);
      if (name !== '') this.#names.set(id, (typedef ? idents : tags).take(identifier(name)));
      if (isComposite(kind) && name !== '') {
        const key = `${btf.kindName(id)} ${name}`;
        if (!composites.has(key)) composites.set(key, id);
      }
      if (enumeration) {
        const names: string[] = [];
        for (let i = 0; i < btf.vlen(id); i++) names.push(idents.take(identifier(btf.enumeratorName(id, i))));
        this.#enumerators.set(id, names);
      }
    }
    for (const id of forwards) {
      const key = `${btf.kindFlag(id) ? 'UNION' : 'STRUCT'} ${btf.name(id)}`;
      const whole = composites.get(key);
      this.#names.set(
        id,
        whole === undefined ? tags.take(identifier(btf.name(id))) : this.#names.get(whole)!,
      );
      if (whole === undefined) composites.set(key, id);
    }
  }

  /** The name of a struct, union, enum, forward or typedef; '' for an anonymous one. */
  of(id: number): string {
    return this.#names.get(id) ?? '';
  }

  enumerators(id: number): readonly string[] {
    return this.#enumerators.get(id) ?? [];
  }
}
