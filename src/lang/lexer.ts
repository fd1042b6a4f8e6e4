import type { Diagnostics } from './diagnostics.ts';
import type { Span } from './position.ts';

export type TokenKind =
  | 'ident'
  | 'int'
  | 'string'
  | 'map'
  | 'var'
  | 'positional'
  | 'punct'
  | 'end-predicate'
  | 'eof';

export interface Token extends Span {
  readonly kind: TokenKind;
  /** Name without sigil, punctuation as written, a string's value. */
  readonly text: string;
  /** Of an int. */
  readonly value?: bigint;
}

const PUNCTUATION = [
  '<<=', '>>=',
  '..', '->', '++', '--', '<<', '>>', '<=', '>=', '==', '!=', '&&', '||',
  '+=', '-=', '*=', '/=', '%=', '&=', '|=', '^=',
  '{', '}', '(', ')', '[', ']', ';', ',', '.', ':', '?', '=', '<', '>', '+', '-', '*', '/', '%', '&', '|', '^', '!', '~',
]; // biome-ignore format: grouped by length

const DURATIONS: Record<string, bigint> = {
  ns: 1n,
  us: 1_000n,
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
  h: 3_600_000_000_000n,
  d: 86_400_000_000_000n,
};

const IDENT_START = /[A-Za-z_]/;
const IDENT = /[A-Za-z0-9_]/;
const U64_MAX = (1n << 64n) - 1n;

/** Splits a script into tokens on demand; the parser may move `pos` to read raw text (attach points). */
export class Lexer {
  readonly text: string;
  readonly #diagnostics: Diagnostics;
  pos = 0;

  constructor(text: string, diagnostics: Diagnostics) {
    this.text = text;
    this.#diagnostics = diagnostics;
    if (text.startsWith('#!')) this.pos = this.#lineEnd(0);
  }

  #lineEnd(from: number): number {
    const end = this.text.indexOf('\n', from);
    return end < 0 ? this.text.length : end;
  }

  /** Moves over white space and comments. */
  skipBlank(): void {
    const { text } = this;
    for (;;) {
      const c = text[this.pos];
      if (c === ' ' || c === '\t' || c === '\n' || c === '\r') this.pos++;
      else if (c === '/' && text[this.pos + 1] === '/') this.pos = this.#lineEnd(this.pos);
      else if (c === '/' && text[this.pos + 1] === '*') {
        const end = text.indexOf('*/', this.pos + 2);
        if (end < 0) {
          this.#diagnostics.fatal({ start: this.pos, end: this.pos + 2 }, 'end of file during comment');
        }
        this.pos = end + 2;
      } else return;
    }
  }

  next(): Token {
    this.skipBlank();
    const { text } = this;
    const start = this.pos;
    const c = text[start];
    if (c === undefined) return { kind: 'eof', text: 'end of file', start, end: start };
    if (IDENT_START.test(c)) {
      const name = this.#word(start);
      return { kind: 'ident', text: name, start, end: this.pos };
    }
    if (c >= '0' && c <= '9') return this.#number(start);
    if (c === '"') return this.string();
    if (c === "'") return this.#character(start);
    if (c === '@') {
      this.pos++;
      const name = IDENT_START.test(text[this.pos] ?? '') ? this.#word(this.pos) : '';
      return { kind: 'map', text: name, start, end: this.pos };
    }
    if (c === '$') return this.#dollar(start);
    if (c === '/' && this.#endsPredicate(start + 1)) {
      this.pos++;
      return { kind: 'end-predicate', text: '/', start, end: this.pos };
    }
    for (const punct of PUNCTUATION) {
      if (text.startsWith(punct, start)) {
        this.pos += punct.length;
        return { kind: 'punct', text: punct, start, end: this.pos };
      }
    }
    const shown = String.fromCodePoint(text.codePointAt(start)!);
    return this.#diagnostics.fatal({ start, end: start + shown.length }, `invalid character '${shown}'`);
  }

  /** A `/` that only blanks and comments separate from `{` ends a predicate. */
  #endsPredicate(from: number): boolean {
    if (this.text[from] === '/' || this.text[from] === '*') return false;
    const saved = this.pos;
    this.pos = from;
    this.skipBlank();
    const ends = this.text[this.pos] === '{';
    this.pos = saved;
    return ends;
  }

  #word(from: number): string {
    let end = from;
    while (end < this.text.length && IDENT.test(this.text[end]!)) end++;
    this.pos = end;
    return this.text.slice(from, end);
  }

  #dollar(start: number): Token {
    const next = this.text[start + 1] ?? '';
    this.pos = start + 1;
    if (next === '#') {
      this.pos++;
      return { kind: 'positional', text: '#', start, end: this.pos };
    }
    if (next >= '0' && next <= '9') {
      const digits = this.#word(start + 1);
      if (!/^[0-9]+$/.test(digits) || Number(digits) === 0) {
        this.#diagnostics.fatal(
          { start, end: this.pos },
          `param $${digits} is out of integer range [1, ${2 ** 32}]`,
        );
      }
      return { kind: 'positional', text: digits, start, end: this.pos };
    }
    if (!IDENT_START.test(next)) {
      this.#diagnostics.fatal(
        { start, end: start + 1 },
        "invalid character '$'",
        'a variable is $name, a parameter $1',
      );
    }
    return { kind: 'var', text: this.#word(start + 1), start, end: this.pos };
  }

  #number(start: number): Token {
    const word = this.#word(start);
    const span = { start, end: this.pos };
    const plain = word.replace(/_/g, '');
    const bad = (): never =>
      this.#diagnostics.fatal(span, `Invalid integer literal: ${word}`, 'such as 10, 0x1f, 1e6, 1_000, 50ms');
    let value: bigint | undefined;
    const hex = /^(0[xX][0-9a-fA-F]+)([uU]?[lL]{0,2})$/.exec(plain);
    const exponent = /^([0-9]+)[eE]([0-9]+)([uU]?[lL]{0,2})$/.exec(plain);
    const decimal = /^([0-9]+)([a-zA-Z]*)$/.exec(plain);
    if (hex) value = BigInt(hex[1]!);
    else if (exponent) {
      if (Number(exponent[2]) > 19) return bad();
      value = BigInt(exponent[1]!) * 10n ** BigInt(exponent[2]!);
    } else if (decimal) {
      const suffix = decimal[2]!;
      const digits = decimal[1]!;
      // A leading 0 is octal, as in C.
      const octal = digits.length > 1 && digits.startsWith('0');
      if (octal && /[89]/.test(digits)) return bad();
      value = BigInt(octal ? `0o${digits.slice(1)}` : digits);
      const unit = Object.hasOwn(DURATIONS, suffix) ? DURATIONS[suffix] : undefined;
      if (unit !== undefined) value *= unit;
      else if (!/^[uU]?[lL]{0,2}$/.test(suffix)) return bad();
    } else return bad();
    if (value > U64_MAX) {
      this.#diagnostics.fatal(span, `Integer literal ${word} is too large: it does not fit in 64 bits`);
    }
    return { kind: 'int', text: word, value, start, end: this.pos };
  }

  /** `'c'`: the number of its one byte. */
  #character(start: number): Token {
    const { text, end } = this.#quoted("'", 'unterminated character');
    const code = text.charCodeAt(0);
    if (text.length !== 1 || code > 0xff) {
      this.#diagnostics.fatal(
        { start, end },
        'a character is one byte between quotes',
        'strings have double quotes: "text"',
      );
    }
    return { kind: 'int', text: this.text.slice(start, end), value: BigInt(code), start, end };
  }

  /** A string literal; `pos` is at its opening quote. */
  string(): Token {
    return this.#quoted('"', 'unterminated string');
  }

  #quoted(quote: '"' | "'", unterminated: string): Token {
    const { text } = this;
    const start = this.pos;
    let value = '';
    let i = start + 1;
    for (;;) {
      const c = text[i];
      if (c === undefined || c === '\n') {
        return this.#diagnostics.fatal({ start, end: i }, unterminated);
      }
      if (c === quote) break;
      if (c !== '\\') {
        value += c;
        i++;
        continue;
      }
      const letter = text[i + 1] ?? '';
      const simple: Record<string, string> = {
        n: '\n',
        t: '\t',
        r: '\r',
        '"': '"',
        "'": "'",
        '\\': '\\',
        a: '\x07',
        b: '\b',
      };
      const octal = /^[0-7]{1,3}/.exec(text.slice(i + 1, i + 4));
      const hex = /^x([0-9a-fA-F]{1,2})/.exec(text.slice(i + 1, i + 4));
      if (Object.hasOwn(simple, letter)) {
        value += simple[letter]!;
        i += 2;
      } else if (octal) {
        value += String.fromCharCode(Number.parseInt(octal[0], 8) & 255);
        i += 1 + octal[0].length;
      } else if (hex) {
        value += String.fromCharCode(Number.parseInt(hex[1]!, 16));
        i += 1 + hex[0].length;
      } else {
        this.#diagnostics.fatal({ start: i, end: i + 2 }, `invalid escape character '\\${letter}'`);
      }
    }
    this.pos = i + 1;
    return { kind: 'string', text: value, start, end: this.pos };
  }
}
