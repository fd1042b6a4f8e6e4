import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { TraplineError } from '../errors.ts';

/** A process that `-c` started. */
export interface StartedCommand {
  readonly pid: number;
  readonly exited: Promise<void>;
  hasExited(): boolean;
  /** Asks it to end, and insists after a second. */
  end(): Promise<void>;
}

/**
 * Starts a command with `trapline/register`, so that every module it loads is prepared. Its output goes to standard
 * error: standard output is the tracer's.
 */
export async function startCommand(command: string): Promise<StartedCommand> {
  const [file, ...args] = splitWords(command);
  if (file === undefined) throw new TraplineError('EUSAGE', '-c: the command is empty');
  const register = new URL('../register/index.js', import.meta.url).href;
  const options = [process.env['NODE_OPTIONS'], `--import=${register}`].filter((option) => option).join(' ');
  const child = spawn(file, args, {
    stdio: ['inherit', 2, 2],
    env: { ...process.env, NODE_OPTIONS: options },
  });
  await started(child, file);
  let gone = false;
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => {
      gone = true;
      resolve();
    });
  });
  return {
    pid: child.pid!,
    exited,
    hasExited: () => gone,
    end: async () => {
      if (gone) return;
      child.kill('SIGTERM');
      await Promise.race([exited, sleep(1000, undefined, { ref: false })]);
      if (!gone) child.kill('SIGKILL');
      await exited;
    },
  };
}

function started(child: ChildProcess, file: string): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (error: NodeJS.ErrnoException) => {
      const what = error.code === 'ENOENT' ? 'there is no such program' : error.message;
      reject(new TraplineError(error.code ?? 'EIO', `-c: cannot start ${file}: ${what}`));
    });
  });
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
