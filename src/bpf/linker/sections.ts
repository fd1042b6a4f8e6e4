/** Sections of the result: those of one name behind each other, in the order in which the names come up. */
import { type ElfOutputSection, type ElfSection, ObjectError, SHT_NOBITS } from '../elf/index.ts';
import { alignUp, type ElfOutputSymbol } from '../elf/write.ts';
import type { InputObject } from './input.ts';

/** Sections of which one copy is kept: all have to be alike. */
const ONCE = new Set(['license', 'version']);

/** A symbol of the result; what it is may change while objects are added. */
export interface OutputSymbol extends ElfOutputSymbol {
  bind: number;
  type: number;
  visibility: number;
  section: OutputSection | number;
  value: number;
  size: number;
}

export class OutputSection implements ElfOutputSection {
  readonly name: string;
  readonly type: number;
  readonly flags: number;
  readonly entsize: number;
  readonly relocations: { offset: number; type: number; symbol: OutputSymbol }[] = [];
  align = 1;
  size = 0;
  data: Uint8Array = new Uint8Array(0);
  /** Who gave the first part. */
  readonly from: string;
  readonly #parts: { readonly offset: number; readonly data: Uint8Array }[] = [];

  constructor({ name, type, flags, entsize }: ElfSection, from: string) {
    this.name = name;
    this.type = type;
    this.flags = flags;
    this.entsize = entsize;
    this.from = from;
  }

  /** Appends a part; returns where it is. */
  append({ align, size, data }: ElfSection): number {
    this.align = Math.max(this.align, align);
    const offset = alignUp(this.size, Math.max(1, this.align));
    this.size = offset + size;
    this.#parts.push({ offset, data });
    return offset;
  }

  /** Whether the only part so far has these bytes. */
  isLike({ size, data }: ElfSection): boolean {
    return this.size === size && this.#parts[0]!.data.every((byte, at) => byte === data[at]);
  }

  /** Copies the parts together, once all are there. */
  collect(): void {
    if (this.type === SHT_NOBITS) return;
    this.data = new Uint8Array(this.size);
    for (const { offset, data } of this.#parts) this.data.set(data, offset);
  }
}

/** Where a section of an object has come to. */
export interface Placed {
  readonly section: OutputSection;
  readonly offset: number;
  /** The part was left out: another object gave the same. */
  readonly isCopy: boolean;
}

/** Where all sections of all objects come to. */
export class Sections {
  readonly byName = new Map<string, OutputSection>();
  readonly #placed = new Map<InputObject, Map<number, Placed>>();

  constructor(inputs: readonly InputObject[]) {
    for (const input of inputs) {
      this.#placed.set(
        input,
        new Map(input.sections.map((section) => [section.index, this.#place(input, section)])),
      );
    }
    for (const section of this.byName.values()) {
      if (section.size > 0xffff_ffff) {
        throw new ObjectError('OBJ_TOO_LARGE', `${section.size} bytes`, { section: section.name });
      }
      section.collect();
    }
  }

  /** Undefined for sections that are left out. */
  placed(input: InputObject, index: number): Placed | undefined {
    return this.#placed.get(input)!.get(index);
  }

  #place(input: InputObject, part: ElfSection): Placed {
    const known = this.byName.get(part.name);
    const section = known ?? new OutputSection(part, input.name);
    if (known === undefined) this.byName.set(part.name, section);
    else {
      for (const field of ['type', 'flags', 'entsize'] as const) {
        if (known[field] === part[field]) continue;
        throw new ObjectError(
          'OBJ_LINK_SECTION',
          `${input.name}: its ${field} is ${part[field]}, and ${known[field]} in ${known.from}`,
          { section: part.name },
        );
      }
      if (ONCE.has(part.name)) {
        if (known.isLike(part)) return { section, offset: 0, isCopy: true };
        throw new ObjectError('OBJ_LINK_SECTION', `${input.name} and ${known.from} differ in it`, {
          section: part.name,
        });
      }
    }
    return { section, offset: section.append(part), isCopy: false };
  }
}
