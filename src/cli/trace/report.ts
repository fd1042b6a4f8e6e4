/** `trapline report`: a trace.dat file as text. */
import { closeSync, openSync, writeSync } from 'node:fs';
import { TraplineError } from '../../errors.ts';
import { eventFilter, fileSource, reportLines, TraceDat, TraceEvents } from '../../export/index.ts';
import { parseCpuList } from './cpu-list.ts';
import type { TraceArguments } from './options.ts';

/** Bytes that are written at once. */
const BATCH = 1 << 16;

/** The file that -i or the last argument names. */
export function inputOf(args: TraceArguments): string {
  const [first, second] = args.positionals;
  if (second !== undefined || (first !== undefined && args.has('input')))
    throw new TraplineError('EUSAGE', `${second ?? first}: one file can be read at a time`);
  return args.value('input') ?? first ?? 'trace.dat';
}

/** Standard output or -o: writes pieces until nobody reads them any more. */
export class Output {
  readonly #fd: number;
  #parts: Uint8Array[] = [];
  #size = 0;
  /** The reader has gone: nothing more is to be made. */
  closed = false;

  constructor(file: string | undefined) {
    try {
      this.#fd = file === undefined ? 1 : openSync(file, 'w');
    } catch (error) {
      const { code = 'EIO', message } = error as NodeJS.ErrnoException;
      throw new TraplineError(code, `cannot write ${file}: ${message}`);
    }
  }

  write(bytes: Uint8Array): void {
    this.#parts.push(bytes);
    this.#size += bytes.length;
    if (this.#size >= BATCH) this.flush();
  }

  flush(): void {
    const all = Buffer.concat(this.#parts);
    this.#parts = [];
    this.#size = 0;
    for (let at = 0; at < all.length && !this.closed; ) at += this.#put(all.subarray(at));
  }

  #put(bytes: Uint8Array): number {
    try {
      return writeSync(this.#fd, bytes);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EPIPE') this.closed = true;
      else if (code === 'EAGAIN') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
      else throw new TraplineError(code ?? 'EIO', `cannot write: ${(error as Error).message}`);
      return 0;
    }
  }

  close(): void {
    this.flush();
    if (this.#fd !== 1) closeSync(this.#fd);
  }
}

/** The filters of -F, any of which lets an event pass; undefined where there are none. */
export function filterOf(
  args: TraceArguments,
  events: TraceEvents,
): ReturnType<typeof eventFilter> | undefined {
  const filters = args.given
    .filter(({ name }) => name === 'filter')
    .map(({ value = '' }) => eventFilter(events, value));
  return filters.length === 0 ? undefined : (event) => filters.some((filter) => filter(event));
}

export async function reportCommand(args: TraceArguments): Promise<number> {
  const dat = new TraceDat(fileSource(inputOf(args)));
  const out = new Output(args.value('output'));
  const line = (text: string): void => out.write(Buffer.from(`${text}\n`, 'latin1'));
  try {
    if (args.has('stat') || args.has('uname')) {
      if (args.has('uname')) line(dat.text(5) ?? 'the file does not say');
      if (args.has('stat')) for (const text of dat.cpuStats) line(text);
      return 0;
    }
    const events = new TraceEvents(dat);
    const filter = filterOf(args, events);
    const cpus = args.value('cpu');
    const lines = reportLines(events, {
      latency: args.has('latency'),
      nanoseconds: args.has('nanoseconds'),
      raw: args.has('raw'),
      tsDiff: args.has('ts-diff'),
      ...(cpus === undefined ? {} : { cpus: parseCpuList(cpus) }),
      ...(filter === undefined ? {} : { filter }),
    });
    for (const text of lines) {
      line(text);
      if (out.closed) break;
    }
    return 0;
  } finally {
    out.close();
    dat.close();
  }
}
