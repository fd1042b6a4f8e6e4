/** Event probes: the command `e`, an event out of the fields of another (kernel/trace/trace_eprobe.c). */

import { KernelError } from '../../errno.ts';
import { readable } from '../byte-string.ts';
import { argvSplit } from '../c-text.ts';
import { createEventFilter } from '../filter/event-filter.ts';
import { updateTriggerFlags } from '../trace-commit.ts';
import { dataView, entryPid, type TraceRecord, writeHead } from '../trace-entry.ts';
import {
  TRACE_EVENT_FL_DYNAMIC,
  TRACE_EVENT_FL_EPROBE,
  TRACE_EVENT_FL_IGNORE_ENABLE,
  TRACE_EVENT_FL_KPROBE,
  TraceEventCall,
} from '../trace-event.ts';
import {
  EVENT_FILE_FL_TRIGGER_MODE,
  type EventFilter,
  type EventTrigger,
  type TraceEventFile,
} from '../trace-event-file.ts';
import type { TraceField } from '../trace-field.ts';
import type { Tracing } from '../tracing.ts';
import { busyError, type DynEvent, type DynEventOps, type DynEvents } from './dynevent.ts';
import { type EventName, MAX_EVENT_NAME_LEN, parseEventName } from './event-name.ts';
import { FetchProgram, type FetchSource, type FetchValue, loadConstant, stringBytes } from './fetch.ts';
import { type ProbeArg, parseProbeArg } from './parse-arg.ts';
import { parseContext } from './parse-context.ts';
import { printProbeArgs } from './print-args.ts';
import { ProbeLog } from './probe-log.ts';
import { MAX_TRACE_ARGS } from './trace-kprobe.ts';
import { headSize, matchArgs, printFmt, probeFields, showArgs, updateArgs } from './trace-probe.ts';

const EPROBE_EVENT_SYSTEM = 'eprobes';

interface TraceEprobeOptions {
  readonly dynEvents: DynEvents;
  readonly ops: DynEventOps;
  readonly group: string;
  readonly name: string;
  readonly attached: TraceEventCall;
  readonly filter: EventFilter | undefined;
  readonly args: readonly ProbeArg[];
  readonly size: number;
}

export class TraceEprobe implements DynEvent {
  readonly ops: DynEventOps;
  readonly call: TraceEventCall;
  readonly attached: TraceEventCall;
  readonly args: readonly ProbeArg[];
  readonly #dynEvents: DynEvents;
  readonly #filter: EventFilter | undefined;
  readonly #program: FetchProgram;
  #enabled: { readonly file: TraceEventFile; readonly trigger: EventTrigger } | undefined;

  constructor(options: TraceEprobeOptions) {
    const { dynEvents, ops, group, name, attached, filter, args, size } = options;
    this.ops = ops;
    this.attached = attached;
    this.args = args;
    this.#dynEvents = dynEvents;
    this.#filter = filter;
    this.#program = new FetchProgram(args, size, headSize('event'));
    this.call = new TraceEventCall({
      name,
      class: { system: group, reg: (_, on, file) => (on ? this.#enable(file) : this.#disable()) },
      fields: probeFields(args, 'event'),
      printFmt: printFmt(args, 'event'),
      flags: TRACE_EVENT_FL_EPROBE | TRACE_EVENT_FL_DYNAMIC,
      print: ({ data }, tracing) =>
        `(${attached.system}.${attached.name})${printProbeArgs(tracing, args, data, headSize('event'))}`,
      data: this,
    });
  }

  readonly #attachedChanged = (): void => this.attached.consumersChanged();

  show(): string {
    const { call, attached } = this;
    return `e:${call.system}/${call.name} ${attached.system}.${attached.name}${showArgs(this.args)}\n`;
  }

  isBusy(): boolean {
    return this.#enabled !== undefined;
  }

  match(system: string | undefined, event: string, args: readonly string[]): boolean {
    if (system !== undefined && system !== this.call.system) return false;
    if (event !== '' && event !== this.call.name) return false;
    const [attached, ...rest] = args;
    if (attached === undefined) return true;
    const slash = attached.includes('/') ? attached.indexOf('/') : attached.indexOf('.');
    if (slash < 0 || attached.slice(0, slash) !== this.attached.system) return false;
    return attached.slice(slash + 1) === this.attached.name && matchArgs(this.args, rest);
  }

  release(): void {
    if (this.isBusy() || this.call.users > 0 || this.call.refs > 0) throw busyError(this.call);
    this.#dynEvents.tracing.removeEvent(this.call);
    this.#dynEvents.remove(this);
    this.attached.refs--;
  }

  /** enable_eprobe(): a trigger of the attached event makes the records; it has that event run in soft mode. */
  #enable(enabled: TraceEventFile | undefined): void {
    const tr = enabled?.tr ?? this.#dynEvents.tracing.globalTrace;
    const file = tr.file(this.attached.system, this.attached.name);
    if (file === undefined) {
      throw new KernelError('ENOENT', `there is no event ${this.attached.system}/${this.attached.name}`);
    }
    const trigger: EventTrigger = {
      name: 'eprobe',
      feeds: [this.call],
      filter: this.#filter,
      needsRecord: true,
      post: false,
      trigger: (record) => {
        if (record !== undefined) this.#hit(record);
      },
      // The `trigger` file does not show it.
      print: () => '',
    };
    file.triggers.push(trigger);
    updateTriggerFlags(file);
    try {
      if (file.tmRef === 0) file.enable(true, true);
    } catch (error) {
      file.triggers.splice(file.triggers.indexOf(trigger), 1);
      updateTriggerFlags(file);
      throw error;
    }
    file.tmRef++;
    file.flags |= EVENT_FILE_FL_TRIGGER_MODE;
    // Who wants its stacks wants those of the event that it is on.
    this.call.watchers.add(this.#attachedChanged);
    this.#enabled = { file, trigger };
  }

  #disable(): void {
    if (this.#enabled === undefined) return;
    const { file, trigger } = this.#enabled;
    this.#enabled = undefined;
    this.call.watchers.delete(this.#attachedChanged);
    const at = file.triggers.indexOf(trigger);
    if (at >= 0) file.triggers.splice(at, 1);
    if (--file.tmRef === 0) {
      file.flags &= ~EVENT_FILE_FL_TRIGGER_MODE;
      file.enable(false, true);
    }
    updateTriggerFlags(file);
  }

  #hit(record: TraceRecord): void {
    const { tracing } = this.#dynEvents;
    writeHead(this.#program.head, this.call.id, entryPid(record.data));
    const data = this.#program.run(recordSource(tracing, record));
    tracing.commit(this.call, { ...record, data });
  }
}

/** Values out of a record: its fields and what they name in it. Of memory elsewhere only strings can be read. */
function recordSource(tracing: Tracing, { data }: TraceRecord): FetchSource {
  return {
    tracing,
    hasKernelStrings: true,
    read: () => undefined,
    readString: (address, max) => tracing.arch.readString?.(address, max, false),
    load(insn) {
      if (insn.op === 'comm') return stringBytes(tracing.arch.current().comm);
      return insn.op === 'tp_arg' && insn.field !== undefined
        ? fieldValue(data, insn.field)
        : loadConstant(insn);
    },
  };
}

/** get_event_field(): a number, or the string that the field holds or names. */
function fieldValue(data: Uint8Array, field: TraceField): FetchValue | undefined {
  const { offset, size, isSigned, filterType } = field;
  if (offset + size > data.length) return undefined;
  const view = dataView(data);
  if (filterType === 'static_string') return untilNul(data, offset);
  if (filterType === 'dyn_string') return untilNul(data, view.getUint32(offset, true) & 0xffff);
  if (filterType === 'rdyn_string') {
    return untilNul(data, offset + 4 + (view.getUint32(offset, true) & 0xffff));
  }
  // A char of the kernel's own C has no sign.
  if (size === 1) return BigInt(view.getUint8(offset));
  if (size === 2) return BigInt(isSigned ? view.getInt16(offset, true) : view.getUint16(offset, true));
  if (size === 4) return BigInt(isSigned ? view.getInt32(offset, true) : view.getUint32(offset, true));
  return offset + 8 <= data.length ? view.getBigUint64(offset, true) : undefined;
}

function untilNul(data: Uint8Array, start: number): Uint8Array {
  const nul = data.indexOf(0, start);
  const text = data.subarray(start, nul < 0 ? data.length : nul);
  const bytes = new Uint8Array(text.length + 1);
  bytes.set(text);
  return bytes;
}

/** The command `e` of `dynamic_events`. */
export function eprobeOps(dynEvents: DynEvents): DynEventOps {
  const ops: DynEventOps = {
    create: (command) => createEprobe(dynEvents, ops, argvSplit(command)),
  };
  return ops;
}

/** __trace_eprobe_create(): `e[:[GRP/][ENAME]] SYSTEM.EVENT [FETCHARGS] [if FILTER]` */
function createEprobe(dynEvents: DynEvents, ops: DynEventOps, argv: readonly string[]): boolean {
  const [head, place, ...rest] = argv;
  if (head === undefined) return true;
  if (head[0] !== 'e' || place === undefined) return false;
  const { tracing } = dynEvents;
  const log: ProbeLog = new ProbeLog(tracing, 'event_probe', argv);
  const colon = head.indexOf(':', 1);
  const named = colon < 0 ? undefined : parseEventName(head.slice(colon + 1), colon + 1, log);
  log.index = 1;
  const { group: system, event } = attachedName(place, log);
  if (system === undefined || event === undefined) log.reject(0, 'NO_EVENT_INFO');
  const ifAt = rest.indexOf('if');
  const words = ifAt < 0 ? rest : rest.slice(0, ifAt);
  if (words.length > MAX_TRACE_ARGS) {
    throw new KernelError('E2BIG', `a probe has at most ${MAX_TRACE_ARGS} arguments`);
  }
  const attached = tracing.events.byName(system, event);
  const unfit = TRACE_EVENT_FL_IGNORE_ENABLE | TRACE_EVENT_FL_KPROBE | TRACE_EVENT_FL_EPROBE;
  if (attached === undefined || (attached.flags & unfit) !== 0) log.reject(0, 'BAD_ATTACH_EVENT', 'ENODEV');
  let filter: EventFilter | undefined;
  if (ifAt >= 0) {
    log.index = 2 + ifAt + 1;
    const rule = rest.slice(ifAt + 1);
    if (rule.length === 0) log.reject(0, 'NO_EP_FILTER');
    filter = compileFilter(tracing, attached, readable(rule.join(' ')));
  }
  const { args, size } = parseEprobeArgs(dynEvents, attached, words, log);
  const group = named?.group ?? EPROBE_EVENT_SYSTEM;
  const name = named?.event ?? event.slice(0, MAX_EVENT_NAME_LEN - 1);
  if (tracing.events.byName(group, name) !== undefined) {
    log.index = 0;
    log.reject(0, 'EVENT_EXIST', 'EEXIST');
  }
  const eprobe = new TraceEprobe({ dynEvents, ops, group, name, attached, filter, args, size });
  tracing.addEvent(eprobe.call);
  attached.refs++;
  dynEvents.list.push(eprobe);
  return true;
}

/** The attached event's name; whatever is wrong with it is also an event that is not named. */
function attachedName(place: string, log: ProbeLog): EventName {
  try {
    return parseEventName(place, 0, log);
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    return { group: undefined, event: undefined };
  }
}

/** trace_eprobe_parse_filter(): every refusal of the rule is EINVAL here. */
function compileFilter(tracing: Tracing, attached: TraceEventCall, rule: string): EventFilter {
  try {
    return createEventFilter(tracing.globalTrace, attached, rule);
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    throw new KernelError('EINVAL', error.message, { cause: error });
  }
}

function parseEprobeArgs(
  dynEvents: DynEvents,
  attached: TraceEventCall,
  words: readonly string[],
  log: ProbeLog,
): { readonly args: readonly ProbeArg[]; readonly size: number } {
  const { arch } = dynEvents.tracing;
  const args: ProbeArg[] = [];
  let size = 0;
  for (const [i, word] of words.entries()) {
    log.index = i + 2;
    const ctx = parseContext({
      arch,
      log,
      site: { kind: 'eprobe', at: 'body' },
      proto: undefined,
      event: attached,
    });
    const arg = parseProbeArg(word, args, size, ctx);
    args.push(arg);
    size = arg.offset + arg.type.size * (arg.count || 1);
    const errno = updateArgs([arg], arch);
    if (errno !== undefined) throw new KernelError(errno, `${word} names a symbol that is not there`);
  }
  return { args, size };
}
