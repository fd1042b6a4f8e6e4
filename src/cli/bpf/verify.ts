import { type BpfError, type VerifiedProgram, verifyProgram } from '../../bpf/index.ts';
import { TraplineError } from '../../errors.ts';
import { diagnostic, emit, inFile, isCoded } from './files.ts';
import { type BpfInput, programType, readInput, wantedPrograms } from './input.ts';
import { loadOptions, setGlobals } from './load.ts';
import { newMapSpecs } from './new-map.ts';
import type { BpfArguments } from './options.ts';

/** What became of one program. */
interface Verdict {
  readonly file: string;
  /** Undefined where the file cannot be read. */
  readonly program: string | undefined;
  readonly verified: VerifiedProgram | undefined;
  readonly error: TraplineError | BpfError | undefined;
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
    for (const verdict of judged(args, file, level as 0 | 1 | 2)) {
      if (verdict.error !== undefined) refused++;
      report(args, verdict, level);
    }
  }
  return refused === 0 ? 0 : 1;
}

/** A file that cannot be read is no reason to leave out those behind it. */
function* judged(args: BpfArguments, file: string, logLevel: 0 | 1 | 2): Generator<Verdict> {
  let input: BpfInput;
  try {
    input = readInput(args, file);
  } catch (error) {
    if (!isCoded(error)) throw error;
    yield { file, program: undefined, verified: undefined, error };
    return;
  }
  yield* verdicts(args, input, logLevel);
}

function* verdicts(args: BpfArguments, input: BpfInput, logLevel: 0 | 1 | 2): Generator<Verdict> {
  if (input.kind === 'insns') {
    const type = programType(args) ?? 'syscall';
    const maps = newMapSpecs(args);
    yield attempt(input.file, 'prog', () =>
      verifyProgram({
        name: 'prog',
        type,
        insns: input.insns,
        maps,
        sleepable: type === 'syscall',
        logLevel,
        unprivileged: args.flag('unprivileged'),
      }),
    );
    return;
  }
  const { object } = input;
  setGlobals(args, object);
  for (const name of wantedPrograms(args, object)) {
    const type = programType(args);
    yield attempt(input.file, name, () =>
      object.verify(name, {
        ...loadOptions(args),
        ...(type === undefined ? {} : { types: { [name]: type } }),
        logLevel,
        unprivileged: args.flag('unprivileged'),
      }),
    );
  }
}

function attempt(file: string, program: string, verify: () => VerifiedProgram): Verdict {
  try {
    return { file, program, verified: verify(), error: undefined };
  } catch (error) {
    if (!isCoded(error)) throw error;
    return { file, program, verified: undefined, error };
  }
}

function report(args: BpfArguments, { file, program, verified, error }: Verdict, level: number): void {
  const log = error?.log ?? verified?.log ?? '';
  if (args.json) {
    const line = {
      file,
      program,
      accepted: error === undefined,
      ...(verified === undefined ? {} : numbers(verified)),
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
    process.stderr.write(`${diagnostic(inFile(file, error))}\n`);
    if (level > 0 && log !== '') process.stderr.write(`${log.trimEnd()}\n`);
    return;
  }
  const { type, insns, verified_insns, stack_depth } = numbers(verified!);
  if (level > 0 && log !== '') emit(undefined, `${log.trimEnd()}\n`);
  emit(
    undefined,
    `${file}: ${program}: accepted (${type}, ${insns} instructions, ${verified_insns} looked at, stack ${stack_depth})\n`,
  );
}

function numbers(verified: VerifiedProgram): {
  type: string;
  insns: number;
  verified_insns: number;
  stack_depth: number;
} {
  return {
    type: verified.type,
    insns: verified.insns.length,
    verified_insns: verified.verifiedInsns,
    stack_depth: verified.stackDepth,
  };
}
