/**
 * The tokens of a text that V8 has compiled, one at a time and without values: a token is its kind and where it is. Whether a
 * slash divides or begins a regular expression, and whether a brace ends a template's expression, is what the parser knows.
 */

/** Thrown where a text has something that is left to acorn: rare syntax, or no JavaScript at all. */
export const UNSURE = Symbol('unsure');

/** Kinds of tokens; punctuators of one character that are not among these are their character's code. */
export const END: number = 0;
export const NAME: number = 1;
export const NUMBER: number = 2;
export const STRING: number = 3;
export const PRIVATE: number = 4;
export const ARROW: number = 5;
export const ELLIPSIS: number = 6;
export const INCREMENT: number = 7;
export const ASSIGN: number = 8;
/** `+=` and the like. */
export const CHANGE: number = 9;
/** `&&=`, `||=`, `??=`. */
export const DEFAULT: number = 10;
/** `&&`, `||`, `??`. */
export const LOGICAL: number = 11;
/** Other operators between two operands but `+ - * /`. */
export const BINARY: number = 12;
export const OPTIONAL: number = 13;
/** `/=`: an operator or the beginning of a regular expression. */
export const DIVIDE: number = 14;

export const NOT: number = 33;
export const OPEN: number = 40;
export const CLOSE: number = 41;
export const STAR: number = 42;
export const PLUS: number = 43;
export const COMMA: number = 44;
export const MINUS: number = 45;
export const DOT: number = 46;
export const SLASH: number = 47;
export const COLON: number = 58;
export const SEMICOLON: number = 59;
export const QUESTION: number = 63;
export const OPEN_BRACKET: number = 91;
export const CLOSE_BRACKET: number = 93;
export const BACKTICK: number = 96;
export const OPEN_BRACE: number = 123;
export const CLOSE_BRACE: number = 125;
export const TILDE: number = 126;

/** Keywords, by their number. 0: another word. */
export const WORDS = [
  '',
  'break',
  'case',
  'catch',
  'class',
  'const',
  'continue',
  'debugger',
  'default',
  'delete',
  'do',
  'else',
  'export',
  'extends',
  'false',
  'finally',
  'for',
  'function',
  'if',
  'import',
  'in',
  'instanceof',
  'new',
  'null',
  'return',
  'super',
  'switch',
  'this',
  'throw',
  'true',
  'try',
  'typeof',
  'var',
  'void',
  'while',
  'with',
] as const;

/** The number of a keyword. */
export const keyword = (word: (typeof WORDS)[number]): number => WORDS.indexOf(word);

const LONGEST = 10;
const SLOTS = 128;
/** No two keywords have the same: found by trying multipliers. */
const slotOf = (first: number, second: number, length: number): number =>
  (first + second * 13 + length * 11) & (SLOTS - 1);

const BY_SLOT = new Uint8Array(SLOTS);
for (const [id, word] of WORDS.entries()) {
  if (id > 0) BY_SLOT[slotOf(word.charCodeAt(0), word.charCodeAt(1), word.length)] = id;
}

/** 1 for the ASCII characters of identifiers. */
const WORD = Uint8Array.from({ length: 128 }, (_, c) => (/[\w$]/.test(String.fromCharCode(c)) ? 1 : 0));

/** Where a token began and what it was, to come back to. */
export interface Mark {
  readonly kind: number;
  readonly word: number;
  readonly start: number;
  readonly end: number;
  readonly lastEnd: number;
  readonly newline: boolean;
}

export class Tokens {
  readonly source: string;
  readonly isModule: boolean;
  /** The current token: its kind, the keyword it is (NAME only), its offsets. */
  kind = END;
  word = 0;
  start = 0;
  end = 0;
  /** Whether a line ends between the last token and this one. */
  newline = false;
  /** End of the last token. */
  lastEnd = 0;

  constructor(source: string, isModule: boolean) {
    this.source = source;
    this.isModule = isModule;
    if (source.startsWith('#!')) {
      while (this.end < source.length && !isLineEnd(source.charCodeAt(this.end))) this.end++;
    }
  }

  mark(): Mark {
    const { kind, word, start, end, lastEnd, newline } = this;
    return { kind, word, start, end, lastEnd, newline };
  }

  back({ kind, word, start, end, lastEnd, newline }: Mark): void {
    this.kind = kind;
    this.word = word;
    this.start = start;
    this.end = end;
    this.lastEnd = lastEnd;
    this.newline = newline;
  }

  /** Whether the token is this word, a keyword or not. */
  is(word: string): boolean {
    return (
      this.kind === NAME && this.end - this.start === word.length && this.source.startsWith(word, this.start)
    );
  }

  next(): void {
    const { source } = this;
    this.lastEnd = this.end;
    this.newline = false;
    let at = this.end;
    let c: number;
    for (;;) {
      c = source.charCodeAt(at);
      if (c === 32 || c === 9) at++;
      else if (c === 10 || c === 13) {
        this.newline = true;
        at++;
      } else if (c === 47) {
        const second = source.charCodeAt(at + 1);
        if (second === 47) {
          at += 2;
          while (at < source.length && !isLineEnd(source.charCodeAt(at))) at++;
        } else if (second === 42) at = this.#blockComment(at);
        else break;
      } else if (c === 11 || c === 12 || (c >= 128 && isBlank(c))) {
        if (c === 0x2028 || c === 0x2029) this.newline = true;
        at++;
      } else break;
    }
    this.start = at;
    if (c < 128 ? WORD[c] === 1 : c >= 128) {
      if (c >= 48 && c <= 57) this.#number(at);
      else this.#name(at);
    } else this.#punctuator(at, c);
  }

  #blockComment(from: number): number {
    const { source } = this;
    const end = source.indexOf('*/', from + 2);
    if (end === -1) throw UNSURE;
    for (let at = from + 2; at < end && !this.newline; at++) {
      if (isLineEnd(source.charCodeAt(at))) this.newline = true;
    }
    return end + 2;
  }

  #name(start: number): void {
    const { source } = this;
    let at = start;
    let c = source.charCodeAt(at);
    while (c < 128 ? WORD[c] === 1 : c >= 128 && !isBlank(c)) c = source.charCodeAt(++at);
    if (c === 92) throw UNSURE;
    this.kind = NAME;
    this.end = at;
    const length = at - start;
    this.word = 0;
    if (length < 2 || length > LONGEST) return;
    const id = BY_SLOT[slotOf(source.charCodeAt(start), source.charCodeAt(start + 1), length)]!;
    if (id === 0) return;
    const word = WORDS[id]!;
    if (word.length === length && source.startsWith(word, start)) this.word = id;
  }

  #number(start: number): void {
    const { source } = this;
    const digits = (from: number): number => {
      let at = from;
      let c = source.charCodeAt(at);
      while ((c >= 48 && c <= 57) || c === 95) c = source.charCodeAt(++at);
      return at;
    };
    this.kind = NUMBER;
    let at = start;
    const second = source.charCodeAt(start + 1) | 32;
    if (source.charCodeAt(start) === 48 && (second === 120 || second === 111 || second === 98)) {
      at += 2;
      while (WORD[source.charCodeAt(at)] === 1) at++;
    } else {
      at = digits(at);
      if (source.charCodeAt(at) === 46) at = digits(at + 1);
      if ((source.charCodeAt(at) | 32) === 101) {
        const sign = source.charCodeAt(at + 1);
        at = digits(sign === 43 || sign === 45 ? at + 2 : at + 1);
      } else if (source.charCodeAt(at) === 110) at++;
    }
    this.end = at;
  }

  #string(start: number, quote: number): void {
    const { source } = this;
    let at = start + 1;
    for (;;) {
      const c = source.charCodeAt(at);
      if (c === quote) break;
      if (c === 92) at += 2;
      else if (c === 10 || c === 13 || Number.isNaN(c)) throw UNSURE;
      else at++;
    }
    this.kind = STRING;
    this.end = at + 1;
  }

  #punctuator(start: number, c: number): void {
    const { source } = this;
    const second = source.charCodeAt(start + 1);
    switch (c) {
      // ( ) , : ; [ ] ` { } ~
      case 40:
      case 41:
      case 44:
      case 58:
      case 59:
      case 91:
      case 93:
      case 96:
      case 123:
      case 125:
      case 126:
        this.#as(c, 1);
        return;
      // " '
      case 34:
      case 39:
        this.#string(start, c);
        return;
      case 46: {
        if (second >= 48 && second <= 57) this.#number(start);
        else if (second === 46 && source.charCodeAt(start + 2) === 46) this.#as(ELLIPSIS, 3);
        else this.#as(c, 1);
        return;
      }
      // = == === =>
      case 61:
        if (second === 62) this.#as(ARROW, 2);
        else if (second === 61) this.#as(BINARY, source.charCodeAt(start + 2) === 61 ? 3 : 2);
        else this.#as(ASSIGN, 1);
        return;
      // ! != !==
      case 33:
        if (second === 61) this.#as(BINARY, source.charCodeAt(start + 2) === 61 ? 3 : 2);
        else this.#as(c, 1);
        return;
      // + -
      case 43:
      case 45:
        if (second === c) {
          // `-->` at the beginning of a line is a comment in scripts
          const comment = c === 45 && source.charCodeAt(start + 2) === 62;
          if (comment && !this.isModule && (this.newline || this.lastEnd === 0)) throw UNSURE;
          this.#as(INCREMENT, 2);
        } else if (second === 61) this.#as(CHANGE, 2);
        else this.#as(c, 1);
        return;
      // * ** *= **=
      case 42:
        if (second === 42) this.#change(2);
        else if (second === 61) this.#as(CHANGE, 2);
        else this.#as(c, 1);
        return;
      case 47:
        if (second === 61) this.#as(DIVIDE, 2);
        else this.#as(c, 1);
        return;
      // % ^
      case 37:
      case 94:
        this.#change(1);
        return;
      // & |
      case 38:
      case 124:
        if (second !== c) this.#change(1);
        else if (source.charCodeAt(start + 2) === 61) this.#as(DEFAULT, 3);
        else this.#as(LOGICAL, 2);
        return;
      // ? ?? ??= ?.
      case 63: {
        const third = source.charCodeAt(start + 2);
        if (second === 63) {
          if (third === 61) this.#as(DEFAULT, 3);
          else this.#as(LOGICAL, 2);
        } else if (second === 46 && !(third >= 48 && third <= 57)) this.#as(OPTIONAL, 2);
        else this.#as(c, 1);
        return;
      }
      // < << <= <<= and `<!--`, a comment in scripts
      case 60:
        if (second === 33 && !this.isModule && source.startsWith('--', start + 2)) throw UNSURE;
        this.#change(second === 60 ? 2 : 1, true);
        return;
      // > >> >>> and with =
      case 62:
        if (second !== 62) this.#change(1, true);
        else this.#change(source.charCodeAt(start + 2) === 62 ? 3 : 2);
        return;
      case 35:
        this.#name(start + 1);
        this.kind = PRIVATE;
        this.word = 0;
        return;
      default:
        if (start < source.length) throw UNSURE;
        this.kind = END;
        this.end = start;
    }
  }

  #as(kind: number, length: number): void {
    this.kind = kind;
    this.end = this.start + length;
  }

  /** An operator of so many characters, perhaps with `=` behind it; `<=` and `>=` assign nothing. */
  #change(length: number, compares = false): void {
    const assigns = this.source.charCodeAt(this.start + length) === 61;
    this.#as(assigns && !(compares && length === 1) ? CHANGE : BINARY, assigns ? length + 1 : length);
  }

  /** The current token is `/` or `/=`, and a regular expression begins with it. Moves behind that. */
  regExp(): void {
    const { source } = this;
    let inClass = false;
    let at = this.start + 1;
    for (; ; at++) {
      const c = source.charCodeAt(at);
      if (c === 92) at++;
      else if (c === 91) inClass = true;
      else if (c === 93) inClass = false;
      else if (c === 47 && !inClass) break;
      else if (c === 10 || c === 13 || Number.isNaN(c)) throw UNSURE;
    }
    do at++;
    while (WORD[source.charCodeAt(at)] === 1);
    this.end = at;
    this.next();
  }

  /** Text of a template from `from` on; true where an expression begins, whose first token is then the current one. */
  template(from: number): boolean {
    const { source } = this;
    for (let at = from; ; at++) {
      const c = source.charCodeAt(at);
      if (c === 92) at++;
      else if (c === 96 || (c === 36 && source.charCodeAt(at + 1) === 123)) {
        this.end = c === 96 ? at + 1 : at + 2;
        this.next();
        return c === 36;
      } else if (Number.isNaN(c)) throw UNSURE;
    }
  }
}

function isLineEnd(c: number): boolean {
  return c === 10 || c === 13 || c === 0x2028 || c === 0x2029;
}

/** Whether a character beyond ASCII is a blank, or not in any identifier for another reason. */
function isBlank(c: number): boolean {
  return (
    c === 0xa0 ||
    c === 0xfeff ||
    c === 0x2028 ||
    c === 0x2029 ||
    c === 0x1680 ||
    (c >= 0x2000 && c <= 0x200a) ||
    c === 0x202f ||
    c === 0x205f ||
    c === 0x3000
  );
}
