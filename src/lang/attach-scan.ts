import type { AttachPointNode } from './ast.ts';
import type { Diagnostics } from './diagnostics.ts';
import type { Lexer } from './lexer.ts';

const BLANK = /[ \t\r\n]/;

/**
 * Reads the attach points in front of a probe's predicate or body as raw text: a target may hold dots, `#`, `<…>`, blanks
 * (`get size`) and slashes (`src/db.ts:query`). It ends at `,`, at `{`, or at a `/` that starts the predicate: one behind a
 * blank, or one behind which no `:` follows any more (`kprobe:src/db.ts:query/arg0/`). Anything can be in a quoted part.
 */
export function scanAttachPoints(lexer: Lexer, diagnostics: Diagnostics): AttachPointNode[] {
  const points: AttachPointNode[] = [];
  for (;;) {
    points.push(scanOne(lexer, diagnostics));
    lexer.skipBlank();
    if (lexer.text[lexer.pos] !== ',') return points;
    lexer.pos++;
    lexer.skipBlank();
    // A trailing comma is allowed, as in bpftrace.
    const next = lexer.text[lexer.pos];
    if (next === '{') return points;
  }
}

function scanOne(lexer: Lexer, diagnostics: Diagnostics): AttachPointNode {
  const { text } = lexer;
  lexer.skipBlank();
  const start = lexer.pos;
  let end = start;
  /** The text without quotes, and where its first colon is. */
  let value = '';
  let colon = -1;
  let colonAt = start;
  while (lexer.pos < text.length) {
    const at = lexer.pos;
    const c = text[at]!;
    if (c === ',' || c === '{') break;
    if ((c === ';' || c === '}') && value === '') break;
    if (BLANK.test(c)) {
      lexer.skipBlank();
      const next = text[lexer.pos];
      if (next === '/' || next === ',' || next === '{' || next === undefined) break;
      value += ' ';
      continue;
    }
    if (c === '"') {
      value += lexer.string().text;
      end = lexer.pos;
      continue;
    }
    if (c === '/' && startsPredicate(text, at)) break;
    if ((c === ';' || c === '}') && value !== '') {
      diagnostics.fatal(
        { start: at, end: at + 1 },
        `syntax error, unexpected ${c}, expecting {`,
        undefined,
        'SYNTAX_ERROR',
      );
    }
    if (c === ':' && colon < 0) {
      colon = value.length;
      colonAt = at;
    }
    value += c;
    lexer.pos++;
    end = lexer.pos;
  }
  value = value.trim();
  if (value === '') {
    const at = Math.min(lexer.pos, Math.max(0, text.length - 1));
    const shown = lexer.pos >= text.length ? 'end of file' : text[lexer.pos]!;
    diagnostics.fatal(
      { start: at, end: at + 1 },
      `syntax error, unexpected ${shown}, expecting a probe`,
      'such as: kprobe:server.js:handle { @ = count(); }',
      'SYNTAX_ERROR',
    );
  }
  const provider = colon < 0 ? value : value.slice(0, colon).trim();
  return {
    start,
    end,
    provider,
    providerSpan: { start, end: colon < 0 ? end : colonAt },
    target: colon < 0 ? undefined : value.slice(colon + 1).trim(),
    targetSpan: colon < 0 ? { start, end } : { start: colonAt + 1, end },
  };
}

/** Whether the slash at `at`, with no blank before it, starts a predicate and is no part of a path. */
function startsPredicate(text: string, at: number): boolean {
  for (let i = at + 1; i < text.length; i++) {
    const c = text[i]!;
    if (c === ':') return text[i + 1] === ' ' || /\?[^?]*$/.test(text.slice(at, i));
    if (c === '{' || c === ',' || c === '"' || BLANK.test(c)) return true;
  }
  return true;
}
