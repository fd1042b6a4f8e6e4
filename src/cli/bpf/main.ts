/** `trapline bpf COMMAND`: picks the command, tells errors, gives the exit code. */
import { TraplineError } from '../../errors.ts';
import { didYouMean } from '../../similar.ts';
import { BPF_COMMANDS } from './commands.ts';
import { diagnostic, isCoded } from './files.ts';
import { parseBpfArguments } from './options.ts';

/** Runs a command line without its `bpf`; resolves to the exit code, 1 after an error that was told on standard error. */
export async function bpfMain(argv: readonly string[]): Promise<number> {
  // A reader that went away is no error.
  process.stdout.on('error', () => {});
  try {
    return await dispatch(argv);
  } catch (error) {
    complain(error);
    return 1;
  }
}

async function dispatch([name, ...rest]: readonly string[]): Promise<number> {
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    const { bpfHelp } = await import('./help.ts');
    process.stdout.write(bpfHelp());
    return name === undefined ? 1 : 0;
  }
  const command = BPF_COMMANDS.find((one) => one.name === name);
  if (command === undefined) {
    const near = didYouMean(
      name,
      BPF_COMMANDS.map((one) => one.name),
    );
    throw new TraplineError('EUSAGE', `bpf has no command ${name}`, {
      hint: near ?? 'trapline bpf --help lists the commands',
    });
  }
  const args = parseBpfArguments(command.name, rest);
  if (args.flag('help')) {
    const { commandHelp } = await import('./help.ts');
    process.stdout.write(commandHelp(command));
    return 0;
  }
  return await command.run(args);
}

function complain(error: unknown): void {
  if (isCoded(error)) process.stderr.write(`${diagnostic(error)}\n`);
  else
    process.stderr.write(
      `ERROR: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
    );
}
