/** Symbols of the result: local ones as they are, of the others one by each name. */
import {
  type ElfSymbol,
  ObjectError,
  SHN_LORESERVE,
  SHN_UNDEF,
  STB_GLOBAL,
  STB_LOCAL,
  STB_WEAK,
  STT_SECTION,
  STV_DEFAULT,
} from '../elf/index.ts';
import type { InputObject, SymbolType } from './input.ts';
import { mapDifference, typeDifference } from './same-type.ts';
import type { OutputSection, OutputSymbol, Sections } from './sections.ts';

const MAPS = '.maps';

/** Where something of a name stands. */
interface Mention {
  readonly input: InputObject;
  readonly type: SymbolType;
}

/** A name that objects share: who defines it, or else who asks for it. */
export interface SharedSymbol {
  readonly symbol: OutputSymbol;
  /** Whose type counts: the definition's, or that of the first who asks. */
  mention: Mention;
  isDefined: boolean;
  /** The definition gives way to another one. */
  isWeak: boolean;
}

export class Symbols {
  readonly all: OutputSymbol[] = [];
  readonly shared = new Map<string, SharedSymbol>();
  readonly #sections: Sections;
  readonly #ofSection = new Map<OutputSection, OutputSymbol>();
  readonly #ofInput = new Map<InputObject, (OutputSymbol | undefined)[]>();

  constructor(inputs: readonly InputObject[], sections: Sections) {
    this.#sections = sections;
    for (const input of inputs) {
      const symbols: (OutputSymbol | undefined)[] = [undefined];
      this.#ofInput.set(input, symbols);
      for (const symbol of input.elf.symbols.slice(1)) symbols.push(this.#add(input, symbol));
    }
  }

  /** What a symbol of an object became. Undefined for those of sections that were left out. */
  of(input: InputObject, { index }: ElfSymbol): OutputSymbol | undefined {
    return this.#ofInput.get(input)![index];
  }

  #add(input: InputObject, symbol: ElfSymbol): OutputSymbol | undefined {
    const isInSection = symbol.section !== SHN_UNDEF && symbol.section < SHN_LORESERVE;
    const placed = isInSection ? this.#sections.placed(input, symbol.section) : undefined;
    if (isInSection && (placed === undefined || placed.isCopy)) return undefined;
    if (symbol.type === STT_SECTION && placed !== undefined) return this.#sectionSymbol(placed.section);
    const made: OutputSymbol = {
      name: symbol.name,
      bind: symbol.bind,
      type: symbol.type,
      visibility: symbol.visibility,
      section: placed?.section ?? symbol.section,
      value: symbol.value + (placed?.offset ?? 0),
      size: symbol.size,
    };
    if (symbol.bind !== STB_LOCAL) return this.#share(input, symbol, made);
    this.all.push(made);
    return made;
  }

  #sectionSymbol(section: OutputSection): OutputSymbol {
    let symbol = this.#ofSection.get(section);
    if (symbol === undefined) {
      symbol = {
        name: '',
        bind: STB_LOCAL,
        type: STT_SECTION,
        visibility: STV_DEFAULT,
        section,
        value: 0,
        size: 0,
      };
      this.#ofSection.set(section, symbol);
      this.all.push(symbol);
    }
    return symbol;
  }

  #share(input: InputObject, { name, bind }: ElfSymbol, made: OutputSymbol): OutputSymbol {
    const isDefined = made.section !== SHN_UNDEF;
    const isWeak = bind === STB_WEAK;
    const mention = { input, type: symbolType(input, name) };
    const known = this.shared.get(name);
    if (known === undefined) {
      this.shared.set(name, { symbol: made, mention, isDefined, isWeak });
      this.all.push(made);
      return made;
    }
    if (isDefined && known.isDefined && !isWeak && !known.isWeak) {
      throw new ObjectError(
        'OBJ_LINK_CONFLICT',
        `${known.mention.input.name} and ${input.name} both define it`,
        { symbol: name },
        { hint: '`static` or `__weak` makes one of them give way' },
      );
    }
    checkSame(name, known.mention, mention);
    const { symbol } = known;
    if (bind === STB_GLOBAL) symbol.bind = STB_GLOBAL;
    symbol.visibility = Math.max(symbol.visibility, made.visibility);
    if (isDefined && (!known.isDefined || (known.isWeak && !isWeak))) {
      const { type, section, value, size } = made;
      Object.assign(symbol, { type, section, value, size });
      Object.assign(known, { mention, isDefined, isWeak });
    }
    return symbol;
  }
}

function symbolType(input: InputObject, name: string): SymbolType {
  const type = input.symbolTypes.get(name);
  if (type !== undefined) return type;
  throw new ObjectError(
    'OBJ_NO_BTF',
    `${input.name}: the types do not tell what it is`,
    { symbol: name },
    input.btf === undefined ? { hint: 'compile with -g' } : {},
  );
}

/** Throws ObjectError where two objects mean different things by a name. */
function checkSame(name: string, a: Mention, b: Mention): void {
  const left = { btf: a.input.btf!, id: a.type.id };
  const right = { btf: b.input.btf!, id: b.type.id };
  const isMap = a.type.section === MAPS && b.type.section === MAPS;
  const difference = isMap ? mapDifference(name, left, right) : typeDifference(left, right);
  if (difference === undefined) return;
  throw new ObjectError(
    'OBJ_LINK_MISMATCH',
    `${a.input.name} and ${b.input.name} mean different things by it: ${difference}`,
    { symbol: name },
  );
}
