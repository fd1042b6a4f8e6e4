import { KernelError } from '../errno.ts';
import { TRACE_LAST_TYPE } from './trace-entry.ts';
import type { TraceEventCall } from './trace-event.ts';

const MAX_EVENT_ID = 0xffff;

/** All events of a system by id and name (ftrace_events, register_trace_event()). */
export class EventRegistry {
  readonly #byId = new Map<number, TraceEventCall>();
  readonly #byName = new Map<string, TraceEventCall>();
  #next = TRACE_LAST_TYPE;

  /**
   * Gives the event an id: its own where it is set and free, else the next one; dynamic events' ids are used again
   * once all were given out, as in the kernel. EEXIST: the name is taken; ENODEV: no id is free.
   */
  add(call: TraceEventCall): void {
    const key = `${call.system}:${call.name}`;
    if (this.#byName.has(key)) throw new KernelError('EEXIST', `the event ${key} exists`);
    if (call.id === 0 || this.#byId.has(call.id)) call.id = this.#freeId();
    this.#byId.set(call.id, call);
    this.#byName.set(key, call);
  }

  remove(call: TraceEventCall): void {
    if (this.#byId.get(call.id) !== call) return;
    this.#byId.delete(call.id);
    this.#byName.delete(`${call.system}:${call.name}`);
  }

  byId(id: number): TraceEventCall | undefined {
    return this.#byId.get(id);
  }

  byName(system: string, name: string): TraceEventCall | undefined {
    return this.#byName.get(`${system}:${name}`);
  }

  /** In the order of registration. */
  [Symbol.iterator](): IterableIterator<TraceEventCall> {
    return this.#byName.values();
  }

  #freeId(): number {
    for (let tries = 0; tries < MAX_EVENT_ID; tries++) {
      this.#next = this.#next >= MAX_EVENT_ID ? TRACE_LAST_TYPE + 1 : this.#next + 1;
      if (!this.#byId.has(this.#next)) return this.#next;
    }
    throw new KernelError('ENODEV', 'no event id is free');
  }
}
