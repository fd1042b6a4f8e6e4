import { createInterface } from 'node:readline';
import { isatty } from 'node:tty';
import { TraplineError } from '../../errors.ts';
import { DebugSession, ReplayedInputs } from './debug-session.ts';
import { DebugView } from './debug-view.ts';
import { Debugger } from './debugger.ts';
import { execute, runInput } from './execute.ts';
import { readInput } from './input.ts';
import { loadInput } from './load.ts';
import type { BpfArguments } from './options.ts';

const U32 = 2 ** 32;

/** `trapline bpf step` */
export async function stepCommand(args: BpfArguments): Promise<number> {
  await converse(openDebugger(args));
  return 0;
}

/** Loads the program and stops before its first instruction. */
export function openDebugger(args: BpfArguments): Debugger {
  if (args.positionals[0] === '-') {
    throw new TraplineError('EUSAGE', 'standard input is for commands; the program has to be a file');
  }
  const inputs = new ReplayedInputs();
  const loaded = loadInput(args, readInput(args), {
    clock: inputs.wrap(() => performance.now() * 1e6),
    random: inputs.wrap(() => Math.random() * U32),
  });
  // The run that would be, stopped before its first instruction: packet and context are where they belong.
  let session: DebugSession | undefined;
  execute(loaded, runInput(args, loaded), (ctx) => {
    session ??= new DebugSession({
      machine: loaded.machine,
      program: loaded.program,
      ctx: Number(ctx),
      inputs,
    });
    return 0n;
  });
  const view = new DebugView(loaded, session!);
  // The test run has given back what it had: put everything as it was.
  session!.backward(() => false);
  return new Debugger(view);
}

async function converse(debug: Debugger): Promise<void> {
  const isInteractive = isatty(0) && isatty(1);
  process.stdout.write(debug.banner());
  const reader = createInterface({
    input: process.stdin,
    terminal: isInteractive,
    ...(isInteractive ? { output: process.stdout } : {}),
    completer: (line: string) => [debug.complete(line), line],
  });
  reader.setPrompt('(bpf) ');
  if (isInteractive) reader.prompt();
  let last = '';
  for await (const line of reader) {
    const command = line.trim() === '' ? last : line.trim();
    last = command;
    // A script in a pipe reads better with what it answers.
    if (!isInteractive) process.stdout.write(`(bpf) ${command}\n`);
    const answer = debug.execute(command);
    if (answer === undefined) break;
    process.stdout.write(answer);
    if (isInteractive) reader.prompt();
  }
  reader.close();
}
