import type { SymbolIndex } from '../arch/v8/match.ts';
import { BpfError, type VerifiedProgram, verifyProgram } from '../bpf/index.ts';
import { TraplineError } from '../errors.ts';
import { kprobeProgram } from '../kernel/trace/bpf-trace.ts';
import { type Script, walkProbe } from '../lang/ast.ts';
import {
  type AttachPoint,
  attachPoints,
  type Compilation,
  type CompiledScript,
  compile,
  type ProbeResolver,
  type ProbeTarget,
  parseScript,
  type ScriptPosition,
} from '../lang/index.ts';
import type { ProcessEvents } from '../target/session.ts';
import { ANY_EVENTS, matchPoint } from './events.ts';

/** A script that parses, with what is known of it without a process. */
export interface ScriptText {
  readonly source: string;
  readonly file: string;
  readonly params: readonly string[];
  /** system() may be called. */
  readonly unsafe: boolean;
  readonly ast: Script;
  /** Some probe names a function, so the process's symbols are needed. */
  readonly needsSymbols: boolean;
  /** What probes on functions name, behind the probe type. */
  readonly targets: readonly string[];
  /** Some probe is on the end of a call. */
  readonly wantsEnds: boolean;
  /** Some probe is on an event of the process. */
  readonly needsEvents: boolean;
  /** Attach points that name neither function nor event: BEGIN, END, interval, profile. */
  readonly otherProbes: number;
}

/** Parses, so that errors of syntax are told before a process is touched. Throws a ScriptError. */
export function parseText(options: {
  readonly script: string;
  readonly file?: string;
  readonly params?: readonly string[];
  readonly unsafe?: boolean;
}): ScriptText {
  const { script: source, file = 'stdin', params = [], unsafe = false } = options;
  const ast = parseScript(source, file);
  const points = attachPoints(ast, params);
  const targets = points.filter(({ type }) => isFunctionProbe(type)).map(({ target }) => target);
  const events = points.filter(({ type }) => isEventProbe(type)).length;
  const otherProbes = points.length - targets.length - events;
  const needsEvents = events > 0;
  const wantsEnds = points.some(({ type }) => isFunctionProbe(type) && type !== 'kprobe');
  const needsSymbols = targets.length > 0;
  return { source, file, params, unsafe, ast, needsSymbols, targets, wantsEnds, needsEvents, otherProbes };
}

/** Compiles a script for the functions of one process, and verifies every program. Throws before anything is loaded. */
export function compileFor(
  text: ScriptText,
  index: SymbolIndex | undefined,
  events?: ProcessEvents,
): { script: CompiledScript; programs: VerifiedProgram[] } {
  const { script } = compileText(text, index, events);
  return { script, programs: verifyScript(script) };
}

/** Compiles only, with the intermediate results. Without an index, as if every function that a probe names were there. */
export function compileText(
  text: ScriptText,
  index: SymbolIndex | undefined,
  events: ProcessEvents = ANY_EVENTS,
): Compilation {
  const resolver: ProbeResolver = {
    resolve: (point) => {
      const { type, target } = point;
      if (isEventProbe(type)) return placed(text, point, () => matchPoint(type, target, events));
      return isFunctionProbe(point.type) ? resolvePoint(text, point, index) : [];
    },
  };
  const { source, file, params, unsafe } = text;
  return compile(source, { file, params, unsafe, resolver });
}

/** The verifier, for every program of a script. */
export function verifyScript(script: CompiledScript, logLevel: 0 | 1 | 2 = 0): VerifiedProgram[] {
  const maps = script.maps.map(({ spec }) => spec);
  return script.programs.map(({ insns, attach }, number) => {
    const point = attach[0]?.point;
    const name = point === undefined ? `program ${number}` : pointText(point);
    try {
      return verifyProgram({ ...kprobeProgram(name, insns, maps), logLevel });
    } catch (error) {
      if (!(error instanceof BpfError)) throw error;
      const { code, message, log } = error;
      const position = point === undefined ? undefined : positionIn(script.file, point.position);
      throw new TraplineError(code, message, {
        position,
        log,
        cause: error,
        hint: 'with -v the whole log is shown',
      });
    }
  });
}

function resolvePoint(
  text: ScriptText,
  point: AttachPoint,
  index: SymbolIndex | undefined,
): readonly ProbeTarget[] {
  // Without a process, for -d and --dry-run: as if one function of that name were there.
  if (index === undefined) return [{ name: point.target, params: parametersNamed(text.ast) }];
  return placed(text, point, () => index.match(point.target));
}

/** Gives an error without a place that of the attach point. */
function placed<T>({ file }: ScriptText, point: AttachPoint, match: () => T): T {
  try {
    return match();
  } catch (error) {
    if (!(error instanceof TraplineError) || error.position !== undefined) throw error;
    const { code, message, hint, log } = error;
    throw new TraplineError(code, message, {
      hint,
      log,
      position: positionIn(file, point.position),
      cause: error,
    });
  }
}

/** Every NAME of args.NAME in a script: the parameters that a function nobody has seen must have. */
function parametersNamed({ probes }: Script): string[] {
  const names = new Set<string>();
  for (const probe of probes) {
    walkProbe(probe, (expr) => {
      if (expr.kind === 'member' && expr.object.kind === 'ident' && expr.object.name === 'args')
        names.add(expr.name);
    });
  }
  return [...names];
}

/** A script position as an error's. */
export function positionIn(file: string, { line, column, length, text }: ScriptPosition) {
  return { file, line, column, length, sourceLine: text };
}

export function isEventProbe(type: AttachPoint['type']): type is 'tracepoint' | 'rawtracepoint' {
  return type === 'tracepoint' || type === 'rawtracepoint';
}

export function isFunctionProbe(type: AttachPoint['type']): boolean {
  return type === 'kprobe' || type === 'kretprobe' || type === 'throw' || type === 'settle';
}

/** An attach point as the user writes it. */
export function pointText({ type, target }: AttachPoint): string {
  return target === '' ? type : `${type}:${target}`;
}
