/** An expression of a `print fmt`: C, as the format files have it. */
export type Expr =
  | { readonly kind: 'number'; readonly value: bigint }
  | { readonly kind: 'string'; readonly value: string }
  /** `REC->name` */
  | { readonly kind: 'field'; readonly name: string }
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'index'; readonly of: Expr; readonly index: Expr }
  | { readonly kind: 'call'; readonly name: string; readonly args: readonly Expr[] }
  | { readonly kind: 'braces'; readonly items: readonly Expr[] }
  | { readonly kind: 'cast'; readonly type: string; readonly of: Expr }
  | { readonly kind: 'unary'; readonly op: string; readonly of: Expr }
  | { readonly kind: 'binary'; readonly op: string; readonly left: Expr; readonly right: Expr }
  | { readonly kind: 'ternary'; readonly test: Expr; readonly yes: Expr; readonly no: Expr };

export interface PrintFmt {
  readonly format: string;
  readonly args: readonly Expr[];
}

const TOKEN =
  /\s*(?:("(?:\\.|[^"\\])*")|('(?:\\.|[^'\\])')|(0[xX][0-9a-fA-F]+|\d+)[uUlL]*|([A-Za-z_]\w*)|(->|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^~!<>?:(),.[\]{}=]))/y;

interface Token {
  readonly type: 'string' | 'number' | 'name' | 'op' | 'end';
  readonly text: string;
}

const ESCAPES: Record<string, string> = { n: '\n', t: '\t', r: '\r', '0': '\0' };
const unescaped = (text: string): string => text.replace(/\\(.)/g, (_, c: string) => ESCAPES[c] ?? c);

function tokens(text: string): Token[] | undefined {
  const list: Token[] = [];
  let at = 0;
  while (at < text.length) {
    if (/^\s*$/.test(text.slice(at))) break;
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(text);
    if (match === null) return undefined;
    at = TOKEN.lastIndex;
    const [, string, char, number, name, op] = match;
    if (string !== undefined) list.push({ type: 'string', text: unescaped(string.slice(1, -1)) });
    else if (char !== undefined)
      list.push({ type: 'number', text: String(unescaped(char.slice(1, -1)).charCodeAt(0)) });
    else if (number !== undefined) list.push({ type: 'number', text: number });
    else if (name !== undefined) list.push({ type: 'name', text: name });
    else list.push({ type: 'op', text: op! });
  }
  list.push({ type: 'end', text: '' });
  return list;
}

const BINARY: Record<string, number> = {
  '||': 1,
  '&&': 2,
  '|': 3,
  '^': 4,
  '&': 5,
  '==': 6,
  '!=': 6,
  '<': 7,
  '>': 7,
  '<=': 7,
  '>=': 7,
  '<<': 8,
  '>>': 8,
  '+': 9,
  '-': 9,
  '*': 10,
  '/': 10,
  '%': 10,
};

/** Names that begin a type in a cast. */
const TYPE_NAME =
  /^(?:unsigned|signed|int|char|short|long|void|const|struct|union|enum|bool|size_t|ssize_t|_Bool|[us](?:8|16|32|64)|__[usbl]e?(?:8|16|32|64)|u?int\d+_t|\w+_t)$/;
/** Deeper nesting is refused: it would exhaust the stack. */
const DEPTH_MAX = 200;

class Parser {
  readonly #tokens: readonly Token[];
  #at = 0;
  #depth = 0;

  constructor(list: readonly Token[]) {
    this.#tokens = list;
  }

  get #token(): Token {
    return this.#tokens[this.#at]!;
  }

  #is(text: string): boolean {
    return this.#token.type === 'op' && this.#token.text === text;
  }

  #accept(text: string): boolean {
    if (!this.#is(text)) return false;
    this.#at++;
    return true;
  }

  #expect(text: string): void {
    if (!this.#accept(text)) throw new SyntaxError(`expected ${text}`);
  }

  parse(): PrintFmt {
    let format = '';
    if (this.#token.type !== 'string') throw new SyntaxError('expected a format');
    while (this.#token.type === 'string') format += this.#tokens[this.#at++]!.text;
    const args: Expr[] = [];
    while (this.#accept(',')) args.push(this.#expression());
    if (this.#token.type !== 'end') throw new SyntaxError('text behind the end');
    return { format, args };
  }

  #expression(): Expr {
    if (++this.#depth > DEPTH_MAX) throw new SyntaxError('too deep');
    const test = this.#binary(1);
    let result = test;
    if (this.#accept('?')) {
      const yes = this.#expression();
      this.#expect(':');
      result = { kind: 'ternary', test, yes, no: this.#expression() };
    }
    this.#depth--;
    return result;
  }

  #binary(level: number): Expr {
    let left = this.#unary();
    for (;;) {
      const op = this.#token;
      const precedence = op.type === 'op' ? BINARY[op.text] : undefined;
      if (precedence === undefined || precedence < level) return left;
      this.#at++;
      left = { kind: 'binary', op: op.text, left, right: this.#binary(precedence + 1) };
    }
  }

  #unary(): Expr {
    if (++this.#depth > DEPTH_MAX) throw new SyntaxError('too deep');
    try {
      for (const op of ['!', '~', '-', '+', '&', '*']) {
        if (this.#accept(op)) return { kind: 'unary', op, of: this.#unary() };
      }
      if (this.#is('(')) {
        const type = this.#cast();
        if (type !== undefined) return { kind: 'cast', type, of: this.#unary() };
      }
      return this.#postfix(this.#primary());
    } finally {
      this.#depth--;
    }
  }

  /** `(unsigned long)`, where that is what stands here. */
  #cast(): string | undefined {
    const start = this.#at;
    let at = start + 1;
    const words: string[] = [];
    while (this.#tokens[at]!.type === 'name') words.push(this.#tokens[at++]!.text);
    while (this.#tokens[at]!.type === 'op' && this.#tokens[at]!.text === '*') {
      words.push('*');
      at++;
    }
    const closed = this.#tokens[at]!.type === 'op' && this.#tokens[at]!.text === ')';
    if (!closed || words.length === 0 || !TYPE_NAME.test(words[0]!)) return undefined;
    this.#at = at + 1;
    return words.join(' ');
  }

  #primary(): Expr {
    const token = this.#token;
    if (token.type === 'number') {
      this.#at++;
      const octal = /^0\d/.test(token.text) ? `0o${token.text.slice(1)}` : token.text;
      return { kind: 'number', value: BigInt(octal) };
    }
    if (token.type === 'string') {
      let value = '';
      while (this.#token.type === 'string') value += this.#tokens[this.#at++]!.text;
      return { kind: 'string', value };
    }
    if (this.#accept('(')) {
      const inner = this.#expression();
      this.#expect(')');
      return inner;
    }
    if (this.#accept('{')) {
      const items: Expr[] = [];
      while (!this.#accept('}')) {
        items.push(this.#expression());
        if (!this.#accept(',') && !this.#is('}')) throw new SyntaxError('expected }');
      }
      return { kind: 'braces', items };
    }
    if (token.type !== 'name') throw new SyntaxError(`unexpected ${token.text}`);
    this.#at++;
    if (token.text === 'REC' && this.#accept('->')) {
      const name = this.#token;
      if (name.type !== 'name') throw new SyntaxError('expected a field');
      this.#at++;
      return { kind: 'field', name: name.text };
    }
    if (!this.#accept('(')) return { kind: 'name', name: token.text };
    const args: Expr[] = [];
    while (!this.#accept(')')) {
      args.push(this.#expression());
      if (!this.#accept(',') && !this.#is(')')) throw new SyntaxError('expected )');
    }
    return { kind: 'call', name: token.text, args };
  }

  #postfix(of: Expr): Expr {
    let result = of;
    while (this.#accept('[')) {
      const index = this.#expression();
      this.#expect(']');
      result = { kind: 'index', of: result, index };
    }
    return result;
  }
}

/** `"text %d", REC->field, ...`; undefined where it is more than expressions. */
export function parsePrintFmt(text: string): PrintFmt | undefined {
  const list = tokens(text);
  if (list === undefined) return undefined;
  try {
    return new Parser(list).parse();
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
