/** Writes trace.dat files of version 6 and 7 in one pass; offsets that are known later only are put in behind. */
import {
  aList,
  anInteger,
  aString,
  checkArgument,
  having,
  oneOf,
  optional,
  someOptions,
} from '../../arguments.ts';
import { stringToBytes } from '../../kernel/trace/byte-string.ts';
import { type Compression, type CompressionName, compressionOf } from './compression.ts';
import {
  FLYRECORD_MARK,
  HEADER_EVENT_MARK,
  HEADER_PAGE_MARK,
  MAGIC,
  OPTION,
  OPTIONS_MARK,
  SECTION_COMPRESSED,
  SECTION_HEADER_SIZE,
  type TraceDatVersion,
} from './layout.ts';

const DAT_OPTIONS = someOptions<TraceDatOptions>({
  version: optional(oneOf(6, 7)),
  compression: optional(aString),
  pageSize: optional(anInteger(1)),
});

/** Where bytes go. */
export interface DatSink {
  readonly position: number;
  append(bytes: Uint8Array): void;
  /** Over what was written before. */
  patch(offset: number, bytes: Uint8Array): void;
}

/** What a file says of the traced system: contents of its tracing folder, as byte strings. */
export interface TraceMetadata {
  readonly headerPage: string;
  readonly headerEvent: string;
  readonly ftraceFormats: readonly string[];
  readonly eventFormats: readonly { readonly system: string; readonly formats: readonly string[] }[];
  /** As /proc/kallsyms. */
  readonly kallsyms: string;
  readonly printkFormats: string;
  readonly savedCmdlines: string;
  /** `trace_clock`, all clocks with the current one in brackets. */
  readonly traceClock: string;
  readonly uname: string;
  /** Of the program that writes. */
  readonly version: string;
  readonly cpus: number;
  /** `per_cpu/cpuN/stats` of the top buffer. */
  readonly cpuStats: readonly string[];
  /** Microseconds from the trace's clock to the time of day: reports then show that. */
  readonly dateOffsetUs?: bigint;
  /** A number for this recording. */
  readonly traceId?: bigint;
}

/** One CPU's pages of a buffer. */
export interface CpuPages {
  readonly cpu: number;
  /** Whole pages, any number a piece. */
  pieces(): Iterable<Uint8Array>;
}

export interface BufferPages {
  /** Of the instance; '' for the top buffer. */
  readonly name: string;
  readonly clock: string;
  readonly cpus: readonly CpuPages[];
}

export interface TraceDatOptions {
  readonly version?: TraceDatVersion;
  /** Of version 7; none by default. */
  readonly compression?: CompressionName;
  /** Bytes of a page of the ring buffer; 4096 by default. */
  readonly pageSize?: number;
}

const LONG_SIZE = 8;
/** Pages that are compressed together. */
const CHUNK_PAGES = 16;

/** A buffer that grows. */
class Bytes {
  readonly #parts: Uint8Array[] = [];
  length = 0;

  raw(bytes: Uint8Array): this {
    this.#parts.push(bytes);
    this.length += bytes.length;
    return this;
  }

  text(text: string): this {
    return this.raw(stringToBytes(text));
  }

  /** With its NUL. */
  string(text: string): this {
    return this.text(`${text}\0`);
  }

  #number(size: number, put: (view: DataView) => void): this {
    const bytes = new Uint8Array(size);
    put(new DataView(bytes.buffer));
    return this.raw(bytes);
  }

  u8(value: number): this {
    return this.raw(Uint8Array.of(value));
  }

  u16(value: number): this {
    return this.#number(2, (view) => view.setUint16(0, value, true));
  }

  u32(value: number): this {
    return this.#number(4, (view) => view.setUint32(0, value, true));
  }

  u64(value: number | bigint): this {
    return this.#number(8, (view) => view.setBigUint64(0, BigInt(value), true));
  }

  bytes(): Uint8Array {
    const all = new Uint8Array(this.length);
    let at = 0;
    for (const part of this.#parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }
}

const u64Bytes = (value: number): Uint8Array => new Bytes().u64(value).bytes();

function start(version: TraceDatVersion, pageSize: number): Bytes {
  return new Bytes().raw(MAGIC).string(String(version)).u8(0).u8(LONG_SIZE).u32(pageSize);
}

function headerInfo({ headerPage, headerEvent }: TraceMetadata): Bytes {
  return new Bytes()
    .text(HEADER_PAGE_MARK)
    .u64(headerPage.length)
    .text(headerPage)
    .text(HEADER_EVENT_MARK)
    .u64(headerEvent.length)
    .text(headerEvent);
}

function ftraceFormats({ ftraceFormats: formats }: TraceMetadata): Bytes {
  const out = new Bytes().u32(formats.length);
  for (const format of formats) out.u64(format.length).text(format);
  return out;
}

function eventFormats({ eventFormats: systems }: TraceMetadata): Bytes {
  const out = new Bytes().u32(systems.length);
  for (const { system, formats } of systems) {
    out.string(system).u32(formats.length);
    for (const format of formats) out.u64(format.length).text(format);
  }
  return out;
}

const sized32 = (text: string): Bytes => new Bytes().u32(text.length).text(text);
const sized64 = (text: string): Bytes => new Bytes().u64(text.length).text(text);

/** The options that both versions have, each with its data. */
function commonOptions(meta: TraceMetadata): [id: number, data: Bytes][] {
  const options: [number, Bytes][] = [];
  if (meta.dateOffsetUs !== undefined) {
    const { dateOffsetUs: us } = meta;
    options.push([OPTION.date, new Bytes().string(`0x${BigInt.asUintN(64, us).toString(16)}`)]);
  }
  options.push([OPTION.traceclock, new Bytes().string(meta.traceClock)]);
  options.push([OPTION.uname, new Bytes().string(meta.uname)]);
  options.push([OPTION.version, new Bytes().string(meta.version)]);
  if (meta.traceId !== undefined) options.push([OPTION.traceid, new Bytes().u64(meta.traceId)]);
  // The text begins with its CPU's number, as trace-cmd's does.
  for (const [cpu, stats] of meta.cpuStats.entries())
    options.push([OPTION.cpustat, new Bytes().string(`CPU: ${cpu}\n${stats}`)]);
  return options;
}

function putOption(out: Bytes, id: number, data: Bytes): void {
  out.u16(id).u32(data.length).raw(data.bytes());
}

/** Writes a whole file: what is known of the system, then every buffer's pages. */
export function writeTraceDat(
  sink: DatSink,
  meta: TraceMetadata,
  buffers: readonly BufferPages[],
  options: TraceDatOptions = {},
): void {
  checkArgument(
    'writeTraceDat()',
    'sink',
    sink,
    having('a sink, as MemorySink is one', 'append', 'patch', 'position'),
  );
  checkArgument(
    'writeTraceDat()',
    'meta',
    meta,
    having('metadata, as traceMetadata() gives it', 'headerPage', 'cpus', 'ftraceFormats'),
  );
  checkArgument('writeTraceDat()', 'buffers', buffers, aList);
  checkArgument('writeTraceDat()', 'options', options, DAT_OPTIONS);
  const { version = 7, compression = 'none', pageSize = 4096 } = options;
  if (version === 6) writeVersion6(sink, meta, buffers, pageSize);
  else new Version7(sink, compressionOf(compression), pageSize).write(meta, buffers);
}

/** Fills up to a page: CPU data are mapped by readers. */
function alignTo(sink: DatSink, pageSize: number): void {
  const rest = sink.position % pageSize;
  if (rest !== 0) sink.append(new Uint8Array(pageSize - rest));
}

function writeVersion6(
  sink: DatSink,
  meta: TraceMetadata,
  buffers: readonly BufferPages[],
  pageSize: number,
): void {
  const head = start(6, pageSize);
  for (const part of [headerInfo(meta), ftraceFormats(meta), eventFormats(meta)]) head.raw(part.bytes());
  for (const part of [sized32(meta.kallsyms), sized32(meta.printkFormats), sized64(meta.savedCmdlines)])
    head.raw(part.bytes());
  head.u32(meta.cpus).text(OPTIONS_MARK);
  for (const [id, data] of commonOptions(meta)) putOption(head, id, data);
  const top = buffers.find(({ name }) => name === '');
  const instances = buffers.filter(({ name }) => name !== '');
  const places: number[] = [];
  for (const { name } of instances) {
    places.push(head.length + 6);
    putOption(head, OPTION.buffer, new Bytes().u64(0).string(name));
  }
  head.u16(OPTION.done);
  sink.append(head.bytes());
  writeFlyrecord(sink, top?.cpus ?? [], meta.cpus, pageSize);
  for (const [n, instance] of instances.entries()) {
    sink.patch(places[n] as number, u64Bytes(sink.position));
    writeFlyrecord(sink, instance.cpus, meta.cpus, pageSize);
  }
}

/** Version 6: a table of all CPUs, then their pages. */
function writeFlyrecord(sink: DatSink, cpus: readonly CpuPages[], count: number, pageSize: number): void {
  sink.append(stringToBytes(FLYRECORD_MARK));
  const table = sink.position;
  sink.append(new Uint8Array(count * 16));
  alignTo(sink, pageSize);
  for (let cpu = 0; cpu < count; cpu++) {
    const begin = sink.position;
    for (const piece of cpus.find((one) => one.cpu === cpu)?.pieces() ?? []) sink.append(piece);
    sink.patch(table + 16 * cpu, u64Bytes(begin));
    sink.patch(table + 16 * cpu + 8, u64Bytes(sink.position - begin));
    alignTo(sink, pageSize);
  }
}

class Version7 {
  readonly #sink: DatSink;
  readonly #codec: Compression;
  readonly #pageSize: number;
  readonly #strings = new Bytes();

  constructor(sink: DatSink, codec: Compression, pageSize: number) {
    this.#sink = sink;
    this.#codec = codec;
    this.#pageSize = pageSize;
  }

  write(meta: TraceMetadata, buffers: readonly BufferPages[]): void {
    const head = start(7, this.#pageSize).string(this.#codec.name).string(this.#codec.version);
    const first = head.length;
    this.#sink.append(head.u64(0).bytes());
    const sections: [id: number, description: string, content: Bytes][] = [
      [OPTION.headerInfo, 'headers', headerInfo(meta)],
      [OPTION.ftraceEvents, 'ftrace events', ftraceFormats(meta)],
      [OPTION.eventFormats, 'events format', eventFormats(meta)],
      [OPTION.kallsyms, 'kallsyms', sized32(meta.kallsyms)],
      [OPTION.printk, 'printk', sized32(meta.printkFormats)],
      [OPTION.cmdlines, 'command lines', sized64(meta.savedCmdlines)],
    ];
    const options: [number, Bytes][] = [];
    for (const [id, description, content] of sections)
      options.push([id, new Bytes().u64(this.#section(id, description, content.bytes()))]);
    options.push(...commonOptions(meta));
    options.push([OPTION.cpucount, new Bytes().u32(meta.cpus)]);
    const [system, next] = this.#options(options);
    this.#sink.patch(first, u64Bytes(system));
    const descriptions = buffers.map((buffer): [number, Bytes] => [OPTION.buffer, this.#buffer(buffer)]);
    const [second] = this.#options(descriptions);
    this.#sink.patch(next, u64Bytes(second));
    // Descriptions are in the last section: it cannot describe itself but by a text that is there already.
    const strings = this.#strings.length;
    this.#strings.string('strings');
    this.#put(OPTION.strings, strings, this.#strings.bytes(), this.#codec.name !== 'none');
  }

  /** A section of metadata; answers with its offset. */
  #section(id: number, description: string, content: Uint8Array): number {
    const text = this.#strings.length;
    this.#strings.string(description);
    return this.#put(id, text, content, this.#codec.name !== 'none');
  }

  #put(id: number, text: number, content: Uint8Array, compress: boolean): number {
    const offset = this.#sink.position;
    let body = content;
    if (compress) {
      const packed = this.#codec.compress(content);
      body = new Bytes().u32(packed.length).u32(content.length).raw(packed).bytes();
    }
    const head = new Bytes()
      .u16(id)
      .u16(compress ? SECTION_COMPRESSED : 0)
      .u32(text)
      .u64(body.length);
    this.#sink.append(head.raw(body).bytes());
    return offset;
  }

  /** A section of options; answers with its offset, and where the offset of the next one goes. */
  #options(options: readonly [id: number, data: Bytes][]): [offset: number, next: number] {
    const out = new Bytes();
    for (const [id, data] of options) putOption(out, id, data);
    putOption(out, OPTION.done, new Bytes().u64(0));
    const text = this.#strings.length;
    this.#strings.string('options');
    const offset = this.#put(OPTION.done, text, out.bytes(), false);
    return [offset, this.#sink.position - 8];
  }

  /** A buffer's section; answers with the option that describes it. */
  #buffer({ name, clock, cpus }: BufferPages): Bytes {
    const sink = this.#sink;
    const compress = this.#codec.name !== 'none';
    const offset = sink.position;
    const text = this.#strings.length;
    this.#strings.string(`buffer flyrecord ${name}`);
    const head = new Bytes()
      .u16(OPTION.buffer)
      .u16(compress ? SECTION_COMPRESSED : 0)
      .u32(text)
      .u64(0);
    sink.append(head.bytes());
    if (!compress) alignTo(sink, this.#pageSize);
    const places: { cpu: number; begin: number; size: number }[] = [];
    for (const one of cpus) {
      const begin = sink.position;
      if (compress) this.#chunks(one);
      else for (const piece of one.pieces()) sink.append(piece);
      if (sink.position > begin) places.push({ cpu: one.cpu, begin, size: sink.position - begin });
    }
    sink.patch(offset + 8, u64Bytes(sink.position - offset - SECTION_HEADER_SIZE));
    const option = new Bytes().u64(offset).string(name).string(clock).u32(this.#pageSize).u32(places.length);
    for (const { cpu, begin, size } of places) option.u32(cpu).u64(begin).u64(size);
    return option;
  }

  #chunks(cpu: CpuPages): void {
    const sink = this.#sink;
    const begin = sink.position;
    let count = 0;
    const most = CHUNK_PAGES * this.#pageSize;
    const put = (chunk: Uint8Array): void => {
      if (count === 0) sink.append(new Uint8Array(4));
      const packed = this.#codec.compress(chunk);
      sink.append(new Bytes().u32(packed.length).u32(chunk.length).raw(packed).bytes());
      count++;
    };
    let rest = new Bytes();
    for (const piece of cpu.pieces()) {
      rest.raw(piece);
      if (rest.length < most) continue;
      const all = rest.bytes();
      let at = 0;
      for (; at + most <= all.length; at += most) put(all.subarray(at, at + most));
      rest = new Bytes().raw(all.subarray(at));
    }
    if (rest.length > 0) put(rest.bytes());
    if (count > 0) sink.patch(begin, new Bytes().u32(count).bytes());
  }
}
