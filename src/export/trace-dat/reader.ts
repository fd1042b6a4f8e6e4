import { bytesOf, checkArgument, having } from '../../arguments.ts';
import { cStringOf } from '../../kernel/trace/byte-string.ts';
import { type Compression, compressionOf } from './compression.ts';
import {
  badFile,
  FLYRECORD_MARK,
  HEADER_EVENT_MARK,
  HEADER_PAGE_MARK,
  LATENCY_MARK,
  MAGIC,
  OPTION,
  OPTIONS_MARK,
  SECTION_COMPRESSED,
  type TraceDatVersion,
} from './layout.ts';
import { type PageShape, parseHeaderPage } from './page-records.ts';
import { bytesSource, Cursor, type DatSource, PIECE_MAX } from './source.ts';

/** CPU numbers above are those of no machine: a file that says so is broken. */
const CPU_MAX = 1 << 16;
/** Bytes of a page, as the ring buffer can have them. */
const PAGE_MAX = 1 << 22;

export interface TraceDatOption {
  readonly id: number;
  readonly data: Uint8Array;
}

/** What one CPU recorded into one buffer. */
export interface TraceDatCpu {
  readonly cpu: number;
  /** The pages, as `trace_pipe_raw` gave them. They are read, and uncompressed, one after the other. */
  pages(): IterableIterator<Uint8Array>;
}

/** An instance's buffer; the top one has the name ''. */
export interface TraceDatBuffer {
  readonly name: string;
  /** The clock of its stamps, where the file says it (version 7). */
  readonly clock: string | undefined;
  readonly cpus: readonly TraceDatCpu[];
  /** A latency trace: the text that `trace` showed, in the place of pages. */
  readonly text: string | undefined;
}

interface CpuPlace {
  readonly cpu: number;
  readonly offset: number;
  readonly size: number;
}

/**
 * A trace.dat file of version 6 or 7, little-endian. Texts are byte strings. Opening it reads what it says about the system; pages are read
 * when they are asked for. Everything that the file has wrong is a TraplineError ETRACEDAT; ENOTSUP for what this cannot read.
 */
export class TraceDat {
  readonly version: TraceDatVersion;
  /** Bytes of a long of the traced system's programs. */
  readonly longSize: 4 | 8;
  readonly pageSize: number;
  readonly compression: string;
  headerPage = '';
  headerEvent = '';
  /** `format` files of the system `ftrace`. */
  ftraceFormats: readonly string[] = [];
  eventFormats: readonly { readonly system: string; readonly format: string }[] = [];
  kallsyms = '';
  printkFormats = '';
  savedCmdlines = '';
  /** CPUs of the traced machine. */
  cpus = 0;
  readonly options: TraceDatOption[] = [];
  readonly buffers: TraceDatBuffer[] = [];
  /** How pages are laid out. */
  shape!: PageShape;
  readonly #source: DatSource;
  readonly #codec: Compression;

  constructor(source: DatSource) {
    checkArgument(
      'new TraceDat()',
      'source',
      source,
      having('where to read from, as fileSource() gives it', 'size', 'read', 'close'),
    );
    this.#source = source;
    const cursor = new Cursor(source);
    const magic = source.size < MAGIC.length ? new Uint8Array() : cursor.bytes(MAGIC.length);
    if (MAGIC.some((byte, at) => magic[at] !== byte))
      throw badFile('this is no trace.dat file', 'trapline record and trace-cmd record write one');
    const version = cursor.string();
    if (version !== '6' && version !== '7')
      throw badFile(`the file has version ${JSON.stringify(version)}; 6 and 7 can be read`);
    this.version = version === '6' ? 6 : 7;
    const endian = cursor.u8();
    if (endian !== 0) throw badFile('the file is big-endian, which is not read');
    const longSize = cursor.u8();
    if (longSize !== 4 && longSize !== 8) throw badFile(`a long of ${longSize} bytes is none`);
    this.longSize = longSize;
    this.pageSize = pageSizeOf(cursor.u32());
    if (this.version === 6) {
      this.compression = 'none';
      this.#codec = compressionOf('none');
      this.#readVersion6(cursor);
    } else {
      this.compression = cursor.string();
      cursor.string();
      this.#codec = compressionOf(this.compression);
      this.#readVersion7(cursor.size());
    }
    this.shape = parseHeaderPage(this.headerPage);
  }

  /** The option's data; the last one's where there are several. */
  option(id: number): Uint8Array | undefined {
    return this.options.findLast((option) => option.id === id)?.data;
  }

  /** An option that is a text. */
  text(id: number): string | undefined {
    const data = this.option(id);
    return data === undefined ? undefined : cStringOf(data);
  }

  /** The clock of the top buffer: what stands in brackets in `trace_clock`. */
  get clock(): string {
    return /\[([^\]]*)\]/.exec(this.text(OPTION.traceclock) ?? '')?.[1] ?? this.buffers[0]?.clock ?? 'local';
  }

  /** Nanoseconds that are added to every stamp (the options DATE, in microseconds, and OFFSET). */
  get tsOffset(): bigint {
    let offset = 0n;
    for (const { id, data } of this.options) {
      if (id === OPTION.date) offset += 1000n * integerOf(cStringOf(data));
      if (id === OPTION.offset) offset += integerOf(cStringOf(data));
    }
    return offset;
  }

  /** What `per_cpu/cpuN/stats` said at the end, one text a CPU. */
  get cpuStats(): string[] {
    return this.options.filter(({ id }) => id === OPTION.cpustat).map(({ data }) => cStringOf(data));
  }

  close(): void {
    this.#source.close();
  }

  #readVersion6(cursor: Cursor): void {
    this.#readHeaderInfo(cursor);
    this.#readFtraceFormats(cursor);
    this.#readEventFormats(cursor);
    this.kallsyms = cursor.text(cursor.u32());
    this.printkFormats = cursor.text(cursor.u32());
    this.savedCmdlines = cursor.text(cursor.size());
    this.cpus = cpuCountOf(cursor.u32());
    let mark = cursor.text(FLYRECORD_MARK.length);
    if (mark === OPTIONS_MARK) {
      for (;;) {
        const id = cursor.u16();
        if (id === OPTION.done) break;
        this.options.push({ id, data: cursor.bytes(cursor.u32()) });
      }
      this.#readCpuCount();
      mark = cursor.text(FLYRECORD_MARK.length);
    }
    this.buffers.push(this.#version6Buffer('', cursor, mark));
    for (const { id, data } of this.options) {
      if (id !== OPTION.buffer) continue;
      const option = new Cursor(bytesSource(data));
      const place = new Cursor(this.#source, option.size());
      const name = option.string();
      this.buffers.push(this.#version6Buffer(name, place, place.text(FLYRECORD_MARK.length)));
    }
  }

  #version6Buffer(name: string, cursor: Cursor, mark: string): TraceDatBuffer {
    if (mark === LATENCY_MARK)
      return { name, clock: undefined, cpus: [], text: cursor.text(Math.min(cursor.rest, PIECE_MAX)) };
    if (mark !== FLYRECORD_MARK) throw badFile(`there are no CPUs' data at ${cursor.position}`);
    const places: CpuPlace[] = [];
    for (let cpu = 0; cpu < this.cpus; cpu++) places.push(this.#place(cpu, cursor.size(), cursor.size()));
    const cpus = places.filter(({ size }) => size > 0);
    return {
      name,
      clock: undefined,
      cpus: cpus.map((place) => this.#cpu(place, this.pageSize, false)),
      text: undefined,
    };
  }

  #readVersion7(first: number): void {
    const seen = new Set<number>();
    const sections = new Map<number, number>();
    const buffers: TraceDatOption[] = [];
    for (let offset = first; offset !== 0; ) {
      if (seen.has(offset)) throw badFile('the options go round in a circle');
      seen.add(offset);
      const cursor = this.#section(offset, OPTION.done);
      offset = 0;
      for (;;) {
        // The last section of options may end without DONE in a file that was cut: what was read counts.
        if (cursor.rest < 6) throw badFile('the options have no end');
        const id = cursor.u16();
        const data = cursor.bytes(cursor.u32());
        if (id === OPTION.done) {
          offset = data.length === 0 ? 0 : new Cursor(bytesSource(data)).size();
          break;
        }
        if (id >= OPTION.headerInfo && id <= OPTION.cmdlines)
          sections.set(id, new Cursor(bytesSource(data)).size());
        else if (id === OPTION.buffer || id === OPTION.bufferText) buffers.push({ id, data });
        else this.options.push({ id, data });
      }
    }
    const read = (id: number, use: (cursor: Cursor) => void): void => {
      const offset = sections.get(id);
      if (offset !== undefined) use(this.#section(offset, id));
    };
    read(OPTION.headerInfo, (cursor) => this.#readHeaderInfo(cursor));
    read(OPTION.ftraceEvents, (cursor) => this.#readFtraceFormats(cursor));
    read(OPTION.eventFormats, (cursor) => this.#readEventFormats(cursor));
    read(OPTION.kallsyms, (cursor) => {
      this.kallsyms = cursor.text(cursor.u32());
    });
    read(OPTION.printk, (cursor) => {
      this.printkFormats = cursor.text(cursor.u32());
    });
    read(OPTION.cmdlines, (cursor) => {
      this.savedCmdlines = cursor.text(cursor.size());
    });
    this.#readCpuCount();
    for (const { id, data } of buffers) this.buffers.push(this.#version7Buffer(id, data));
    // The top one first, as in version 6.
    this.buffers.sort((a, b) => Number(a.name !== '') - Number(b.name !== ''));
  }

  #version7Buffer(id: number, data: Uint8Array): TraceDatBuffer {
    const cursor = new Cursor(bytesSource(data));
    const section = cursor.size();
    const name = cursor.string();
    const clock = cursor.string();
    if (id === OPTION.bufferText) {
      const text = this.#section(section, OPTION.bufferText);
      return { name, clock, cpus: [], text: text.text(text.rest) };
    }
    const pageSize = pageSizeOf(cursor.u32());
    const count = cpuCountOf(cursor.u32());
    const head = new Cursor(this.#source, section);
    const sectionId = head.u16();
    if (sectionId !== OPTION.buffer) throw badFile(`at ${section} is no buffer but a section ${sectionId}`);
    const compressed = (head.u16() & SECTION_COMPRESSED) !== 0;
    const cpus: TraceDatCpu[] = [];
    const seen = new Set<number>();
    for (let n = 0; n < count; n++) {
      const cpu = cursor.u32();
      if (cpu >= CPU_MAX) throw badFile(`there is a CPU ${cpu}`);
      if (seen.has(cpu)) throw badFile(`CPU ${cpu} is there twice`);
      seen.add(cpu);
      const place = this.#place(cpu, cursor.size(), cursor.size());
      if (place.size > 0) cpus.push(this.#cpu(place, pageSize, compressed));
    }
    return { name, clock, cpus, text: undefined };
  }

  /** A section's content, uncompressed. */
  #section(offset: number, id: number): Cursor {
    const head = new Cursor(this.#source, offset);
    const found = head.u16();
    if (found !== id) throw badFile(`at ${offset} is a section ${found} in the place of ${id}`);
    const flags = head.u16();
    head.u32();
    const size = head.size();
    if ((flags & SECTION_COMPRESSED) === 0) return new Cursor(bytesSource(head.bytes(size)));
    return new Cursor(bytesSource(this.#uncompressed(head)));
  }

  /** Sizes, then compressed bytes: of a section and of a chunk of CPU data. */
  #uncompressed(cursor: Cursor): Uint8Array {
    const packed = cursor.u32();
    const size = cursor.u32();
    if (size > PIECE_MAX)
      throw badFile(`a compressed part of ${size} bytes is more than can be read at once`);
    return this.#codec.uncompress(cursor.bytes(packed), size);
  }

  #place(cpu: number, offset: number, size: number): CpuPlace {
    if (size > 0 && offset + size > this.#source.size)
      throw badFile(
        `the data of CPU ${cpu} reach to ${offset + size}, and the file to ${this.#source.size}`,
        'it may be truncated',
      );
    return { cpu, offset, size };
  }

  #cpu(place: CpuPlace, pageSize: number, compressed: boolean): TraceDatCpu {
    const pages = compressed ? () => this.#chunks(place, pageSize) : () => this.#plain(place, pageSize);
    return { cpu: place.cpu, pages };
  }

  *#plain({ offset, size, cpu }: CpuPlace, pageSize: number): IterableIterator<Uint8Array> {
    if (size % pageSize !== 0) throw badFile(`the data of CPU ${cpu} are no whole pages`);
    const most = Math.max(1, Math.floor((1 << 20) / pageSize)) * pageSize;
    for (let at = 0; at < size; at += most) {
      const piece = this.#source.read(offset + at, Math.min(most, size - at));
      for (let page = 0; page < piece.length; page += pageSize) yield piece.subarray(page, page + pageSize);
    }
  }

  *#chunks({ offset, size, cpu }: CpuPlace, pageSize: number): IterableIterator<Uint8Array> {
    const cursor = new Cursor(this.#source, offset);
    const end = offset + size;
    let count = cursor.u32();
    for (; count > 0; count--) {
      if (cursor.position >= end) throw badFile(`the data of CPU ${cpu} have too few chunks`);
      const piece = this.#uncompressed(cursor);
      if (piece.length % pageSize !== 0) throw badFile(`a chunk of CPU ${cpu} is no whole pages`);
      for (let page = 0; page < piece.length; page += pageSize) yield piece.subarray(page, page + pageSize);
    }
  }

  #readHeaderInfo(cursor: Cursor): void {
    const part = (mark: string): string => {
      if (cursor.text(mark.length) !== mark) throw badFile(`there is no ${mark.slice(0, -1)}`);
      return cursor.text(cursor.size());
    };
    this.headerPage = part(HEADER_PAGE_MARK);
    this.headerEvent = part(HEADER_EVENT_MARK);
  }

  #readFtraceFormats(cursor: Cursor): void {
    const count = cursor.u32();
    const formats: string[] = [];
    for (let n = 0; n < count; n++) formats.push(cursor.text(cursor.size()));
    this.ftraceFormats = formats;
  }

  #readEventFormats(cursor: Cursor): void {
    const formats: { system: string; format: string }[] = [];
    for (let systems = cursor.u32(); systems > 0; systems--) {
      const system = cursor.string();
      for (let events = cursor.u32(); events > 0; events--)
        formats.push({ system, format: cursor.text(cursor.size()) });
    }
    this.eventFormats = formats;
  }

  #readCpuCount(): void {
    const data = this.option(OPTION.cpucount);
    if (data !== undefined) this.cpus = cpuCountOf(new Cursor(bytesSource(data)).u32());
  }
}

function pageSizeOf(size: number): number {
  if (size < 64 || size > PAGE_MAX) throw badFile(`a page of ${size} bytes is none`);
  return size;
}

function cpuCountOf(count: number): number {
  if (count > CPU_MAX) throw badFile(`there are ${count} CPUs`);
  return count;
}

/** strtoll() of any base; 0 where there is no number. */
function integerOf(text: string): bigint {
  const match = /^\s*([-+]?)(0[xX][0-9a-fA-F]+|\d+)/.exec(text);
  if (match === null) return 0n;
  const value = BigInt(match[2] as string);
  return BigInt.asIntN(64, match[1] === '-' ? -value : value);
}

/** A file in memory. */
export function readTraceDat(bytes: Uint8Array): TraceDat {
  checkArgument('readTraceDat()', 'bytes', bytes, bytesOf('a Uint8Array: the bytes of a trace.dat file'));
  return new TraceDat(bytesSource(bytes));
}
