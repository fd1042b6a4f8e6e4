import {
  aBoolean,
  anObject,
  aRecord,
  aString,
  checkArgument,
  having,
  listOf,
  optional,
  stringOf,
} from '../arguments.ts';
import { ProgramBuilder, R0, R1 } from '../bpf/builder.ts';
import * as isa from '../bpf/isa.ts';
import * as ast from './ast.ts';
import { TooLarge } from './codegen/frame.ts';
import { Module } from './codegen/module.ts';
import { type Generated, generateProgram } from './codegen/program.ts';
import { Diagnostics } from './diagnostics.ts';
import { FUNCTIONS } from './functions.ts';
import { parseInto } from './parser.ts';
import { resolveProbe } from './passes/attach.ts';
import { readConfig } from './passes/config.ts';
import { foldScript } from './passes/fold.ts';
import { inferTypes } from './passes/infer.ts';
import type { ProbeInfo, Semantics } from './passes/semantics.ts';
import { SourceText } from './position.ts';
import type { CompiledScript, ProbeResolver, ScriptConfig, ScriptProgram } from './script.ts';

const COMPILE_OPTIONS = aRecord<CompileOptions>(
  {
    file: aString,
    resolver: having('an object with a method resolve(point)', 'resolve'),
    params: optional(listOf(aString)),
    unsafe: optional(aBoolean),
    config: optional(anObject),
  },
  'options with file and resolver',
);

export interface CompileOptions {
  /** Shown in diagnostics: a path, or `stdin` for a one-liner. */
  readonly file: string;
  readonly resolver: ProbeResolver;
  /** `$1`, `$2`, … */
  readonly params?: readonly string[];
  /** Functions that do something to the machine may be called. */
  readonly unsafe?: boolean;
  /** Settings from the command line or the environment; the script's own block wins. */
  readonly config?: Partial<ScriptConfig>;
}

/** A compiled script with what the dumps of `-d` show. */
export interface Compilation {
  readonly script: CompiledScript;
  readonly semantics: Semantics;
  /** For each program, its source lines by instruction. */
  readonly notes: readonly Generated['notes'][];
}

/**
 * Compiles a script to eBPF. Throws ScriptError (a TraplineError, with every error in `errors`) for anything wrong in the
 * script, and for attach points that the resolver does not know.
 */
export function compileScript(source: string, options: CompileOptions): CompiledScript {
  checkArgument('compileScript()', 'source', source, stringOf('a string: a program'));
  checkArgument('compileScript()', 'options', options, COMPILE_OPTIONS);
  return compile(source, options).script;
}

/** The same with the intermediate results. */
export function compile(source: string, options: CompileOptions): Compilation {
  const diagnostics = new Diagnostics(new SourceText(options.file, source));
  const semantics = check(diagnostics, options);
  diagnostics.throwIfAny();
  const module = new Module(semantics!);
  const programs: ScriptProgram[] = [];
  const notes: Generated['notes'][] = [];
  if (mentionsElapsed(semantics!)) {
    // First, so that the script's own BEGIN has it; BEGIN programs run before anything is attached.
    programs.push(startProgram(module, semantics!));
    notes.push([]);
  }
  for (const probe of semantics!.probes) {
    for (const group of probe.groups) {
      const generated = generate(module, probe, group, programs.length, diagnostics);
      programs.push(generated.program);
      notes.push(generated.notes);
    }
  }
  const script: CompiledScript = {
    file: options.file,
    source,
    maps: module.scriptMaps(),
    programs,
    paths: module.paths,
    positions: module.positions,
    actions: module.actions,
    ring: module.ring,
    config: module.config,
    warnings: diagnostics.warnings,
  };
  return { script, semantics: semantics!, notes };
}

function generate(
  module: Module,
  probe: ProbeInfo,
  group: ProbeInfo['groups'][number],
  index: number,
  diagnostics: Diagnostics,
): Generated {
  try {
    return generateProgram(module, probe, group, index);
  } catch (error) {
    if (!(error instanceof TooLarge)) throw error;
    diagnostics.error(
      probe.probe.attachPoints[0]!,
      `The probe needs too much memory: ${error.message}`,
      'lower max_strlen',
    );
    diagnostics.throwIfAny();
    throw error;
  }
}

function check(diagnostics: Diagnostics, options: CompileOptions): Semantics | undefined {
  const parsed = parseInto(diagnostics);
  if (parsed === undefined) return undefined;
  const params = options.params ?? [];
  const script = foldScript(parsed, params, diagnostics);
  if (options.unsafe !== true) refuseUnsafe(script, diagnostics);
  const config = readConfig(parsed.config, options.config ?? {}, diagnostics);
  const probes = script.probes.map((probe) => resolveProbe(probe, options.resolver, params, diagnostics));
  const inferred = inferTypes(probes, config, diagnostics);
  return { script, config, probes, maps: inferred.maps, types: inferred.types, vars: inferred.vars };
}

function refuseUnsafe({ probes }: ast.Script, diagnostics: Diagnostics): void {
  for (const probe of probes) {
    ast.walkProbe(probe, (expr) => {
      if (expr.kind !== 'call' || FUNCTIONS[expr.name]?.unsafe !== true) return;
      diagnostics.error(
        expr.nameSpan,
        `${expr.name}() is an unsafe function being used in safe mode`,
        '--unsafe allows it',
      );
    });
  }
}

function mentionsElapsed(semantics: Semantics): boolean {
  let found = false;
  for (const { probe } of semantics.probes) {
    ast.walkProbe(probe, (expr) => {
      if (expr.kind === 'ident' && expr.name === 'elapsed') found = true;
    });
  }
  return found;
}

/** Notes when the script began, for `elapsed`. */
function startProgram(module: Module, semantics: Semantics): ScriptProgram {
  const b = new ProgramBuilder();
  b.call(isa.BPF_FUNC_ktime_get_ns);
  b.ldMapValue(R1, module.start(), 0).stx(8, R1, 0, R0).mov(R0, 0).exit();
  const position = semantics.script.source.scriptPosition({ start: 0, end: 0 });
  return {
    attach: [{ point: { type: 'BEGIN', target: '', position }, targets: [] }],
    insns: b.build(),
    usesAsyncId: false,
    usesStack: false,
  };
}
