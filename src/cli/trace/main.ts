/** `trapline record`, `trapline report`, `trapline export`. */
import { complain, failureCode } from '../complain.ts';
import type { TraceCommandName } from './names.ts';
import { parseTraceArguments } from './options.ts';

/** `trapline record …` and its kind: the exit code, 1 (130 after Ctrl-C) after an error that was told on standard error. */
export async function traceMain(command: TraceCommandName, argv: readonly string[]): Promise<number> {
  try {
    return await traceCommand(command, argv);
  } catch (error) {
    complain(error, `trapline ${command} --help`);
    return failureCode(error);
  }
}

/** Runs what stands behind the command's name. Errors: TraplineErrors. */
async function traceCommand(command: TraceCommandName, argv: readonly string[]): Promise<number> {
  const args = parseTraceArguments(command, argv);
  if (args.has('help')) {
    process.stdout.write((await import('./help.ts')).traceHelp(command));
    return 0;
  }
  switch (command) {
    case 'record':
      return await (await import('./record.ts')).recordCommand(args);
    case 'report':
      return await (await import('./report.ts')).reportCommand(args);
    case 'export':
      return await (await import('./export.ts')).exportCommand(args);
  }
}
