import { fileFilter, isAnyFile, isOwnFile, listFunctions, SymbolIndex } from '../arch/v8/match.ts';
import type { FunctionSymbol } from '../arch/v8/types.ts';
import { TraplineError } from '../errors.ts';
import { didYouMean } from '../similar.ts';
import type { ProcessEvents, TraceSession } from '../target/session.ts';
import { eventLines } from './events.ts';

const FUNCTION_PROBES = ['kprobe', 'kretprobe', 'throw', 'settle'] as const;
const EVENT_PROBES = ['tracepoint', 'rawtracepoint'] as const;
const SHORT: Readonly<Record<string, string>> = {
  k: 'kprobe',
  kr: 'kretprobe',
  i: 'interval',
  p: 'profile',
  t: 'tracepoint',
  rt: 'rawtracepoint',
};
const OTHER_PROBES = ['BEGIN', 'END', 'interval:', 'profile:'] as const;

/** Patterns of a list with commas, the short names of probe types written out. Commas in quotes are part of a name. */
export function patternsOf(list: string): string[] {
  const patterns = list.match(/(?:"[^"]*"|[^,"]|"[^"]*$)+/g) ?? ['*'];
  return patterns.map((pattern) => {
    const [, head = '', rest = ''] = /^\s*(\w*)(.*?)\s*$/s.exec(pattern)!;
    return rest.startsWith(':') && Object.hasOwn(SHORT, head) ? SHORT[head] + rest : head + rest;
  });
}

/**
 * What a pattern (`kprobe:server.js:*`, `kret*:*total*`, or a bare `server.js:*`) names in a process. `settle` lists
 * only functions that can return a promise by their kind. ENOENT where that is nothing.
 */
export async function listProbes(
  session: TraceSession,
  pattern: string,
  verbose: boolean,
  maxPauseMs = 100,
  warn: (message: string) => void = () => undefined,
): Promise<string[]> {
  if (pattern === '*') return [...(await listAll(session, verbose, maxPauseMs, warn))];
  return await listSome(session, pattern, verbose, maxPauseMs);
}

/** Everything there is; channels only where the process may be stopped for them. */
async function listAll(
  session: TraceSession,
  verbose: boolean,
  maxPauseMs: number,
  warn: (message: string) => void,
): Promise<string[]> {
  const lines = await listSome(session, '*', verbose, maxPauseMs);
  let events: ProcessEvents | undefined;
  try {
    events = await session.events?.({ channels: true, maxPauseMs });
  } catch (error) {
    if (!(error instanceof TraplineError) || error.code !== 'EMAXPAUSE') throw error;
    warn(`WARNING: rawtracepoint probes are not listed: ${error.message}`);
    events = await session.events?.();
  }
  if (events === undefined) return lines;
  return [...lines, ...listEvents(events, '*tracepoint:*', verbose)];
}

async function listSome(
  session: TraceSession,
  pattern: string,
  verbose: boolean,
  maxPauseMs: number,
): Promise<string[]> {
  if (namesEvents(pattern)) {
    const channels = eventTypes(pattern).includes('rawtracepoint');
    const events = await session.events?.({ channels, maxPauseMs });
    return listEvents(events ?? { events: [], channels: [] }, pattern, verbose);
  }
  const { types, target } = split(pattern);
  const lines = OTHER_PROBES.filter((name) => pattern === '*' || matches(pattern, name));
  if (types.length === 0) {
    if (lines.length > 0) return lines;
    const name = pattern.split(':')[0]!;
    throw new TraplineError('EUSAGE', `there is no probe type ${name}`, {
      hint: didYouMean(name, [...FUNCTION_PROBES, ...EVENT_PROBES, 'BEGIN', 'END', 'interval', 'profile']),
    });
  }
  const options = { maxPauseMs };
  let symbols: readonly FunctionSymbol[] = [];
  // without a file, those of packages are listed only where there are no others
  if (isAnyFile(target)) symbols = await session.functions(isOwnFile, options);
  if (symbols.length === 0) symbols = await session.functions(fileFilter(target), options);
  const index = new SymbolIndex(symbols, { cwd: session.info.cwd });
  const found = types.flatMap((type) => listFunctions(index, target, type, verbose));
  if (found.length + lines.length === 0) throw await nothing(session, pattern, target, maxPauseMs);
  return [...lines, ...found];
}

/** Whether a pattern (`tracepoint:*`, `t:http:*`, `*tracepoint:*`) is about events, which need no function of a process. */
export function namesEvents(pattern: string): boolean {
  return eventTypes(pattern).length > 0;
}

function eventTypes(pattern: string): (typeof EVENT_PROBES)[number][] {
  const [head = ''] = pattern.split(':');
  // a bare glob is about functions
  return /[a-z]/.test(head) ? EVENT_PROBES.filter((type) => matches(head, type)) : [];
}

/** Lines for the events that a pattern names. ENOENT where it names none. */
export function listEvents({ events, channels }: ProcessEvents, pattern: string, verbose: boolean): string[] {
  const types = eventTypes(pattern);
  const at = pattern.indexOf(':');
  const target = at < 0 ? '*' : pattern.slice(at + 1);
  const lines: string[] = [];
  if (types.includes('tracepoint')) {
    const found = events.filter(({ system, name }) => matches(target, `${system}:${name}`));
    lines.push(...eventLines(found, verbose));
  }
  if (types.includes('rawtracepoint'))
    lines.push(...channels.filter((name) => matches(target, name)).map((name) => `rawtracepoint:${name}`));
  if (lines.length > 0) return lines;
  const names = events.map(({ system, name }) => `${system}:${name}`);
  const known = [...names, ...events.map(({ system }) => `${system}:*`), ...channels];
  throw new TraplineError('ENOENT', `no probe matches ${pattern}`, {
    hint: didYouMean(target, known, at < 0 ? '' : pattern.slice(0, at + 1)),
  });
}

/** Why a pattern names nothing (ENOENT), with the nearest name: of any file, then. */
async function nothing(
  session: TraceSession,
  pattern: string,
  target: string,
  maxPauseMs: number,
): Promise<unknown> {
  const all = new SymbolIndex(await session.functions(undefined, { maxPauseMs }), { cwd: session.info.cwd });
  try {
    all.match(target);
  } catch (error) {
    return error;
  }
  return new TraplineError('ENOENT', `no probe matches ${pattern}`);
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
