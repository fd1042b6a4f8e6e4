/** Errors of programs at the line of source that they are about. */
import { anInteger, checkArgument, having } from '../arguments.ts';
import { BpfError, type ErrorPosition } from '../errors.ts';
import type { ProgLineInfo, ProgramSpec } from './spec.ts';

/** A program that could not be loaded: the verifier's error, at the line of source it is about. */
export class ProgramLoadError extends BpfError {
  readonly program: string;
  /** The instruction in the linked program; -1: none in particular. */
  readonly insn: number;

  constructor(
    program: string,
    insn: number,
    summary: string,
    line: ProgLineInfo | undefined,
    cause: BpfError,
  ) {
    const where = line === undefined ? '' : `${line.file}:${line.line}: `;
    super(cause.code, `${where}program ${program}: ${summary}`, {
      cause,
      log: cause.log,
      hint: cause.hint,
      position: line === undefined ? undefined : positionOf(line),
    });
    this.name = 'ProgramLoadError';
    this.program = program;
    this.insn = insn;
  }
}

function positionOf({ file, line, column, source }: ProgLineInfo): ErrorPosition {
  // Compilers say column 0 where they do not know it.
  const start = column > 0 ? column : source.length - source.trimStart().length + 1;
  return {
    file,
    line,
    column: start,
    length: Math.max(1, source.trimEnd().length - start + 1),
    sourceLine: source,
  };
}

/** The line of source of an instruction of a linked program. */
export function lineOf(program: ProgramSpec, insn: number): ProgLineInfo | undefined {
  checkArgument(
    'lineOf()',
    'program',
    program,
    having('a program of an object, as object.spec has it', 'functions'),
  );
  checkArgument('lineOf()', 'insn', insn, anInteger());
  const func = program.functions.findLast((one) => one.insn <= insn);
  const line = program.lineInfo.findLast((one) => one.insn <= insn);
  return line !== undefined && func !== undefined && line.insn >= func.insn ? line : undefined;
}
