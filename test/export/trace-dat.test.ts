import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import zlib from 'node:zlib';
import { afterAll, describe, expect, test } from 'vitest';
import {
  type CompressionName,
  FileSink,
  fileSource,
  fileSpool,
  MemorySink,
  readTraceDat,
  TraceDat,
  TraceEvents,
  TraceRecorder,
} from '../../src/export/index.ts';
import { RecordedSystem } from './system.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'trapline-dat-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const SYSTEM = { uname: 'Linux test 6.12 x86_64', version: '0.1.0', traceId: 0x1234_5678_9abcn };
const hasZstd = 'zstdCompressSync' in zlib;
const KINDS: readonly (readonly [version: 6 | 7, compression: CompressionName])[] = [
  [6, 'none'],
  [7, 'none'],
  [7, 'zlib'],
  ...(hasZstd ? ([[7, 'zstd']] as const) : []),
];

interface Seen {
  readonly cpu: number;
  readonly ts: bigint;
  readonly data: string;
}

const hex = (data: Uint8Array): string => Buffer.from(data).toString('hex');

/** What a buffer without a recorder holds after the same run: the reference. */
function reference(rounds: number): Seen[] {
  const system = new RecordedSystem({ bufferSizeKb: 4096 });
  system.run(rounds);
  return [...system.tracing.globalTrace.buffer.iterate()].map(({ cpu, ts, data }) => ({
    cpu,
    ts,
    data: hex(data),
  }));
}

function seen(events: Iterable<{ cpu: number; ts: bigint; data: Uint8Array }>): Seen[] {
  return [...events].map(({ cpu, ts, data }) => ({ cpu, ts, data: hex(data) }));
}

function recorded(rounds: number, version: 6 | 7 = 7, compression: CompressionName = 'none'): Uint8Array {
  const system = new RecordedSystem();
  const recorder = new TraceRecorder(system.fs);
  system.run(rounds);
  const sink = new MemorySink();
  recorder.finish(sink, SYSTEM, { version, compression });
  return sink.bytes();
}

describe.each(KINDS)('trace.dat version %i, compression %s', (version, compression) => {
  test('every record is there, with its time, CPU and bytes; the smallest buffer loses none', () => {
    const system = new RecordedSystem({ bufferSizeKb: 1 });
    const recorder = new TraceRecorder(system.fs);
    const made = system.run(4000);
    const sink = new MemorySink();
    recorder.finish(sink, SYSTEM, { version, compression });
    const dat = readTraceDat(sink.bytes());
    const events = [...new TraceEvents(dat)];
    expect(events).toHaveLength(made);
    expect(events.every(({ lost, event }) => lost === 0 && event !== undefined)).toBe(true);
    expect(seen(events)).toEqual(reference(4000));
    expect(recorder.pages).toBeGreaterThan(50);
  });

  test('what the file says of the system', () => {
    const dat = readTraceDat(recorded(64, version, compression));
    expect(dat).toMatchObject({ version, compression, longSize: 8, pageSize: 4096, cpus: 3, clock: 'local' });
    expect(dat.headerPage).toContain('field: u64 timestamp;');
    expect(dat.headerEvent).toContain('type_len    :    5 bits');
    expect(dat.ftraceFormats.some((text) => text.startsWith('name: bprint\n'))).toBe(true);
    expect(
      dat.eventFormats.map(({ system, format }) => `${system}:${/name: (.*)/.exec(format)?.[1]}`),
    ).toEqual(expect.arrayContaining(['shop:numbers', 'shop:texts', 'shop:shapes']));
    expect(dat.kallsyms).toContain('ffffffff81000100 t vfs_write\n');
    expect(dat.kallsyms).toContain('ffffffff81000200 t do_exit\t[app.js]\n');
    expect(dat.printkFormats).toContain(' : "a constant text\\n"\n');
    expect(dat.savedCmdlines).toContain('70000 worker-7\n');
    expect(dat.cpuStats).toHaveLength(3);
    expect(dat.cpuStats[1]).toMatch(/^CPU: 1\nentries: 0\noverrun: 0\n/);
    expect(dat.text(5)).toBe(SYSTEM.uname);
    expect(dat.text(9)).toBe('0.1.0');
    expect(Buffer.from(dat.option(11) as Uint8Array).readBigUInt64LE()).toBe(SYSTEM.traceId);
  });

  test('instances, each with its buffer and clock; CPUs without events', () => {
    const system = new RecordedSystem();
    system.fs.mkdir('instances/second');
    system.fs.writeFile('instances/second/trace_clock', 'mono');
    const recorder = new TraceRecorder(system.fs, { instances: ['', 'second'] });
    const made = system.run(100);
    system.task(101, 2);
    for (const text of ['one', 'two']) system.fs.writeFile('instances/second/trace_marker', text);
    const sink = new MemorySink();
    recorder.finish(sink, SYSTEM, { version, compression });
    const dat = readTraceDat(sink.bytes());
    expect(dat.buffers.map(({ name }) => name)).toEqual(['', 'second']);
    if (version === 7) expect(dat.buffers.map(({ clock }) => clock)).toEqual(['local', 'mono']);
    const events = [...new TraceEvents(dat)];
    expect(events.filter(({ buffer }) => buffer.name === '')).toHaveLength(made);
    const second = events.filter(({ buffer }) => buffer.name === 'second');
    expect(second.map(({ cpu, event }) => `${cpu} ${event?.name}`)).toEqual(['2 print', '2 print']);
    expect(system.tracing.instances.get('second')?.references).toBe(0);
    system.fs.rmdir('instances/second');
  });

  test('through files, spools too', () => {
    const out = path.join(folder, `file-${version}-${compression}.dat`);
    const system = new RecordedSystem({ bufferSizeKb: 8 });
    const recorder = new TraceRecorder(system.fs, {
      spool: (name, cpu) => fileSpool(`${out}.${name}cpu${cpu}`),
    });
    const made = system.run(3000);
    const sink = new FileSink(out);
    recorder.finish(sink, SYSTEM, { version, compression });
    sink.close();
    const dat = new TraceDat(fileSource(out));
    expect(seen(new TraceEvents(dat))).toEqual(reference(3000));
    expect(made).toBe(3000);
    dat.close();
    expect(() => fileSource(`${out}.cpu0`)).toThrow('there is no such file');
  });
});

describe('recording', () => {
  test('an offset of the date is added to every time', () => {
    const system = new RecordedSystem();
    const recorder = new TraceRecorder(system.fs);
    system.fs.writeFile('trace_marker', 'x');
    const sink = new MemorySink();
    recorder.finish(sink, { ...SYSTEM, dateOffsetUs: 5_000_000n });
    const [event] = [...new TraceEvents(readTraceDat(sink.bytes()))];
    expect(event?.ts).toBe(1_000_000_000_000n + 5_000_000_000n);
  });

  test('events that were lost before are said to be', () => {
    const system = new RecordedSystem({ bufferSizeKb: 8, ncpu: 1 });
    // Pages have some room behind these records, where the number of the lost ones goes.
    const made = 2000;
    for (let n = 0; n < made; n++) system.fs.writeFile('trace_marker', 'x'.repeat(30));
    const { overrun } = system.tracing.globalTrace.buffer.stats(0);
    expect(overrun).toBeGreaterThan(0);
    const recorder = new TraceRecorder(system.fs);
    const sink = new MemorySink();
    recorder.finish(sink, SYSTEM);
    const events = [...new TraceEvents(readTraceDat(sink.bytes()))];
    expect(events[0]?.lost).toBe(overrun);
    expect(events.slice(1).every(({ lost }) => lost === 0)).toBe(true);
    expect(events.length + overrun).toBe(made);
  });

  test('an instance is recorded once at a time, and cannot be removed meanwhile', () => {
    const system = new RecordedSystem();
    system.fs.mkdir('instances/one');
    const recorder = new TraceRecorder(system.fs, { instances: ['one'] });
    expect(() => new TraceRecorder(system.fs, { instances: ['one'] })).toThrow('is being recorded already');
    expect(() => new TraceRecorder(system.fs, { instances: ['two'] })).toThrow('there is no instance two');
    expect(() => system.fs.rmdir('instances/one')).toThrow(/in use/);
    recorder.close();
    system.fs.rmdir('instances/one');
  });
});

describe('files that are broken', () => {
  const codes = new Set(['ETRACEDAT', 'ENOTSUP']);
  /** Reads everything; the error's code, or how many events there were. */
  const outcome = (bytes: Uint8Array): string | number => {
    try {
      let count = 0;
      for (const _event of new TraceEvents(readTraceDat(bytes))) count++;
      return count;
    } catch (error) {
      const { code } = error as { code?: string };
      if (code === undefined || !codes.has(code)) throw error;
      return code;
    }
  };

  test('something else, other versions, big-endian', () => {
    expect(() => readTraceDat(new Uint8Array())).toThrow('this is no trace.dat file');
    expect(() => readTraceDat(Buffer.from('#!/bin/sh\necho hello'))).toThrow('this is no trace.dat file');
    const bytes = recorded(8);
    const changed = (at: number, value: number): Uint8Array => {
      const copy = bytes.slice();
      copy[at] = value;
      return copy;
    };
    expect(() => readTraceDat(changed(10, 0x38))).toThrow('6 and 7 can be read');
    expect(() => readTraceDat(changed(12, 1))).toThrow('big-endian');
    expect(() => readTraceDat(changed(13, 5))).toThrow('a long of 5 bytes');
    const file = path.join(folder, 'empty');
    writeFileSync(file, '');
    expect(() => new TraceDat(fileSource(file))).toThrow('this is no trace.dat file');
  });

  test('an unknown compression is refused by its name', () => {
    const bytes = Buffer.from(recorded(8));
    bytes.write('nine', bytes.indexOf('none'), 'latin1');
    expect(() => readTraceDat(bytes)).toThrow(expect.objectContaining({ code: 'ENOTSUP' }));
  });

  test('options in a circle', () => {
    const bytes = recorded(8).slice();
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const first = Number(view.getBigUint64(24, true));
    const size = Number(view.getBigUint64(first + 8, true));
    view.setBigUint64(first + 16 + size - 8, BigInt(first), true);
    expect(() => readTraceDat(bytes)).toThrow('in a circle');
  });

  test.each(KINDS)('cut anywhere: version %i, %s', (version, compression) => {
    const bytes = recorded(300, version, compression);
    const whole = outcome(bytes);
    expect(whole).toBe(300);
    for (let end = 0; end < bytes.length; end += 1 + (end % 131)) {
      const result = outcome(bytes.subarray(0, end));
      // A last section that nobody needs (the strings) may be missing.
      if (typeof result === 'number') expect(result).toBeLessThanOrEqual(300);
    }
  });

  test.each(KINDS)('bits flipped anywhere: version %i, %s', (version, compression) => {
    const bytes = recorded(120, version, compression).slice();
    let seed = 12345;
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return seed % below;
    };
    let refused = 0;
    for (let round = 0; round < 1500; round++) {
      const at: number[] = [];
      for (let n = 0; n <= round % 4; n++) {
        // every other one in the head, where the structure is
        at.push(random(round % 2 === 0 ? Math.min(bytes.length, 600) : bytes.length));
      }
      const before = at.map((place) => bytes[place] as number);
      for (const place of at) bytes[place] = (bytes[place] as number) ^ (1 << random(8));
      const result = outcome(bytes);
      if (typeof result === 'string') refused++;
      for (const [n, place] of [...at.entries()].reverse()) bytes[place] = before[n] as number;
    }
    expect(outcome(bytes)).toBe(120);
    expect(refused).toBeGreaterThan(0);
  });
});
