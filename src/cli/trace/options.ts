import { parseArgs } from 'node:util';
import { TraplineError } from '../../errors.ts';
import { COMPRESSIONS } from '../../export/index.ts';
import { didYouMean } from '../../similar.ts';
import type { OptionSpec } from '../options.ts';
import { TRACE_COMMANDS, type TraceCommandName } from './names.ts';

export const EXPORT_FORMATS = ['perfetto', 'chrome', 'speedscope', 'json'] as const;
export type ExportFormat = (typeof EXPORT_FORMATS)[number];

/** As the tracer's options, and the commands that take it. */
export interface TraceOptionSpec extends Omit<OptionSpec, 'group'> {
  readonly commands: readonly TraceCommandName[];
}

/** Every option of `trapline record`, `report` and `export`: parsing, help, docs/record-cli.md and the completions are made of it. */
export const TRACE_OPTIONS: readonly TraceOptionSpec[] = [
  {
    name: 'pid',
    short: 'p',
    value: 'PID',
    completion: 'pid',
    commands: ['record'],
    description: 'Record this running Node.js process.',
  },
  {
    name: 'command',
    short: 'c',
    value: 'COMMAND',
    completion: 'command',
    commands: ['record'],
    description: 'Start this command (`node app.js`), record its first Node process, end with it.',
  },
  {
    name: 'event',
    short: 'e',
    value: 'EVENT',
    repeatable: true,
    commands: ['record'],
    description:
      'An event: `SYSTEM:EVENT`, `SYSTEM`, `EVENT` (globs too), `all`; a function, as `kprobe:server.js:handle` or kretprobe, with fetch arguments behind it; or a definition for `dynamic_events`. May be given more than once.',
  },
  {
    name: 'filter',
    short: 'f',
    value: 'FILTER',
    repeatable: true,
    commands: ['record'],
    description: 'Filter of the events of the -e in front of it.',
  },
  {
    name: 'trigger',
    short: 'R',
    value: 'TRIGGER',
    repeatable: true,
    commands: ['record'],
    description: 'Trigger of the events of the -e in front of it.',
  },
  {
    name: 'buffer',
    short: 'B',
    value: 'INSTANCE',
    repeatable: true,
    commands: ['record'],
    description: 'Make an instance of this name; the -e behind it go there.',
  },
  {
    name: 'tracer',
    value: 'TRACER',
    commands: ['record'],
    description: 'A tracer of `available_tracers` (trace-cmd: -p).',
  },
  {
    name: 'clock',
    short: 'C',
    value: 'CLOCK',
    commands: ['record'],
    description: 'The clock of stamps, one of `trace_clock`.',
  },
  {
    name: 'trace-option',
    short: 'O',
    value: 'OPTION',
    repeatable: true,
    commands: ['record'],
    description: 'An option of `trace_options` to set, or to clear by `noOPTION`.',
  },
  {
    name: 'buffer-size',
    short: 'b',
    value: 'KB',
    commands: ['record'],
    description:
      'KiB of the ring between the process and the recorder, rounded up to a power of two: what may wait while the recorder is late. 4096 by default.',
  },
  {
    name: 'sleep',
    short: 's',
    value: 'USECS',
    commands: ['record'],
    description:
      'Take unfinished pages too, so often, in microseconds: what was recorded is then on disk at most that much later. Full pages are taken at once.',
  },
  {
    name: 'duration',
    short: 'd',
    value: 'SECONDS',
    commands: ['record'],
    description: 'End after so many seconds. Without it at Ctrl-C, or with the process.',
  },
  {
    name: 'output',
    short: 'o',
    value: 'FILE',
    completion: 'file',
    commands: ['record', 'report', 'export'],
    description: 'The file to write. record: trace.dat by default; report and export: standard output.',
  },
  {
    name: 'file-version',
    value: 'N',
    choices: ['6', '7'],
    default: '7',
    commands: ['record'],
    description: 'Version of the file.',
  },
  {
    name: 'compression',
    value: 'NAME',
    choices: [...COMPRESSIONS, 'any'],
    default: 'none',
    commands: ['record'],
    description: 'Compression of a file of version 7; any is the best that this Node has.',
  },
  {
    name: 'date',
    commands: ['record'],
    description: 'Let reports show times of day (since 1970) in the place of the clock.',
  },
  {
    name: 'max-pause',
    value: 'MS',
    default: '100',
    commands: ['record'],
    description: 'The longest stop of the process that arming may cause.',
  },
  {
    name: 'to',
    short: 't',
    value: 'FORMAT',
    choices: EXPORT_FORMATS,
    commands: ['export'],
    description:
      'What to write: a protobuf trace of Perfetto, trace events of Chrome, a profile of speedscope, or a JSON object a line.',
  },
  {
    name: 'input',
    short: 'i',
    value: 'FILE',
    completion: 'file',
    commands: ['report', 'export'],
    description: 'The trace.dat file; also as the last argument. trace.dat by default.',
  },
  {
    name: 'filter',
    short: 'F',
    value: 'FILTER',
    repeatable: true,
    commands: ['report', 'export'],
    description:
      'Show these events only: `EVENTS: EXPRESSION`, where EVENTS are regular expressions (`SYSTEM/EVENT`, commas) and the expression is that of event filters. Several widen it.',
  },
  { name: 'cpu', value: 'LIST', commands: ['report'], description: 'Of these CPUs only: `0,2-3`.' },
  {
    name: 'latency',
    short: 'l',
    commands: ['report'],
    description: 'Show the columns of the latency format.',
  },
  { name: 'nanoseconds', short: 't', commands: ['report'], description: 'Show all nine places of times.' },
  {
    name: 'raw',
    short: 'R',
    commands: ['report'],
    description: 'Show fields, and not what the print format makes of them.',
  },
  { name: 'ts-diff', commands: ['report'], description: 'Show the distance to the event before.' },
  {
    name: 'stat',
    commands: ['report'],
    description: 'Show what `per_cpu/cpuN/stats` said at the end, and no events.',
  },
  { name: 'uname', commands: ['report'], description: 'Show the system that was recorded, and no events.' },
  {
    name: 'quiet',
    short: 'q',
    commands: ['record'],
    description: 'Say nothing but errors and lost events.',
  },
  {
    name: 'verbose',
    short: 'v',
    commands: ['record'],
    description: 'Print warnings, and what detaching restored.',
  },
  { name: 'help', short: 'h', commands: TRACE_COMMANDS, description: 'Show this help.' },
];

export function optionsOf(command: TraceCommandName): readonly TraceOptionSpec[] {
  return TRACE_OPTIONS.filter(({ commands }) => commands.includes(command));
}

/** A command line: options in the order in which they were given, as some are about those in front of them. */
export interface TraceArguments {
  readonly given: readonly { readonly name: string; readonly value: string | undefined }[];
  readonly positionals: readonly string[];
  has(name: string): boolean;
  /** The last one's value, or the default. */
  value(name: string): string | undefined;
  /** EUSAGE unless it is a whole number from `least`; undefined where the option is not there. */
  number(name: string, least: number): number | undefined;
}

/** Parses what stands behind the command's name. EUSAGE. */
export function parseTraceArguments(command: TraceCommandName, argv: readonly string[]): TraceArguments {
  const specs = optionsOf(command);
  const options = Object.fromEntries(
    specs.map(({ name, short, value }) => [
      name,
      {
        type: value === undefined ? ('boolean' as const) : ('string' as const),
        multiple: true,
        ...(short === undefined ? {} : { short }),
      },
    ]),
  );
  let parsed: ReturnType<typeof parseArgs>;
  try {
    parsed = parseArgs({ args: [...argv], options, allowPositionals: true, tokens: true });
  } catch (error) {
    throw usageError(command, (error as Error).message, specs);
  }
  const given = (parsed.tokens ?? []).flatMap((token) =>
    token.kind === 'option' ? [{ name: token.name, value: token.value }] : [],
  );
  for (const { name, choices } of specs) {
    if (choices === undefined) continue;
    const wrong = given.find((one) => one.name === name && !choices.includes(one.value as string));
    if (wrong !== undefined)
      throw new TraplineError('EUSAGE', `--${name}: ${wrong.value} is none of ${choices.join(', ')}`, {
        hint: choices.includes('6') ? undefined : didYouMean(wrong.value as string, choices),
      });
  }
  const value = (name: string): string | undefined =>
    given.findLast((one) => one.name === name)?.value ?? specs.find((one) => one.name === name)?.default;
  return {
    given,
    positionals: parsed.positionals,
    has: (name) => given.some((one) => one.name === name),
    value,
    number(name, least) {
      const text = value(name);
      if (text === undefined) return undefined;
      const number = /^\d+$/.test(text) ? Number(text) : Number.NaN;
      if (Number.isSafeInteger(number) && number >= least) return number;
      throw new TraplineError('EUSAGE', `--${name}: ${text} is not a whole number from ${least}`);
    },
  };
}

function usageError(
  command: TraceCommandName,
  message: string,
  specs: readonly TraceOptionSpec[],
): TraplineError {
  const unknown = /^Unknown option '(--?[^']+)'/.exec(message)?.[1];
  const hint = `trapline ${command} --help shows the options`;
  if (unknown === undefined) return new TraplineError('EUSAGE', message.replace(/\.\s.*/s, ''), { hint });
  const names = specs.map(({ name }) => name);
  const near = unknown.startsWith('--') ? didYouMean(unknown.slice(2), names, '--') : undefined;
  return new TraplineError('EUSAGE', `unknown option ${unknown}`, { hint: near ?? hint });
}
