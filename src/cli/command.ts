import { TraplineError } from '../errors.ts';
import { type LaunchedCommand, launch } from '../target/launch.ts';

/** Starts what `-c` says. */
export async function startCommand(command: string): Promise<LaunchedCommand> {
  const [file, ...args] = splitWords(command);
  if (file === undefined) throw new TraplineError('EUSAGE', '-c: the command is empty');
  return await launch(file, args);
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
