import { KernelError } from '../../errno.ts';
import { numberOf } from '../kstrto.ts';
import { takeSnapshot } from '../snapshot.ts';
import { recordStack } from '../stack-trace.ts';
import { ipText } from '../symbols.ts';
import type { FunctionCall, KallsymsSymbol } from '../trace-arch.ts';
import type { TraceArray } from '../trace-array.ts';
import { writeEntry } from '../trace-entry.ts';
import { EVENT_FILE_FL_SOFT_DISABLED, type TraceEventFile } from '../trace-event-file.ts';
import { STACK_DEPTH } from './function-tracer.ts';
import { FunctionUse } from './function-use.ts';

/** What a call of a function does (`struct ftrace_probe_ops`), beside its function's name: `traceoff`, `enable_event:shop:req`. */
interface Action {
  readonly text: string;
  /** False when nothing was to do, which counts as none of the times. */
  run(call: FunctionCall): boolean;
  /** It shows who called. */
  readonly stack?: boolean;
  /** Let go of when the last function has lost it. */
  release?(): void;
}

interface Entry {
  readonly symbol: KallsymsSymbol;
  readonly action: Action;
  /** `traceoff`, or `traceoff_count` where a count was given. */
  readonly kind: string;
  /** Times that are left; undefined for any number. */
  left: bigint | undefined;
}

/** The commands of `set_ftrace_filter`: `FUNCTION:COMMAND[:COUNT]` (kernel/trace/trace_functions.c, trace_events.c). */
export class FunctionCommands {
  readonly #tr: TraceArray;
  #entries: Entry[] = [];
  #use: FunctionUse | undefined;
  #callers = 0;

  constructor(tr: TraceArray) {
    this.#tr = tr;
  }

  /**
   * register_ftrace_function_probe(), unregister_ftrace_function_probe_func(). EINVAL: there is no such command, event or count, all the
   * functions have the command, or none has it. With a count, it is another command than without.
   */
  apply(symbols: readonly KallsymsSymbol[], remove: boolean, words: readonly string[]): void {
    const [name = '', ...params] = words;
    const given = params[name.endsWith('_event') ? 2 : 0];
    const kind = given === undefined ? name : `${name}_count`;
    const left = remove ? undefined : countOf(given);
    const action = this.#action(name, params);
    const wanted = new Set(symbols.map(({ address }) => address));
    const known = this.#entries.filter((one) => one.kind === kind && wanted.has(one.symbol.address));
    const taken = new Set(known.map(({ symbol }) => symbol.address));
    const added = remove ? [] : symbols.filter(({ address }) => !taken.has(address));
    if (remove || added.length === 0) action.release?.();
    if (remove ? known.length === 0 : added.length === 0)
      throw new KernelError('EINVAL', remove ? `there is no ${name} to remove` : `${name} is there`);
    const gone = new Set(remove ? known.map((entry) => entry.action) : []);
    if (remove) this.#entries = this.#entries.filter((entry) => !known.includes(entry));
    // The latest command is shown first, and each by its functions.
    const at = this.#entries.findIndex((entry) => entry.kind === kind);
    this.#entries.splice(
      Math.max(0, at),
      0,
      ...added.map((symbol): Entry => ({ symbol, action, kind, left })),
    );
    for (const entry of this.#entries) gone.delete(entry.action);
    for (const one of gone) one.release?.();
    this.#arm();
  }

  /** rmdir of the instance. */
  clear(): void {
    for (const action of new Set(this.#entries.map((entry) => entry.action))) action.release?.();
    this.#entries = [];
    this.#arm();
  }

  show(): string {
    return this.#entries
      .map(({ symbol, action, left }) => {
        const times = left === undefined ? 'unlimited' : `count=${left}`;
        return `${ipText(this.#tr, symbol.address)}:${action.text}:${times}\n`;
      })
      .join('');
  }

  #arm(): void {
    if (this.#entries.length === 0) {
      this.#use?.stop();
      this.#use = undefined;
      return;
    }
    const callers = this.#entries.some(({ action }) => action.stack === true) ? STACK_DEPTH : 0;
    if (this.#use !== undefined && this.#callers === callers) {
      this.#use.refresh();
      return;
    }
    this.#use?.stop();
    this.#callers = callers;
    this.#use = new FunctionUse(this.#tr, {
      callers,
      wanted: () => this.#entries.map(({ symbol }) => symbol),
      hit: (call) => {
        for (const entry of this.#entries) {
          if (entry.symbol.address !== call.address || entry.left === 0n) continue;
          if (entry.action.run(call) && entry.left !== undefined) entry.left--;
        }
      },
    });
  }

  #action(name: string, params: readonly string[]): Action {
    const tr = this.#tr;
    const tracing = (on: boolean) => () => {
      if (tr.tracingOn === on) return false;
      tr.tracingOn = on;
      return true;
    };
    switch (name) {
      case 'traceon':
        return { text: name, run: tracing(true) };
      case 'traceoff':
        return { text: name, run: tracing(false) };
      case 'snapshot':
        return { text: name, run: () => snapshot(tr) };
      case 'stacktrace':
        return { text: name, run: (call) => this.#stack(call), stack: true };
      case 'enable_event':
      case 'disable_event':
        return this.#eventAction(name, params);
      default:
        throw new KernelError('EINVAL', `there is no command ${name}`);
    }
  }

  #stack({ cpu, ts, pid, address, callers }: FunctionCall): boolean {
    const data = new Uint8Array(8);
    writeEntry(data, 0, pid);
    recordStack(this.#tr, { cpu, ts, data }, callers && [address, ...callers]);
    return true;
  }

  /** event_enable_func(): the event is on from now on, and silent until a call lets it speak. */
  #eventAction(name: string, [system = '', event = '']: readonly string[]): Action {
    const file = this.#tr.file(system, event);
    if (file === undefined) throw new KernelError('EINVAL', `there is no event ${system}:${event}`);
    const on = name === 'enable_event';
    file.enable(true, true);
    return {
      text: `${name}:${system}:${event}`,
      run: () => speak(file, on),
      release: () => file.enable(false, true),
    };
  }
}

function speak(file: TraceEventFile, on: boolean): boolean {
  const silent = (file.flags & EVENT_FILE_FL_SOFT_DISABLED) !== 0;
  if (silent === !on) return false;
  file.flags ^= EVENT_FILE_FL_SOFT_DISABLED;
  return true;
}

/** Undefined where none is given: any number of times. */
function countOf(text: string | undefined): bigint | undefined {
  return text === undefined || text === '' ? undefined : numberOf(text, 0);
}

function snapshot(tr: TraceArray): boolean {
  takeSnapshot(tr);
  return true;
}
