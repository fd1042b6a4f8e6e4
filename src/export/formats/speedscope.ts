/** Profiles of speedscope: calls of each task as an evented profile, recorded stacks as a sampled one. */
import { anObject, checkArgument, optional } from '../../arguments.ts';
import { TraplineError } from '../../errors.ts';
import { dataView } from '../../kernel/trace/trace-entry.ts';
import type { TraceEvent, TraceEvents } from '../events.ts';
import { aTraceEvents } from '../events.ts';
import { slices } from './slices.ts';
import { textOf } from './text.ts';

const SCHEMA = 'https://www.speedscope.app/file-format-schema.json';
const ULONG_MAX = 0xffff_ffff_ffff_ffffn;
/** Where the addresses of a stack's record begin. */
const CALLERS = 16;

interface EventedProfile {
  readonly type: 'evented';
  readonly name: string;
  readonly unit: 'nanoseconds';
  readonly startValue: number;
  endValue: number;
  readonly events: { readonly type: 'O' | 'C'; readonly frame: number; readonly at: number }[];
}

interface SampledProfile {
  readonly type: 'sampled';
  readonly name: string;
  readonly unit: 'none';
  readonly startValue: 0;
  endValue: number;
  readonly samples: number[][];
  readonly weights: number[];
}

/** ENODATA: the file has neither calls with their ends, nor stacks. Times count from the first event. */
export function* exportSpeedscope(
  events: TraceEvents,
  options: { readonly name?: string; readonly exporter?: string } = {},
): IterableIterator<Uint8Array> {
  checkArgument('exportSpeedscope()', 'events', events, aTraceEvents);
  checkArgument('exportSpeedscope()', 'options', options, optional(anObject));
  const frames: { readonly name: string }[] = [];
  const numbers = new Map<string, number>();
  const frame = (name: string): number => {
    let number = numbers.get(name);
    if (number === undefined) {
      number = frames.push({ name: textOf(name) }) - 1;
      numbers.set(name, number);
    }
    return number;
  };
  const evented = new Map<number, EventedProfile>();
  const sampled = new Map<number, SampledProfile>();
  let begin: bigint | undefined;
  const task = (pid: number): string => `${textOf(events.comm(pid))} ${pid}`;
  for (const item of slices(events)) {
    const ts = item.kind === 'end' ? item.ts : item.event.ts;
    begin ??= ts;
    if (item.kind === 'instant') {
      const stack = stackOf(events, item.event);
      if (stack !== undefined) addSample(sampled, item.event.pid, task, stack.map(frame));
      continue;
    }
    const pid = item.kind === 'end' ? item.pid : item.event.pid;
    const at = Number(ts - begin);
    let profile = evented.get(pid);
    if (profile === undefined) {
      profile = {
        type: 'evented',
        name: task(pid),
        unit: 'nanoseconds',
        startValue: at,
        endValue: at,
        events: [],
      };
      evented.set(pid, profile);
    }
    profile.endValue = at;
    profile.events.push({ type: item.kind === 'begin' ? 'O' : 'C', frame: frame(item.name), at });
  }
  const profiles = [...evented.values(), ...sampled.values()];
  if (profiles.length === 0)
    throw new TraplineError('ENODATA', 'the file has no calls with their returns, and no stacks', {
      hint: 'record kprobe and kretprobe of a function, or set the option stacktrace',
    });
  const { name = 'trace.dat', exporter = 'trapline' } = options;
  const file = { $schema: SCHEMA, name, exporter, activeProfileIndex: 0, shared: { frames }, profiles };
  yield new TextEncoder().encode(`${JSON.stringify(file)}\n`);
}

function addSample(
  sampled: Map<number, SampledProfile>,
  pid: number,
  task: (pid: number) => string,
  stack: number[],
): void {
  let profile = sampled.get(pid);
  if (profile === undefined) {
    const name = `${task(pid)}: stacks`;
    profile = { type: 'sampled', name, unit: 'none', startValue: 0, endValue: 0, samples: [], weights: [] };
    sampled.set(pid, profile);
  }
  profile.samples.push(stack);
  profile.weights.push(1);
  profile.endValue++;
}

/** Names of a recorded stack, the outermost first. */
function stackOf(events: TraceEvents, { event, data }: TraceEvent): string[] | undefined {
  if (event?.system !== 'ftrace' || (event.name !== 'kernel_stack' && event.name !== 'user_stack'))
    return undefined;
  const view = dataView(data);
  const names: string[] = [];
  for (let at = CALLERS; at + 8 <= data.length; at += 8) {
    const address = view.getBigUint64(at, true);
    if (address === ULONG_MAX || address === 0n) break;
    names.push(events.symbols.find(address)?.name ?? `0x${address.toString(16)}`);
  }
  return names.reverse();
}
