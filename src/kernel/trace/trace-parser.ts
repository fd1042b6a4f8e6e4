import { KernelError } from '../errno.ts';
import { isSpace } from './c-text.ts';

/** Whether a word ends in front of a character: of white space, or a NUL. */
export const endsWord = (text: string, at: number): boolean => isSpace(text, at) || text[at] === '\0';

/**
 * trace_get_user() (kernel/trace/trace.c): the next word of a write, and how much of the text was taken (leading white space, the word,
 * one white space behind it). `word` is undefined where there was only white space. EINVAL: the word is too long.
 */
export function traceGetUser(text: string, size: number): { readonly word?: string; readonly read: number } {
  let at = 0;
  while (at < text.length - 1 && isSpace(text, at)) at++;
  if (endsWord(text, at)) return { read: at + 1 };
  const start = at;
  while (at < text.length && !endsWord(text, at)) at++;
  if (at - start >= size) throw new KernelError('EINVAL', 'the word is too long');
  return { word: text.slice(start, at), read: Math.min(at + 1, text.length) };
}
