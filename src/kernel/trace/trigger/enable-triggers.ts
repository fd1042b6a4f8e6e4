/** enable_event, disable_event, enable_hist, disable_hist: triggers that switch another event, or its hists. */

import { KernelError } from '../../errno.ts';
import { readable } from '../byte-string.ts';
import { Tokens } from '../c-text.ts';
import { canEnable } from '../event-control-files.ts';
import { EVENT_FILE_FL_SOFT_DISABLED, type TraceEventFile } from '../trace-event-file.ts';
import {
  addTrigger,
  invalid,
  parseCount,
  removeTrigger,
  separateFilter,
  setTriggerFilter,
  type TriggerCommand,
  triggersOf,
} from './trigger-command.ts';
import { TriggerData, type TriggerType } from './trigger-data.ts';

type EnableName = 'enable_event' | 'disable_event' | 'enable_hist' | 'disable_hist';

function typeOf(name: EnableName): TriggerType {
  return name.endsWith('hist') ? 'hist_enable' : 'event_enable';
}

class EnableTrigger extends TriggerData {
  readonly name: EnableName;
  readonly type: TriggerType;
  readonly needsRecord = false;
  readonly post = false;
  readonly target: TraceEventFile;

  constructor(name: EnableName, target: TraceEventFile) {
    super();
    this.name = name;
    this.type = typeOf(name);
    this.target = target;
  }

  get #enables(): boolean {
    return this.name.startsWith('enable');
  }

  print(): string {
    const { system, name } = this.target.call;
    return this.printAs(`${this.name}:${system}:${name}`);
  }

  protected override takeCount(): boolean {
    // Switching to what it is already does not count.
    const disabled = (this.target.flags & EVENT_FILE_FL_SOFT_DISABLED) !== 0;
    if (this.count !== 0n && this.type === 'event_enable' && this.#enables !== disabled) return false;
    return super.takeCount();
  }

  protected fire(): void {
    if (this.type === 'hist_enable') {
      for (const trigger of triggersOf(this.target))
        if (trigger.type === 'event_hist') trigger.paused = !this.#enables;
    } else if (this.#enables) this.target.flags &= ~EVENT_FILE_FL_SOFT_DISABLED;
    else this.target.flags |= EVENT_FILE_FL_SOFT_DISABLED;
  }

  override release(): void {
    this.target.enable(false, true);
    this.target.call.refs--;
  }
}

/** find_event_file(): EINVAL where there is none that can be enabled. */
function findTarget(
  file: TraceEventFile,
  param: string,
): { target: TraceEventFile; count: string | undefined } {
  const tokens = new Tokens(param);
  const system = tokens.next(':') ?? '';
  if (tokens.rest === undefined) throw invalid('the event is missing');
  const event = tokens.next(':') ?? '';
  const target = file.tr.file(readable(system), readable(event));
  if (target === undefined || !canEnable(target.call)) throw invalid(`there is no event ${system}:${event}`);
  return { target, count: tokens.rest };
}

function enableCommand(name: EnableName): TriggerCommand {
  const type = typeOf(name);
  const command: TriggerCommand = {
    name,
    parse(file, remove, text) {
      const { param = '', filter } = separateFilter(text, true);
      const { target, count } = findTarget(file, param);
      const existing = triggersOf(file).find(
        (trigger) => trigger instanceof EnableTrigger && trigger.type === type && trigger.target === target,
      );
      if (remove) {
        if (existing !== undefined) removeTrigger(file, existing);
        return;
      }
      const trigger = new EnableTrigger(name, target);
      trigger.counted = count !== undefined;
      parseCount(count, trigger);
      setTriggerFilter(file, filter, trigger);
      target.enable(true, true);
      target.call.refs++;
      try {
        if (existing !== undefined) throw new KernelError('EEXIST', 'the event has a trigger for that event');
        addTrigger(file, trigger);
      } catch (error) {
        trigger.release();
        throw error;
      }
    },
  };
  if (type === 'event_enable') return command;
  return {
    ...command,
    unregAll(file) {
      for (const trigger of triggersOf(file))
        if (trigger.type === 'hist_enable') removeTrigger(file, trigger);
    },
  };
}

export const ENABLE_COMMANDS: readonly TriggerCommand[] = [
  enableCommand('enable_event'),
  enableCommand('disable_event'),
  enableCommand('enable_hist'),
  enableCommand('disable_hist'),
];
