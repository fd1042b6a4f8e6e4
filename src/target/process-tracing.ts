/** The tracing system of a process: what a tracing folder of it, mounted or not, stands on. */

import { readFileSync } from 'node:fs';
import type { ArmWay } from '../arch/v8/types.ts';
import {
  aBoolean,
  aFunction,
  anInteger,
  atLeast,
  checkArgument,
  oneOf,
  optional,
  someOptions,
} from '../arguments.ts';
import type { TraplineError } from '../errors.ts';
import { RingBuffer } from '../kernel/trace/ring-buffer/ring-buffer.ts';
import type { TraceEventCall } from '../kernel/trace/trace-event.ts';
import { Tracing } from '../kernel/trace/tracing.ts';
import { type EventDescription, eventKey } from '../kernel/tracepoint/runtime-events.ts';
import { addDefinedEvents } from '../kernel/tracepoint/trace-event.ts';
import { tracedEventCall } from '../kernel/tracepoint/traced-event.ts';
import { aPid, attach } from './attach.ts';
import { ModuleWatch, modulesCame } from './module-watch.ts';
import { selfSession } from './self.ts';
import type { DetachReport, SessionEvents, TraceSession } from './session.ts';
import { ProcessTraceArch } from './trace-arch.ts';

export const PROCESS_TRACING_OPTIONS = someOptions<ProcessTracingOptions>({
  way: optional(oneOf('auto', 'nop', 'property', 'bind', 'edit', 'break')),
  maxPauseMs: optional(atLeast(0)),
  bufferSizeKb: optional(anInteger(1)),
  ringBytes: optional(anInteger(1)),
  maxString: optional(anInteger(1)),
  inTarget: optional(aBoolean),
  unsafe: optional(aBoolean),
  cpus: optional(anInteger(1)),
  watchModules: optional(aBoolean),
  lazy: optional(aBoolean),
  onWarning: optional(aFunction),
  onGone: optional(aFunction),
});

export interface ProcessTracingOptions {
  readonly way?: 'auto' | ArmWay;
  /** Live edits too where V8 13 and later would mix up closures, with a warning (ArmOptions.unsafe). False by default. */
  readonly unsafe?: boolean;
  /** The longest stop of the process that arming may cause, in ms; 100 by default. */
  readonly maxPauseMs?: number;
  /** KiB of the buffer of an instance; 1408 by default, as on Linux. */
  readonly bufferSizeKb?: number;
  /** Bytes of the ring in the process: a power of two, 4 MiB by default. */
  readonly ringBytes?: number;
  /** Bytes of a fetched string, NUL included: a multiple of 8, 256 by default. */
  readonly maxString?: number;
  /** Hits are filtered and counted in the process where that can be; with false all are sent. True by default. */
  readonly inTarget?: boolean;
  /** CPUs that the folder has, for tools that expect the machine's: every record is of CPU 0. 1 by default. */
  readonly cpus?: number;
  /** refresh() is called by itself when a module comes that somebody waits for. False by default. */
  readonly watchModules?: boolean;
  /** Functions are listed when loadFunctions() asks for them. False by default. */
  readonly lazy?: boolean;
  readonly onWarning?: (message: string) => void;
  /** The process exited, or the connection broke. What was recorded stays readable. */
  readonly onGone?: (reason: string) => void;
}

/** A traced process. */
export interface ProcessTracing {
  readonly tracing: Tracing;
  readonly session: TraceSession;
  readonly arch: ProcessTraceArch;
  /** Looks for events that the process's code has defined, or taken back, since; whether there are any. */
  addEvents(): Promise<boolean>;
  /** Looks for events, and for functions of modules that were loaded since: definitions that waited for them are armed. EMAXPAUSE. */
  refresh(): Promise<void>;
  /** The process's functions are known from then on: once, if they were not at first. Errors of TraceSession.functions(): EMAXPAUSE. */
  loadFunctions(): Promise<void>;
  /** Everything that was hit before is in the buffers when this resolves. */
  flush(): Promise<void>;
  /** Every probe that was asked for is armed, or was refused; the refusals since the last call. */
  settled(): Promise<readonly TraplineError[]>;
  /** Takes everything out of the process. */
  detach(): Promise<DetachReport>;
}

/** What there is to put back in a process that has exited. */
const NOTHING: DetachReport = {
  functionsRestored: 0,
  bytesRestored: 0,
  longestPauseMs: 0,
  pausesMs: [],
  failures: [],
};

/** Begins to trace a process; its own where the pid is that one's. Errors: those of attach(), EMAXPAUSE. */
export async function openProcessTracing(
  pid: number,
  options: ProcessTracingOptions = {},
): Promise<ProcessTracing> {
  checkArgument('openProcessTracing()', 'pid', pid, aPid);
  checkArgument('openProcessTracing()', 'options', options, PROCESS_TRACING_OPTIONS);
  let arch: ProcessTraceArch | undefined;
  let gone = false;
  let stopWatching: (() => void) | undefined;
  const events: SessionEvents = {
    onRecord: (record) => arch?.onRecord(record),
    onArmed: ({ name, way, note }) => {
      // armed at first, and then no way was left
      if (way === undefined)
        options.onWarning?.(`${name} is not traced any more: ${note ?? 'no reason given'}`);
    },
    onLost: (count) => arch?.onLost(count),
    onWarning: (message) => options.onWarning?.(message),
    onGone: (reason) => {
      gone = true;
      stopWatching?.();
      arch?.close();
      options.onGone?.(reason);
    },
  };
  const session = pid === process.pid ? await selfSession(events) : await attach(pid, events);
  try {
    const {
      way = 'auto',
      maxPauseMs = 100,
      bufferSizeKb,
      ringBytes,
      maxString,
      inTarget = true,
      unsafe = false,
      lazy = false,
    } = options;
    let tracing: Tracing | undefined;
    arch = await ProcessTraceArch.open({
      session,
      comm: commOf(pid),
      arm: { way, maxPauseMs, maxactive: 0, unsafe },
      inTarget,
      lazy,
      ...(options.cpus === undefined ? {} : { cpus: options.cpus }),
      ...(ringBytes === undefined ? {} : { ringBytes }),
      ...(maxString === undefined ? {} : { maxString }),
      onRefused: (symbol, { message }) => {
        const { globalTrace } = tracing as Tracing;
        globalTrace.errorLog.log(process.hrtime.bigint(), 'trace_kprobe', message, symbol, 0);
        options.onWarning?.(`${symbol}: ${message}`);
      },
    });
    tracing = new Tracing({
      arch,
      createBuffer: (ncpu, sizeKb, now) => new RingBuffer(ncpu, sizeKb, now),
      ...(bufferSizeKb === undefined ? {} : { bufferSizeKb }),
    });
    const opened = arch;
    // What this thread's code defines can be recorded here as well.
    const close = pid === process.pid ? addDefinedEvents(tracing) : undefined;
    const system = tracing;
    const lookForEvents = eventAdder(tracing, arch, session);
    const addEvents = async (): Promise<boolean> => {
      const changed = await lookForEvents();
      // Tracepoints have no modules here: any name does for the definitions that wait for one.
      if (changed) modulesCame(system, ['']);
      return changed;
    };
    const refresh = async (): Promise<void> => {
      if (gone) return;
      await addEvents();
      modulesCame(system, await opened.refresh());
      watch?.update();
    };
    const watch =
      options.watchModules === true
        ? new ModuleWatch({
            tracing,
            arch,
            refresh: () =>
              refresh().catch((error: unknown) => {
                if (!gone)
                  options.onWarning?.(`modules that came: ${error instanceof Error ? error.message : error}`);
              }),
          })
        : undefined;
    stopWatching = () => watch?.stop();
    await addEvents();
    return {
      tracing,
      session,
      arch,
      addEvents,
      refresh,
      loadFunctions: () => opened.loadFunctions(),
      flush: async () => {
        if (gone) return;
        await session.flush();
        await opened.released();
        await opened.sync();
      },
      settled: () => {
        if (!gone) watch?.update();
        return opened.settled();
      },
      detach: async () => {
        close?.();
        watch?.stop();
        await opened.settled();
        if (gone) return NOTHING;
        // What is counted in the process is fetched once, behind the last hit.
        if (opened.counting) await session.disable?.().catch(() => undefined);
        await session.flush().catch(() => undefined);
        await opened.released();
        await opened.sync().catch(() => undefined);
        opened.close();
        gone = true;
        return await session.detach();
      },
    };
  } catch (error) {
    await session.detach().catch(() => undefined);
    throw error;
  }
}

/** Adds what the process has of events, but for those that are there. */
function eventAdder(tracing: Tracing, arch: ProcessTraceArch, session: TraceSession): () => Promise<boolean> {
  const added = new Map<TraceEventCall, EventDescription>();
  return async () => {
    const { events } = (await session.events?.()) ?? { events: [] };
    const names = new Set(events.map(eventKey));
    let isNew = false;
    for (const [call, description] of added) {
      if (names.has(eventKey(description))) continue;
      for (const file of [...call.files]) file.enable(false);
      // Somebody may hold it still: it goes the next time.
      if (call.users > 0) continue;
      added.delete(call);
      arch.removeEvent(description);
      tracing.removeEvent(call);
      isNew = true;
    }
    for (const event of events) {
      const { system, name } = event;
      // Also of one that is there already: probes may sit on it.
      const address = arch.addEvent(event);
      if (tracing.events.byName(system, name) !== undefined) continue;
      const call = tracedEventCall(tracing, event, address);
      added.set(call, event);
      tracing.addEvent(call);
      isNew = true;
    }
    return isNew;
  };
}

/** /proc/PID/comm; `node` where there is none. */
function commOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim() || 'node';
  } catch {
    return 'node';
  }
}
