/** The tracing system of a process: what a tracing folder of it, mounted or not, stands on. */

import { readFileSync } from 'node:fs';
import type { ArmWay } from '../arch/v8/types.ts';
import type { TraplineError } from '../errors.ts';
import { RingBuffer } from '../kernel/trace/ring-buffer/ring-buffer.ts';
import { Tracing } from '../kernel/trace/tracing.ts';
import { addDefinedEvents } from '../kernel/tracepoint/trace-event.ts';
import { tracedEventCall } from '../kernel/tracepoint/traced-event.ts';
import { attach } from './attach.ts';
import { selfSession } from './self.ts';
import type { DetachReport, SessionEvents, TraceSession } from './session.ts';
import { ProcessTraceArch } from './trace-arch.ts';

export interface ProcessTracingOptions {
  readonly way?: 'auto' | ArmWay;
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
  readonly onWarning?: (message: string) => void;
  /** The process exited, or the connection broke. What was recorded stays readable. */
  readonly onGone?: (reason: string) => void;
}

/** A traced process. */
export interface ProcessTracing {
  readonly tracing: Tracing;
  readonly session: TraceSession;
  readonly arch: ProcessTraceArch;
  /** Looks for events that the process's code has defined since. */
  addEvents(): Promise<void>;
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
  let arch: ProcessTraceArch | undefined;
  let gone = false;
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
      arch?.close();
      options.onGone?.(reason);
    },
  };
  const session = pid === process.pid ? await selfSession(events) : await attach(pid, events);
  try {
    const { way = 'auto', maxPauseMs = 100, bufferSizeKb, ringBytes, maxString, inTarget = true } = options;
    let tracing: Tracing | undefined;
    arch = await ProcessTraceArch.open({
      session,
      comm: commOf(pid),
      arm: { way, maxPauseMs, maxactive: 0 },
      inTarget,
      ...(ringBytes === undefined ? {} : { ringBytes }),
      ...(maxString === undefined ? {} : { maxString }),
      onRefused: (symbol, { message }) => {
        const { globalTrace } = tracing as Tracing;
        globalTrace.errorLog.log(globalTrace.now(), 'trace_kprobe', message, symbol, 0);
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
    const addEvents = eventAdder(tracing, arch, session);
    await addEvents();
    return {
      tracing,
      session,
      arch,
      addEvents,
      flush: async () => {
        if (gone) return;
        await session.flush();
        await opened.released();
        await opened.sync();
      },
      settled: () => opened.settled(),
      detach: async () => {
        close?.();
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
function eventAdder(tracing: Tracing, arch: ProcessTraceArch, session: TraceSession): () => Promise<void> {
  return async () => {
    const { events } = (await session.events?.()) ?? { events: [] };
    for (const event of events) {
      const { system, name } = event;
      if (tracing.events.byName(system, name) !== undefined) continue;
      const source = `${system}:${name}`;
      const address = arch.addEvent({ name: `tracepoint:${source}`, source });
      tracing.addEvent(tracedEventCall(tracing, event, address));
    }
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
