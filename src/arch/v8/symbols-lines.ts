/** Offsets to lines and columns, both from 0, with the line ends that V8 counts. */
export class LineTable {
  readonly #starts: number[] = [0];
  /** The line of the last answer: look-ups mostly go forward. */
  #last = 0;

  constructor(source: string) {
    const length = source.length;
    const starts = this.#starts;
    // searching is several times as fast as looking at each character
    if (!/[\r\u2028\u2029]/.test(source)) {
      for (let at = source.indexOf('\n'); at !== -1; at = source.indexOf('\n', at + 1)) starts.push(at + 1);
      return;
    }
    for (let i = 0; i < length; i++) {
      const c = source.charCodeAt(i);
      if (c > 13 && c !== 0x2028 && c !== 0x2029) continue;
      if (c === 10 || c >= 0x2028 || (c === 13 && source.charCodeAt(i + 1) !== 10)) starts.push(i + 1);
    }
  }

  get count(): number {
    return this.#starts.length;
  }

  /** Offset of a line's first character; the text's end for lines beyond it. */
  start(line: number): number {
    return this.#starts[Math.min(line, this.#starts.length - 1)]!;
  }

  position(offset: number): { line: number; column: number } {
    const starts = this.#starts;
    let low = starts[this.#last]! <= offset ? this.#last : 0;
    if (low + 1 < starts.length && starts[low + 1]! <= offset) {
      let high = starts.length - 1;
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (starts[middle]! <= offset) low = middle;
        else high = middle - 1;
      }
    }
    this.#last = low;
    return { line: low, column: offset - starts[low]! };
  }
}
