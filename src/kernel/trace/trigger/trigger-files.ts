/** The files `trigger` and `hist` of an event (kernel/trace/trace_events_trigger.c, event_hist_fops). */

import { KernelError } from '../../errno.ts';
import { readable, toByteString } from '../byte-string.ts';
import { skipSpaces, Tokens, trimEnd } from '../c-text.ts';
import { canEnable } from '../event-control-files.ts';
import { type FileOps, textFile } from '../file-operations.ts';
import { HIST_COMMAND, showHists } from '../hist/hist-command.ts';
import { histHits } from '../hist/hist-show.ts';
import type { TraceEventFile } from '../trace-event-file.ts';
import type { FilesPart } from '../trace-files.ts';
import { ENABLE_COMMANDS } from './enable-triggers.ts';
import { SIMPLE_COMMANDS } from './simple-triggers.ts';
import { invalid, type TriggerCommand } from './trigger-command.ts';

const PAGE_SIZE = 4096;

/** In the order in which the file lists them. */
const COMMANDS: readonly TriggerCommand[] = [...SIMPLE_COMMANDS, ...ENABLE_COMMANDS, HIST_COMMAND];

/** trigger_process_regex(): runs a command. EINVAL where it is none; whatever the command refuses. */
export function processTrigger(file: TraceEventFile, text: string): void {
  const tokens = new Tokens(skipSpaces(trimEnd(toByteString(text))));
  const word = tokens.next(': \t') ?? '';
  const rest = skipSpaces(tokens.rest ?? '');
  const remove = word.startsWith('!');
  const name = remove ? word.slice(1) : word;
  const command = COMMANDS.find((one) => one.name === name);
  if (command === undefined) throw invalid(`${readable(name)} is no trigger command`);
  command.parse(file, remove, rest === '' ? undefined : rest);
}

/** trigger_show() */
export function showTriggers(file: TraceEventFile): string {
  // Those of event probes have no line, and do not count (check_user_trigger()).
  const lines = file.triggers.map((trigger) => trigger.print()).filter((line) => line !== '');
  if (lines.length > 0) return lines.map((line) => `${line}\n`).join('');
  return `# Available triggers:\n# ${COMMANDS.map(({ name }) => name).join(' ')}\n`;
}

/** event_hist_fops: ready for who polls when hits have come since it was read. */
function histFile(file: TraceEventFile): FileOps {
  const text = textFile({ mode: 0o440, show: () => showHists(file) });
  return {
    ...text,
    open(flags) {
      const handle = text.open(flags);
      let seen = 0;
      return {
        ...handle,
        read(offset, length) {
          seen = histHits(file);
          return handle.read?.(offset, length) ?? new Uint8Array();
        },
        poll(wake) {
          if (histHits(file) !== seen) return true;
          if (wake !== undefined) file.tr.histWaiters.add(wake);
          return false;
        },
      };
    },
  };
}

export const triggerFiles: FilesPart = {
  event(file) {
    // Every event has a hist file, which is empty without triggers; of those that cannot be enabled the one of trace_marker has triggers.
    const { system, name } = file.call;
    if (!canEnable(file.call) && !(system === 'ftrace' && name === 'print')) return { hist: histFile(file) };
    return {
      trigger: textFile({
        mode: 0o640,
        show: () => showTriggers(file),
        // The latest command first; most have nothing to do here, so that > leaves their triggers.
        truncate: () => {
          for (const command of [...COMMANDS].reverse()) command.unregAll?.(file);
        },
        store: (text, bytes) => {
          if (bytes === 0) return 0;
          if (bytes >= PAGE_SIZE) throw new KernelError('EINVAL', 'a trigger is shorter than a page');
          processTrigger(file, text);
          return bytes;
        },
      }),
      hist: histFile(file),
    };
  },
};
