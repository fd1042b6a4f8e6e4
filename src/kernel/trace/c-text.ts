/** Texts as the kernel takes them apart (lib/ctype.c, lib/string.c): byte strings, so that positions and classes count bytes as in C. */

/** lib/ctype.c: classes of Latin-1. */
function isUpperOrLower(c: number): boolean {
  if (c < 128) return (c >= 0x41 && c <= 0x5a) || (c >= 0x61 && c <= 0x7a);
  return c >= 0xc0 && c !== 0xd7 && c !== 0xf7;
}

/** The class of the character at `at`; false behind the end, as of a NUL. */
export function isAlpha(text: string | undefined, at = 0): boolean {
  return text !== undefined && at < text.length && isUpperOrLower(text.charCodeAt(at));
}

export function isDigit(text: string | undefined, at = 0): boolean {
  const c = text?.charCodeAt(at) ?? 0;
  return c >= 0x30 && c <= 0x39;
}

export function isAlnum(text: string | undefined, at = 0): boolean {
  return isAlpha(text, at) || isDigit(text, at);
}

/** With the no-break space of Latin-1. */
export function isSpace(text: string | undefined, at = 0): boolean {
  const c = text?.charCodeAt(at) ?? 0;
  return (c >= 9 && c <= 13) || c === 0x20 || c === 0xa0;
}

export function skipSpaces(text: string): string {
  let i = 0;
  while (isSpace(text, i)) i++;
  return text.slice(i);
}

export function trimEnd(text: string): string {
  let end = text.length;
  while (end > 0 && isSpace(text, end - 1)) end--;
  return text.slice(0, end);
}

/** strstrip() */
export function strip(text: string): string {
  return skipSpaces(trimEnd(text));
}

/** argv_split(): words between white space. */
export function argvSplit(text: string): string[] {
  const words: string[] = [];
  let start = -1;
  for (let i = 0; i <= text.length; i++) {
    if (i === text.length || isSpace(text, i)) {
      if (start >= 0) words.push(text.slice(start, i));
      start = -1;
    } else if (start < 0) start = i;
  }
  return words;
}

/** A string that strsep() takes tokens from. */
export class Tokens {
  /** What is left; undefined when the last token was taken. */
  rest: string | undefined;

  constructor(text: string | undefined) {
    this.rest = text;
  }

  /** strsep(): up to one of the delimiters, which goes too. */
  next(delimiters: string): string | undefined {
    const { rest } = this;
    if (rest === undefined) return undefined;
    for (let i = 0; i < rest.length; i++) {
      if (!delimiters.includes(rest[i] as string)) continue;
      this.rest = rest.slice(i + 1);
      return rest.slice(0, i);
    }
    this.rest = undefined;
    return rest;
  }
}
