/** C declarations: a type around a name, inside out. */
import type { Btf } from './btf.ts';
import type { CLayouts, CPadding } from './c-layout.ts';
import { type CNames, identifier } from './c-names.ts';
import { BtfError } from './error.ts';
import { isAnyEnum, isComposite } from './kinds.ts';

/** How deep types may be written into one another, and how long the whole text may become. */
const MAX_NESTING = 64;
const MAX_LENGTH = 64 * 1024 * 1024;

const INT_WORDS =
  /^(char|short|int|long|signed|unsigned|_Bool|__int128)( (char|short|int|long|signed|unsigned|__int128))*$/;
const FLOAT_WORDS = /^(float|double|long double|_Float16|_Float128|__float128|__bf16)$/;
const INT_OF_SIZE: Readonly<Record<number, string>> = {
  1: 'char',
  2: 'short',
  4: 'int',
  8: 'long long',
  16: '__int128',
};

const indent = (level: number): string => '\t'.repeat(level);

export class CWriter {
  readonly #btf: Btf;
  readonly #names: CNames;
  readonly #layouts: CLayouts;
  /** Anonymous enums that were written: their enumerators exist once. */
  readonly #written = new Set<number>();
  #length = 0;

  constructor(btf: Btf, names: CNames, layouts: CLayouts) {
    this.#btf = btf;
    this.#names = names;
    this.#layouts = layouts;
  }

  #spend(text: string): string {
    this.#length += text.length;
    if (this.#length > MAX_LENGTH) throw new BtfError('the C text becomes too long', { errno: 'E2BIG' });
    return text;
  }

  /** `int *name[3]`: a declaration of a name with a type; without a name the type alone. */
  declare(id: number, name: string, level = 0, nesting = 0): string {
    const btf = this.#btf;
    let at = id;
    let declarator = name;
    let qualifiers = '';
    for (let depth = 0; ; depth++) {
      if (depth > MAX_NESTING || nesting > MAX_NESTING) {
        throw new BtfError(`${btf.label(id)} is nested too deeply to write as C`, {
          typeId: id,
          errno: 'E2BIG',
        });
      }
      const next = btf.word(at, 2);
      switch (btf.kindName(at)) {
        case 'CONST':
          if (!qualifiers.includes('const ')) qualifiers = `const ${qualifiers}`;
          at = next;
          continue;
        case 'VOLATILE':
          qualifiers = `volatile ${qualifiers}`;
          at = next;
          continue;
        case 'RESTRICT':
          qualifiers = `restrict ${qualifiers}`;
          at = next;
          continue;
        case 'TYPE_TAG': {
          const text = btf.name(at).replace(/[\\"\n\r]/g, '_');
          const tag = btf.kindFlag(at) ? identifier(btf.name(at)) : `btf_type_tag("${text}")`;
          qualifiers = `__attribute__((${tag})) ${qualifiers}`;
          at = next;
          continue;
        }
        case 'PTR':
          declarator = `*${declarator === '' ? qualifiers.trimEnd() : qualifiers}${declarator}`;
          qualifiers = '';
          at = next;
          continue;
        case 'ARRAY':
          // What qualifies an array qualifies its elements.
          declarator = `${this.#group(declarator)}[${btf.word(at, 5)}]`;
          at = btf.word(at, 3);
          continue;
        case 'FUNC_PROTO':
          declarator = `${this.#group(declarator)}(${this.#params(at, level, nesting)})`;
          qualifiers = '';
          at = next;
          continue;
        default: {
          // restrict is for pointers only; on anything else BTF says it, C does not.
          const base = qualifiers.replaceAll('restrict ', '') + this.#base(at, level, nesting);
          return this.#spend(declarator === '' ? base : `${base} ${declarator}`);
        }
      }
    }
  }

  /** A pointer's declarator in parentheses, before an array's or a function's brackets. */
  #group(declarator: string): string {
    return declarator.startsWith('*') ? `(${declarator})` : declarator;
  }

  #params(proto: number, level: number, nesting: number): string {
    const btf = this.#btf;
    const count = btf.vlen(proto);
    const params: string[] = [];
    for (let i = 0; i < count; i++) {
      const type = btf.word(proto, 4 + 2 * i);
      const name = btf.string(btf.word(proto, 3 + 2 * i));
      if (type === 0 && name === '' && i === count - 1) {
        // `(...)` alone is not C.
        params.push(count === 1 ? '' : '...');
      } else {
        params.push(this.declare(type, '', level, nesting + 1));
      }
    }
    return count === 0 ? 'void' : params.join(', ');
  }

  #base(id: number, level: number, nesting: number): string {
    const btf = this.#btf;
    const kind = btf.kind(id);
    if (isComposite(kind)) {
      const word = btf.kindName(id) === 'UNION' ? 'union' : 'struct';
      const name = this.#names.of(id);
      return name === '' ? `${word} ${this.compositeBody(id, level, nesting + 1)}` : `${word} ${name}`;
    }
    if (isAnyEnum(kind)) {
      const name = this.#names.of(id);
      if (name !== '') return `enum ${name}`;
      if (this.#written.has(id)) return this.#integer(btf.word(id, 2), btf.kindFlag(id));
      return `enum ${this.enumBody(id, level)}`;
    }
    switch (btf.kindName(id)) {
      case 'INT': {
        const name = btf.name(id);
        const data = btf.word(id, 3) >>> 24;
        return INT_WORDS.test(name)
          ? name
          : this.#integer(btf.word(id, 2), (data & 1) !== 0, (data & 4) !== 0);
      }
      case 'FLOAT':
        return FLOAT_WORDS.test(btf.name(id)) ? btf.name(id) : btf.word(id, 2) === 4 ? 'float' : 'double';
      case 'FWD':
        return `${btf.kindFlag(id) ? 'union' : 'struct'} ${this.#names.of(id)}`;
      case 'TYPEDEF':
        return this.#names.of(id);
      default:
        return 'void';
    }
  }

  #integer(size: number, signed: boolean, bool = false): string {
    if (bool && size === 1) return '_Bool';
    return `${signed ? 'signed' : 'unsigned'} ${INT_OF_SIZE[size] ?? 'int'}`;
  }

  #padding(padding: readonly CPadding[], level: number, at: string): string {
    return padding
      .map((one) =>
        'type' in one
          ? `${indent(level)}${one.type}: ${one.bits};\n`
          : `${indent(level)}char __trapline_pad_${at}[${one.bytes}];\n`,
      )
      .join('');
  }

  /** `{ … } __attribute__((packed))` of a struct or union. */
  compositeBody(id: number, level: number, nesting = 0): string {
    const btf = this.#btf;
    const layout = this.#layouts.layoutOf(id);
    let text = '{\n';
    for (const { index, padding, bitSize } of layout.members) {
      text += this.#padding(padding, level + 1, `${index}`);
      const name = btf.memberName(id, index);
      const declared = this.declare(
        btf.memberType(id, index),
        name === '' ? '' : identifier(name),
        level + 1,
        nesting,
      );
      text += `${indent(level + 1)}${declared}${bitSize > 0 ? `: ${bitSize}` : ''};\n`;
    }
    text += `${this.#padding(layout.trailing, level + 1, 'end')}${indent(level)}}`;
    return this.#spend(layout.packed ? `${text} __attribute__((packed))` : text);
  }

  /** `{ … }` of an enum, with its width where the values do not tell it. */
  enumBody(id: number, level: number): string {
    const btf = this.#btf;
    this.#written.add(id);
    let text = '{\n';
    let wide = false;
    for (const [i, name] of this.#names.enumerators(id).entries()) {
      const value = btf.enumeratorValue(id, i);
      if (value > 0xffff_ffffn || value < -0x8000_0000n) wide = true;
      const suffix =
        value > 0x7fff_ffff_ffff_ffffn ? 'ULL' : value > 0x7fff_ffffn || value < -0x8000_0000n ? 'LL' : '';
      // The least value of all cannot be written as one literal.
      const literal = value === -(1n << 63n) ? '(-9223372036854775807LL - 1)' : `${value}${suffix}`;
      text += `${indent(level + 1)}${name} = ${literal},\n`;
    }
    const size = btf.word(id, 2);
    const mode = size === (wide ? 8 : 4) ? undefined : { 1: 'QI', 2: 'HI', 4: 'SI', 8: 'DI' }[size];
    return this.#spend(
      `${text}${indent(level)}}${mode === undefined ? '' : ` __attribute__((mode(${mode})))`}`,
    );
  }
}
