/** Insertions into a text, with the places of marked ranges in the result. */

export interface TextRange {
  /** In the new text. */
  readonly start: number;
  readonly end: number;
  /** In the old text. */
  readonly oldStart: number;
  readonly oldEnd: number;
}

interface Edit {
  readonly at: number;
  readonly text: string;
  /** Index of the range that begins (even) or ends (odd) here; -1 for text. */
  readonly mark: number;
}

/**
 * Collects insertions in the order of a walk through the syntax tree: what opens a node before its children, what closes
 * it after them. Insertions at one offset keep that order, so that they nest as the nodes do.
 */
export class EditList {
  readonly #edits: Edit[] = [];
  #marks = 0;

  get inserted(): boolean {
    return this.#edits.some((edit) => edit.mark === -1);
  }

  insert(at: number, text: string): void {
    if (text !== '') this.#edits.push({ at, text, mark: -1 });
  }

  /** Begins a range; give the result to `close`. */
  open(at: number): number {
    const mark = this.#marks;
    this.#marks += 2;
    this.#edits.push({ at, text: '', mark });
    return mark;
  }

  close(mark: number, at: number): void {
    this.#edits.push({ at, text: '', mark: mark + 1 });
  }

  /** The new text, and those ranges of it that changed. */
  apply(source: string, [before, after]: readonly [string, string]): { text: string; ranges: TextRange[] } {
    const edits = this.#edits;
    const order = edits.map((_, i) => i).sort((a, b) => edits[a]!.at - edits[b]!.at || a - b);
    const places = new Array<{ at: number; old: number }>(this.#marks);
    const parts: string[] = [];
    let from = 0;
    let length = 0;
    for (const i of order) {
      const edit = edits[i]!;
      if (edit.at > from) {
        parts.push(source.slice(from, edit.at));
        length += edit.at - from;
        from = edit.at;
      }
      if (edit.mark === -1) {
        parts.push(before, edit.text, after);
        length += before.length + edit.text.length + after.length;
      } else places[edit.mark] = { at: length, old: edit.at };
    }
    parts.push(source.slice(from));
    const ranges: TextRange[] = [];
    for (let mark = 0; mark < this.#marks; mark += 2) {
      const [a, b] = [places[mark]!, places[mark + 1]!];
      if (b.at - a.at === b.old - a.old) continue;
      ranges.push({ start: a.at, end: b.at, oldStart: a.old, oldEnd: b.old });
    }
    return { text: parts.join(''), ranges };
  }
}
