import { fileFilter, listFunctions, SymbolIndex } from '../arch/v8/match.ts';
import { TraplineError } from '../errors.ts';
import { didYouMean } from '../similar.ts';
import type { TraceSession } from '../target/session.ts';

const FUNCTION_PROBES = ['kprobe', 'kretprobe', 'throw', 'settle'] as const;
const OTHER_PROBES = ['BEGIN', 'END', 'interval:', 'profile:'] as const;

/**
 * What a pattern (`kprobe:server.js:*`, `kret*:*total*`, or a bare `server.js:*`) names in a process. `settle` lists
 * only functions that can return a promise by their kind.
 */
export async function listProbes(
  session: TraceSession,
  pattern: string,
  verbose: boolean,
  maxPauseMs = 100,
): Promise<string[]> {
  const { types, target } = split(pattern);
  const lines = OTHER_PROBES.filter((name) => pattern === '*' || matches(pattern, name));
  if (types.length === 0) {
    if (lines.length > 0) return lines;
    const name = pattern.split(':')[0]!;
    throw new TraplineError('EUSAGE', `there is no probe type ${name}`, {
      hint: didYouMean(name, [...FUNCTION_PROBES, 'BEGIN', 'END', 'interval', 'profile']),
    });
  }
  const index = new SymbolIndex(await session.functions(fileFilter(target), { maxPauseMs }), {
    cwd: session.info.cwd,
  });
  return [...lines, ...types.flatMap((type) => listFunctions(index, target, type, verbose))];
}

function split(pattern: string): { types: string[]; target: string } {
  const colon = pattern.indexOf(':');
  const head = colon === -1 ? pattern : pattern.slice(0, colon);
  if (pattern === '*') return { types: ['kprobe'], target: '*' };
  const types = FUNCTION_PROBES.filter((type) => matches(head, type));
  if (types.length > 0) return { types, target: colon === -1 ? '*' : pattern.slice(colon + 1) };
  // Without a type in front: a file or a function.
  const named = /[.*?/<]/.test(head) || colon === -1;
  const other = OTHER_PROBES.some((name) => matches(pattern, name));
  return { types: named && !other ? ['kprobe'] : [], target: pattern };
}

function matches(pattern: string, name: string): boolean {
  const source = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${source}:?$`).test(name);
}
