/** The files that define dynamic events: `kprobe_events`, `dynamic_events`, `synthetic_events`, `kprobe_profile`. */
import { KernelError } from '../../errno.ts';
import { bytesToString, stringToBytes } from '../byte-string.ts';
import type { FileOps } from '../file-operations.ts';
import type { Files, FilesPart } from '../trace-files.ts';
import type { Tracing } from '../tracing.ts';
import { type DynEventOps, DynEvents, runCommands } from './dynevent.ts';
import { runSynthCommand, synthOps } from './synth-command.ts';
import { SynthEvent } from './synth-event.ts';
import { eprobeOps } from './trace-eprobe.ts';
import { fprobeOps } from './trace-fprobe.ts';
import { kprobeOps, TraceKprobe } from './trace-kprobe.ts';

const MODE_WRITE = 0o640;
const MODE_READ = 0o440;

/** The kinds of definitions, in the order in which `dynamic_events` asks them. */
const KINDS = [kprobeOps, fprobeOps, eprobeOps, synthOps];

const systems = new WeakMap<Tracing, DynEvents>();

/** The dynamic events of a system. */
export function dynEventsOf(tracing: Tracing): DynEvents {
  let dynEvents = systems.get(tracing);
  if (dynEvents === undefined) {
    dynEvents = new DynEvents(tracing);
    for (const kind of KINDS) dynEvents.ops.push(kind(dynEvents));
    systems.set(tracing, dynEvents);
  }
  return dynEvents;
}

/** The files of the tracing folder that define events. */
export const probeFiles: FilesPart = { top: topFiles };

function topFiles(tracing: Tracing): Files {
  const dynEvents = dynEventsOf(tracing);
  const [kprobes, , , synths] = dynEvents.ops as [DynEventOps, DynEventOps, DynEventOps, DynEventOps];
  const show = (pick: (event: (typeof dynEvents.list)[number]) => string): string =>
    dynEvents.list.map(pick).join('');
  return {
    dynamic_events: commandFile({
      show: () => show((event) => event.show()),
      truncate: () => dynEvents.releaseAll(),
      run: (command) => dynEvents.run(command),
    }),
    kprobe_events: commandFile({
      show: () => show((event) => (event.ops === kprobes ? event.show() : '')),
      truncate: () => dynEvents.releaseAll(kprobes),
      run: (command) => dynEvents.runAs(command, kprobes),
    }),
    synthetic_events: commandFile({
      show: () => show((event) => (event instanceof SynthEvent ? event.showFields() : '')),
      truncate: () => dynEvents.releaseAll(synths),
      run: (command) => runSynthCommand(dynEvents, synths, command),
    }),
    kprobe_profile: readFile(() => show((event) => (event instanceof TraceKprobe ? profileLine(event) : ''))),
    uprobe_events: commandFile({ show: () => '', truncate: () => {}, run: refuseUprobe }),
    uprobe_profile: readFile(() => ''),
  };
}

/** A process has no inodes to put breakpoints into; definitions of them are refused, comments and empty lines are not. */
function refuseUprobe(command: string): void {
  if (command.trim() === '') return;
  if (!/^[pr-]/.test(command)) throw new KernelError('EINVAL', 'it begins with p, r or -');
  throw new KernelError('EOPNOTSUPP', 'there are no uprobes in a JavaScript process', {
    hint: 'use kprobe_events: its functions are those of the process',
  });
}

/** probes_profile_seq_show() */
function profileLine({ call, nhit, missed }: TraceKprobe): string {
  const [hits, misses] = [nhit, missed].map((n) => String(n).padStart(15));
  return `  ${call.name.padEnd(44)} ${hits} ${misses}\n`;
}

interface CommandFileOptions {
  /** A byte string. */
  readonly show: () => string;
  readonly truncate: () => void;
  readonly run: (command: string) => void;
}

/** A file that lists definitions and takes commands. Opening it with O_TRUNC removes what it lists. */
function commandFile({ show, truncate, run }: CommandFileOptions): FileOps {
  return {
    mode: MODE_WRITE,
    open(flags) {
      if (flags.write && flags.truncate) truncate();
      return {
        ...readFile(show).open(flags),
        write(data) {
          runCommands(bytesToString(data), run);
          return data.length;
        },
      };
    },
  };
}

function readFile(show: () => string): FileOps {
  return {
    mode: MODE_READ,
    open() {
      let content: Uint8Array | undefined;
      return {
        read(offset, length) {
          if (content === undefined || offset === 0) content = stringToBytes(show());
          return content.subarray(offset, offset + length);
        },
      };
    },
  };
}
