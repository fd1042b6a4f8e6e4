/**
 * Two questions that JavaScript cannot ask: is an object's property table small, and is a string flat. V8 answers them
 * through its own syntax (`%HasFastProperties`), which is switched on for the moment that the questions are compiled.
 * Where a question does not exist (V8 before 13 has no `%StringIsFlat`), the cautious answer stands in.
 */
import type { BuiltinModules } from './intrinsics.ts';
import { apply } from './intrinsics.ts';
import { SCRIPT_PREFIX } from './site-compiler.ts';

export interface Natives {
  /** At most about a thousand named properties: an object with more never has V8's fast properties. */
  hasFewProperties(value: object): boolean;
  /** Reading the string's first characters copies nothing. */
  isFlat(text: string): boolean;
}

type Question = (value: unknown) => boolean;

/** The first question of a kind costs two flag changes and a tiny script. */
export function createNatives(builtin: BuiltinModules): Natives {
  const { Script } = builtin('node:vm') as typeof import('node:vm');
  const { runInThisContext } = Script.prototype;

  function evaluate(text: string): Question {
    return apply(runInThisContext, new Script(text, { filename: `${SCRIPT_PREFIX}natives` }), []) as Question;
  }

  function compile(text: string): Question | undefined {
    try {
      // A process that was started with the flag keeps it.
      return evaluate(text);
    } catch {}
    const { setFlagsFromString } = builtin('node:v8') as { setFlagsFromString: (flags: string) => void };
    try {
      setFlagsFromString('--allow-natives-syntax');
      return evaluate(text);
    } catch {
      return undefined;
    } finally {
      setFlagsFromString('--no-allow-natives-syntax');
    }
  }

  function question(text: string, cautious: boolean): Question {
    let compiled: Question | undefined;
    let tried = false;
    return (value) => {
      if (!tried) {
        tried = true;
        compiled = compile(text);
      }
      if (compiled === undefined) return cautious;
      try {
        return compiled(value);
      } catch {
        // V8 drops the code of functions that are not called for long, and cannot compile these again without the flag.
        compiled = compile(text);
        try {
          return compiled === undefined ? cautious : compiled(value);
        } catch {
          return cautious;
        }
      }
    };
  }

  // ToFastProperties gives up at once on a table that is too large, and turns a small one into the usual form, as V8
  // does by itself when the object becomes a prototype; no program can tell the difference.
  const hasFewProperties = question(
    '(function few(o) { if (%HasFastProperties(o)) return true; %ToFastProperties(o); return %HasFastProperties(o); })',
    false,
  );
  const isFlat = question('(function flat(s) { return %StringIsFlat(s); })', false);
  return { hasFewProperties, isFlat };
}
