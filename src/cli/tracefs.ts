import { readdirSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { TraplineError } from '../errors.ts';
import { type Mount, mountTracefs } from '../tracefs/fuse/index.ts';
import { tieNumbers, usageOf, wholeNumber } from './arguments.ts';
import { complain } from './complain.ts';
import { emptySystem, processSystem, type TracefsSystem } from './tracefs-system.ts';

export const TRACEFS_USAGE = `Usage: trapline tracefs --mount DIR [-p PID]

Mounts the tracing folder of a Node.js process, as /sys/kernel/tracing is that of the kernel, until
Ctrl-C, an unmount, or the end of the process. Needs Linux, and root or fusermount3.

  -m, --mount DIR     Where to mount; the folder has to exist.
  -p, --pid PID       The process; without, an empty system: markers, options, instances.
      --max-pause MS  The longest stop of the process that arming may cause. Default 100.
      --cpus N        CPUs of the folder, for tools that expect as many as the machine has
                      (trace-cmd): 'all'. Records are of CPU 0. Default 1.
      --no-allow-other
                      Lets no other user in; without root nobody else is anyway.
  -v, --verbose       Print warnings.
  -h, --help          Show this help.
`;

interface TracefsLine {
  readonly mount: string | undefined;
  readonly pid: number | undefined;
  readonly maxPauseMs: number;
  readonly cpus: number;
  readonly allowOther: boolean;
  readonly verbose: boolean;
  readonly help: boolean;
}

/** CONFIG_NR_CPUS of distributions. */
const CPUS_MAX = 8192;

const OPTIONS = {
  mount: { type: 'string', short: 'm' },
  pid: { type: 'string', short: 'p' },
  'max-pause': { type: 'string', default: '100' },
  cpus: { type: 'string', default: '1' },
  'no-allow-other': { type: 'boolean', default: false },
  verbose: { type: 'boolean', short: 'v', default: false },
  help: { type: 'boolean', short: 'h', default: false },
} as const;

/** Parses what stands behind `trapline tracefs`. EUSAGE. */
export function parseTracefsLine(argv: readonly string[]): TracefsLine {
  try {
    const { values } = parseArgs({ args: tieNumbers(argv, OPTIONS), options: OPTIONS });
    return {
      mount: values.mount,
      pid: values.pid === undefined ? undefined : wholeNumber('-p', values.pid, 1),
      maxPauseMs: wholeNumber('--max-pause', values['max-pause'], 0),
      cpus: cpusOf(values.cpus),
      allowOther: !values['no-allow-other'],
      verbose: values.verbose,
      help: values.help,
    };
  } catch (error) {
    if (error instanceof TraplineError) throw error;
    const { code, message, hint } = usageOf((error as Error).message);
    throw new TraplineError(code, message, { hint: hint ?? 'trapline tracefs --help shows the options' });
  }
}

/** A number, or `all`: those that the machine may have (sysconf(_SC_NPROCESSORS_CONF)). */
function cpusOf(text: string): number {
  if (text !== 'all') {
    const cpus = wholeNumber('--cpus', text, 1);
    if (cpus > CPUS_MAX) throw new TraplineError('EUSAGE', `--cpus: ${cpus} are more than ${CPUS_MAX}`);
    return cpus;
  }
  return readdirSync('/sys/devices/system/cpu').filter((name) => /^cpu\d+$/.test(name)).length;
}

/** `trapline tracefs …`: the exit code, 1 after an error that was told on standard error. */
export async function tracefsMain(argv: readonly string[]): Promise<number> {
  try {
    return await tracefsCommand(argv);
  } catch (error) {
    complain(error, 'trapline tracefs --mount DIR [-p PID]');
    return 1;
  }
}

/** Serves a mount until it ends. Answers with the exit code. */
async function tracefsCommand(argv: readonly string[]): Promise<number> {
  const line = parseTracefsLine(argv);
  if (line.help) {
    process.stdout.write(TRACEFS_USAGE);
    return 0;
  }
  if (line.mount === undefined)
    throw new TraplineError('EUSAGE', 'there is no folder to mount at', { hint: 'give one: --mount DIR' });
  const note = (text: string): void => {
    process.stderr.write(`${text}\n`);
  };
  const warning = line.verbose ? note : () => undefined;
  const system =
    line.pid === undefined
      ? emptySystem(line.cpus)
      : await processSystem(line.pid, { maxPauseMs: line.maxPauseMs, cpus: line.cpus, warning });
  let code = 1;
  try {
    const { request, prepare, discover, flush, settle } = system;
    const mount = await mountTracefs(system.fs, line.mount, {
      ...(line.allowOther ? {} : { allowOther: false }),
      defect: (error) => note(`ERROR: ${error instanceof Error ? error.stack : String(error)}`),
      ...(request === undefined ? {} : { request }),
      ...(prepare === undefined ? {} : { prepare }),
      ...(discover === undefined ? {} : { discover }),
      ...(flush === undefined ? {} : { flush }),
      ...(settle === undefined ? {} : { settle }),
    });
    process.stdout.write(`mounted at ${mount.dir}\n`);
    code = await served(system, mount, note);
  } finally {
    const failures = await system.close();
    failures.forEach(note);
    if (failures.length > 0) code = 1;
  }
  return code;
}

/** Waits for the end: Ctrl-C and the like unmount. */
async function served(system: TracefsSystem, mount: Mount, note: (text: string) => void): Promise<number> {
  const leave = (): void => void mount.unmount();
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, leave);
  system.gone?.then((reason) => {
    note(`the process is gone: ${reason}`);
    leave();
  });
  try {
    await mount.ended;
    return 0;
  } finally {
    for (const signal of signals) process.off(signal, leave);
  }
}
