import { beforeEach, describe, expect, test } from 'vitest';
import { KernelError } from '../../../src/kernel/errno.ts';
import type { FunctionCall, FunctionWants } from '../../../src/kernel/trace/trace-arch.ts';
import {
  type KallsymsSymbol,
  openTracefs,
  RingBuffer,
  type TraceArch,
  type Tracefs,
  Tracing,
} from '../../../src/tracefs/index.ts';

const NAMES = ['main', 'route', 'parse', 'work', 'reply'];

/** A system with five functions in `shop`, whose calls a test makes. */
class System {
  readonly symbols = NAMES.map(
    (name, n): KallsymsSymbol => ({ name, address: BigInt(0x1000 * (n + 1)), size: 0x100, module: 'shop' }),
  );
  readonly tracing: Tracing;
  readonly fs: Tracefs;
  pid = 7;
  clock = 5_000_000_000n;
  /** Functions under way. */
  readonly #under: bigint[] = [];
  readonly #users: {
    wants: FunctionWants;
    hit: (call: FunctionCall) => void;
    functions: readonly KallsymsSymbol[];
  }[] = [];

  constructor() {
    const arch: TraceArch = {
      ncpu: 2,
      now: () => this.clock,
      current: () => ({ pid: this.pid, tgid: 7, comm: 'shopper', cpu: 0 }),
      lookupSymbol: (name) => this.symbols.filter((symbol) => symbol.name === name),
      lookupAddress: (address) =>
        this.symbols.find((one) => address >= one.address && address < one.address + 0x100n),
      hasModule: (name) => name === 'shop',
      functions: () => this.symbols,
      armProbe: () => () => undefined,
      traceFunctions: (wants, hit) => {
        const user = { wants, hit, functions: [] as readonly KallsymsSymbol[] };
        this.#users.push(user);
        return {
          set: (functions) => {
            user.functions = functions;
          },
          stop: () => void this.#users.splice(this.#users.indexOf(user), 1),
        };
      },
    };
    this.tracing = new Tracing({ arch, createBuffer: (ncpu, kb, now) => new RingBuffer(ncpu, kb, now) });
    this.fs = openTracefs(this.tracing);
  }

  get armed(): string[] {
    return [...new Set(this.#users.flatMap(({ functions }) => functions.map(({ name }) => name)))].sort();
  }

  tell(what: FunctionCall['what'], name: string, ns: number, failed = false, cpu = 0, retval = 0n): void {
    this.clock += BigInt(ns);
    const { address } = this.symbols.find((symbol) => symbol.name === name)!;
    const call = { what, address, cpu, ts: this.clock, pid: this.pid, failed, retval };
    if (what === 'return') this.#under.shift();
    for (const { wants, hit, functions } of [...this.#users])
      if (functions.some((one) => one.address === address))
        if (what === 'entry' || (what === 'return' ? wants.returns : wants.settles))
          hit({ ...call, callers: this.#under.slice(0, wants.callers).map((at) => at + 0x10n) });
    if (what === 'entry') this.#under.unshift(address);
  }

  /** `(route (parse) (work 5000))`, in nanoseconds that a call spends itself. */
  call(name: string, ns: number, inside: () => void = () => undefined, retval = 0n): void {
    this.tell('entry', name, 1000);
    inside();
    this.tell('return', name, ns, false, 0, retval);
  }

  get trace(): string {
    return this.fs.readFile('trace');
  }

  get lines(): string[] {
    return this.trace.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  }
}

let system: System;
beforeEach(() => {
  system = new System();
});

const request = (): void =>
  system.call('route', 500, () => {
    system.call('parse', 1234);
    system.call('work', 12_345_678);
  });

describe('function', () => {
  test('is a record for each call of the functions of set_ftrace_filter', () => {
    const { fs } = system;
    fs.writeFile('set_ftrace_filter', 'r* parse\n');
    fs.appendFile('set_ftrace_notrace', 'reply\n');
    fs.writeFile('current_tracer', 'function');
    expect(system.armed).toEqual(['parse', 'reply', 'route'].filter((name) => name !== 'reply'));
    request();
    expect(system.trace).toMatch(/^# tracer: function\n#\n# entries-in-buffer\/entries-written: 2\/2/);
    expect(system.lines).toEqual([
      expect.stringMatching(/ shopper-7 {7}\[000\] \.\.\.\.\. {5}5\.000001: route \[shop\]$/),
      expect.stringMatching(/: parse \[shop\] <-route \[shop\]$/),
    ]);
    // a list that changes while the tracer runs
    fs.appendFile('set_ftrace_filter', 'work\n');
    fs.appendFile('set_ftrace_filter', '!parse\n');
    expect(system.armed).toEqual(['route', 'work']);
    fs.writeFile('current_tracer', 'nop');
    expect(system.armed).toEqual([]);
  });

  test('shows the functions of a list in their order, whichever came first', () => {
    const { fs } = system;
    for (const name of ['work', 'main', 'parse']) fs.appendFile('set_ftrace_filter', `${name}\n`);
    expect(fs.readFile('set_ftrace_filter')).toBe('main [shop]\nparse [shop]\nwork [shop]\n');
  });

  test('traces nothing while its filter names functions of a module that is not there', () => {
    const { fs } = system;
    fs.writeFile('set_ftrace_notrace', 'x*:mod:later\n');
    expect(fs.readFile('set_ftrace_notrace')).toBe('#### no functions disabled ####\nx*:mod:later\n');
    fs.writeFile('current_tracer', 'function');
    expect(system.armed).toHaveLength(NAMES.length);
    fs.writeFile('set_ftrace_filter', 'w*:mod:later\n');
    expect(fs.readFile('set_ftrace_filter')).toBe('w*:mod:later\n');
    expect(system.armed).toEqual([]);
    fs.appendFile('set_ftrace_filter', '!w*:mod:later\n');
    expect(system.armed).toHaveLength(NAMES.length);
    expect(fs.readFile('set_ftrace_filter')).toBe('#### all functions enabled ####\n');
  });

  test('records the tasks of set_ftrace_pid only', () => {
    const { fs } = system;
    fs.writeFile('set_ftrace_pid', '9');
    fs.writeFile('current_tracer', 'function');
    request();
    system.pid = 9;
    system.call('reply', 1);
    expect(system.lines).toHaveLength(1);
  });

  test('func-no-repeats: calls like the one before are counted', () => {
    const { fs } = system;
    fs.writeFile('set_ftrace_filter', 'work parse');
    fs.writeFile('current_tracer', 'function');
    fs.writeFile('options/func-no-repeats', '1');
    const times = (name: string, count: number): void => {
      for (let n = 0; n < count; n++) system.call(name, 500);
    };
    times('work', 4);
    times('parse', 1);
    times('work', 70_000);
    times('parse', 1);
    expect(system.lines.map((line) => line.replace(/^.*?\[000\] \.+ +/, ''))).toEqual([
      '5.000001: work [shop]',
      '5.000007: work [shop] (repeats: 3, last_ts:     5.000006)',
      '5.000007: parse [shop]',
      '5.000009: work [shop]',
      '5.098313: work [shop] (repeats: 65535, last_ts:     5.098311)',
      '5.098313: work [shop]',
      '5.105009: work [shop] (repeats: 4463, last_ts:     5.105007)',
      '5.105009: parse [shop]',
    ]);
    fs.writeFile('options/raw', '1');
    expect(system.lines[1]).toMatch(/ 16384 0 3 1500$/);
    fs.writeFile('options/raw', '0');
    // Who called tells calls apart.
    fs.writeFile('trace', '');
    system.call('main', 1, () => times('work', 2));
    system.call('route', 1, () => times('work', 2));
    expect(system.lines.map((line) => line.replace(/^.*?: | last_ts.*/g, ''))).toEqual([
      'work [shop] <-main [shop]',
      'work [shop] <-main [shop] (repeats: 1,',
      'work [shop] <-route [shop]',
    ]);
    fs.writeFile('options/func-no-repeats', '0');
    fs.writeFile('trace', '');
    times('work', 3);
    expect(system.lines).toHaveLength(3);
    expect(fs.readFile('events/ftrace/func_repeats/format')).toContain('field:u16 count;\toffset:24;');
  });

  test('func_stack_trace: the stack behind each call, the function itself first', () => {
    const { fs } = system;
    fs.writeFile('set_ftrace_filter', 'work');
    fs.writeFile('current_tracer', 'function');
    fs.writeFile('options/func_stack_trace', '1');
    system.call('main', 1, request);
    const texts = system.lines.map((line) => line.replace(/^.*?: /, ''));
    expect(texts).toEqual([
      'work [shop] <-route [shop]',
      '<stack trace>',
      ' => work [shop]',
      ' => route [shop]',
      ' => main [shop]',
    ]);
    fs.writeFile('options/func_stack_trace', '0');
    fs.writeFile('options/print-parent', '0');
    fs.writeFile('trace', '');
    request();
    fs.writeFile('options/print-parent', '1');
    request();
    expect(system.lines.map((line) => line.replace(/^.*?: /, ''))).toEqual([
      // Who called was not asked for.
      'work [shop]',
      'work [shop] <-route [shop]',
    ]);
  });

  test('another tracer begins with an empty buffer', () => {
    const { fs } = system;
    fs.writeFile('current_tracer', 'function');
    request();
    fs.writeFile('current_tracer', 'function');
    expect(system.lines).toHaveLength(3);
    fs.writeFile('current_tracer', 'function_graph');
    expect(system.lines).toEqual([]);
  });

  test('function-fork: lists of pids follow who is started, and forget who ends', () => {
    const { fs, tracing } = system;
    fs.writeFile('set_ftrace_pid', '7');
    fs.writeFile('set_event_notrace_pid', '7');
    tracing.taskForked(7, 8);
    expect(fs.readFile('set_ftrace_pid')).toBe('7\n');
    fs.writeFile('options/function-fork', '1');
    fs.writeFile('options/event-fork', '1');
    tracing.taskForked(7, 9);
    tracing.taskForked(8, 10);
    tracing.taskForked(9, 11);
    expect(fs.readFile('set_ftrace_pid')).toBe('7\n9\n11\n');
    expect(fs.readFile('set_event_notrace_pid')).toBe('7\n9\n11\n');
    tracing.taskExited(9);
    expect(fs.readFile('set_ftrace_pid')).toBe('7\n11\n');
    for (const pid of [7, 11]) tracing.taskExited(pid);
    fs.writeFile('current_tracer', 'function');
    request();
    // Nobody is left to trace, which is not the same as no list.
    expect(system.lines).toEqual([]);
  });

  test('every instance has its own', () => {
    const { fs } = system;
    fs.mkdir('instances/foo');
    fs.writeFile('instances/foo/set_ftrace_filter', 'work');
    fs.writeFile('instances/foo/current_tracer', 'function');
    request();
    expect(system.lines).toEqual([]);
    expect(fs.readFile('instances/foo/trace')).toMatch(/: work \[shop\] <-route \[shop\]\n$/);
    fs.rmdir('instances/foo');
    expect(system.armed).toEqual([]);
  });
});

describe('function_graph', () => {
  test('shows calls in calls, how long they took, and marks the long ones', () => {
    const { fs } = system;
    expect(fs.readFile('available_tracers')).toBe('loopstall function_graph function nop\n');
    fs.writeFile('current_tracer', 'function_graph');
    request();
    system.call('reply', 99_999_999_999);
    expect(system.trace).toBe(
      [
        '# tracer: function_graph',
        '#',
        '# CPU  DURATION                  FUNCTION CALLS',
        '# |     |   |                     |   |   |   |',
        ' 0)               |  route [shop]() {',
        ' 0)   1.234 us    |    parse [shop]();',
        ' 0) * 12345.67 us |    work [shop]();',
        ' 0) * 12349.41 us |  }',
        ' 0) $ 99999999 us |  reply [shop]();',
        '',
      ].join('\n'),
    );
  });

  test('trace_pipe shows the same and takes it', async () => {
    const { fs } = system;
    fs.writeFile('current_tracer', 'function_graph');
    request();
    const shown = system.trace.split('\n').slice(4).join('\n');
    const pipe = fs.open('trace_pipe', { read: true, nonblock: true });
    expect(new TextDecoder().decode(await pipe.read(8192))).toBe(shown);
    expect(system.lines).toEqual([]);
    pipe.close();
  });

  test('options: columns, tails, absolute time', () => {
    const { fs } = system;
    fs.writeFile('current_tracer', 'function_graph');
    request();
    fs.writeFile('options/funcgraph-cpu', '0');
    fs.writeFile('options/funcgraph-tail', '1');
    fs.writeFile('options/funcgraph-abstime', '1');
    fs.writeFile('options/funcgraph-proc', '1');
    expect(system.trace.split('\n').slice(2)).toEqual([
      '#     TIME         TASK/PID         DURATION                  FUNCTION CALLS',
      '#      |            |    |           |   |                     |   |   |   |',
      '    5.000001 |    shopper-7    |               |  route [shop]() {',
      '    5.000002 |    shopper-7    |   1.234 us    |    parse [shop]();',
      '    5.000004 |    shopper-7    | * 12345.67 us |    work [shop]();',
      '    5.012350 |    shopper-7    | * 12349.41 us |  } /* route [shop] */',
      '',
    ]);
    expect(() => fs.writeFile('options/no-such-option', '1')).toThrow(KernelError);
  });

  test('funcgraph-retval: what calls returned, errors in decimal', () => {
    const { fs } = system;
    fs.writeFile('current_tracer', 'function_graph');
    fs.writeFile('options/funcgraph-retval', '1');
    const values = [0n, 42n, 0xffff_ffff_ffff_fffbn, 0xffff_fffbn, 0x8000_0000n, -4096n, -4095n];
    const shown = (): string[] => {
      fs.writeFile('trace', '');
      for (const value of values) system.call('work', 1, undefined, BigInt.asUintN(64, value));
      system.call('main', 1, () => system.call('reply', 1), 3n);
      return system.lines.map((line) => line.replace(/^.*?\| {2}/, ''));
    };
    const leaf = (value: string): string => `work [shop](); /* = ${value} */`;
    expect(shown()).toEqual([
      ...['0x0', '0x2a', '-5', '-5', '0x80000000', '0xfffffffffffff000', '-4095'].map(leaf),
      'main [shop]() {',
      '  reply [shop](); /* = 0x0 */',
      '} /* main [shop] = 0x3 */',
    ]);
    fs.writeFile('options/funcgraph-retval-hex', '1');
    expect(shown().slice(2, 4)).toEqual(['0xfffffffffffffffb', '0xfffffffb'].map(leaf));
    expect(fs.readFile('events/ftrace/funcgraph_exit/format')).toContain(
      'unsigned long retval;\toffset:16;\tsize:8;',
    );
  });

  test('set_graph_function, set_graph_notrace and max_graph_depth', () => {
    const { fs } = system;
    fs.writeFile('current_tracer', 'function_graph');
    const shown = (): string[] => {
      fs.writeFile('trace', '');
      system.call('main', 10, request);
      system.call('reply', 10);
      return system.lines.map((line) => line.replace(/^.*?\| {2}/, ''));
    };
    fs.writeFile('set_graph_function', 'route');
    expect(shown()).toEqual(['  route [shop]() {', '    parse [shop]();', '    work [shop]();', '  }']);
    fs.writeFile('set_graph_function', '');
    fs.writeFile('set_graph_notrace', 'route');
    expect(shown()).toEqual(['main [shop]();', 'reply [shop]();']);
    fs.writeFile('set_graph_notrace', '');
    fs.writeFile('max_graph_depth', '2');
    expect(shown()).toEqual(['main [shop]() {', '  route [shop]();', '}', 'reply [shop]();']);
  });

  test('tracing_thresh leaves the ends of long calls', () => {
    const { fs } = system;
    fs.writeFile('tracing_thresh', '10000');
    fs.writeFile('current_tracer', 'function_graph');
    request();
    expect(system.lines).toEqual([
      ' 0) * 12345.67 us |    } /* work [shop] */',
      ' 0) * 12349.41 us |  } /* route [shop] */',
    ]);
  });

  test('ends or beginnings that were lost leave the rest right', () => {
    system.fs.writeFile('current_tracer', 'function_graph');
    system.tell('return', 'work', 10);
    system.tell('entry', 'route', 1000);
    system.tell('entry', 'parse', 1000);
    system.tell('return', 'route', 1000);
    system.call('reply', 700);
    expect(system.lines.map((line) => line.replace(/^.*?\| {2}/, ''))).toEqual([
      'route [shop]() {',
      '  parse [shop]() {',
      '}',
      'reply [shop]();',
    ]);
  });

  test('what an asynchronous call promised, and events, are comments at their depth', () => {
    const { fs, tracing } = system;
    fs.writeFile('current_tracer', 'function_graph');
    system.tell('entry', 'main', 1000);
    fs.writeFile('trace_marker', 'hello');
    system.tell('return', 'main', 1000);
    system.tell('settle', 'main', 3_000_000);
    system.tell('settle', 'work', 1000, true);
    expect(system.lines).toEqual([
      ' 0)               |  main [shop]() {',
      ' 0)               |  /* hello */',
      ' 0)   2.000 us    |  }'.replace('2.000', '1.000'),
      ' 0)               |  /* main() settled */',
      ' 0)               |  /* work() rejected */',
    ]);
    expect(tracing.globalTrace.currentTracer).toBe('function_graph');
  });

  test('a change of the task is shown', () => {
    system.fs.writeFile('current_tracer', 'function_graph');
    system.call('reply', 10);
    system.pid = 12;
    system.call('reply', 10);
    expect(system.trace).toContain(
      [
        ' ------------------------------------------',
        ' 0)   shopper-7    =>   shopper-12  ',
        ' ------------------------------------------',
        '',
        ' 0)   0.010 us    |  reply [shop]();',
      ].join('\n'),
    );
  });
});

describe('loopstall', () => {
  const texts = (): string[] => system.lines.map((line) => line.replace(/^.*?: /, ''));

  test('keeps the calls of the longest callback, which another one replaces when it takes longer', () => {
    const { fs } = system;
    fs.writeFile('current_tracer', 'loopstall');
    request();
    expect(fs.readFile('tracing_max_latency')).toBe('12349\n');
    const longest = [
      'route [shop]',
      'parse [shop] <-route [shop]',
      'work [shop] <-route [shop]',
      'route [shop]',
    ];
    expect(texts()).toEqual(longest);
    system.call('reply', 1_000_000, () => system.call('work', 1000));
    expect(texts()).toEqual(longest);
    expect(system.trace).toMatch(
      /^# tracer: loopstall\n#\n# loopstall latency trace v1\.1\.5 on .*\n# -+\n# latency: 12349 us, #4\/4, /,
    );
    expect(system.trace).toContain('#    | task: shopper-7 (');
    expect(system.trace).toContain('#  => started at: route [shop]\n#  => ended at:   route [shop]\n#\n');
    // From its beginning, in microseconds.
    expect(system.lines.map((line) => / +(\d+)us/.exec(line)?.[1])).toEqual(['0', '1', '3', '12349']);
    system.call('reply', 20_000_000, () => system.call('work', 1000));
    expect(texts()).toEqual(['reply [shop]', 'work [shop] <-reply [shop]', 'reply [shop]']);
    expect(fs.readFile('tracing_max_latency')).toBe('20002\n');
    fs.writeFile('tracing_max_latency', '0');
    request();
    expect(texts()).toEqual(longest);
  });

  test('tracing_thresh: the latest that took so long; the options and the snapshot are put back', () => {
    const { fs } = system;
    fs.writeFile('options/overwrite', '0');
    fs.writeFile('tracing_thresh', '10000');
    fs.writeFile('current_tracer', 'loopstall');
    system.call('reply', 15_000_000);
    request();
    system.call('main', 9_000_000);
    expect(texts()[0]).toBe('route [shop]');
    expect(() => fs.writeFile('snapshot', '1')).toThrow(expect.objectContaining({ code: 'EBUSY' }));
    fs.writeFile('trace', '');
    expect(texts()).toEqual([]);
    fs.writeFile('current_tracer', 'nop');
    expect(system.armed).toEqual([]);
    expect(fs.readFile('options/overwrite') + fs.readFile('options/latency-format')).toBe('0\n0\n');
    expect(fs.readFile('snapshot')).toContain('Snapshot is freed');
  });

  test('is for the whole process', () => {
    const { fs } = system;
    fs.mkdir('instances/foo');
    expect(() => fs.writeFile('instances/foo/current_tracer', 'loopstall')).toThrow(KernelError);
  });
});

describe('function_profile_enabled', () => {
  test('counts, adds up, and sorts by time; trace_stat has a file for each CPU', () => {
    const { fs } = system;
    fs.writeFile('function_profile_enabled', '1');
    for (let n = 1; n <= 4; n++) system.call('work', n * 1000, () => system.call('parse', 500));
    system.tell('entry', 'reply', 1, false, 1);
    expect(fs.readFile('trace_stat/function0')).toBe(
      [
        '  Function                               Hit    Time            Avg             s^2',
        '  --------                               ---    ----            ---             ---',
        '  work                                     4    16.000 us       4.000 us        1.666 us    ',
        '  parse                                    4    2.000 us        0.500 us        0.000 us    ',
        '',
      ].join('\n'),
    );
    expect(fs.readFile('trace_stat/function1')).toContain(
      '  reply                                    1    0.000 us',
    );
    fs.writeFile('function_profile_enabled', '0');
    expect(system.armed).toEqual([]);
    system.call('work', 5);
    expect(fs.readFile('trace_stat/function0')).toContain('work                                     4 ');
  });

  test('without graph-time, time in other functions is not counted', () => {
    const { fs } = system;
    fs.writeFile('current_tracer', 'function_graph');
    fs.writeFile('options/graph-time', '0');
    fs.writeFile('function_profile_enabled', '1');
    system.call('work', 1000, () => system.call('parse', 500));
    expect(fs.readFile('trace_stat/function0')).toMatch(/work +1 +2\.000 us/);
  });
});

describe('commands of set_ftrace_filter', () => {
  test('traceoff and traceon, any number of times or so many', () => {
    const { fs } = system;
    fs.writeFile('set_ftrace_filter', 'work:traceoff:2');
    fs.appendFile('set_ftrace_filter', 'reply:traceon\n');
    const shown = (left: number): string =>
      `#### all functions enabled ####\nreply [shop]:traceon:unlimited\nwork [shop]:traceoff:count=${left}\n`;
    expect(fs.readFile('set_ftrace_filter')).toBe(shown(2));
    expect(system.armed).toEqual(['reply', 'work']);
    system.call('work', 1);
    expect(fs.readFile('tracing_on')).toBe('0\n');
    system.call('work', 1);
    expect(fs.readFile('set_ftrace_filter')).toBe(shown(1));
    system.call('reply', 1);
    system.call('work', 1);
    system.call('reply', 1);
    system.call('work', 1);
    expect(fs.readFile('tracing_on')).toBe('1\n');
    expect(fs.readFile('set_ftrace_filter')).toBe(shown(0));
    expect(() => fs.appendFile('set_ftrace_filter', '!work:traceoff\n')).toThrow(KernelError);
    expect(() => fs.appendFile('set_ftrace_filter', 'work:traceoff:7\n')).toThrow(KernelError);
    fs.appendFile('set_ftrace_filter', '!work:traceoff:0\n');
    fs.appendFile('set_ftrace_filter', '!reply:traceon\n');
    expect(fs.readFile('set_ftrace_filter')).toBe('#### all functions enabled ####\n');
    expect(system.armed).toEqual([]);
  });

  test('what is removed has to say that it has a count, but not which', () => {
    const { fs } = system;
    fs.writeFile('kprobe_events', 'p:shop/req parse');
    fs.writeFile('set_ftrace_filter', 'work:enable_event:shop:req:2');
    fs.appendFile('set_ftrace_filter', '!work:enable_event:shop:req:count=2\n');
    expect(fs.readFile('set_ftrace_filter')).toBe('#### all functions enabled ####\n');
    expect(fs.readFile('events/shop/req/enable')).toBe('0\n');
  });

  test('enable_event: the event is on, and silent until the function is called', () => {
    const { fs } = system;
    fs.writeFile('kprobe_events', 'p:shop/req parse');
    fs.writeFile('set_ftrace_filter', 'work:enable_event:shop:req:1');
    expect(fs.readFile('events/shop/req/enable')).toBe('0*\n');
    system.call('work', 1);
    expect(fs.readFile('events/shop/req/enable')).toBe('1*\n');
    fs.appendFile('set_ftrace_filter', '!work:enable_event:shop:req:0\n');
    // It speaks, so it stays on, as in the kernel.
    expect(fs.readFile('events/shop/req/enable')).toBe('1\n');
  });

  test('what is wrong changes nothing', () => {
    const { fs } = system;
    fs.writeFile('kprobe_events', 'p:shop/req parse');
    for (const text of [
      'work:nonsense',
      'nowhere:traceoff',
      'work:traceoff:many',
      'work:enable_event',
      'work:enable_event:no:such',
      'work:enable_event:shop:req:many',
      '!work:traceoff',
    ])
      expect(() => fs.writeFile('set_ftrace_filter', `${text}\n`), text).toThrow(KernelError);
    expect(fs.readFile('set_ftrace_filter')).toBe('#### all functions enabled ####\n');
    expect(fs.readFile('events/shop/req/enable')).toBe('0\n');
    expect(system.armed).toEqual([]);
  });
});
