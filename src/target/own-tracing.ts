/** The tracing system of the own process for its tracepoints alone: no session, no worker, nothing is changed. */

import { KernelError } from '../kernel/errno.ts';
import { RingBuffer } from '../kernel/trace/ring-buffer/ring-buffer.ts';
import type { TraceArch } from '../kernel/trace/trace-arch.ts';
import { Tracing } from '../kernel/trace/tracing.ts';
import { isTracepointName } from '../kernel/tracepoint/event-list.ts';
import { addDefinedEvents } from '../kernel/tracepoint/trace-event.ts';
import { modulesCame } from './module-watch.ts';
import { OwnStacks } from './own-stacks.ts';
import { OwnTracepoints } from './own-tracepoints.ts';
import { SystemClocks } from './system-clocks.ts';

export interface OwnTracing {
  readonly tracing: Tracing;
  /** Disables its events; what was recorded stays readable. */
  close(): void;
}

/** Tracepoints that this thread's code defines, those to come too. Functions are not probed: openProcessTracing() does that. */
export function openOwnTracing(options: { readonly bufferSizeKb?: number } = {}): OwnTracing {
  const { bufferSizeKb } = options;
  const current = { pid: process.pid, tgid: process.pid, comm: 'node', cpu: 0 };
  const tracepoints = new OwnTracepoints(() => process.hrtime.bigint());
  const stacks = new OwnStacks();
  const clocks = new SystemClocks();
  const arch: TraceArch = {
    ncpu: 1,
    now: (clock) => clocks.now(clock),
    clockAt: (clock, ts) => clocks.at(clock, ts),
    clockObstacle: (clock) => clocks.obstacle(clock),
    current: () => current,
    stackTrace: () => stacks.addresses(),
    lookupTracepoint: (name) => tracepoints.find(name),
    isTracepointName,
    lookupSymbol: () => [],
    lookupAddress: (address) => tracepoints.symbolAt(address) ?? stacks.lookup(address),
    hasModule: () => false,
    functions: () => [],
    armProbe: () => {
      throw new KernelError('EOPNOTSUPP', 'functions are probed by openProcessTracing()');
    },
  };
  const tracing = new Tracing({
    arch,
    createBuffer: (ncpu, sizeKb, now) => new RingBuffer(ncpu, sizeKb, now),
    ...(bufferSizeKb === undefined ? {} : { bufferSizeKb }),
  });
  const close = addDefinedEvents(tracing, (event, added) => {
    tracepoints.changed(event, added);
    // Definitions that wait for a tracepoint do so by any name.
    modulesCame(tracing, ['']);
  });
  return { tracing, close: () => closeAll(tracing, close) };
}

/** Probes on channels and tracepoints go with the folder, too. */
function closeAll(tracing: Tracing, close: () => void): void {
  close();
  for (const call of [...tracing.events]) for (const file of call.files) file.stop();
}
