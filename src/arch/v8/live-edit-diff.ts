/**
 * What V8's live edit makes of a new text. V8 answers `Ok` also where an edit reaches nothing, so this is found out beforehand.
 *
 * V8 compares old and new text by lines, and each run of differing lines by characters if it has less than 800 (otherwise the
 * whole run counts as new), both by Myers' algorithm in linear space. A function is found again in the new text where
 * its start and end, moved by the changes before them, are start and end of a function there. A change that touches an end
 * loses the function: its living closures keep the old code, and what is around it counts as changed (which for the
 * top level of an ES module blocks the edit). Of several shortest edits V8's choice matters: `}` and `}catch(e){…}}`
 * have two, and in one of them the function ends too early. Read in V8's src/debug/liveedit.cc and checked against it.
 */

/** Offsets into the old text (`start`, `end`) and into the new one. */
export interface SourceChange {
  readonly start: number;
  readonly end: number;
  readonly newStart: number;
  readonly newEnd: number;
}

export interface TextSpan {
  readonly start: number;
  readonly end: number;
}

/** Runs of differing lines from this length on are not compared by characters. */
export const CHUNK_LIMIT = 800;

/** The changes that V8 sees, in order. */
export function liveEditChanges(oldText: string, newText: string): SourceChange[] {
  const a = splitLines(oldText);
  const b = splitLines(newText);
  const startA = starts(a);
  const startB = starts(b);
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  let tail = 0;
  const most = Math.min(a.length, b.length) - head;
  while (tail < most && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const runs = difference(a.slice(head, a.length - tail), b.slice(head, b.length - tail));
  const changes: SourceChange[] = [];
  for (const run of runs) {
    const start = startA[head + run.start]!;
    const end = startA[head + run.end]!;
    const newStart = startB[head + run.newStart]!;
    const newEnd = startB[head + run.newEnd]!;
    if (end - start >= CHUNK_LIMIT || newEnd - newStart >= CHUNK_LIMIT) {
      changes.push({ start, end, newStart, newEnd });
      continue;
    }
    for (const part of difference([...units(oldText, start, end)], [...units(newText, newStart, newEnd)])) {
      changes.push({
        start: start + part.start,
        end: start + part.end,
        newStart: newStart + part.newStart,
        newEnd: newStart + part.newEnd,
      });
    }
  }
  return changes;
}

/**
 * Indexes of the functions that V8 would lose: `before[i]` is to become `after[i]`. Spans run from where V8 has a function
 * begin (literalStart()) to behind its last token, in order of their start.
 */
export function lostFunctions(
  changes: readonly SourceChange[],
  before: readonly TextSpan[],
  after: readonly TextSpan[],
): Set<number> {
  const lost = new Set<number>();
  const moved = mover(changes);
  before.forEach((span, i) => {
    const now = after[i];
    if (now === undefined || moved(span.start) !== now.start || moved(span.end) !== now.end) lost.add(i);
  });
  return lost;
}

/**
 * Whether a change begins outside of all functions, if only where blanks between two of them are matched anew: V8 takes it
 * for a change of the script's own code.
 */
export function changesTopLevel(changes: readonly SourceChange[], functions: readonly TextSpan[]): boolean {
  const outer: TextSpan[] = [];
  for (const span of [...functions].sort((a, b) => a.start - b.start)) {
    if (span.start >= (outer.at(-1)?.end ?? 0)) outer.push(span);
  }
  let i = 0;
  return changes.some(({ start }) => {
    while (i < outer.length && outer[i]!.end <= start) i++;
    return i === outer.length || outer[i]!.start >= start;
  });
}

/** Where an offset goes; undefined inside of a change. One that only begins there has not happened yet. */
function mover(changes: readonly SourceChange[]): (offset: number) => number | undefined {
  return (offset) => {
    let low = 0;
    let high = changes.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (changes[middle]!.start < offset) low = middle + 1;
      else high = middle;
    }
    const last = changes[low - 1];
    if (last === undefined) return offset;
    if (offset <= last.end && !(offset === last.end && last.end > last.start)) {
      return offset < last.end ? undefined : offset + last.newEnd - last.end;
    }
    // At the very end of a replaced range V8 is still inside of it.
    return offset === last.end ? undefined : offset + last.newEnd - last.end;
  };
}

function splitLines(text: string): string[] {
  return text.match(/[^\n\r\u2028\u2029]*(?:\r\n|[\n\r\u2028\u2029])|[^\n\r\u2028\u2029]+$/g) ?? [];
}

function starts(lines: readonly string[]): number[] {
  const result = [0];
  for (const line of lines) result.push(result.at(-1)! + line.length);
  return result;
}

function* units(text: string, start: number, end: number): Generator<number> {
  for (let i = start; i < end; i++) yield text.charCodeAt(i);
}

type Point = readonly [x: number, y: number];

/** E. Myers, "An O(ND) difference algorithm and its variations" (1986), section 4b. */
function difference<T>(a: readonly T[], b: readonly T[]): SourceChange[] {
  const size = a.length + b.length + 1;
  const forward = new Int32Array(size);
  const reverse = new Int32Array(size);
  const at = (k: number) => (k >= 0 ? k : size + k);

  const middle = (left: number, top: number, right: number, bottom: number): [Point, Point] | undefined => {
    const width = right - left;
    const height = bottom - top;
    if (width + height === 0) return undefined;
    const delta = width - height;
    const odd = delta % 2 !== 0;
    forward.fill(0);
    reverse.fill(0);
    forward[at(1)] = left;
    reverse[at(-1)] = right;
    const most = Math.ceil((width + height) / 2);
    for (let d = 0; d <= most; d++) {
      for (let k = -d; k <= d; k += 2) {
        const down = k === -d || (k !== d && forward[at(k - 1)]! < forward[at(k + 1)]!);
        const fromX = forward[at(down ? k + 1 : k - 1)]!;
        let x = down ? fromX : fromX + 1;
        let y = top + (x - left) - k;
        const fromY = d === 0 || fromX !== x ? y : y - 1;
        while (x < right && y < bottom && a[x] === b[y]) {
          x++;
          y++;
        }
        forward[at(k)] = x;
        const l = k - delta;
        if (odd && l >= 1 - d && l <= d - 1 && x >= reverse[at(l)]!)
          return [
            [fromX, fromY],
            [x, y],
          ];
      }
      for (let l = d; l >= -d; l -= 2) {
        const up = l === d || (l !== -d && reverse[at(l - 1)]! > reverse[at(l + 1)]!);
        // `up` leaves x as it is: an insertion, seen from the end.
        const fromX = reverse[at(up ? l - 1 : l + 1)]!;
        let x = up ? fromX : fromX - 1;
        const k = l + delta;
        let y = top + (x - left) - k;
        const fromY = d === 0 || fromX !== x ? y : y + 1;
        while (x > left && y > top && a[x - 1] === b[y - 1]) {
          x--;
          y--;
        }
        reverse[at(l)] = x;
        if (!odd && k >= -d && k <= d && x <= forward[at(k)]!)
          return [
            [x, y],
            [fromX, fromY],
          ];
      }
    }
    return undefined;
  };

  const path = (left: number, top: number, right: number, bottom: number): Point[] | undefined => {
    const snake = middle(left, top, right, bottom);
    if (snake === undefined) return undefined;
    const [from, to] = snake;
    const head = path(left, top, from[0], from[1]) ?? [from];
    const rest = path(to[0], to[1], right, bottom) ?? [to];
    return [...head, ...rest];
  };

  const changes: SourceChange[] = [];
  let open: { start: number; newStart: number } | undefined;
  let [x, y] = [0, 0];
  const close = () => {
    if (open !== undefined) changes.push({ ...open, end: x, newEnd: y });
    open = undefined;
  };
  const diagonal = (to: Point) => {
    while (x < to[0] && y < to[1] && a[x] === b[y]) {
      close();
      x++;
      y++;
    }
  };
  for (const to of path(0, 0, a.length, b.length) ?? []) {
    diagonal(to);
    const across = to[0] - x;
    const down = to[1] - y;
    if (across !== down) {
      open ??= { start: x, newStart: y };
      if (across > down) x++;
      else y++;
    }
    diagonal(to);
  }
  close();
  return changes;
}
