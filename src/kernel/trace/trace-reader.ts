import { KernelError } from '../errno.ts';
import { stringToBytes } from './byte-string.ts';
import type { FileHandle, FileOps, OpenFlags } from './file-operations.ts';
import type { TraceArray } from './trace-array.ts';
import type { TraceBuffer } from './trace-buffer.ts';
import type { TraceRecord } from './trace-entry.ts';
import { skippedEntries, snapshotHelp, traceHeader } from './trace-header.ts';
import { traceLine } from './trace-line.ts';

const EMPTY = new Uint8Array();
/** Bytes that one read of trace_pipe gathers at most (TRACE_SEQ_BUFFER_SIZE). */
const PIPE_CHUNK = 8192;

function bytesOf(line: string | Uint8Array): Uint8Array {
  return typeof line === 'string' ? stringToBytes(line) : line;
}

/** A file made piece by piece while it is read (seq_file): reads go forward, and a seek back begins anew. */
export function seqHandle(pieces: () => Iterator<Uint8Array>): {
  read(offset: number, length: number): Uint8Array;
} {
  let iterator = pieces();
  let position = 0;
  let rest = EMPTY as Uint8Array;
  return {
    read(offset, length) {
      if (offset < position) {
        iterator = pieces();
        position = 0;
        rest = EMPTY;
      }
      const parts: Uint8Array[] = [];
      let gathered = 0;
      while (gathered < length) {
        if (rest.length === 0) {
          const next = iterator.next();
          if (next.done === true) break;
          rest = next.value;
          continue;
        }
        const skip = Math.min(rest.length, Math.max(0, offset - position));
        const part = rest.subarray(skip, skip + length - gathered);
        position += skip + part.length;
        rest = rest.subarray(skip + part.length);
        if (part.length === 0) continue;
        parts.push(part);
        gathered += part.length;
      }
      if (parts.length === 1) return parts[0]!;
      const all = new Uint8Array(gathered);
      let at = 0;
      for (const part of parts) {
        all.set(part, at);
        at += part.length;
      }
      return all;
    },
  };
}

function isEmpty(buffer: TraceBuffer, cpu?: number): boolean {
  return buffer.iterate(cpu).next().done === true;
}

/** Records without the first ones of each CPU. */
function* behind(
  records: IterableIterator<TraceRecord>,
  skipped: readonly number[],
): IterableIterator<TraceRecord> {
  const left = [...skipped];
  for (const record of records) {
    if (left[record.cpu]! > 0) left[record.cpu]!--;
    else yield record;
  }
}

/** The pieces of `trace` or `snapshot`: head, then a line for each record (s_show()). */
function* tracePieces(
  tr: TraceArray,
  buffer: TraceBuffer | undefined,
  cpu: number | undefined,
  latency: boolean,
  snapshot: boolean,
): IterableIterator<Uint8Array> {
  let head = `# tracer: ${tr.currentTracer}\n#\n`;
  if (snapshot && (buffer === undefined || isEmpty(buffer, cpu)))
    head += snapshotHelp(buffer !== undefined, cpu !== undefined);
  else if (buffer !== undefined) head += tr.tracer.printHeader?.(tr) ?? traceHeader(tr, buffer, latency);
  yield stringToBytes(head);
  if (buffer === undefined) return;
  let overrun = 0;
  for (let n = 0; n < buffer.ncpu; n++)
    if (cpu === undefined || n === cpu) overrun += buffer.stats(n).overrun;
  const started = new Set<number>();
  const printer = tr.tracer.open?.(tr);
  const skipped = skippedEntries(tr, buffer);
  for (const [n, count] of skipped.entries()) if (count > 0) started.add(n);
  const timeStart = buffer === tr.buffer ? tr.timeStart : tr.snapshotTimeStart;
  const records = behind(buffer.iterate(cpu), skipped);
  let step = records.next();
  for (let index = 0; step.done !== true; index++) {
    const record: TraceRecord = step.value;
    step = records.next();
    const own = printer?.print(record, step.done === true ? undefined : step.value);
    const nextTs = step.done === true ? record.ts : step.value.ts;
    // Where a buffer overran, the point from which on its CPU is complete is marked.
    if (overrun > 0 && tr.options.has('annotate') && !started.has(record.cpu)) {
      started.add(record.cpu);
      if (index > 1) yield stringToBytes(`##### CPU ${record.cpu} buffer started ####\n`);
    }
    yield bytesOf(own?.text ?? traceLine(record, { tr, latency, index, timeStart, nextTs }));
    if (own?.tookNext === true) step = records.next();
  }
}

/** `trace` and `per_cpu/cpuN/trace`: opening with O_TRUNC empties, what is written means nothing. */
export function traceFile(tr: TraceArray, cpu?: number): FileOps {
  return {
    mode: 0o640,
    open(flags) {
      const buffer = (tr.tracer.usesSnapshot === true ? tr.snapshotBuffer : undefined) ?? tr.buffer;
      if (flags.write && flags.truncate) {
        if (buffer === tr.buffer) tr.resetBuffer(cpu);
        else buffer.reset(cpu);
      }
      const latency = tr.options.has('latency-format');
      const stops = flags.read && tr.options.has('pause-on-trace');
      if (stops) tr.stop();
      return {
        ...seqHandle(() => tracePieces(tr, buffer, cpu, latency, false)),
        write: (data) => data.length,
        release: () => {
          if (stops) tr.start();
        },
      };
    },
  };
}

/** What `snapshot` shows. */
export function snapshotReader(tr: TraceArray, cpu?: number): FileHandle {
  const latency = tr.options.has('latency-format');
  return seqHandle(() => tracePieces(tr, tr.snapshotBuffer, cpu, latency, true));
}

/** `trace_pipe`: takes what it shows, and waits for more. EBUSY: the pipe is open already. */
export function tracePipeFile(tr: TraceArray, cpu?: number): FileOps {
  return { mode: 0o440, open: (flags) => openPipe(tr, cpu, flags) };
}

function openPipe(tr: TraceArray, cpu: number | undefined, flags: OpenFlags): FileHandle {
  const cpus = cpu === undefined ? Array.from({ length: tr.buffer.ncpu }, (_, n) => n) : [cpu];
  if (cpus.some((n) => tr.pipeCpus.has(n))) throw new KernelError('EBUSY', 'the pipe is open already');
  for (const n of cpus) tr.pipeCpus.add(n);
  const latency = tr.options.has('latency-format');
  const printer = tr.tracer.open?.(tr);
  let rest = EMPTY as Uint8Array;
  let everRead = false;
  let open = true;
  const gather = (length: number): Uint8Array => {
    if (rest.length === 0) {
      const parts: Uint8Array[] = [];
      let size = 0;
      const most = Math.min(length, PIPE_CHUNK);
      for (let index = 1; size < most; index++) {
        const record = tr.buffer.consume(cpu);
        if (record === undefined) break;
        if ((record.lost ?? 0) > 0)
          parts.push(stringToBytes(`CPU:${record.cpu} [LOST ${record.lost} EVENTS]\n`));
        const next = tr.buffer.peek(cpu);
        const own = printer?.print(record, next);
        if (own?.tookNext === true) tr.buffer.consume(cpu);
        const nextTs = next?.ts ?? record.ts;
        const { timeStart } = tr;
        parts.push(bytesOf(own?.text ?? traceLine(record, { tr, latency, index, timeStart, nextTs })));
        size = parts.reduce((sum, part) => sum + part.length, 0);
      }
      rest = new Uint8Array(size);
      let at = 0;
      for (const part of parts) {
        (rest as Uint8Array).set(part, at);
        at += part.length;
      }
    }
    const taken = rest.subarray(0, length);
    rest = rest.subarray(taken.length);
    if (taken.length > 0) everRead = true;
    return taken;
  };
  return {
    read(_offset, length, signal) {
      if (length === 0) return EMPTY;
      const taken = gather(length);
      if (taken.length > 0) return taken;
      if (flags.nonblock) throw new KernelError('EAGAIN', 'there is nothing to read');
      // With tracing off, what was read once ends.
      if (!tr.tracingOn && everRead) return EMPTY;
      return waitFor(tr, signal, () => {
        if (!open) return EMPTY;
        const more = gather(length);
        return more.length > 0 || (!tr.tracingOn && everRead) ? more : undefined;
      });
    },
    poll: (wake, reading) => pollFor(tr, wake, () => rest.length > 0 || pollHit(tr, tr.buffer, cpu, reading)),
    release() {
      open = false;
      for (const n of cpus) tr.pipeCpus.delete(n);
      tr.wake();
    },
  };
}

function waitFor(
  tr: TraceArray,
  signal: AbortSignal | undefined,
  attempt: () => Uint8Array | undefined,
): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      tr.waiters.delete(again);
      reject(new KernelError('EINTR', 'the reader was interrupted'));
    };
    const again = (): void => {
      const bytes = attempt();
      if (bytes === undefined) {
        tr.waiters.add(again);
        return;
      }
      signal?.removeEventListener('abort', abort);
      resolve(bytes);
    };
    tr.waiters.add(again);
    signal?.addEventListener('abort', abort);
  });
}

/** trace_poll(): a CPU's file is ready when `buffer_percent` of its buffer is full, with the option `block` at once. */
function pollHit(
  tr: TraceArray,
  buffer: TraceBuffer | undefined,
  cpu: number | undefined,
  reading = false,
): boolean {
  if (!reading && tr.options.has('block')) return true;
  return buffer?.watermarkHit(reading ? 0 : tr.bufferPercent, cpu) ?? false;
}

function pollFor(tr: TraceArray, wake: (() => void) | undefined, ready: () => boolean): boolean {
  if (ready()) return true;
  if (wake === undefined) return false;
  // Not with every record: when there is what was waited for.
  const again = (): void => {
    if (ready()) wake();
    else tr.waiters.add(again);
  };
  tr.waiters.add(again);
  return false;
}

/** `trace_pipe_raw` and `snapshot_raw`: pages as the buffer has them (tracing_buffers_read()). */
export function rawPipeFile(tr: TraceArray, cpu: number, buffer: () => TraceBuffer | undefined): FileOps {
  return {
    mode: 0o440,
    open(flags) {
      let rest = EMPTY as Uint8Array;
      let open = true;
      const take = (length: number): Uint8Array => {
        if (rest.length === 0) rest = buffer()?.readPage(cpu, false) ?? EMPTY;
        const taken = rest.subarray(0, length);
        rest = rest.subarray(taken.length);
        return taken;
      };
      return {
        read(_offset, length, signal) {
          const taken = take(length);
          if (taken.length > 0 || length === 0) return taken;
          if (flags.nonblock) throw new KernelError('EAGAIN', 'there is nothing to read');
          return waitFor(tr, signal, () => {
            const more = open ? take(length) : EMPTY;
            return more.length > 0 || !open ? more : undefined;
          });
        },
        poll: (wake, reading) =>
          pollFor(tr, wake, () => rest.length > 0 || pollHit(tr, buffer(), cpu, reading)),
        release() {
          open = false;
          tr.wake();
        },
      };
    },
  };
}
