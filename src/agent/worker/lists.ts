/** Lists of the main thread's that are fetched some at a time: no stop grows with the application. */

import type { CompiledInPiece, CompiledInScript } from '../inject/half.ts';
import type { MainSession } from './session.ts';

/** Scripts with compiled-in sites; forms of their functions are digits. */
export async function compiledIn(session: MainSession): Promise<readonly CompiledInScript[]> {
  const all = new Map<string, CompiledInScript>();
  let next: CompiledInPiece['next'] = [0, 0];
  for (;;) {
    const { value: piece } = await session.errand<CompiledInPiece | undefined>(
      'compiled in',
      'half',
      'compiledIn',
      ...next,
    );
    if (piece === undefined) return [...all.values()];
    for (const script of piece.scripts)
      all.set(script.url, { ...script, forms: (all.get(script.url)?.forms ?? '') + script.forms });
    ({ next } = piece);
  }
}

/** By a method of the half that takes where to go on, and answers undefined at the end. */
export async function inPieces<T>(session: MainSession, method: string): Promise<T[]> {
  const all: T[] = [];
  for (;;) {
    const { value } = await session.errand<T[] | undefined>(method, 'half', method, all.length);
    if (value === undefined) return all;
    for (const one of value) all.push(one);
  }
}
