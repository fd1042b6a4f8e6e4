/** Definitions of synthetic events: `synthetic_events`, and `s:` in `dynamic_events` (kernel/trace/trace_events_synth.c). */

import { type ErrnoCode, KernelError } from '../../errno.ts';
import { readable } from '../byte-string.ts';
import { argvSplit, skipSpaces } from '../c-text.ts';
import type { DynEventOps, DynEvents } from './dynevent.ts';
import { isGoodName } from './event-name.ts';
import { SYNTH_SYSTEM, SynthEvent } from './synth-event.ts';
import { parseSynthField, type SynthField, type SynthFieldError } from './synth-field.ts';

const SYNTH_FIELDS_MAX = 64;

const ERRORS = {
  BAD_NAME: 'Illegal name',
  INVALID_CMD: 'Command must be of the form: <name> field[;field] ...',
  INVALID_DYN_CMD: 'Command must be of the form: s or -:[synthetic/]<name> field[;field] ...',
  EVENT_EXISTS: 'Event already exists',
  TOO_MANY_FIELDS: 'Too many fields',
  INCOMPLETE_TYPE: 'Incomplete type',
  INVALID_TYPE: 'Invalid type',
  INVALID_FIELD: 'Invalid field',
  INVALID_ARRAY_SPEC: 'Invalid array specification',
} as const satisfies Record<SynthFieldError['error'] | string, string>;

type SynthError = keyof typeof ERRORS;

/** The definition of a name; undefined where there is none. */
export function findSynthEvent(dynEvents: DynEvents, name: string): SynthEvent | undefined {
  return dynEvents.list.find((each): each is SynthEvent => each instanceof SynthEvent && each.name === name);
}

export function synthOps(dynEvents: DynEvents): DynEventOps {
  const ops: DynEventOps = { create: (command) => createDynamic(dynEvents, ops, command) };
  return ops;
}

/** Refuses, with the command and a caret under the first place where `word` stands in it. */
class SynthLog {
  readonly #dynEvents: DynEvents;
  readonly #command: string;

  constructor(dynEvents: DynEvents, command: string) {
    this.#dynEvents = dynEvents;
    this.#command = command;
  }

  reject(error: SynthError, word = '', code: ErrnoCode = 'EINVAL'): never {
    const { arch, globalTrace } = this.#dynEvents.tracing;
    const at = Math.max(0, this.#command.indexOf(word));
    const text = readable(this.#command);
    globalTrace.errorLog.log(arch.now('local') ?? 0n, 'synthetic_events', ERRORS[error], text, at);
    throw new KernelError(code, ERRORS[error]);
  }
}

/** create_or_delete_synth_event(): a command of `synthetic_events`. */
export function runSynthCommand(dynEvents: DynEvents, ops: DynEventOps, raw: string): void {
  const command = skipSpaces(raw);
  if (command === '') return;
  const log: SynthLog = new SynthLog(dynEvents, command);
  checkCommand(command, log);
  const space = command.search(/[ \t]/);
  const name = space < 0 ? command : command.slice(0, space);
  if (name[0] === '!') {
    const event = findSynthEvent(dynEvents, name.slice(1));
    if (event === undefined) throw new KernelError('ENOENT', `there is no synthetic event ${name.slice(1)}`);
    event.release();
    return;
  }
  if (space < 0) log.reject('INVALID_CMD');
  create(dynEvents, ops, name, skipSpaces(command.slice(space)), log);
}

/** create_synth_event(): `s:[synthetic/]NAME FIELD[; FIELD ...]` */
function createDynamic(dynEvents: DynEvents, ops: DynEventOps, raw: string): boolean {
  const command = skipSpaces(raw);
  if (command === '') return true;
  if (!command.startsWith('s:')) return false;
  const log: SynthLog = new SynthLog(dynEvents, command);
  const space = command.search(/[ \t]/);
  if (space < 0) log.reject('INVALID_CMD');
  let start = 2;
  if (command.includes('/', 2)) {
    if (!command.startsWith(`${SYNTH_SYSTEM}/`, 2)) log.reject('INVALID_DYN_CMD');
    start += SYNTH_SYSTEM.length + 1;
  }
  checkCommand(command.slice(start), log);
  create(dynEvents, ops, command.slice(start, Math.max(start, space)), skipSpaces(command.slice(space)), log);
  return true;
}

/** check_command(): up to the first `;` stand a name, a type and a field's name. */
function checkCommand(command: string, log: SynthLog): void {
  const first = command.split(';', 1)[0] as string;
  if (first[0] !== '!' && argvSplit(first).length < 3) log.reject('INVALID_CMD');
}

/** __create_synth_event() */
function create(dynEvents: DynEvents, ops: DynEventOps, name: string, text: string, log: SynthLog): void {
  if (name === '') log.reject('INVALID_CMD');
  if (!isGoodName(name)) log.reject('BAD_NAME', name);
  if (findSynthEvent(dynEvents, name) !== undefined) log.reject('EVENT_EXISTS', name, 'EEXIST');
  const fields: SynthField[] = [];
  for (const part of text.split(';')) {
    let words = argvSplit(part);
    while (words.length > 0) {
      const parsed = parseSynthField(words);
      if ('error' in parsed) log.reject(parsed.error, parsed.word);
      if (fields.length === SYNTH_FIELDS_MAX) log.reject('TOO_MANY_FIELDS');
      fields.push(parsed.field);
      words = words.slice(parsed.consumed);
    }
  }
  if (fields.length === 0) log.reject('INVALID_CMD');
  const event = new SynthEvent(dynEvents, ops, name, fields);
  dynEvents.tracing.addEvent(event.call);
  dynEvents.list.push(event);
}
