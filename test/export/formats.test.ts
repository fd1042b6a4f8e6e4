import { readFileSync } from 'node:fs';
import protobuf from 'protobufjs';
import { expect, test } from 'vitest';
import {
  eventFields,
  exportChrome,
  exportJson,
  exportPerfetto,
  exportSpeedscope,
  MemorySink,
  readTraceDat,
  slices,
  TraceEvents,
  TraceRecorder,
} from '../../src/export/index.ts';
import { type Decoded, decode, parseProto } from './proto.ts';
import { RecordedSystem } from './system.ts';

const READ = 0xffff_ffff_8100_0000n;
const WRITE = READ + 0x100n;
const EXIT = READ + 0x200n;

/** A file of a system that `run` has made events in. */
function recorded(run: (system: RecordedSystem) => void): TraceEvents {
  const system = new RecordedSystem();
  const recorder = new TraceRecorder(system.fs);
  run(system);
  const sink = new MemorySink();
  recorder.finish(sink, { uname: 'Linux', version: 'test' });
  return new TraceEvents(readTraceDat(sink.bytes()));
}

/** Calls as probes record them: `>` enters a function, `<` leaves it. */
function calls(
  system: RecordedSystem,
  script: readonly (readonly [pid: number, what: '>' | '<', address: bigint])[],
): void {
  const entry = system.event(
    'enter',
    [
      ['unsigned long', '__probe_ip', 8],
      ['u32', 'n', 4],
    ],
    '"(%lx) n=%u", REC->__probe_ip, REC->n',
  );
  const exit = system.event(
    'leave',
    [
      ['unsigned long', '__probe_func', 8],
      ['unsigned long', '__probe_ret_ip', 8],
      ['s64', 'ret', 8, true],
    ],
    '"(%lx <- %lx) ret=%lld", REC->__probe_func, REC->__probe_ret_ip, REC->ret',
  );
  for (const { name } of [entry, exit]) system.fs.writeFile(`events/shop/${name}/enable`, '1');
  for (const [n, [pid, what, address]] of script.entries()) {
    system.now += 1000n;
    system.task(pid, n % 3);
    if (what === '>') system.fire(entry, { __probe_ip: address, n: BigInt(n) });
    else system.fire(exit, { __probe_func: address, __probe_ret_ip: 1n, ret: BigInt(-n) });
  }
}

const SCRIPT = [
  [100, '>', READ],
  [100, '>', WRITE],
  [101, '>', READ],
  [100, '<', WRITE],
  [100, '>', READ],
  [100, '<', READ],
  [101, '<', READ],
  // without a return anywhere: an instant
  [100, '>', EXIT],
  // its begin was not recorded
  [101, '<', WRITE],
  // ended by its caller's return
  [100, '>', WRITE],
  [100, '<', READ],
  // never ends
  [101, '>', WRITE],
] as const;

const utf8 = (parts: Iterable<Uint8Array>): string => Buffer.concat([...parts]).toString('utf8');

test('entries and returns are slices, nested by task; the rest are instants', () => {
  const items = [...slices(recorded((system) => calls(system, SCRIPT)))].map((item) =>
    item.kind === 'instant'
      ? `${item.event.pid} . ${item.event.event?.name}`
      : item.kind === 'begin'
        ? `${item.event.pid} > ${item.name}`
        : `${item.pid} < ${item.name}${item.event === undefined ? ' (unseen)' : ''}`,
  );
  expect(items).toEqual([
    '100 > vfs_read',
    '100 > vfs_write',
    '101 > vfs_read',
    '100 < vfs_write',
    '100 > vfs_read',
    '100 < vfs_read',
    '101 < vfs_read',
    '100 . enter',
    '101 . leave',
    '100 > vfs_write',
    '100 < vfs_write (unseen)',
    '100 < vfs_read',
    '101 > vfs_write',
    '101 < vfs_write (unseen)',
  ]);
});

test('JSON: every event with its fields; what a double cannot hold is a string', () => {
  const events = recorded((system) => system.run(400));
  const lines = utf8(exportJson(events))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(lines).toHaveLength(400);
  for (const [n, event] of [...events].entries()) {
    const line = lines[n];
    expect(line).toMatchObject({
      cpu: event.cpu,
      pid: event.pid,
      event: event.event?.name,
      system: event.event?.system,
    });
    expect(BigInt(line.ts)).toBe(event.ts);
    for (const [field, value] of eventFields(event))
      if (typeof value === 'bigint') expect(BigInt(line.fields[field.name])).toBe(value);
  }
  const numbers = lines.find((line) => line.event === 'numbers');
  expect(numbers.fields.g).toBe('9223372036854775808');
  const texts = lines.find((line) => line.event === 'texts' && line.fields.more !== '');
  expect(texts.fields.more).toBe('größe');
  expect(lines.find((line) => line.event === 'shapes' && line.fields.list.length === 1).fields.list).toEqual([
    5,
  ]);
});

test('Chrome: begins and ends match in each task, instants stand beside them, times keep their nanoseconds', () => {
  const events = recorded((system) => {
    calls(system, SCRIPT);
    system.now += 1n;
    system.task(100, 0);
    system.fs.writeFile('trace_marker', 'größe');
  });
  const text = utf8(exportChrome(events));
  const { traceEvents, displayTimeUnit } = JSON.parse(text);
  expect(displayTimeUnit).toBe('ns');
  expect(text).toContain('"ts":1000000012.001,"ph":"i","name":"print"');
  const stacks = new Map<number, string[]>();
  let last = 0;
  for (const { ph, pid, tid, name, ts, s } of traceEvents) {
    expect(pid).toBe(tid);
    if (ph === 'M') continue;
    expect(ts).toBeGreaterThanOrEqual(last);
    last = ts;
    const stack = stacks.get(pid) ?? [];
    stacks.set(pid, stack);
    if (ph === 'B') stack.push(name);
    else if (ph === 'E') expect(stack.pop()).toBe(name);
    else expect([ph, s]).toEqual(['i', 't']);
  }
  expect([...stacks.values()].flat()).toEqual([]);
  expect(traceEvents.filter(({ ph }: { ph: string }) => ph === 'B')).toHaveLength(6);
  expect(traceEvents.filter(({ ph }: { ph: string }) => ph === 'M')).toHaveLength(4);
  expect(JSON.parse(utf8(exportChrome(recorded(() => undefined))))).toEqual({
    displayTimeUnit: 'ns',
    traceEvents: [],
  });
});

/** What file-format-schema.json of speedscope asks for, and what its importer checks. */
function checkSpeedscope(file: {
  $schema: string;
  shared: { frames: { name: string }[] };
  profiles: {
    type: string;
    name: string;
    unit: string;
    startValue: number;
    endValue: number;
    events?: { type: string; frame: number; at: number }[];
    samples?: number[][];
    weights?: number[];
  }[];
}): void {
  expect(file.$schema).toBe('https://www.speedscope.app/file-format-schema.json');
  for (const frame of file.shared.frames) expect(typeof frame.name).toBe('string');
  for (const profile of file.profiles) {
    expect(['nanoseconds', 'none']).toContain(profile.unit);
    expect(profile.endValue).toBeGreaterThanOrEqual(profile.startValue);
    const known = (frame: number): void => expect(file.shared.frames[frame]).toBeDefined();
    if (profile.type === 'evented') {
      const stack: number[] = [];
      let last = profile.startValue;
      for (const { type, frame, at } of profile.events ?? []) {
        known(frame);
        expect(at).toBeGreaterThanOrEqual(last);
        last = at;
        if (type === 'O') stack.push(frame);
        else expect([type, stack.pop()]).toEqual(['C', frame]);
      }
      expect(stack).toEqual([]);
      expect(last).toBeLessThanOrEqual(profile.endValue);
    } else {
      expect(profile.type).toBe('sampled');
      expect(profile.samples).toHaveLength(profile.weights?.length ?? -1);
      for (const frame of profile.samples?.flat() ?? []) known(frame);
      expect(profile.weights?.reduce((sum, weight) => sum + weight, 0)).toBe(
        profile.endValue - profile.startValue,
      );
    }
  }
}

test('speedscope: a profile of calls a task, and one of stacks', () => {
  const file = JSON.parse(
    utf8(
      exportSpeedscope(
        recorded((system) => calls(system, SCRIPT)),
        { name: 'x' },
      ),
    ),
  );
  checkSpeedscope(file);
  expect(file.profiles.map((profile: { name: string }) => profile.name)).toEqual([
    'node 100',
    'a task with a lo 101',
  ]);
  expect(
    file.profiles[0].events.slice(0, 3).map(({ type, at }: { type: string; at: number }) => [type, at]),
  ).toEqual([
    ['O', 0],
    ['O', 1000],
    ['C', 3000],
  ]);
  const stacks = JSON.parse(
    utf8(
      exportSpeedscope(
        recorded((system) => {
          system.fs.writeFile('trace_options', 'stacktrace');
          calls(system, [
            [100, '>', EXIT],
            [100, '>', EXIT],
          ]);
        }),
      ),
    ),
  );
  checkSpeedscope(stacks);
  const names = stacks.shared.frames.map(({ name }: { name: string }) => name);
  expect(stacks.profiles[0].samples.map((stack: number[]) => stack.map((frame) => names[frame]))).toEqual([
    ['vfs_write', 'vfs_read'],
    ['vfs_write', 'vfs_read'],
  ]);
});

test('speedscope: a file with neither is refused', () => {
  const events = recorded((system) => system.fs.writeFile('trace_marker', 'x'));
  expect(() => [...exportSpeedscope(events)]).toThrow(expect.objectContaining({ code: 'ENODATA' }));
});

test('perfetto: packets decode by the schema to the events that were recorded', () => {
  const schema = parseProto(readFileSync(new URL('perfetto.proto', import.meta.url), 'utf8'));
  const events = recorded((system) => {
    calls(system, SCRIPT);
    system.run(200);
  });
  const { packet: packets } = decode(schema, 'Trace', Buffer.concat([...exportPerfetto(events)])) as {
    packet: Decoded[];
  };
  const [first, ...rest] = packets;
  expect(first).toMatchObject({
    trusted_packet_sequence_id: 1n,
    sequence_flags: 1n,
    first_packet_on_sequence: 1n,
    trace_packet_defaults: { timestamp_clock_id: 3n },
    clock_snapshot: { primary_trace_clock: 3n, clocks: [{ clock_id: 3n }] },
  });
  // The rules of the trace processor: state is there before it is needed, a track is described before its events.
  const names = { event_categories: new Map(), event_names: new Map(), debug_annotation_names: new Map() };
  const tracks = new Map<bigint, bigint>();
  const open = new Map<bigint, string[]>();
  const instants: Decoded[] = [];
  let slicesSeen = 0;
  let last = 0n;
  for (const packet of rest) {
    expect(packet['trusted_packet_sequence_id']).toBe(1n);
    const descriptor = packet['track_descriptor'] as Decoded | undefined;
    if (descriptor !== undefined) {
      const thread = descriptor['thread'] as Decoded | undefined;
      expect(tracks.has(descriptor['uuid'] as bigint)).toBe(false);
      tracks.set(descriptor['uuid'] as bigint, (thread?.['tid'] as bigint) ?? -1n);
      continue;
    }
    expect(packet['sequence_flags']).toBe(2n);
    for (const [index, list] of Object.entries((packet['interned_data'] as Record<string, Decoded[]>) ?? {}))
      for (const { iid, name } of list) names[index as keyof typeof names].set(iid, name);
    const ts = packet['timestamp'] as bigint;
    expect(ts).toBeGreaterThanOrEqual(last);
    last = ts;
    const event = packet['track_event'] as Decoded;
    const pid = tracks.get(event['track_uuid'] as bigint) as bigint;
    expect(pid).toBeGreaterThan(0n);
    const name = names.event_names.get(event['name_iid']);
    const fields = ((event['debug_annotations'] as Decoded[]) ?? []).map(({ name_iid, ...value }) => [
      names.debug_annotation_names.get(name_iid),
      Object.values(value)[0],
    ]);
    expect(fields.every(([field, value]) => field !== undefined && value !== undefined)).toBe(true);
    const stack = open.get(pid) ?? [];
    open.set(pid, stack);
    if (event['type'] === 1n) stack.push(name);
    else if (event['type'] === 2n) {
      expect(stack.pop()).toBeDefined();
      slicesSeen++;
    } else instants.push({ ts, pid, name, fields: Object.fromEntries(fields) });
  }
  expect([...open.values()].flat()).toEqual([]);
  expect(slicesSeen).toBe(6);
  const wanted = [...slices(events)].flatMap((item) => (item.kind === 'instant' ? [item.event] : []));
  expect(instants).toHaveLength(wanted.length);
  for (const [n, event] of wanted.entries()) {
    const seen = instants[n] as { ts: bigint; pid: bigint; name: string; fields: Record<string, unknown> };
    expect([seen.ts, Number(seen.pid), seen.name]).toEqual([event.ts, event.pid, event.event?.name]);
    expect(seen.fields['cpu']).toBe(BigInt(event.cpu));
    for (const [field, value] of eventFields(event))
      if (typeof value === 'bigint') expect(seen.fields[field.name]).toBe(value);
  }
  const texts = instants.filter(({ name }) => name === 'texts')[1] as { fields: Record<string, unknown> };
  expect(texts.fields['more']).toBe('größe');
});

test('perfetto: a compiler of schemas reads the same', () => {
  const text = readFileSync(new URL('perfetto.proto', import.meta.url), 'utf8');
  const events = recorded((system) => {
    calls(system, SCRIPT);
    system.run(200);
  });
  const bytes = Buffer.concat([...exportPerfetto(events)]);
  const type = protobuf.parse(text, { keepCase: true }).root.lookupType('perfetto.protos.Trace');
  const theirs = type.toObject(type.decode(bytes), { longs: String, enums: Number });
  expect(plain(theirs)).toEqual(plain(decode(parseProto(text), 'Trace', bytes)));
});

/** Numbers and truth values as text, in the ways of either decoder. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, plain(one)]));
  return typeof value === 'boolean' ? String(Number(value)) : String(value);
}

test('a filter leaves out events, and no calls', () => {
  const events = recorded((system) => {
    calls(system, SCRIPT);
    system.fs.writeFile('trace_marker', 'x');
  });
  const nothing = JSON.parse(utf8(exportChrome(events, () => false))).traceEvents as { ph: string }[];
  expect(new Set(nothing.map(({ ph }) => ph))).toEqual(new Set(['M', 'B', 'E']));
  expect(
    utf8(exportJson(events, ({ pid }) => pid === 101))
      .trim()
      .split('\n'),
  ).toHaveLength(5);
});
