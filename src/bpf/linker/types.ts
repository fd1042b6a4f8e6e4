/**
 * The types of the result: those of all objects, each copied once, with one VAR or FUNC by each shared name, sections of variables
 * put together, then deduplicated; and the records of .BTF.ext with their new places, ids and names.
 */

import { forEachNameWord, forEachTypeWord, wordCount } from '../btf/fields.ts';
import { type Btf, BtfBuilder, btfKinds, dedupBtf, sizeOf } from '../btf/index.ts';
import { ObjectError } from '../elf/index.ts';
import { writeBtfExt } from './ext.ts';
import { type InputObject, isNonStatic, type SectionVariable } from './input.ts';
import type { Sections } from './sections.ts';
import type { SharedSymbol } from './symbols.ts';

export interface LinkedTypes {
  readonly btf: Uint8Array;
  readonly ext: Uint8Array | undefined;
}

/** Undefined where no object has types. */
export function linkTypes(
  inputs: readonly InputObject[],
  sections: Sections,
  shared: ReadonlyMap<string, SharedSymbol>,
): LinkedTypes | undefined {
  const typed = inputs.filter(({ btf }) => btf !== undefined);
  if (typed.length === 0) return undefined;
  const merge = new TypeMerge(typed, sections, shared);
  const { btf, ids } = dedupBtf(merge.build());
  // Ids stay as they are; names of .BTF.ext come behind those of the types.
  const out = new BtfBuilder();
  out.append(btf);
  const ext = writeBtfExt(typed, sections, out, (input, id) => ids[merge.newId(input, id)]!);
  return { btf: out.toBytes(), ext };
}

class TypeMerge {
  readonly #inputs: readonly InputObject[];
  readonly #sections: Sections;
  readonly #shared: ReadonlyMap<string, SharedSymbol>;
  /** New ids by old ones; 0 where a type is left out. */
  readonly #ids = new Map<InputObject, Uint32Array>();
  /** What the new types are copied from, in their order. */
  readonly #order: { readonly input: InputObject; readonly id: number }[] = [];
  readonly #builder = new BtfBuilder();

  constructor(inputs: readonly InputObject[], sections: Sections, shared: ReadonlyMap<string, SharedSymbol>) {
    this.#inputs = inputs;
    this.#sections = sections;
    this.#shared = shared;
  }

  newId(input: InputObject, id: number): number {
    return this.#ids.get(input)![id]!;
  }

  build(): Btf {
    this.#number();
    for (const { input, id } of this.#order) this.#copy(input, id);
    this.#sectionsOfVariables();
    return this.#builder.build();
  }

  /** Whose type is taken for the type of a shared symbol. */
  #sharedBy(input: InputObject, id: number): SharedSymbol | undefined {
    const btf = input.btf!;
    return isNonStatic(btf, id) ? this.#shared.get(btf.name(id)) : undefined;
  }

  #number(): void {
    const prototypes = this.#prototypes();
    const later: { input: InputObject; id: number; from: InputObject; fromId: number }[] = [];
    const numbers = new Map<SharedSymbol, number>();
    for (const input of this.#inputs) {
      const btf = input.btf!;
      const ids = new Uint32Array(btf.typeCount);
      this.#ids.set(input, ids);
      for (let id = 1; id < btf.typeCount; id++) {
        const kind = btf.kind(id);
        if (kind === btfKinds.BTF_KIND_DATASEC) continue;
        const symbol = this.#sharedBy(input, id);
        // Variables of a section that was left out, as another object has the same.
        if (symbol === undefined && kind === btfKinds.BTF_KIND_VAR && isNonStatic(btf, id)) continue;
        if (kind === btfKinds.BTF_KIND_DECL_TAG && this.#isLeftOut(input, btf.word(id, 2))) continue;
        const known = symbol === undefined ? undefined : numbers.get(symbol);
        if (known !== undefined) {
          ids[id] = known;
          continue;
        }
        const other = prototypes.get(input)?.get(id);
        if (other !== undefined) {
          later.push({ input, id, from: other.input, fromId: other.id });
          continue;
        }
        const chosen =
          symbol === undefined ? { input, id } : { input: symbol.mention.input, id: symbol.mention.type.id };
        ids[id] = this.#order.push(chosen);
        if (symbol !== undefined) numbers.set(symbol, ids[id]!);
      }
    }
    for (const { input, id, from, fromId } of later) this.#ids.get(input)![id] = this.newId(from, fromId);
  }

  #isLeftOut(input: InputObject, id: number): boolean {
    const btf = input.btf!;
    if (btf.kind(id) === btfKinds.BTF_KIND_DATASEC) return true;
    return (
      btf.kind(id) === btfKinds.BTF_KIND_VAR &&
      isNonStatic(btf, id) &&
      this.#sharedBy(input, id) === undefined
    );
  }

  /**
   * Prototypes of functions that are defined elsewhere: there the parameters have names, here they have none, so that the two would
   * not be found to be the same.
   */
  #prototypes(): Map<InputObject, Map<number, { input: InputObject; id: number }>> {
    const found = new Map<InputObject, Map<number, { input: InputObject; id: number }>>();
    const targets = new Set<string>();
    for (const input of this.#inputs) {
      const btf = input.btf!;
      const own = new Map<number, { input: InputObject; id: number }>();
      found.set(input, own);
      for (const [name, { id }] of input.symbolTypes) {
        const mention = this.#shared.get(name)?.mention;
        if (mention === undefined || mention.input === input || btf.kind(id) !== btfKinds.BTF_KIND_FUNC)
          continue;
        const prototype = btf.word(id, 2);
        const target = mention.input.btf!.word(mention.type.id, 2);
        const key = (one: InputObject, type: number): string => `${this.#inputs.indexOf(one)} ${type}`;
        // A prototype may be that of several functions: none that others were given is itself given up.
        if (targets.has(key(input, prototype)) || found.get(mention.input)?.has(target) === true) continue;
        own.set(prototype, { input: mention.input, id: target });
        targets.add(key(mention.input, target));
      }
    }
    return found;
  }

  #copy(input: InputObject, id: number): void {
    const btf = input.btf!;
    const kind = btf.kind(id);
    const vlen = btf.vlen(id);
    const moved = (old: number): number => {
      const now = this.newId(input, old);
      if (now !== 0 || old === 0) return now;
      throw new ObjectError('OBJ_BAD_BTF', `${input.name}: ${btf.label(id)} refers to ${btf.label(old)}`, {
        section: '.BTF',
      });
    };
    const rest = Array.from({ length: wordCount(kind, vlen) - 3 }, (_, i) => btf.word(id, 3 + i));
    let third = btf.word(id, 2);
    forEachTypeWord(kind, vlen, (word) => {
      if (word === 2) third = moved(third);
      else rest[word - 3] = moved(rest[word - 3]!);
    });
    forEachNameWord(kind, vlen, (word) => {
      if (word > 0) rest[word - 3] = this.#builder.string(btf.string(rest[word - 3]!));
    });
    this.#builder.raw(btf.name(id), btf.word(id, 1), third, rest);
  }

  #sectionsOfVariables(): void {
    const names = new Set([
      ...this.#sections.byName.keys(),
      ...this.#inputs.flatMap(({ variables }) => [...variables.keys()]),
    ]);
    for (const name of names) {
      const having = this.#inputs.filter(({ variables }) => variables.has(name));
      if (having.length === 0) continue;
      const section = this.#sections.byName.get(name);
      const variables: SectionVariable[] = [];
      const seen = new Set<SharedSymbol>();
      for (const input of having) variables.push(...this.#variablesOf(input, name, seen));
      if (section !== undefined) variables.sort((a, b) => a.offset - b.offset);
      this.#builder.datasec(name, section?.size ?? 0, variables);
    }
  }

  /** What an object adds to a section of variables. */
  #variablesOf(input: InputObject, name: string, seen: Set<SharedSymbol>): SectionVariable[] {
    const btf = input.btf!;
    const index = input.sections.find((section) => section.name === name)?.index;
    const placed = index === undefined ? undefined : this.#sections.placed(input, index)!;
    if (placed?.isCopy === true) return [];
    const added: SectionVariable[] = [];
    for (const { type, offset, size } of input.variables.get(name)!) {
      const symbol = this.#sharedBy(input, type);
      const id = this.newId(input, type);
      if (id === 0) continue;
      if (symbol !== undefined) {
        const { mention, isDefined } = symbol;
        // It is where it is defined; what nobody defines is in the section that the first one says.
        if (seen.has(symbol) || mention.input !== input) {
          if (!isDefined) this.#checkSection(symbol, input, name);
          continue;
        }
        seen.add(symbol);
      }
      added.push({
        type: id,
        offset: offset + (placed?.offset ?? 0),
        size:
          symbol === undefined || btf.kind(type) !== btfKinds.BTF_KIND_VAR
            ? size
            : sizeOrGiven(btf, type, size),
      });
    }
    return added;
  }

  #checkSection({ symbol, mention }: SharedSymbol, input: InputObject, name: string): void {
    if (mention.type.section === name) return;
    const other = mention.type.section ?? 'no section';
    throw new ObjectError(
      'OBJ_LINK_MISMATCH',
      `${input.name} expects it in ${name}, and ${mention.input.name} in ${other}`,
      { symbol: symbol.name },
    );
  }
}

/** clang gives external variables no size in their section. */
function sizeOrGiven(btf: Btf, type: number, given: number): number {
  return given === 0 && btf.kind(btf.word(type, 2)) !== btfKinds.BTF_KIND_UNKN ? sizeOf(btf, type) : given;
}
