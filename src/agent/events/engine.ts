/** Collections, turns of the event loop, timers, promises and resources. */

import { all, type Source, type Tools } from './tools.ts';

interface GcEntry {
  readonly kind?: number;
  readonly flags?: number;
}

interface GcStatistics {
  readonly gcType: string;
  readonly beforeGC: { readonly heapStatistics: { readonly usedHeapSize: number } };
  readonly afterGC: { readonly heapStatistics: { readonly usedHeapSize: number } };
}

interface GcProfiler {
  start(): void;
  stop(): { readonly statistics: readonly GcStatistics[] } | undefined;
}

/** Pauses and flags come of a PerformanceObserver, sizes of V8's GCProfiler: both see each collection, in the same order. */
export const gc: Source = (emit, tools) => {
  const { GCProfiler } = tools.require('v8') as { GCProfiler: new () => GcProfiler };
  let profiler = new GCProfiler();
  profiler.start();
  let sizes: GcStatistics[] = [];
  const stop = tools.entries('gc', ({ duration, detail }) => {
    if (sizes.length === 0) {
      const { statistics = [] } = profiler.stop() ?? {};
      sizes = [...statistics];
      profiler = new GCProfiler();
      profiler.start();
    }
    const size = sizes.shift();
    const { kind = 0, flags = 0 } = (detail ?? {}) as GcEntry;
    const before = size?.beforeGC.heapStatistics.usedHeapSize ?? 0;
    const after = size?.afterGC.heapStatistics.usedHeapSize ?? 0;
    emit(undefined, kind, size?.gcType ?? '', flags, duration * 1e6, before, after);
  });
  return all(() => void profiler.stop(), stop);
};

interface Utilization {
  readonly idle: number;
  readonly active: number;
}

/** An immediate that does not keep the loop from waiting: it runs once a turn, whatever else the turn does. */
export const loopTurn: Source = (emit, tools) => {
  const { setImmediate, clearImmediate } = tools.require('timers') as typeof import('node:timers');
  const { performance } = tools.require('perf_hooks') as {
    performance: { eventLoopUtilization(): Utilization };
  };
  const { eventLoopUtilization } = performance;
  const read = (): Utilization => Reflect.apply(eventLoopUtilization, performance, []) as Utilization;
  let before = read();
  const turn = (): void => {
    immediate = tools.making(() => setImmediate(turn)).unref();
    try {
      const now = read();
      emit(undefined, (now.active - before.active) * 1e6, (now.idle - before.idle) * 1e6);
      before = now;
    } catch {
      // nothing of ours may reach the application
    }
  };
  let immediate = tools.making(() => setImmediate(turn)).unref();
  return () => clearImmediate(immediate);
};

interface DelayHistogram {
  readonly count: number;
  readonly min: number;
  readonly max: number;
  readonly mean: number;
  percentile(percentile: number): number;
  enable(): boolean;
  disable(): boolean;
  reset(): void;
}

const DELAY_MS = 10;
const SECOND_MS = 1000;

export const loopDelay: Source = (emit, tools) => {
  const { monitorEventLoopDelay } = tools.require('perf_hooks') as {
    monitorEventLoopDelay(options: { resolution: number }): DelayHistogram;
  };
  const histogram = monitorEventLoopDelay({ resolution: DELAY_MS });
  histogram.enable();
  const stop = tools.every(SECOND_MS, () => {
    const { count, min, max, mean } = histogram;
    if (count > 0) emit(undefined, count, min, mean, histogram.percentile(50), histogram.percentile(99), max);
    histogram.reset();
  });
  return all(() => void histogram.disable(), stop);
};

interface AsyncHooks {
  executionAsyncResource(): object;
  createHook(hooks: object): { enable(): void; disable(): void };
}

interface TimerHooks {
  readonly start?: (id: number, timer: object, immediate: boolean) => void;
  readonly entry?: (id: number, immediate: boolean) => void;
  /** Of any resource: a timer is not known as one any more. */
  readonly exit?: (id: number) => void;
}

/** The resources of setTimeout(), setInterval() and setImmediate(), as async_hooks names them. */
function timers(tools: Tools, { start, entry, exit }: TimerHooks): () => void {
  const hooks = tools.require('async_hooks') as AsyncHooks;
  const { executionAsyncResource } = hooks;
  const running = (tell: (id: number, immediate: boolean) => void) => (id: number) => {
    try {
      const resource = executionAsyncResource();
      if (tools.isOwn(resource)) return;
      if (tools.agent.property(resource, '_onTimeout') !== undefined) tell(id, false);
      else if (tools.agent.property(resource, '_onImmediate') !== undefined) tell(id, true);
    } catch {
      // nothing of ours may reach the application
    }
  };
  const contained = (tell: (id: number) => void) => (id: number) => {
    try {
      tell(id);
    } catch {
      // nothing of ours may reach the application
    }
  };
  const hook = hooks.createHook({
    // not of promises, where Node knows how
    trackPromises: false,
    ...(start === undefined
      ? {}
      : {
          init: (id: number, type: string, _trigger: number, resource: object) => {
            if ((type === 'Timeout' || type === 'Immediate') && !tools.isOwn(undefined))
              start(id, resource, type === 'Immediate');
          },
        }),
    ...(entry === undefined ? {} : { before: running(entry) }),
    ...(exit === undefined ? {} : { after: contained(exit) }),
  });
  hook.enable();
  return () => hook.disable();
}

export const timerStart: Source = (emit, tools) =>
  timers(tools, {
    start: (id, timer, immediate) =>
      emit(undefined, id, tools.number(timer, '_idleTimeout'), tools.number(timer, '_repeat'), immediate),
  });

export const timerExpireEntry: Source = (emit, tools) =>
  timers(tools, { entry: (id, immediate) => emit(undefined, id, immediate) });

export const timerExpireExit: Source = (emit, tools) => {
  const begun: [id: number, immediate: boolean, ns: number][] = [];
  return timers(tools, {
    entry: (id, immediate) => void begun.push([id, immediate, tools.now()]),
    exit: (id) => {
      let at = begun.length - 1;
      while (at >= 0 && begun[at]?.[0] !== id) at--;
      if (at < 0) return;
      const [, immediate, since] = begun[at] as (typeof begun)[number];
      // what lies above it was left by an exception
      begun.length = at;
      emit(undefined, id, immediate, tools.now() - since);
    },
  });
};

interface PromiseHooks {
  onInit(hook: (promise: object, parent: object | undefined) => void): () => void;
  onSettled(hook: (promise: object) => void): () => void;
}

const promises = (tools: Tools): PromiseHooks =>
  (tools.require('v8') as { promiseHooks: PromiseHooks }).promiseHooks;

export const promiseInit: Source = (emit, tools) =>
  promises(tools).onInit((promise, parent) =>
    emit(undefined, tools.id(promise), parent === undefined ? 0 : tools.id(parent)),
  );

export const promiseSettle: Source = (emit, tools) =>
  promises(tools).onSettled((promise) => emit(undefined, tools.id(promise)));

export const resources: Source = (emit, tools) => {
  const { memoryUsage, resourceUsage } = process;
  const apply = Reflect.apply;
  return tools.every(SECOND_MS, () => {
    const memory = apply(memoryUsage, process, []) as NodeJS.MemoryUsage;
    const usage = apply(resourceUsage, process, []) as NodeJS.ResourceUsage;
    emit(
      undefined,
      memory.rss,
      memory.heapTotal,
      memory.heapUsed,
      memory.external,
      memory.arrayBuffers,
      usage.userCPUTime,
      usage.systemCPUTime,
      usage.minorPageFault,
      usage.majorPageFault,
      usage.voluntaryContextSwitches,
      usage.involuntaryContextSwitches,
    );
  });
};
