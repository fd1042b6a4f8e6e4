import type { Diagnostics } from './diagnostics.ts';
import { Lexer, type Token } from './lexer.ts';
import type { Span } from './position.ts';

/** How deep expressions and blocks may nest. */
const MAX_DEPTH = 200;

/** The token at hand, and what a parser asks of it. Errors are fatal: they are thrown. */
export abstract class TokenStream {
  protected readonly lexer: Lexer;
  protected readonly diagnostics: Diagnostics;
  protected token: Token;
  /** End of the last token taken. */
  protected end = 0;
  #depth = 0;

  constructor(diagnostics: Diagnostics) {
    this.diagnostics = diagnostics;
    this.lexer = new Lexer(diagnostics.source.text, diagnostics);
    // Probes start with raw text, so the first token is read only once somebody asks for it.
    this.token = { kind: 'eof', text: '', start: 0, end: 0 };
  }

  protected advance(): Token {
    const token = this.token;
    this.end = token.end;
    this.token = this.lexer.next();
    return token;
  }

  protected is(text: string): boolean {
    return (this.token.kind === 'punct' || this.token.kind === 'end-predicate') && this.token.text === text;
  }

  protected isWord(text: string): boolean {
    return this.token.kind === 'ident' && this.token.text === text;
  }

  protected accept(text: string): boolean {
    if (!this.is(text)) return false;
    this.advance();
    return true;
  }

  #shown(token: Token): string {
    switch (token.kind) {
      case 'eof':
        return 'end of file';
      case 'map':
        return `@${token.text}`;
      case 'var':
      case 'positional':
        return `$${token.text}`;
      case 'string':
        return 'string';
      default:
        return token.text;
    }
  }

  protected unexpected(expecting: string, hint?: string): never {
    const span = this.token.kind === 'eof' ? { start: Math.max(0, this.end - 1), end: this.end } : this.token;
    return this.diagnostics.fatal(
      span,
      `syntax error, unexpected ${this.#shown(this.token)}, expecting ${expecting}`,
      hint,
      'SYNTAX_ERROR',
    );
  }

  protected expect(text: string, hint?: string): Token {
    if (!this.is(text)) this.unexpected(text, hint);
    return this.advance();
  }

  protected nest<T>(span: Span, parse: () => T): T {
    if (++this.#depth > MAX_DEPTH) this.diagnostics.fatal(span, 'the script is nested too deeply');
    const result = parse();
    this.#depth--;
    return result;
  }
}
