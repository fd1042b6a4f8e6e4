/** traceon, traceoff, snapshot, stacktrace (kernel/trace/trace_events_trigger.c). */
import { KernelError } from '../../errno.ts';
import { allocSnapshot, takeSnapshot } from '../snapshot.ts';
import { recordStack } from '../stack-trace.ts';
import type { TraceRecord } from '../trace-entry.ts';
import type { TraceEventFile } from '../trace-event-file.ts';
import {
  addTrigger,
  parseCount,
  removeTrigger,
  separateFilter,
  setTriggerFilter,
  type TriggerCommand,
  triggersOf,
} from './trigger-command.ts';
import { TriggerData, type TriggerType } from './trigger-data.ts';

type SimpleName = 'traceon' | 'traceoff' | 'snapshot' | 'stacktrace';

const TYPES: Readonly<Record<SimpleName, TriggerType>> = {
  traceon: 'trace_onoff',
  traceoff: 'trace_onoff',
  snapshot: 'snapshot',
  stacktrace: 'stacktrace',
};

class SimpleTrigger extends TriggerData {
  readonly name: SimpleName;
  readonly type: TriggerType;
  readonly needsRecord = false;
  /** What is done last lets the record itself into the buffer. */
  readonly post: boolean;
  readonly wantsStack: boolean;
  readonly #file: TraceEventFile;

  constructor(name: SimpleName, file: TraceEventFile) {
    super();
    this.name = name;
    this.type = TYPES[name];
    this.post = name === 'traceoff' || name === 'stacktrace';
    this.wantsStack = name === 'stacktrace';
    this.#file = file;
  }

  print(): string {
    return this.printAs(this.name);
  }

  protected override takeCount(): boolean {
    // Turning on what is on does not count.
    if (this.name === 'traceon' && this.#file.tr.tracingOn) return false;
    if (this.name === 'traceoff' && !this.#file.tr.tracingOn) return false;
    return super.takeCount();
  }

  protected fire(record: TraceRecord | undefined): void {
    const { tr } = this.#file;
    if (this.name === 'traceon') tr.tracingOn = true;
    else if (this.name === 'traceoff') tr.tracingOn = false;
    else if (this.name === 'snapshot') takeSnapshot(tr);
    else if (record !== undefined) recordStack(tr, record);
  }
}

function simpleCommand(name: SimpleName): TriggerCommand {
  return {
    name,
    parse(file, remove, text) {
      const { param, filter } = separateFilter(text, false);
      if (remove) {
        const found = triggersOf(file).find(({ type }) => type === TYPES[name]);
        if (found !== undefined) removeTrigger(file, found);
        return;
      }
      const trigger = new SimpleTrigger(name, file);
      trigger.counted = param !== undefined;
      parseCount(param, trigger);
      setTriggerFilter(file, filter, trigger);
      if (name === 'snapshot') allocSnapshot(file.tr);
      if (triggersOf(file).some(({ type }) => type === trigger.type))
        throw new KernelError('EEXIST', `the event has a trigger of this kind`);
      addTrigger(file, trigger);
    },
  };
}

export const SIMPLE_COMMANDS: readonly TriggerCommand[] = [
  simpleCommand('traceon'),
  simpleCommand('traceoff'),
  simpleCommand('snapshot'),
  simpleCommand('stacktrace'),
];
