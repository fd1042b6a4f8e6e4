/** The command of `-c`: started, and kept in front of its main module. */
import { TraplineError } from '../errors.ts';
import { endedBefore, type HeldProcess, type LaunchedCommand, launch } from '../target/launch.ts';

/** So long a command may take until its first Node process asks whether it may begin. */
const KNOCK_MS = 10_000;

export interface HeldCommand {
  readonly command: LaunchedCommand;
  readonly held: HeldProcess;
}

/**
 * Starts what `-c` says; `verb` is what is to be done with it. While nothing has begun, `interrupt` ends all of
 * it, and is aborted where SIGINT has ended it. Errors: EUSAGE,
 * those of launch(), ESRCH, ENOTNODE. Where it throws, nothing is left of the command.
 */
export async function holdCommand(
  text: string,
  verb: 'traced' | 'recorded',
  interrupt: AbortController,
): Promise<HeldCommand> {
  const [file, ...args] = splitWords(text);
  if (file === undefined) throw new TraplineError('EUSAGE', '-c: the command is empty');
  const command = await launch(file, args);
  const end = (): void => void command.end();
  if (interrupt.signal.aborted) end();
  else interrupt.signal.addEventListener('abort', end, { once: true });
  void command.interrupted.then(() => interrupt.abort());
  const held = await command.held(KNOCK_MS);
  if (held !== undefined) return { command, held };
  const ended = command.hasExited();
  await command.end();
  if (!ended) throw new TraplineError('ENOTNODE', '-c: the command started no Node.js process');
  throw endedBefore(verb, {
    hint: `it started no Node.js process, or one that ended at once: -c ${verb === 'traced' ? 'traces' : 'records'} the first one`,
  });
}

/** Ctrl-C, before anything counted: what had begun is undone, as of a program that the signal ends. */
export function interrupted(): TraplineError {
  return new TraplineError('EINTR', 'interrupted while getting ready: nothing was traced');
}

/** Words as a shell splits them: blanks, quotes and backslashes; nothing is expanded. */
export function splitWords(command: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  for (const [, quoted, double, escaped, plain, blank] of command.matchAll(
    /'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)|([^\s'"\\]+)|(\s+)/gs,
  )) {
    if (blank !== undefined) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else word = (word ?? '') + (quoted ?? double?.replace(/\\(["\\$`])/g, '$1') ?? escaped ?? plain);
  }
  if (word !== undefined) words.push(word);
  return words;
}
