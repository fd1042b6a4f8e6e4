import { describe, expect, test } from 'vitest';
import { TestSystem } from './system.ts';

function shop() {
  const system = new TestSystem();
  const event = system.event(
    'shop',
    'sold',
    [
      { type: 'u64', name: 'id', size: 8 },
      { type: 's32', name: 'price', size: 4, signed: true },
      { type: 'char[8]', name: 'sku', size: 8 },
    ],
    '"id=%llu price=%d sku=%s", REC->id, REC->price, REC->sku',
  );
  system.golden.task = { pid: 77, tgid: 70, comm: 'node', cpu: 1 };
  system.fs.writeFile('events/shop/sold/enable', '1');
  const at = (us: bigint, values = { id: 1n, price: -5, sku: 'tea' }) => {
    system.golden.clock = us * 1000n - 3000n;
    event.fire(values);
  };
  return { ...event, system, fs: system.fs, at };
}

describe('the trace file', () => {
  test('head and lines', () => {
    const { fs, at } = shop();
    at(1_234_567n);
    expect(fs.readFile('trace')).toBe(
      [
        '# tracer: nop',
        '#',
        '# entries-in-buffer/entries-written: 1/1   #P:2',
        '#',
        '#                                _-----=> irqs-off/BH-disabled',
        '#                               / _----=> need-resched',
        '#                              | / _---=> hardirq/softirq',
        '#                              || / _--=> preempt-depth',
        '#                              ||| / _-=> migrate-disable',
        '#                              |||| /     delay',
        '#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION',
        '#              | |         |   |||||     |         |',
        '            node-77      [001] .....     1.234567: sold: id=1 price=-5 sku=tea',
        '',
      ].join('\n'),
    );
  });

  test.each([
    ['raw', '77 1 2000000 type: ID'],
    ['hex', '0000004d 00000001 00000000001e8480 type: ID'],
    ['nocontext-info', 'sold: id=1 price=-5 sku=tea'],
    ['noirq-info', '            node-77      [001]      0.002000: sold: id=1 price=-5 sku=tea'],
    [
      'fields',
      '            node-77      [001] .....     0.002000: sold: id=0x1 (1) price=0xfffffffb (-5) sku=tea',
    ],
    [
      'record-tgid',
      '            node-77      (     70) [001] .....     0.002000: sold: id=1 price=-5 sku=tea',
    ],
    ['latency-format', '    node-77        1.....    2us : sold: id=1 price=-5 sku=tea'],
  ])('with %s', (option, line) => {
    const { system, fs, at, call } = shop();
    fs.writeFile('trace_options', option);
    fs.writeFile('trace', '');
    if (option === 'latency-format') system.tracing.globalTrace.timeStart = 1_998_000n;
    at(2000n);
    expect(system.lines()).toEqual([line.replace('ID', String(call.id))]);
  });

  test('binary lines are the words as they are', () => {
    const { fs, at, call } = shop();
    fs.writeFile('trace_options', 'bin');
    at(2000n);
    const bytes = fs.readBytes('trace');
    const text = `type: ${call.id}\n`;
    const line = bytes.subarray(bytes.length - 16 - text.length);
    const view = new DataView(line.buffer, line.byteOffset, 16);
    expect([view.getInt32(0, true), view.getInt32(4, true), view.getBigUint64(8, true)]).toEqual([
      77,
      1,
      2_000_000n,
    ]);
    expect(new TextDecoder().decode(line.subarray(16))).toBe(text);
  });

  test("fields: bytes of Latin-1 are characters, and none of the kernel's own records has any", () => {
    const system = new TestSystem();
    const fields = [
      { type: 'char', name: 'a', size: 1, signed: true },
      { type: 'u8', name: 'b', size: 1 },
      { type: 'u8', name: 'c', size: 1 },
    ];
    const { fire } = system.event('shop', 'byte', fields, '"%d %d %d", REC->a, REC->b, REC->c');
    system.fs.writeFile('events/shop/byte/enable', '1');
    system.fs.writeFile('trace_options', 'fields');
    fire({ a: 65, b: 0xea, c: 0x80 });
    system.fs.writeFile('trace_marker', 'hello');
    const [bytes, marker] = system.lines().map((line) => line.split(': ').slice(1).join(': '));
    expect(marker).toBe('UNKNOWN TYPE 5');
    const raw = Buffer.from(system.fs.readBytes('trace')).toString('latin1');
    expect(raw).toContain("byte: a='A'(65) b='\xea'(234) c=(128)\n");
    expect(bytes).toContain("a='A'(65)");
  });

  test('the latency format in words counts from 0', () => {
    const { system, fs, at } = shop();
    fs.writeFile('trace_options', 'latency-format');
    fs.writeFile('trace_options', 'verbose');
    for (const us of [1000n, 2000n]) at(us);
    expect(system.lines().map((line) => line.slice(30, 48))).toEqual([
      ' 00000000 00000000',
      ' 00000000 00000001',
    ]);
  });

  test('bytes of a record that are no UTF-8 come out as they are', () => {
    const { fs, at } = shop();
    at(1n, { id: 1n, price: 0, sku: 'é' });
    const bytes = fs.readBytes('trace');
    expect([...bytes.subarray(-4)]).toEqual([0x3d, 0xc3, 0xa9, 0x0a]);
  });

  test('clocks that are no time print as numbers; another clock empties the buffer', () => {
    const { system, fs, fire, at } = shop();
    at(5n);
    fs.writeFile('trace_clock', 'counter');
    expect(system.lines()).toEqual([]);
    fire({ id: 2n });
    fire({ id: 3n });
    expect(system.lines().map((line) => line.slice(31, 51))).toEqual([
      '.....            2: ',
      '.....            3: ',
    ]);
  });

  test('a record of an event that is gone', () => {
    const { system, fs, at, call } = shop();
    fs.mkdir('instances/a');
    fs.writeFile('instances/a/events/shop/sold/enable', '1');
    at(1n);
    fs.writeFile('events/shop/sold/enable', '0');
    fs.writeFile('instances/a/events/shop/sold/enable', '0');
    system.tracing.removeEvent(call);
    expect(system.lines()).toEqual([]);
    expect(system.lines('instances/a/trace')).toEqual([]);
  });

  test('pieces of any size make the same text', () => {
    const { fs, at } = shop();
    for (let n = 1n; n <= 50n; n++) at(n);
    const whole = fs.readFile('trace');
    const file = fs.open('trace');
    let text = '';
    for (let size = 1; ; size = (size % 61) + 1) {
      const part = file.read(size);
      if (part.length === 0) break;
      expect(part.length).toBeLessThanOrEqual(size);
      text += new TextDecoder().decode(part);
    }
    expect(text).toBe(whole);
    expect(new TextDecoder().decode(file.read(9, 2))).toBe('tracer: n');
    file.close();
  });
});

describe('trace_pipe', () => {
  test('takes what it shows, once, and waits for more', async () => {
    const { system, fs, at } = shop();
    at(1n);
    const pipe = fs.open('trace_pipe');
    expect(system.refusal(() => fs.open('trace_pipe'))).toBe('EBUSY');
    expect(system.refusal(() => fs.open('per_cpu/cpu1/trace_pipe'))).toBe('EBUSY');
    expect(new TextDecoder().decode(pipe.read(4096))).toContain('0.000001: sold');
    expect(system.lines()).toEqual([]);
    expect(pipe.poll()).toBe(false);
    const next = pipe.readAsync(4096);
    at(2n);
    expect(new TextDecoder().decode(await next)).toContain('0.000002: sold');
    const end = pipe.readAsync(4096);
    fs.writeFile('tracing_on', '0');
    expect((await end).length).toBe(0);
    pipe.close();
    fs.open('trace_pipe').close();
  });

  test('says how many records were lost', () => {
    const { system, fs, at } = shop();
    fs.writeFile('buffer_size_kb', '4');
    for (let n = 1n; n <= 1000n; n++) at(n);
    const stats = Object.fromEntries(
      fs
        .readFile('per_cpu/cpu1/stats')
        .trim()
        .split('\n')
        .map((line) => line.split(': ')),
    );
    expect(Number(stats['entries']) + Number(stats['overrun'])).toBe(1000);
    const lines = system.lines('trace_pipe');
    expect(lines[0]).toBe(`CPU:1 [LOST ${stats['overrun']} EVENTS]`);
    expect(lines.length - 1).toBe(Number(stats['entries']));
  });
});

describe('markers', () => {
  test('a newline is added where none is, and a long text is taken in parts', () => {
    const system = new TestSystem();
    const { fs } = system;
    expect(fs.writeFile('trace_marker', 'hello')).toBe(5);
    fs.writeFile('trace_marker', 'there\n');
    expect(system.lines().map((line) => line.slice(-25))).toEqual([
      'tracing_mark_write: hello',
      'tracing_mark_write: there',
    ]);
    fs.writeFile('trace', '');
    const file = fs.open('trace_marker', 'w');
    const taken = file.write('x'.repeat(5000));
    expect(taken).toBe(4072 - 18);
    file.close();
    expect(system.lines()[0]!.endsWith(`: ${'x'.repeat(taken)}`)).toBe(true);
  });

  // The kernel reserves the number's four bytes twice.
  test('raw markers', () => {
    const system = new TestSystem();
    const bytes = new Uint8Array(20).map((_, n) => n);
    expect(system.fs.writeFile('trace_marker_raw', bytes)).toBe(20);
    expect(system.lines()[0]!.split(': ').slice(1).join(': ')).toBe(
      '# 3020100 buf: 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f 10 11 12 13 00 00 00 00',
    );
    expect(system.refusal(() => system.fs.writeFile('trace_marker_raw', 'abc'))).toBe('EINVAL');
  });

  test('with tracing off, or the option', () => {
    const system = new TestSystem();
    system.fs.writeFile('tracing_on', '0');
    expect(system.refusal(() => system.fs.writeFile('trace_marker', 'x'))).toBe('EBADF');
    system.fs.writeFile('tracing_on', '1');
    system.fs.writeFile('trace_options', 'nomarkers');
    expect(system.refusal(() => system.fs.writeFile('trace_marker', 'x'))).toBe('EINVAL');
  });
});

describe('snapshot', () => {
  test('what comes back from it is shown until trace is emptied; what is older than that is not', () => {
    const { system, fs, at } = shop();
    const times = (file: string) =>
      system.lines(file).map((line) => /(\d\.\d+): sold/.exec(line)?.[1] ?? line);
    at(1n);
    fs.writeFile('snapshot', '1');
    at(20n);
    fs.writeFile('snapshot', '1');
    expect(times('trace')).toEqual(['0.000001']);
    expect(times('snapshot')).toEqual(['0.000020']);
    system.golden.clock = 30_000n;
    fs.writeFile('trace', '');
    fs.writeFile('snapshot', '1');
    expect(times('trace')).toEqual([]);
    expect(fs.readFile('trace')).toContain('# entries-in-buffer/entries-written: 0/0 ');
    at(40n);
    expect(times('trace')).toEqual(['0.000040']);
    expect(fs.readFile('trace')).toContain('# entries-in-buffer/entries-written: 1/1 ');
    fs.writeFile('snapshot', '1');
    expect(times('snapshot')).toEqual(['0.000020', '0.000040']);
  });

  test('1 takes it, another number empties it, 0 frees it', () => {
    const { system, fs, at } = shop();
    at(1n);
    fs.writeFile('snapshot', '1');
    at(2n);
    expect(system.lines('snapshot')[0]).toContain('0.000001: sold');
    expect(system.lines()[0]).toContain('0.000002: sold');
    fs.writeFile('snapshot', '2');
    expect(fs.readFile('snapshot')).toContain('* Snapshot is allocated *');
    fs.writeFile('snapshot', '0');
    expect(fs.readFile('snapshot')).toContain('* Snapshot is freed *');
    expect(system.refusal(() => fs.writeFile('per_cpu/cpu0/snapshot', '1'))).toBe('EINVAL');
  });
});

describe('who is recorded', () => {
  test('pids, tasks to leave out, CPUs', () => {
    const { system, fs, fire } = shop();
    const count = () => {
      fs.writeFile('trace', '');
      fire({});
      return system.lines().length;
    };
    fs.writeFile('set_event_pid', '78');
    expect(count()).toBe(0);
    fs.appendFile('set_event_pid', '77');
    expect(count()).toBe(1);
    fs.writeFile('set_event_notrace_pid', '77');
    expect(count()).toBe(0);
    fs.writeFile('set_event_notrace_pid', '');
    fs.writeFile('tracing_cpumask', '1');
    expect(count()).toBe(0);
  });

  test('names of tasks are kept, up to a number', () => {
    const { system, fs, fire } = shop();
    fire({});
    expect(fs.readFile('saved_cmdlines')).toBe('77 node\n');
    fs.writeFile('saved_cmdlines_size', '1');
    expect(system.lines()[0]).toMatch(/^ {11}<\.\.\.>-77 /);
  });
});
