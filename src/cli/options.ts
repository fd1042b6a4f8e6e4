import { parseArgs } from 'node:util';
import { TraplineError } from '../errors.ts';
import { didYouMean } from '../similar.ts';
import { tieNumbers, usageOf, wholeNumber } from './arguments.ts';

/** What a shell offers for an option's value. */
export type Completion = 'pid' | 'file' | 'command' | 'none';

export interface OptionSpec {
  readonly name: string;
  readonly short?: string;
  /** How the value is called in help; an option without is a flag. */
  readonly value?: string;
  readonly choices?: readonly string[];
  readonly completion?: Completion;
  readonly repeatable?: true;
  /** Shown in help and docs; the program fills it in where it is used. */
  readonly default?: string;
  readonly group: 'What to trace' | 'Output' | 'Safety and cost' | 'Looking inside' | 'General';
  readonly description: string;
}

export const STAGES = ['ast', 'maps', 'codegen', 'verifier', 'wasm', 'all'] as const;
export const ARM_WAYS = ['auto', 'nop', 'bind', 'edit', 'break'] as const;
export const FORMATS = ['text', 'json'] as const;

/** Every option there is. Parsing, `--help`, docs/cli.md and the completions are made from this table. */
export const OPTIONS = [
  {
    name: 'execute',
    short: 'e',
    value: 'PROGRAM',
    group: 'What to trace',
    description: 'The program, instead of a script file.',
  },
  {
    name: 'pid',
    short: 'p',
    value: 'PID',
    completion: 'pid',
    repeatable: true,
    group: 'What to trace',
    description: 'Trace this running Node.js process. May be given more than once.',
  },
  {
    name: 'command',
    short: 'c',
    value: 'COMMAND',
    completion: 'command',
    group: 'What to trace',
    description:
      'Start this command (`node app.js`), trace its first Node process from its first call, end with it.',
  },
  {
    name: 'list',
    short: 'l',
    group: 'What to trace',
    description:
      'List the probes that match a pattern (`kprobe:server.js:*`, `tracepoint:*`) instead of tracing; with -v also parameters, places and fields.',
  },
  {
    name: 'output',
    short: 'o',
    value: 'FILE',
    completion: 'file',
    group: 'Output',
    description: 'Write data to this file instead of standard output.',
  },
  {
    name: 'format',
    short: 'f',
    value: 'FORMAT',
    choices: FORMATS,
    default: 'text',
    group: 'Output',
    description: 'Form of the data: text, or one JSON object a line.',
  },
  {
    name: 'arm',
    value: 'WAY',
    choices: ARM_WAYS,
    default: 'auto',
    group: 'Safety and cost',
    description: 'How to arm probes; auto chooses for each probe what costs the process least.',
  },
  {
    name: 'max-pause',
    value: 'MS',
    default: '100',
    group: 'Safety and cost',
    description:
      'The longest stop of the process that arming may cause, in milliseconds. A probe whose estimate is above it is refused.',
  },
  {
    name: 'maxactive',
    value: 'N',
    default: '0',
    group: 'Safety and cost',
    description:
      'Calls of one function that return probes follow at the same time; 0 is as many as there are. More are counted as missed.',
  },
  {
    name: 'unsafe',
    group: 'Safety and cost',
    description:
      'Allow what may do harm: system() runs commands; live edits where V8 13 and later (Node 24 on) would mix up the variables of closures.',
  },
  {
    name: 'debug',
    short: 'd',
    value: 'STAGE',
    choices: STAGES,
    group: 'Looking inside',
    description: 'Show a stage of compilation instead of tracing.',
  },
  {
    name: 'dry-run',
    group: 'Looking inside',
    description:
      'Compile and verify, trace nothing; against the process, if there is one. The program of -c is ended in front of its first line.',
  },
  {
    name: 'info',
    group: 'Looking inside',
    description: 'Show what this machine, and with -p the process, can do.',
  },
  {
    name: 'verbose',
    short: 'v',
    group: 'Looking inside',
    description:
      'Say how each probe was armed, its estimated and measured pause, and what detaching restored.',
  },
  { name: 'help', short: 'h', group: 'General', description: 'Show this help.' },
  { name: 'version', short: 'V', group: 'General', description: 'Show the version.' },
] as const satisfies readonly OptionSpec[];

export const OPTION_SPECS: readonly OptionSpec[] = OPTIONS;

/** A command line, checked. */
export interface CommandLine {
  readonly pids: readonly number[];
  readonly command: string | undefined;
  readonly execute: string | undefined;
  readonly list: boolean;
  readonly output: string | undefined;
  readonly format: (typeof FORMATS)[number];
  readonly arm: (typeof ARM_WAYS)[number];
  readonly maxPauseMs: number;
  readonly maxactive: number;
  readonly unsafe: boolean;
  readonly debug: (typeof STAGES)[number] | undefined;
  readonly dryRun: boolean;
  readonly info: boolean;
  readonly verbose: boolean;
  readonly help: boolean;
  readonly version: boolean;
  /** The script file (unless -e), the pattern of -l, and positional parameters. */
  readonly positionals: readonly string[];
}

type Parsed = Record<string, string | boolean | (string | boolean)[] | undefined>;

/** Parses a command line. Throws a TraplineError (`EUSAGE`) that names the option. */
export function parseCommandLine(argv: readonly string[]): CommandLine {
  const options = Object.fromEntries(
    OPTION_SPECS.map((option) => [
      option.name,
      {
        type: option.value === undefined ? ('boolean' as const) : ('string' as const),
        ...(option.short === undefined ? {} : { short: option.short }),
        multiple: option.repeatable === true,
      },
    ]),
  );
  let values: Parsed;
  let positionals: string[];
  try {
    ({ values, positionals } = parseArgs({
      args: tieNumbers(argv, options),
      options,
      allowPositionals: true,
    }));
  } catch (error) {
    throw usageError((error as Error).message);
  }
  const choice = <T extends string>(name: string, choices: readonly T[]): T | undefined => {
    const value = values[name] as string | undefined;
    if (value === undefined || choices.includes(value as T)) return value as T | undefined;
    throw new TraplineError('EUSAGE', `${flagName(name)}: ${value} is not one of ${choices.join(', ')}`);
  };
  return {
    pids: ((values['pid'] ?? []) as string[]).map((pid) => numberOf('pid', pid, 1)),
    command: values['command'] as string | undefined,
    execute: values['execute'] as string | undefined,
    list: values['list'] === true,
    output: values['output'] as string | undefined,
    format: choice('format', FORMATS) ?? 'text',
    arm: choice('arm', ARM_WAYS) ?? 'auto',
    maxPauseMs: numberOf('max-pause', (values['max-pause'] ?? '100') as string, 0),
    maxactive: numberOf('maxactive', (values['maxactive'] ?? '0') as string, 0),
    unsafe: values['unsafe'] === true,
    debug: choice('debug', STAGES),
    dryRun: values['dry-run'] === true,
    info: values['info'] === true,
    verbose: values['verbose'] === true,
    help: values['help'] === true,
    version: values['version'] === true,
    positionals,
  };
}

const numberOf = (name: string, text: string, least: number): number =>
  wholeNumber(flagName(name), text, least);

/** `-p` or `--max-pause`, as people write it. */
export function flagName(name: string): string {
  const option = OPTION_SPECS.find((spec) => spec.name === name);
  return option?.short === undefined ? `--${name}` : `-${option.short}`;
}

/** Options of bpftrace that are not here, and what there is instead. */
const BPFTRACE_OPTIONS: Readonly<Record<string, string>> = {
  '-B': 'data is written as it comes',
  '-q': 'what is no data goes to standard error: 2>/dev/null',
  '--quiet': 'what is no data goes to standard error: 2>/dev/null',
  '--no-warnings': 'warnings go to standard error: 2>/dev/null',
  '-k': 'reads that fail are always told, with their place',
  '-kk': 'reads that fail are always told, with their place',
  '-I': 'there are no C headers here',
  '--include': 'there are no C headers here',
  '--usdt-file-activation': 'tracepoint:CATEGORY:NAME are the events of a process',
  '--no-feature': 'nothing depends on the kernel',
};

function usageError(message: string): TraplineError {
  const unknown = /^Unknown option '(--?[^']+)'/.exec(message)?.[1];
  if (unknown === undefined) return usageOf(message);
  const names = OPTION_SPECS.map(({ name }) => name);
  const elsewhere = Object.hasOwn(BPFTRACE_OPTIONS, unknown) ? BPFTRACE_OPTIONS[unknown] : undefined;
  if (elsewhere !== undefined) {
    return new TraplineError('EUSAGE', `bpftrace's option ${unknown} is not here`, { hint: elsewhere });
  }
  if (/^-\d/.test(unknown)) {
    return new TraplineError('EUSAGE', `unknown option ${unknown}`, {
      hint: `a parameter that begins with - stands behind --: script.bt -- ${unknown}`,
    });
  }
  const hint = unknown.startsWith('--') ? didYouMean(unknown.slice(2), names, '--') : undefined;
  return new TraplineError('EUSAGE', `unknown option ${unknown}`, {
    hint: hint ?? 'trapline --help lists the options',
  });
}
