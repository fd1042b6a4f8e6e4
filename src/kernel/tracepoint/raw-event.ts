import { aString, checkArgument } from '../../arguments.ts';
import { KernelError } from '../errno.ts';
import type { Tracepoint } from './tracepoint.ts';

/** MAX_BPF_FUNC_ARGS of a raw tracepoint's program. */
const MAX_ARGS = 12;

/** A raw tracepoint as programs attach to it (`struct bpf_raw_event_map`, include/linux/tracepoint-defs.h). */
export interface RawEventMap {
  readonly tp: Tracepoint;
  /** Arguments that a program sees. */
  readonly numArgs: number;
  /** Bytes of the first argument that a raw_tracepoint_writable program may write. */
  readonly writableSize: number;
}

const rawEvents = new Map<string, RawEventMap>();

/** Makes a tracepoint one that programs find by its name. EEXIST, EINVAL. */
export function registerRawEvent(tp: Tracepoint, numArgs: number, writableSize = 0): RawEventMap {
  if (numArgs < 0 || numArgs > MAX_ARGS || writableSize < 0)
    throw new KernelError('EINVAL', `${tp.name}: a raw tracepoint has 0 to ${MAX_ARGS} arguments`);
  if (rawEvents.has(tp.name)) throw new KernelError('EEXIST', `there is a raw tracepoint ${tp.name}`);
  const map = { tp, numArgs, writableSize };
  rawEvents.set(tp.name, map);
  return map;
}

/** bpf_get_raw_tracepoint() */
export function getRawEvent(name: string): RawEventMap | undefined {
  checkArgument('getRawEvent()', 'name', name, aString);
  return rawEvents.get(name);
}

/** With its module, a tracepoint goes. */
export function unregisterRawEvent(map: RawEventMap): void {
  if (rawEvents.get(map.tp.name) === map) rawEvents.delete(map.tp.name);
}

/** All raw tracepoints, in the order in which they came. */
export function rawEventMaps(): Iterable<RawEventMap> {
  return rawEvents.values();
}
