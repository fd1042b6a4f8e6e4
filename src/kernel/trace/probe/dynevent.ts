/** Dynamic events: what the files that define events have in common (kernel/trace/trace_dynevent.c). */

import { KernelError } from '../../errno.ts';
import { argvSplit } from '../c-text.ts';
import type { TraceEventCall } from '../trace-event.ts';
import type { Tracing } from '../tracing.ts';

/** A definition (`struct dyn_event`). */
export interface DynEvent {
  readonly ops: DynEventOps;
  readonly call: TraceEventCall;
  /** As its file shows it, a byte string with the newline. */
  show(): string;
  isBusy(): boolean;
  /** Removes the event. Refuses with a KernelError: EBUSY. */
  release(): void;
  /** Its place is in a module that is not there. */
  readonly isWaiting?: boolean;
  /** A module has come or gone. */
  moduleChanged?(module: string): void;
  /** Whether `-:[SYSTEM/]EVENT [ARGS]` names it. An empty event name is any. */
  match(system: string | undefined, event: string, args: readonly string[]): boolean;
}

/** A kind of definition (`struct dyn_event_operations`). */
export interface DynEventOps {
  /** Defines an event; false where the command is of another kind. Refuses with a KernelError and has then changed nothing. */
  create(command: string): boolean;
}

const MAX_COMMAND = 4095;

export class DynEvents {
  readonly tracing: Tracing;
  /** In the order of their definition (dyn_event_list). */
  readonly list: DynEvent[] = [];
  /** The kinds, in the order in which `dynamic_events` asks them. */
  readonly ops: DynEventOps[] = [];

  constructor(tracing: Tracing) {
    this.tracing = tracing;
  }

  /** A command of `dynamic_events`. */
  run(command: string): void {
    if (command[0] === '-' || command[0] === '!') this.release(command);
    else if (!this.ops.some((ops) => ops.create(command))) invalid(command);
  }

  /** A command of a kind's own file. */
  runAs(command: string, ops: DynEventOps): void {
    if (command[0] === '-') this.release(command, ops);
    else if (!ops.create(command)) invalid(command);
  }

  /** dyn_event_release(): `-:[SYSTEM/]EVENT [ARGS]`, every definition that matches. */
  release(command: string, ops?: DynEventOps): void {
    const [head = '', ...args] = argvSplit(command);
    const colon = head[0] === '-' ? 1 : head.indexOf(':');
    if (head[colon] !== ':') invalid(command);
    const name = head.slice(colon + 1);
    const slash = name.indexOf('/');
    const system = slash < 0 ? undefined : name.slice(0, slash);
    const event = name.slice(slash + 1);
    if (system === undefined && event === '') invalid(command);
    const matching = this.list.filter(
      (each) => (ops === undefined || each.ops === ops) && each.match(system, event, args),
    );
    for (const each of matching) each.release();
    if (matching.length === 0) throw new KernelError('ENOENT', `there is no event ${name}`);
  }

  /** dyn_events_release_all(): EBUSY where one is in use, and then none is removed. */
  releaseAll(ops?: DynEventOps): void {
    const all = this.list.filter((each) => ops === undefined || each.ops === ops);
    const busy = all.find((each) => each.isBusy());
    if (busy !== undefined) throw busyError(busy.call);
    for (const each of all) each.release();
  }

  /** A module has come or gone: what was defined for its functions and tracepoints is put there, or taken away. */
  moduleChanged(module: string): void {
    for (const each of this.list) each.moduleChanged?.(module);
  }

  remove(event: DynEvent): void {
    const at = this.list.indexOf(event);
    if (at >= 0) this.list.splice(at, 1);
  }
}

export function busyError(call: TraceEventCall): KernelError {
  return new KernelError('EBUSY', `the event ${call.system}/${call.name} is in use`);
}

function invalid(command: string): never {
  throw new KernelError('EINVAL', `${command === '' ? 'an empty text' : command} defines no event`);
}

/**
 * trace_parse_run_command(): the lines of one write, comments cut off, each run for itself. The first refusal ends it, and what
 * ran before stays.
 */
export function runCommands(text: string, run: (command: string) => void): void {
  let done = 0;
  while (done < text.length) {
    const newline = text.indexOf('\n', done);
    const end = newline < 0 ? text.length : newline;
    const line = text.slice(done, end);
    if (Math.min(end + 1, text.length) - done > MAX_COMMAND || line.includes('\0')) {
      throw new KernelError('EINVAL', `a line is longer than ${MAX_COMMAND - 1} bytes`);
    }
    run(line.split('#', 1)[0] as string);
    done = end + 1;
  }
}
