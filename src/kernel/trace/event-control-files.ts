import { KernelError } from '../errno.ts';
import { TRACE_FN, TRACE_PRINT } from './builtin-events.ts';
import { type FileOps, textFile } from './file-operations.ts';
import { numberFromUser } from './kstrto.ts';
import { pidFile } from './pid-file.ts';
import type { TraceArray } from './trace-array.ts';
import { TRACE_EVENT_FL_IGNORE_ENABLE, type TraceEventCall } from './trace-event.ts';
import { EVENT_FILE_FL_ENABLED, type TraceEventFile } from './trace-event-file.ts';
import type { Files } from './trace-files.ts';
import { traceGetUser } from './trace-parser.ts';

/** Longest word that `set_event` takes (EVENT_BUF_SIZE). */
const EVENT_BUF_SIZE = 1024;
/** Of a write to `set_event`, which takes one word at a time. */
const WORDS_SEEN = 4096;

export function canEnable(call: TraceEventCall): boolean {
  return (call.flags & TRACE_EVENT_FL_IGNORE_ENABLE) === 0;
}

/** The latest first, as the kernel keeps its list. */
function filesOf(tr: TraceArray): TraceEventFile[] {
  return tr.files.filter(({ call }) => canEnable(call)).reverse();
}

/**
 * __ftrace_set_clr_event(): all events that fit are switched; the first refusal is the answer, and the others are switched all the
 * same. EINVAL when none fits.
 */
function setEvents(tr: TraceArray, on: boolean, fits: (call: TraceEventCall) => boolean): void {
  let found = false;
  let refusal: unknown;
  for (const file of filesOf(tr)) {
    if (!fits(file.call)) continue;
    found = true;
    try {
      file.enable(on);
    } catch (error) {
      refusal ??= error;
    }
  }
  if (refusal !== undefined) throw refusal;
  if (!found) throw new KernelError('EINVAL', 'there is no such event');
}

/** ftrace_set_clr_event(): `SYSTEM:EVENT`, each of which may be `*` or empty; a name alone is that of an event or a system. */
export function setEvent(tr: TraceArray, text: string, on: boolean): void {
  const colon = text.indexOf(':');
  if (colon < 0) {
    setEvents(tr, on, (call) => call.name === text || call.system === text);
    return;
  }
  const any = (name: string): boolean => name === '' || name === '*';
  const system = text.slice(0, colon);
  const event = text.slice(colon + 1);
  setEvents(tr, on, (call) => (any(system) || call.system === system) && (any(event) || call.name === event));
}

function switchValue(text: string): boolean {
  const value = numberFromUser(text);
  if (value > 1n) throw new KernelError('EINVAL', 'it is 0 or 1');
  return value === 1n;
}

/** `enable` of a system, or of all (system_enable_read()): 0, 1, X for some, ? for none. */
function groupEnableFile(tr: TraceArray, fits: (call: TraceEventCall) => boolean): FileOps {
  return textFile({
    mode: 0o640,
    show() {
      let seen = 0;
      for (const file of filesOf(tr))
        if (fits(file.call)) seen |= (file.flags & EVENT_FILE_FL_ENABLED) === 0 ? 1 : 2;
      return `${'?01X'[seen]}\n`;
    },
    store(text) {
      setEvents(tr, switchValue(text), fits);
      return undefined;
    },
  });
}

export function systemFiles(tr: TraceArray, system: string): Files {
  if (system === 'ftrace') return {};
  return { enable: groupEnableFile(tr, (call) => call.system === system) };
}

/** Files of an event's folder (event_create_dir()). */
export function eventFiles(file: TraceEventFile): Files {
  const { call } = file;
  const files: Record<string, FileOps> = { format: textFile({ mode: 0o440, show: () => call.format() }) };
  // Perf can count these two, though they cannot be enabled.
  if (canEnable(call) || call.id === TRACE_FN || call.id === TRACE_PRINT)
    files['id'] = textFile({ mode: 0o440, show: () => `${call.id}\n` });
  if (canEnable(call))
    files['enable'] = textFile({
      mode: 0o640,
      show: () => file.showEnable(),
      store(text) {
        file.enable(switchValue(text));
        return undefined;
      },
    });
  return files;
}

function eventName({ call }: TraceEventFile): string {
  return `${call.system}:${call.name}\n`;
}

/** What switches events in an instance (trace_events.c). */
export function eventControlFiles(tr: TraceArray): Files {
  return {
    set_event: textFile({
      mode: 0o640,
      show: () =>
        filesOf(tr)
          .filter((file) => (file.flags & EVENT_FILE_FL_ENABLED) !== 0)
          .map(eventName)
          .join(''),
      truncate: () => setEventsOff(tr),
      most: WORDS_SEEN,
      store(text) {
        if (text.length === 0) return 0;
        const { word, read } = traceGetUser(text, EVENT_BUF_SIZE);
        if (word !== undefined) setEvent(tr, word.replace(/^!/, ''), !word.startsWith('!'));
        return read;
      },
    }),
    set_event_pid: pidFile(tr, 'pids'),
    set_event_notrace_pid: pidFile(tr, 'notracePids'),
    'events/enable': groupEnableFile(tr, () => true),
  };
}

/** ftrace_clear_events() */
function setEventsOff(tr: TraceArray): void {
  for (const file of tr.files) file.enable(false);
}

export function availableEvents(tr: TraceArray): string {
  return filesOf(tr).map(eventName).join('');
}
