/** Records instances of a tracing folder: their pages go to spools while events come, and into a trace.dat at the end. */

import { aFunction, aString, checkArgument, listOf, optional, someOptions } from '../../arguments.ts';
import { TraplineError } from '../../errors.ts';
import type { TraceArray } from '../../kernel/trace/trace-array.ts';
import type { Tracefs } from '../../tracefs/tracefs.ts';
import type { BufferPages, DatSink, TraceDatOptions } from '../trace-dat/writer.ts';
import { writeTraceDat } from '../trace-dat/writer.ts';
import { aTracefs, type MetadataOptions, traceMetadata } from './metadata.ts';

const RECORDER_OPTIONS = someOptions<RecorderOptions>({
  instances: optional(listOf(aString)),
  spool: optional(aFunction),
});

/** Where pages wait until the file is written: one of each CPU of each instance. */
export interface PageSpool {
  append(page: Uint8Array): void;
  /** Everything appended, in its order. */
  pieces(): Iterable<Uint8Array>;
  remove(): void;
}

export interface RecorderOptions {
  /** Instances by their names, '' for the top one, which is recorded by default. */
  readonly instances?: readonly string[];
  /** Pages stay in memory without it. */
  readonly spool?: (instance: string, cpu: number) => PageSpool;
}

interface RecordedCpu {
  readonly tr: TraceArray;
  readonly cpu: number;
  readonly spool: PageSpool;
}

/** A spool in memory. */
export function memorySpool(): PageSpool {
  const pages: Uint8Array[] = [];
  return {
    append: (page) => void pages.push(page),
    pieces: () => pages,
    remove() {
      pages.length = 0;
    },
  };
}

/**
 * Takes pages as they fill up, so that a buffer that is recorded never overruns; what is in unfinished pages is taken by finish().
 * The sub-buffers of all instances have one size, that of version 7's file and version 6's as a whole.
 */
export class TraceRecorder {
  readonly #fs: Tracefs;
  readonly #recorded: RecordedCpu[] = [];
  readonly #arrays: TraceArray[] = [];
  readonly #pageSize: number;
  /** Pages that were taken. */
  pages = 0;

  /** ENOENT: there is no such instance. EINVAL: sub-buffers have different sizes. EBUSY: it is being recorded. */
  constructor(fs: Tracefs, options: RecorderOptions = {}) {
    checkArgument('new TraceRecorder()', 'fs', fs, aTracefs);
    checkArgument('new TraceRecorder()', 'options', options, RECORDER_OPTIONS);
    this.#fs = fs;
    const { instances = [''], spool = memorySpool } = options;
    for (const name of new Set(instances)) {
      const tr = name === '' ? fs.tracing.globalTrace : fs.tracing.instances.get(name);
      if (tr === undefined) throw new TraplineError('ENOENT', `there is no instance ${name}`);
      if (tr.buffer.onFullPage !== undefined)
        throw new TraplineError('EBUSY', `the instance ${name || 'at the top'} is being recorded already`);
      this.#arrays.push(tr);
    }
    this.#pageSize = (this.#arrays[0]?.buffer.subbufSizeKb ?? 4) << 10;
    if (this.#arrays.some(({ buffer }) => buffer.subbufSizeKb << 10 !== this.#pageSize))
      throw new TraplineError(
        'EINVAL',
        'instances with sub-buffers of different sizes cannot be in one file',
      );
    for (const tr of this.#arrays) {
      const cpus: RecordedCpu[] = [];
      for (let cpu = 0; cpu < tr.buffer.ncpu; cpu++) cpus.push({ tr, cpu, spool: spool(tr.name, cpu) });
      this.#recorded.push(...cpus);
      tr.references++;
      tr.buffer.onFullPage = (cpu) => this.#drain(cpus[cpu] as RecordedCpu, true);
    }
  }

  #drain({ tr, cpu, spool }: RecordedCpu, full: boolean): void {
    for (;;) {
      const page = tr.buffer.readPage(cpu, full);
      if (page === undefined) return;
      spool.append(page);
      this.pages++;
    }
  }

  /** Takes what is in the buffers now, unfinished pages too. */
  drain(): void {
    for (const recorded of this.#recorded) this.#drain(recorded, false);
  }

  /** Ends recording and writes the file. */
  finish(sink: DatSink, system: MetadataOptions, options: Omit<TraceDatOptions, 'pageSize'> = {}): void {
    this.#stop();
    try {
      this.drain();
      const buffers = this.#arrays.map(
        (tr): BufferPages => ({
          name: tr.name,
          clock: tr.clock,
          cpus: this.#recorded
            .filter((one) => one.tr === tr)
            .map(({ cpu, spool }) => ({ cpu, pieces: () => spool.pieces() })),
        }),
      );
      writeTraceDat(sink, traceMetadata(this.#fs, system), buffers, { ...options, pageSize: this.#pageSize });
    } finally {
      this.close();
    }
  }

  #stop(): void {
    for (const tr of this.#arrays) {
      if (tr.buffer.onFullPage === undefined) continue;
      tr.buffer.onFullPage = undefined;
      tr.references--;
    }
  }

  /** Ends recording and keeps nothing. */
  close(): void {
    this.#stop();
    for (const { spool } of this.#recorded) spool.remove();
  }
}
