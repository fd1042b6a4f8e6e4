/**
 * Events of the process on its main thread: the runtime's, those that its code defines with defineTracepoint(), and the channels of
 * node:diagnostics_channel. Nothing is installed before an event is started, and nothing stays once it is stopped.
 */

import type { AgentMain, Emit } from '../agent-main.ts';
import * as engine from './engine.ts';
import * as files from './fs.ts';
import * as http from './http.ts';
import * as system from './system.ts';
import { type Source, type Stop, Tools } from './tools.ts';

/** The sources of src/kernel/tracepoint/runtime-events.ts, by what names them. */
export const SOURCES: Readonly<Record<string, Source>> = {
  'http:server_request_start': http.serverRequestStart,
  'http:server_request_headers': http.serverRequestHeaders,
  'http:server_request_end': http.serverRequestEnd,
  'http:client_request_start': http.clientRequestStart,
  'http:client_request_headers': http.clientRequestHeaders,
  'http:client_request_end': http.clientRequestEnd,
  'http:client_request_error': http.clientRequestError,
  'net:server_connection': system.serverConnection,
  'net:client_connect': system.clientConnect,
  'dns:lookup': system.dnsLookup,
  'fs:op_start': files.opStart,
  'fs:op_end': files.opEnd,
  'module:load': system.moduleLoad,
  'module:import': system.moduleImport,
  'gc:gc': engine.gc,
  'loop:turn': engine.loopTurn,
  'loop:delay': engine.loopDelay,
  'timer:timer_start': engine.timerStart,
  'timer:timer_expire_entry': engine.timerExpireEntry,
  'timer:timer_expire_exit': engine.timerExpireExit,
  'promise:init': engine.promiseInit,
  'promise:settle': engine.promiseSettle,
  'promise:unhandled_rejection': system.unhandledRejection,
  'process:uncaught_exception': system.uncaughtException,
  'process:warning': system.warning,
  'process:resources': engine.resources,
  'worker:start': system.workerStart,
  'worker:exit': system.workerExit,
  'child_process:spawn': system.childSpawn,
  'child_process:exit': system.childExit,
};

/** Where src/kernel/tracepoint/trace-event.ts keeps what the application defines: one Map for each copy of it. */
const REGISTRY = Symbol.for('trapline.tracepoints');

interface Defined {
  readonly system: string;
  readonly name: string;
  readonly types: Readonly<Record<string, string>>;
  readonly tracepoint: {
    add(func: unknown, data: unknown, prio: number): void;
    remove(func: unknown, data: unknown): void;
  };
}

/** TRACEPOINT_DEFAULT_PRIO */
const PRIO = 10;

export interface EventsOptions {
  readonly agent: AgentMain;
  readonly require: (id: string) => unknown;
}

export class Events {
  readonly #tools: Tools;
  /** The undo log: what ends the source of each site. */
  readonly #stops = new Map<number, Stop>();

  constructor({ agent, require }: EventsOptions) {
    this.#tools = new Tools(agent, require);
  }

  #defined(): Defined[] {
    const registry = (globalThis as Record<symbol, unknown>)[REGISTRY];
    if (!Array.isArray(registry)) return [];
    return (registry as Map<string, Defined>[]).flatMap((events) => [...events.values()]);
  }

  /** Begins to run a site's programs on an event (`http:server_request_start`) or, with `raw:`, a channel. */
  start(site: number, event: string): void {
    this.stop([site]);
    const emit = this.#tools.agent.emitter(site);
    this.#stops.set(site, this.#start(event, emit));
  }

  #start(event: string, emit: Emit): Stop {
    if (event.startsWith('raw:')) {
      const channel = event.slice(4);
      return this.#tools.channel(channel, (message) => emit(undefined, message, channel));
    }
    if (Object.hasOwn(SOURCES, event)) return this.#tools.start(SOURCES[event] as Source, emit);
    const found = this.#defined().find(({ system: group, name }) => `${group}:${name}` === event);
    if (found === undefined) throw new Error(`the process has no event ${event}`);
    const { tracepoint } = found;
    const probe = (_: unknown, values: unknown): void => emit(undefined, values);
    tracepoint.add(probe, undefined, PRIO);
    return () => tracepoint.remove(probe, undefined);
  }

  /** Ends the sources of some sites; those that could not be ended. */
  stop(sites: readonly number[]): number[] {
    const kept: number[] = [];
    for (const site of sites) {
      const stop = this.#stops.get(site);
      this.#stops.delete(site);
      try {
        stop?.();
      } catch {
        kept.push(site);
      }
    }
    return kept;
  }

  /** Makes a timer that is the agent's: no event tells of it. */
  own<T extends object>(make: () => T): T {
    return this.#tools.making(make);
  }

  dispose(): void {
    this.stop([...this.#stops.keys()]);
  }
}

export function createEvents(options: EventsOptions): Events {
  return new Events(options);
}
