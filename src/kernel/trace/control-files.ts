import { KernelError } from '../errno.ts';
import { formatBitmap, parseBitmap } from './bitmap.ts';
import { eventControlFiles } from './event-control-files.ts';
import { type FileOps, textFile } from './file-operations.ts';
import { functionFiles } from './function/function-files.ts';
import { numberFromUser } from './kstrto.ts';
import { markerFile, rawMarkerFile } from './marker-files.ts';
import { freeSnapshot, takeSnapshot } from './snapshot.ts';
import type { TraceArray } from './trace-array.ts';
import type { Files } from './trace-files.ts';
import { TOP_LEVEL_OPTIONS, TRACE_OPTIONS } from './trace-options.ts';
import { rawPipeFile, snapshotReader, traceFile, tracePipeFile } from './trace-reader.ts';
import type { Tracer } from './tracer.ts';

/** Bytes of an option's text at most, with the NUL. */
const OPTION_SIZE = 64;
const TRACER_NAME_MAX = 100;
const ULONG_MAX = (1n << 64n) - 1n;

function showClocks(tr: TraceArray): string {
  const names = tr.tracing.clocks.map((name) => (name === tr.clock ? `[${name}]` : name));
  return `${names.join(' ')}\n`;
}

function clockFile(tr: TraceArray): FileOps {
  return textFile({
    mode: 0o640,
    show: () => showClocks(tr),
    store(text) {
      if (text.length >= OPTION_SIZE) throw new KernelError('EINVAL', 'the name is too long');
      tr.setClock(text.trim());
      return undefined;
    },
  });
}

function optionsFile(tr: TraceArray): FileOps {
  const line = (name: string, on: boolean): string => `${on ? '' : 'no'}${name}\n`;
  return textFile({
    mode: 0o640,
    show: () =>
      TRACE_OPTIONS.map((name) => line(name, tr.options.has(name))).join('') +
      Object.keys(tr.tracer.options ?? {})
        .map((name) => line(name, tr.tracerOption(tr.tracer, name)))
        .join(''),
    store(text) {
      if (text.length >= OPTION_SIZE) throw new KernelError('EINVAL', 'the option is too long');
      const word = text.trim();
      const off = word.startsWith('no');
      tr.setOption(off ? word.slice(2) : word, !off);
      return undefined;
    },
  });
}

function optionFile(on: () => boolean, set: (on: boolean) => void): FileOps {
  return textFile({
    mode: 0o640,
    show: () => (on() ? '1\n' : '0\n'),
    store(text) {
      const value = numberFromUser(text);
      if (value > 1n) throw new KernelError('EINVAL', 'it is 0 or 1');
      set(value === 1n);
      return undefined;
    },
  });
}

function tracerOptions(tr: TraceArray, tracer: Tracer): [string, FileOps][] {
  return Object.keys(tracer.options ?? {}).map((name) => [
    `options/${name}`,
    optionFile(
      () => tr.tracerOption(tracer, name),
      (on) => {
        if (tr.tracerOption(tracer, name) !== on) tr.setTracerOption(tracer, name, on);
      },
    ),
  ]);
}

function optionFiles(tr: TraceArray): Files {
  const files: [string, FileOps][] = [];
  for (const name of TRACE_OPTIONS) {
    if (tr.name !== '' && TOP_LEVEL_OPTIONS.has(name)) continue;
    files.push([
      `options/${name}`,
      optionFile(
        () => tr.options.has(name),
        (on) => tr.setOption(name, on),
      ),
    ]);
  }
  for (const tracer of tr.tracing.tracers)
    if (tr.name === '' || tracer.allowInstances === true) files.push(...tracerOptions(tr, tracer));
  return Object.fromEntries(files);
}

function kib(tr: TraceArray, cpu?: number): string {
  const sizes = Array.from({ length: tr.buffer.ncpu }, (_, n) => tr.buffer.sizeKb(n));
  if (cpu !== undefined) return `${sizes[cpu]}\n`;
  return sizes.every((size) => size === sizes[0]) ? `${sizes[0]}\n` : 'X\n';
}

/** `buffer_size_kb`: KiB a CPU (tracing_entries_write()). */
function sizeFile(tr: TraceArray, cpu?: number): FileOps {
  return textFile({
    mode: 0o640,
    show: () => kib(tr, cpu),
    store(text) {
      const size = numberFromUser(text);
      if (size === 0n) throw new KernelError('EINVAL', 'a buffer has at least 1 KiB');
      tr.buffer.resize(size > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(size), cpu);
      return undefined;
    },
  });
}

function statsFile(tr: TraceArray, cpu: number): FileOps {
  return textFile({
    mode: 0o440,
    show() {
      const stats = tr.buffer.stats(cpu);
      const time = (ts: bigint): string => {
        if (!tr.clockInNs) return String(ts);
        const micros = (ts + 500n) / 1000n;
        return `${String(micros / 1_000_000n).padStart(5)}.${String(micros % 1_000_000n).padStart(6, '0')}`;
      };
      return (
        `entries: ${stats.entries}\noverrun: ${stats.overrun}\ncommit overrun: ${stats.commitOverrun}\n` +
        `bytes: ${stats.bytes}\noldest event ts: ${time(stats.oldestEventTs)}\nnow ts: ${time(stats.nowTs)}\n` +
        `dropped events: ${stats.droppedEvents}\nread events: ${stats.readEvents}\n`
      );
    },
  });
}

/** `snapshot` (tracing_snapshot_write()): 0 frees, 1 takes one, anything else empties it. */
function snapshotFile(tr: TraceArray, cpu?: number): FileOps {
  const write = (value: bigint): void => {
    if (tr.tracer.usesSnapshot === true)
      throw new KernelError('EBUSY', `the tracer ${tr.tracer.name} has the snapshot`);
    if (value === 0n) {
      if (cpu !== undefined) throw new KernelError('EINVAL', 'the snapshot is freed for all CPUs only');
      freeSnapshot(tr);
    } else if (value === 1n) {
      if (cpu !== undefined) throw new KernelError('EINVAL', 'the snapshot is taken of all CPUs only');
      takeSnapshot(tr);
    } else tr.snapshotBuffer?.reset(cpu);
  };
  const control = textFile({
    mode: 0o640,
    store(text) {
      write(numberFromUser(text));
      return undefined;
    },
  });
  return {
    mode: 0o640,
    open(flags) {
      const { write: store } = control.open(flags);
      const reader = flags.read ? snapshotReader(tr, cpu) : {};
      return store === undefined ? reader : { ...reader, write: store };
    },
  };
}

function perCpuFiles(tr: TraceArray, cpu: number): Files {
  const folder = `per_cpu/cpu${cpu}`;
  return {
    [`${folder}/trace`]: traceFile(tr, cpu),
    [`${folder}/trace_pipe`]: tracePipeFile(tr, cpu),
    [`${folder}/trace_pipe_raw`]: rawPipeFile(tr, cpu, () => tr.buffer),
    [`${folder}/stats`]: statsFile(tr, cpu),
    [`${folder}/buffer_size_kb`]: sizeFile(tr, cpu),
    [`${folder}/snapshot`]: snapshotFile(tr, cpu),
    [`${folder}/snapshot_raw`]: rawPipeFile(tr, cpu, () => tr.snapshotBuffer),
  };
}

/** `free_buffer`: closing it gives the memory back. */
function freeBufferFile(tr: TraceArray): FileOps {
  return {
    mode: 0o200,
    open: () => ({
      write: (data) => data.length,
      release() {
        if (tr.options.has('disable_on_free')) tr.tracingOn = false;
        tr.buffer.resize(0);
      },
    }),
  };
}

function errorLogFile(tr: TraceArray): FileOps {
  return textFile({
    mode: 0o640,
    show: () => tr.errorLog.show(),
    truncate: () => tr.errorLog.clear(),
    store: () => undefined,
  });
}

/** A time in nanoseconds, shown and written in microseconds. */
export function microsecondsFile(get: () => bigint, set: (ns: bigint) => void): FileOps {
  return textFile({
    mode: 0o640,
    show: () => `${get() === ULONG_MAX ? -1n : get() / 1000n}\n`,
    store(text) {
      set(BigInt.asUintN(64, numberFromUser(text) * 1000n));
      return undefined;
    },
  });
}

/** The files of an instance that hold no events (init_tracer_tracefs()). */
export function controlFiles(tr: TraceArray): Files {
  const { tracing, buffer } = tr;
  const files: Record<string, FileOps> = {
    trace: traceFile(tr),
    trace_pipe: tracePipeFile(tr),
    trace_marker: markerFile(tr),
    trace_marker_raw: rawMarkerFile(tr),
    trace_clock: clockFile(tr),
    trace_options: optionsFile(tr),
    tracing_on: textFile({
      mode: 0o640,
      show: () => (tr.tracingOn ? '1\n' : '0\n'),
      store(text) {
        tr.tracingOn = numberFromUser(text) !== 0n;
        if (!tr.tracingOn) tr.wake();
        return undefined;
      },
    }),
    tracing_cpumask: textFile({
      mode: 0o640,
      show: () => `${formatBitmap(tr.cpumask, buffer.ncpu)}\n`,
      store(text) {
        if (text.length === 0) throw new KernelError('EINVAL', 'there is no mask');
        tr.cpumask = parseBitmap(text, buffer.ncpu);
        return undefined;
      },
    }),
    available_tracers: textFile({
      mode: 0o440,
      show: () =>
        `${tracing.tracers
          .filter(({ allowInstances }) => tr.name === '' || allowInstances === true)
          .map(({ name }) => name)
          .join(' ')}\n`,
    }),
    current_tracer: textFile({
      mode: 0o640,
      show: () => `${tr.currentTracer}\n`,
      store(text) {
        tr.setTracer(text.slice(0, TRACER_NAME_MAX).trim());
        return undefined;
      },
    }),
    buffer_size_kb: sizeFile(tr),
    buffer_total_size_kb: textFile({
      mode: 0o440,
      show() {
        let total = 0;
        for (let cpu = 0; cpu < buffer.ncpu; cpu++) total += buffer.sizeKb(cpu);
        return `${total}\n`;
      },
    }),
    buffer_subbuf_size_kb: textFile({
      mode: 0o640,
      show: () => `${buffer.subbufSizeKb}\n`,
      store(text) {
        const size = numberFromUser(text);
        buffer.subbufSizeKb = size > 1n << 20n ? 1 << 20 : Number(size);
        if (tr.snapshotBuffer !== undefined) tr.snapshotBuffer.subbufSizeKb = buffer.subbufSizeKb;
        return undefined;
      },
    }),
    buffer_percent: textFile({
      mode: 0o640,
      show: () => `${tr.bufferPercent}\n`,
      store(text) {
        const value = numberFromUser(text);
        if (value > 100n) throw new KernelError('EINVAL', 'it is a percentage');
        tr.bufferPercent = Number(value);
        return undefined;
      },
    }),
    timestamp_mode: textFile({
      mode: 0o440,
      show: () => (buffer.timeStampAbs ? 'delta [absolute]\n' : '[delta] absolute\n'),
    }),
    free_buffer: freeBufferFile(tr),
    snapshot: snapshotFile(tr),
    error_log: errorLogFile(tr),
    tracing_max_latency: microsecondsFile(
      () => tr.maxLatency,
      (ns) => {
        tr.maxLatency = ns;
      },
    ),
    ...optionFiles(tr),
    ...eventControlFiles(tr),
    ...functionFiles(tr),
  };
  for (let cpu = 0; cpu < buffer.ncpu; cpu++) Object.assign(files, perCpuFiles(tr, cpu));
  return files;
}
