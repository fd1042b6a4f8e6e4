import { TraplineError } from '../errors.ts';
import { KernelError } from '../kernel/errno.ts';
import { RingBuffer } from '../kernel/trace/ring-buffer/ring-buffer.ts';
import { Tracing } from '../kernel/trace/tracing.ts';
import { needsFunctions } from '../target/function-needs.ts';
import { openProcessTracing } from '../target/process-tracing.ts';
import { SystemClocks } from '../target/system-clocks.ts';
import { openTracefs } from '../tracefs/index.ts';
import type { Tracefs } from '../tracefs/tracefs.ts';
import { notRestored } from './reports.ts';
import { taskOf } from './tracefs-task.ts';

/** What is mounted: a tracing folder and what has to happen around requests. */
export interface TracefsSystem {
  readonly fs: Tracefs;
  /** Before every request: by whose thread it is made. */
  readonly request?: (pid: number) => void;
  /** Before a file is read, or (with `text`) written. */
  readonly prepare?: (path: string, text: string | undefined) => Promise<void>;
  /** Before somebody looks into the folders of events. */
  readonly discover?: () => Promise<void>;
  readonly flush?: () => Promise<void>;
  readonly settle?: () => Promise<void>;
  /** Resolves with the reason when the system is gone by itself. */
  readonly gone?: Promise<string>;
  /** Puts the process back; what is to be told where that failed. */
  close(): Promise<readonly string[]>;
}

/** So often the process is asked for new events while somebody looks. */
const LOOK_MS = 500;

export interface SystemOptions {
  readonly cpus: number;
  readonly maxPauseMs: number;
  readonly warning: (message: string) => void;
}

/** The tracing system of a running process. Errors: those of attach(). */
export async function processSystem(pid: number, options: SystemOptions): Promise<TracefsSystem> {
  let left: (reason: string) => void = () => undefined;
  const gone = new Promise<string>((resolve) => {
    left = resolve;
  });
  const tracing = await openProcessTracing(pid, {
    maxPauseMs: options.maxPauseMs,
    cpus: options.cpus,
    lazy: true,
    watchModules: true,
    onWarning: options.warning,
    onGone: (reason) => left(reason),
  });
  let looked = performance.now();
  return {
    fs: openTracefs(tracing.tracing),
    async prepare(path, text) {
      if (!needsFunctions(path, text)) return;
      try {
        await tracing.loadFunctions();
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error);
        options.warning(message);
        const { globalTrace } = tracing.tracing;
        globalTrace.errorLog.log(process.hrtime.bigint(), 'trapline', message, path, 0);
        throw new KernelError('EBUSY', message, { cause: error });
      }
    },
    async discover() {
      const now = performance.now();
      if (now - looked < LOOK_MS) return;
      looked = now;
      const changed = await tracing.addEvents().catch(() => false);
      // Probes that waited for them are there when somebody sees the events.
      if (changed) await tracing.settled();
    },
    flush: () => tracing.flush(),
    async settle() {
      const [refusal] = await tracing.settled();
      if (refusal !== undefined) throw refusal;
    },
    gone,
    async close() {
      const { failures } = await tracing.detach();
      return failures.map((failure) => notRestored(pid, failure));
    },
  };
}

/** A system without any code to probe: markers, options, instances and buffers work. Tasks are those that ask. */
export function emptySystem(cpus = 1): TracefsSystem {
  const clocks = new SystemClocks();
  let requester = process.pid;
  const tracing = new Tracing({
    arch: {
      ncpu: cpus,
      now: (clock) => clocks.now(clock),
      clockAt: (clock, ts) => clocks.at(clock, ts),
      clockObstacle: (clock) => clocks.obstacle(clock),
      current: () => ({ ...taskOf(requester), cpu: 0 }),
      lookupSymbol: () => [],
      lookupAddress: () => undefined,
      hasModule: () => false,
      functions: () => [],
      armProbe: () => {
        throw new TraplineError('ENOENT', 'there is nothing to probe');
      },
    },
    createBuffer: (ncpu, sizeKb, now) => new RingBuffer(ncpu, sizeKb, now),
  });
  return {
    fs: openTracefs(tracing),
    request: (pid) => {
      requester = pid;
    },
    close: async () => [],
  };
}
