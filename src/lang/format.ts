/** printf format strings: where the specifiers are and what they take. The printer formats; this only checks. */
import type { LType } from './types.ts';
import { isIntLike } from './types.ts';

export interface FormatSpec {
  /** `%-10s` as written. */
  readonly text: string;
  /** Offset in the format string's value. */
  readonly at: number;
  readonly conversion: string;
}

const SPEC = /%(?:%|([-+ 0#]*)([0-9]*)(?:\.([0-9]+))?(hh|h|ll|l|j|z|t|L)?([a-zA-Z]?)([xh]?))/g;
const INTEGERS = 'diuxXopc';

/** Splits a format; `bad` is the first thing that is no specifier. */
export function parseFormat(format: string): { specs: FormatSpec[]; bad: string | undefined } {
  const specs: FormatSpec[] = [];
  let bad: string | undefined;
  for (const match of format.matchAll(SPEC)) {
    if (match[0] === '%%') continue;
    let [text] = match;
    const conversion = match[5] ?? '';
    // %rx and %rh: bytes as hex; behind another conversion the letter is text.
    if (match[6] && conversion !== 'r') text = text.slice(0, -1);
    if (conversion === '' || !`${INTEGERS}sr`.includes(conversion)) {
      bad ??= text;
      continue;
    }
    specs.push({ text, at: match.index, conversion: conversion === 'r' ? `r${match[6] ?? ''}` : conversion });
  }
  return { specs, bad };
}

/** Whether a conversion can show a type; if not, what it would take. */
export function specMismatch(spec: FormatSpec, type: LType): string | undefined {
  const { kind } = type;
  if (kind === 'unknown') return undefined;
  if (spec.conversion === 's') {
    const fine = ['string', 'value', 'stored', 'func', 'probe', 'stack', 'strftime', 'buf', 'tuple'].includes(
      kind,
    );
    return fine ? undefined : 'string';
  }
  if (spec.conversion.startsWith('r')) return kind === 'buf' ? undefined : 'buf';
  const fine = isIntLike(type) || kind === 'func' || kind === 'probe';
  return fine ? undefined : 'int';
}
