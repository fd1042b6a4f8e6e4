import { parseArgs } from 'node:util';
import { TraplineError } from '../../errors.ts';
import { didYouMean } from '../../similar.ts';
import { tieNumbers, usageOf, wholeNumber } from '../arguments.ts';
import { FORMATS, type OptionSpec } from '../options.ts';

export const COMMAND_NAMES = [
  'run',
  'verify',
  'dump',
  'disasm',
  'gen',
  'btf',
  'map',
  'attach',
  'step',
  'conformance-plugin',
] as const;
export type CommandName = (typeof COMMAND_NAMES)[number];

export const INPUT_KINDS = ['auto', 'elf', 'bin', 'hex', 'asm'] as const;
export const DUMP_STAGES = ['insns', 'xlated', 'wat'] as const;
export const SYNTAXES = ['kernel', 'conformance'] as const;
export const ENGINES = ['jit', 'interpreter'] as const;

/** As the tracer's options, and the commands that take it. */
export interface BpfOptionSpec extends Omit<OptionSpec, 'group'> {
  readonly commands: readonly CommandName[];
}

const LOADING = ['run', 'verify', 'dump', 'map', 'step'] as const;
const RUNNING = ['run', 'map', 'step'] as const;
const OF_OBJECTS = [...LOADING, 'attach'] as const;

/** Every option of `trapline bpf`. Parsing, help, docs/bpf-cli.md and the completions are made from this table. */
export const BPF_OPTIONS: readonly BpfOptionSpec[] = [
  {
    name: 'pid',
    short: 'p',
    value: 'PID',
    commands: ['attach'],
    description: 'The Node.js process.',
  },
  {
    name: 'program',
    value: 'NAME',
    repeatable: true,
    commands: ['attach'],
    description: 'Attach this program; may be given more than once. Default all but `SEC("?…")`.',
  },
  {
    name: 'cookie',
    value: 'NAME=NUMBER',
    repeatable: true,
    commands: ['attach'],
    description: 'What bpf_get_attach_cookie() answers in a program; may be given more than once. Default 0.',
  },
  {
    name: 'max-pause',
    value: 'MS',
    default: '100',
    commands: ['attach'],
    description: 'The longest stop of the process that arming may cause.',
  },
  {
    name: 'prog',
    short: 'p',
    value: 'NAME',
    commands: LOADING,
    description:
      'The program; needed where the object has more than one. verify and dump take all without it.',
  },
  {
    name: 'type',
    short: 't',
    value: 'TYPE',
    commands: LOADING,
    description:
      'The program type (`xdp`, `sched_cls`, `kprobe`), instead of what the section says. Raw instructions are xdp with --data-in, else syscall.',
  },
  {
    name: 'input',
    value: 'KIND',
    choices: INPUT_KINDS,
    default: 'auto',
    commands: [...LOADING, 'disasm'],
    description:
      'What the file holds: an object, or instructions as bytes, as hexadecimal digits or as assembler text. auto looks.',
  },
  {
    name: 'data-in',
    value: 'BYTES',
    completion: 'file',
    commands: RUNNING,
    description: 'The packet: a file, `hex:…`, or `zero:N` for N zero bytes.',
  },
  {
    name: 'ctx-in',
    value: 'BYTES',
    completion: 'file',
    commands: RUNNING,
    description:
      'The context: a file, `hex:…`, or `zero:N`. Program types without a test run get it as it is.',
  },
  {
    name: 'data-out',
    value: 'FILE',
    completion: 'file',
    commands: ['run'],
    description: 'Write the packet after the last run to this file; `-` prints it.',
  },
  {
    name: 'ctx-out',
    value: 'FILE',
    completion: 'file',
    commands: ['run'],
    description: 'Write the context after the last run to this file; `-` prints it.',
  },
  {
    name: 'repeat',
    value: 'N',
    default: '1',
    commands: ['run', 'map'],
    description: 'Run so many times.',
  },
  {
    name: 'engine',
    value: 'ENGINE',
    choices: ENGINES,
    default: 'jit',
    commands: ['run', 'map'],
    description: 'What runs the program.',
  },
  {
    name: 'set',
    value: 'NAME=VALUE',
    completion: 'none',
    repeatable: true,
    commands: OF_OBJECTS,
    description: 'Give a global variable this value before loading; VALUE is JSON.',
  },
  {
    name: 'put',
    value: 'MAP=[KEY,VALUE]',
    completion: 'none',
    repeatable: true,
    commands: RUNNING,
    description: 'Put an entry into a map before the run; KEY and VALUE are JSON, or "hex:…".',
  },
  {
    name: 'new-map',
    value: 'NAME=TYPE:KEY:VALUE:ENTRIES[:FLAGS]',
    completion: 'none',
    repeatable: true,
    commands: LOADING,
    description:
      'A map for raw instructions: sizes of key and value in bytes. The first one is `map[idx:0]` in assembler text.',
  },
  {
    name: 'map',
    short: 'm',
    value: 'NAME',
    repeatable: true,
    commands: ['map', 'attach'],
    description: 'Show this map only.',
  },
  {
    name: 'target-btf',
    value: 'FILE',
    completion: 'file',
    commands: OF_OBJECTS,
    description:
      "Types that CO-RE relocations and tracing programs refer to (`/sys/kernel/btf/vmlinux`); default the object's own.",
  },
  {
    name: 'kconfig',
    value: 'FILE',
    completion: 'file',
    commands: OF_OBJECTS,
    description: 'Text of a kernel configuration, for `__kconfig` variables.',
  },
  {
    name: 'stage',
    short: 's',
    value: 'STAGE',
    choices: DUMP_STAGES,
    default: 'xlated',
    commands: ['dump'],
    description:
      'insns: linked, as the object has them; xlated: after relocation and verification; wat: the WebAssembly that the JIT makes.',
  },
  {
    name: 'syntax',
    value: 'SYNTAX',
    choices: SYNTAXES,
    default: 'kernel',
    commands: ['disasm'],
    description: "The kernel's syntax, or that of the bpf_conformance suite.",
  },
  {
    name: 'log-level',
    short: 'l',
    value: 'N',
    choices: ['0', '1', '2'],
    default: '0',
    commands: ['verify'],
    description:
      "How much of the verifier's log to show: errors only, instructions, the state after each as well.",
  },
  {
    name: 'unprivileged',
    commands: ['verify'],
    description: 'Verify as for a user without capabilities.',
  },
  {
    name: 'base',
    short: 'B',
    value: 'FILE',
    completion: 'file',
    commands: ['btf'],
    description: 'The BTF that this one goes on from (split BTF of a kernel module).',
  },
  {
    name: 'import-from',
    value: 'MODULE',
    default: 'trapline/bpf',
    commands: ['gen'],
    description: 'What the generated module imports.',
  },
  {
    name: 'output',
    short: 'o',
    value: 'FILE',
    completion: 'file',
    commands: ['dump', 'disasm', 'gen', 'btf', 'map'],
    description: 'Write to this file instead of standard output.',
  },
  {
    name: 'format',
    short: 'f',
    value: 'FORMAT',
    choices: FORMATS,
    default: 'text',
    commands: ['run', 'verify', 'dump', 'disasm', 'map', 'attach'],
    description: 'Text, or one JSON object a line.',
  },
  {
    name: 'elf',
    commands: ['conformance-plugin'],
    description: 'Standard input is an object file (bytes, or hexadecimal digits), not instructions.',
  },
  {
    name: 'interpret',
    commands: ['conformance-plugin'],
    description: 'Use the interpreter instead of the JIT.',
  },
  { name: 'help', short: 'h', commands: COMMAND_NAMES, description: 'Show this help.' },
];

/** A command's options as they were given, not looked into yet. */
export class BpfArguments {
  readonly command: CommandName;
  readonly positionals: readonly string[];
  readonly #values: Readonly<Record<string, unknown>>;

  constructor(
    command: CommandName,
    positionals: readonly string[],
    values: Readonly<Record<string, unknown>>,
  ) {
    this.command = command;
    this.positionals = positionals;
    this.#values = values;
  }

  has(name: string): boolean {
    return this.#values[name] !== undefined;
  }

  flag(name: string): boolean {
    return this.#values[name] === true;
  }

  text(name: string): string | undefined {
    return this.#values[name] as string | undefined;
  }

  list(name: string): readonly string[] {
    return (this.#values[name] ?? []) as string[];
  }

  choice<T extends string>(name: string, choices: readonly T[], fallback: T): T {
    const value = this.text(name);
    if (value === undefined) return fallback;
    const known = choices.find((choice) => choice === value);
    if (known !== undefined) return known;
    throw new TraplineError('EUSAGE', `--${name}: ${value} is not one of ${choices.join(', ')}`, {
      hint: didYouMean(value, choices),
    });
  }

  number(name: string, fallback: number, least: number): number {
    const text = this.text(name);
    if (text === undefined) return fallback;
    return wholeNumber(`--${name}`, text, least);
  }

  get json(): boolean {
    return this.choice('format', FORMATS, 'text') === 'json';
  }

  /** As these, but for the first positional arguments. */
  without(count: number): BpfArguments {
    return new BpfArguments(this.command, this.positionals.slice(count), this.#values);
  }

  /** The only positional argument. `what` says what it is. */
  file(what: string): string {
    const [file, extra] = this.positionals;
    if (file === undefined) {
      throw new TraplineError('EUSAGE', `no ${what}`, { hint: `trapline bpf ${this.command} --help` });
    }
    if (extra !== undefined) throw new TraplineError('EUSAGE', `one ${what} at a time: ${extra} is too much`);
    return file;
  }
}

export function optionsOf(command: CommandName): BpfOptionSpec[] {
  return BPF_OPTIONS.filter(({ commands }) => commands.includes(command));
}

/** Parses what stands behind the command. Throws a TraplineError (`EUSAGE`) that names the option. */
export function parseBpfArguments(command: CommandName, argv: readonly string[]): BpfArguments {
  const specs = optionsOf(command);
  const options = Object.fromEntries(
    specs.map((option) => [
      option.name,
      {
        type: option.value === undefined ? ('boolean' as const) : ('string' as const),
        ...(option.short === undefined ? {} : { short: option.short }),
        multiple: option.repeatable === true,
      },
    ]),
  );
  try {
    const { values, positionals } = parseArgs({
      args: tieNumbers(argv, options),
      options,
      allowPositionals: true,
    });
    return new BpfArguments(command, positionals, values);
  } catch (error) {
    throw usageError(command, specs, (error as Error).message);
  }
}

function usageError(command: CommandName, specs: readonly BpfOptionSpec[], message: string): TraplineError {
  const unknown = /^Unknown option '(--?[^']+)'/.exec(message)?.[1];
  if (unknown === undefined) return usageOf(message);
  const elsewhere = BPF_OPTIONS.find(({ name }) => `--${name}` === unknown);
  const near = unknown.startsWith('--')
    ? didYouMean(
        unknown.slice(2),
        specs.map(({ name }) => name),
        '--',
      )
    : undefined;
  return new TraplineError('EUSAGE', `${command} has no option ${unknown}`, {
    hint:
      elsewhere === undefined
        ? (near ?? `trapline bpf ${command} --help lists the options`)
        : `it is one of ${elsewhere.commands.join(', ')}`,
  });
}
