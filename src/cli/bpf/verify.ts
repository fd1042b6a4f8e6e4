import { type BpfError, createMachine, type LoadedProgram } from '../../bpf/index.ts';
import { TraplineError } from '../../errors.ts';
import { diagnostic, emit } from './files.ts';
import { type BpfInput, programType, readInput, wantedPrograms } from './input.ts';
import { loadOne, setGlobals } from './load.ts';
import { createNewMaps, newMapSpecs } from './new-map.ts';
import type { BpfArguments } from './options.ts';

/** What became of one program. */
interface Verdict {
  readonly file: string;
  readonly program: string;
  readonly loaded: LoadedProgram | undefined;
  readonly error: BpfError | undefined;
}

/** `trapline bpf verify` */
export async function verifyCommand(args: BpfArguments): Promise<number> {
  if (args.positionals.length === 0) {
    throw new TraplineError('EUSAGE', 'no program', { hint: 'trapline bpf verify --help' });
  }
  const level = args.number('log-level', 0, 0);
  if (level > 2) throw new TraplineError('EUSAGE', `--log-level: ${level} is not one of 0, 1, 2`);
  let refused = 0;
  for (const file of args.positionals) {
    for (const verdict of verdicts(args, readInput(args, file), level as 0 | 1 | 2)) {
      if (verdict.error !== undefined) refused++;
      report(args, verdict, level);
    }
  }
  return refused === 0 ? 0 : 1;
}

function* verdicts(args: BpfArguments, input: BpfInput, logLevel: 0 | 1 | 2): Generator<Verdict> {
  if (input.kind === 'insns') {
    const type = programType(args) ?? 'syscall';
    const maps = newMapSpecs(args);
    yield attempt(input.file, 'prog', () => {
      const machine = createMachine();
      return machine.loadProgram({
        name: 'prog',
        type,
        insns: input.insns,
        maps,
        loadedMaps: createNewMaps(maps, machine),
        sleepable: type === 'syscall',
        engine: 'interpreter',
        logLevel,
        unprivileged: args.flag('unprivileged'),
      });
    });
    return;
  }
  const { object } = input;
  setGlobals(args, object);
  for (const name of wantedPrograms(args, object)) {
    yield attempt(input.file, name, () => {
      const options = {
        programs: [name],
        engine: 'interpreter',
        logLevel,
        unprivileged: args.flag('unprivileged'),
      } as const;
      return loadOne(args, object, name, createMachine(), options).programs.get(name)!;
    });
  }
}

function attempt(file: string, program: string, load: () => LoadedProgram): Verdict {
  try {
    return { file, program, loaded: load(), error: undefined };
  } catch (error) {
    if (typeof (error as { code?: unknown }).code !== 'string') throw error;
    return { file, program, loaded: undefined, error: error as BpfError };
  }
}

function report(args: BpfArguments, { file, program, loaded, error }: Verdict, level: number): void {
  const log = error?.log ?? loaded?.verified.log ?? '';
  if (args.json) {
    const line = {
      file,
      program,
      accepted: error === undefined,
      ...(loaded === undefined ? {} : numbers(loaded)),
      ...(error === undefined
        ? {}
        : {
            code: error.code,
            message: error.message,
            ...(error.position === undefined ? {} : { position: error.position }),
            ...(error.hint === undefined ? {} : { hint: error.hint }),
          }),
      ...(level === 0 ? {} : { log }),
    };
    emit(undefined, `${JSON.stringify(line)}\n`);
    return;
  }
  if (error !== undefined) {
    process.stderr.write(`${diagnostic(error)}\n`);
    if (level > 0 && log !== '') process.stderr.write(`${log.trimEnd()}\n`);
    return;
  }
  const { type, insns, verified_insns, stack_depth } = numbers(loaded!);
  if (level > 0 && log !== '') emit(undefined, `${log.trimEnd()}\n`);
  emit(
    undefined,
    `${file}: ${program}: accepted (${type}, ${insns} instructions, ${verified_insns} looked at, stack ${stack_depth})\n`,
  );
}

function numbers({ type, verified }: LoadedProgram): {
  type: string;
  insns: number;
  verified_insns: number;
  stack_depth: number;
} {
  return {
    type,
    insns: verified.insns.length,
    verified_insns: verified.verifiedInsns,
    stack_depth: verified.stackDepth,
  };
}
