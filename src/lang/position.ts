import type { Position } from '../errors.ts';
import type { ScriptPosition } from './script.ts';

/** A range of the source: UTF-16 offsets, `end` is exclusive. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/** A script's text and the way from offsets to lines and columns. */
export class SourceText {
  readonly file: string;
  readonly text: string;
  readonly #lineStarts: number[] = [0];

  constructor(file: string, text: string) {
    this.file = file;
    this.text = text;
    for (let i = text.indexOf('\n'); i >= 0; i = text.indexOf('\n', i + 1)) this.#lineStarts.push(i + 1);
  }

  /** The span's position; a span over several lines is cut at the end of its first line. */
  position(span: Span): Position {
    let low = 0;
    let high = this.#lineStarts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#lineStarts[middle]! <= span.start) low = middle;
      else high = middle - 1;
    }
    const lineStart = this.#lineStarts[low]!;
    const nextLine = this.#lineStarts[low + 1];
    let lineEnd = nextLine === undefined ? this.text.length : nextLine - 1;
    if (lineEnd > lineStart && this.text[lineEnd - 1] === '\r') lineEnd--;
    const length = Math.max(1, Math.min(span.end, lineEnd) - span.start);
    return {
      file: this.file,
      line: low + 1,
      column: span.start - lineStart + 1,
      length,
      sourceLine: this.text.slice(lineStart, lineEnd),
    };
  }

  /** The same as plain data for a compiled script; `text` is the source line. */
  scriptPosition(span: Span): ScriptPosition {
    const { line, column, length, sourceLine } = this.position(span);
    return { line, column, length, text: sourceLine };
  }

  slice(span: Span): string {
    return this.text.slice(span.start, span.end);
  }
}
