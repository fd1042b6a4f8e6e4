/** Helpers that call back, allocate or keep things, in programs that clang made; what the machine is told; options. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  assemble,
  attachMachine,
  BtfBuilder,
  createMachine,
  type HelperEffect,
  type LoadedObject,
  type MachineOptions,
  openObject,
  StackTraceMap,
  UserRingBuffer,
} from '../../src/bpf/index.ts';
import type { MachineState } from '../../src/bpf/machine/machine.ts';
import { inMachine, latin1, store } from './support-helpers.ts';

const object = new Uint8Array(readFileSync(new URL('./fixtures/helpers/calls-19.o', import.meta.url)));

const load = (
  engine: 'jit' | 'interpreter',
  programs: string[],
  options: MachineOptions = {},
): LoadedObject =>
  openObject(object, 'calls.bpf.o').load({
    machine: createMachine({ timers: 'virtual', clock: () => 0, ncpu: 2, ...options }),
    engine,
    programs,
  });

const run = (loaded: LoadedObject, name: string): bigint[] => {
  expect(loaded.programs.get(name)!.testRun().retval).toBe(0);
  return loaded.globals.get('out') as bigint[];
};
const fired = (loaded: LoadedObject, map: string, key: Uint8Array): bigint =>
  new DataView(loaded.maps.get(map)!.lookup(key)!.buffer).getBigUint64(16, true);
const u32Key = (key: number): Uint8Array => new Uint8Array(Uint32Array.of(key).buffer);

describe.each(['jit', 'interpreter'] as const)('in the %s', (engine) => {
  it('lists keep their order, and give back what they hold', () => {
    const loaded = load(engine, ['lists']);
    const machine = loaded.machine as MachineState;
    const used = machine.heap.used;
    expect(run(loaded, 'lists').slice(0, 5)).toEqual([3n, 4n, 1n, 2n, 0n]);
    expect(machine.runtime.objects.size).toBe(1);
    const kept = machine.heap.used - used;
    expect(kept).toBeGreaterThan(0);
    loaded.close();
    // The node that stayed went with its map.
    expect(machine.runtime.objects.size).toBe(0);
  });

  it('trees are in the order of their callback', () => {
    const loaded = load(engine, ['trees']);
    expect(run(loaded, 'trees').slice(0, 6)).toEqual([10n, 20n, 50n, 70n, 90n, 0n]);
    expect(loaded.machine.runtime.objects.size).toBe(0);
  });

  it('kptr_xchg takes out what was put in', () => {
    const loaded = load(engine, ['exchange']);
    expect(run(loaded, 'exchange')[0]).toBe(77n);
    loaded.globals.set('amount', 6n);
    expect(run(loaded, 'exchange')[0]).toBe(5n);
    expect(run(loaded, 'exchange')[0]).toBe(6n);
    expect(loaded.machine.runtime.objects.size).toBe(1);
    loaded.close();
    expect(loaded.machine.runtime.objects.size).toBe(0);
  });

  it('timers refuse what they have to, and fire when their time has come', () => {
    const loaded = load(engine, ['start_timers', 'cancel_timer']);
    const { timers } = loaded.machine.runtime;
    const EINVAL = -22n & 0xffff_ffff_ffff_ffffn;
    const EBUSY = -16n & 0xffff_ffff_ffff_ffffn;
    expect(run(loaded, 'start_timers').slice(0, 9)).toEqual([
      EINVAL,
      EINVAL,
      0n,
      EBUSY,
      EINVAL,
      0n,
      0n,
      EINVAL,
      0n,
    ]);
    expect(timers.pending).toBe(2);
    expect(timers.advance(999_999n)).toBe(0);
    expect(fired(loaded, 'timers', u32Key(2))).toBe(0n);
    expect(timers.advance(1n)).toBe(1);
    expect(fired(loaded, 'timers', u32Key(2))).toBe(102n);
    const key = new Uint8Array(BigUint64Array.of(7n).buffer);
    expect(fired(loaded, 'hashed', key)).toBe(0n);
    expect(timers.advance(5_000_000n)).toBe(1);
    expect(fired(loaded, 'hashed', key)).toBe(107n);
    expect(run(loaded, 'cancel_timer')[0]).toBe(0n);
  });

  it('a timer that waits can be cancelled, and goes away with its map', () => {
    const loaded = load(engine, ['start_timers', 'cancel_timer']);
    run(loaded, 'start_timers');
    expect(run(loaded, 'cancel_timer')[0]).toBe(1n);
    expect(loaded.machine.runtime.timers.pending).toBe(1);
    loaded.close();
    expect(loaded.machine.runtime.timers.pending).toBe(0);
  });

  it('loops go over maps that the compiler has no code for, and over numbers', () => {
    const loaded = load(engine, ['loops']);
    for (const key of [1, 2, 3]) {
      loaded.maps
        .get('recent')!
        .update(u32Key(key), new Uint8Array(BigUint64Array.of(BigInt(key * 5)).buffer));
    }
    expect(run(loaded, 'loops').slice(0, 3)).toEqual([3n, 6030n, BigInt(-2 - 1 + 0 + 1 + 2 + 3 + 4)]);
  });

  it('samples of user space are drained, until the callback has enough', () => {
    const loaded = load(engine, ['drain']);
    const ring = loaded.maps.get('samples') as UserRingBuffer;
    expect(ring).toBeInstanceOf(UserRingBuffer);
    const sum = (): bigint[] => run(loaded, 'drain').slice(0, 2);
    expect(sum()).toEqual([0n, 0n]);
    for (const value of [5, 6, 99, 7]) ring.write(u32Key(value));
    expect(sum()).toEqual([3n, 110n]);
    expect(sum()).toEqual([1n, 7n]);
    ring.write(new Uint8Array(2));
    expect(sum()).toEqual([1n, 1_000_000n]);
  });

  it('bpf_throw ends the program from within a function', () => {
    const loaded = load(engine, ['throws']);
    const packet = new Uint8Array(64);
    expect(loaded.programs.get('throws')!.testRun({ dataIn: packet }).retval).toBe(42);
    loaded.globals.set('amount', 6n);
    expect(loaded.programs.get('throws')!.testRun({ dataIn: packet }).retval).toBe(3);
  });

  it('the task is what the options say', () => {
    const lines: string[] = [];
    const effects: HelperEffect[] = [];
    const loaded = load(engine, ['prints'], {
      task: { pid: 12, tgid: 11, uid: 3, gid: 4, comm: 'a name of more than 15' },
      tracePrintk: (line) => lines.push(line),
      effect: (effect) => effects.push(effect),
    });
    expect(run(loaded, 'prints').slice(0, 4)).toEqual([
      (11n << 32n) | 12n,
      (4n << 32n) | 3n,
      0n,
      -22n & 0xffff_ffff_ffff_ffffn,
    ]);
    expect(lines).toEqual(['a name of more  is 12']);
    expect(loaded.machine.runtime.traceBuffer).toEqual(lines);
    expect(effects).toEqual([{ kind: 'signal', signal: 9, thread: false }]);
  });
});

describe('memory that is read by its address', () => {
  const probe = (id: number, address: string, size: number): string => `
    r1 = map[idx:0][0]+256
    r2 = ${size}
    r3 = ${address}
    call ${id}
    ${store(0)}
    r0 = 0
    exit`;
  const read = (id: number, address: string, size: number, value = new Uint8Array(0)) => {
    const outcomes = (['jit', 'interpreter'] as const).map((engine) =>
      inMachine({ type: 'raw_tracepoint', text: probe(id, address, size), value }, engine),
    );
    expect(outcomes[0]).toEqual(outcomes[1]);
    const bytes = outcomes[0]!.value;
    return {
      result: new DataView(bytes.buffer).getBigInt64(0, true),
      bytes: [...bytes.subarray(256, 256 + size)],
    };
  };
  const filled = new Uint8Array(1024).fill(7, 256, 300);
  filled.set(latin1('text\0more'), 512);

  it.each([4, 112, 113])('probe_read (%i): memory, or a fault and zeros', (id) => {
    const outside = [
      '0',
      '64',
      '0xffffffff81000000 ll',
      '0x7fffffff0000 ll',
      '0xfffffff0 ll',
      '0x100001000 ll',
    ];
    expect(read(id, 'map[idx:0][0]+512', 4, filled)).toEqual({ result: 0n, bytes: [...latin1('text')] });
    for (const address of outside) {
      expect([address, read(id, address, 8, filled)]).toEqual([
        address,
        { result: -14n, bytes: [0, 0, 0, 0, 0, 0, 0, 0] },
      ]);
    }
    expect(read(id, '0', 0, filled).result).toBe(0n);
  });

  it.each([45, 114, 115])('probe_read_str (%i): length with the NUL, cut where there is no room', (id) => {
    expect(read(id, 'map[idx:0][0]+512', 8, filled)).toEqual({
      result: 5n,
      bytes: [...latin1('text\0'), 7, 7, 7],
    });
    expect(read(id, 'map[idx:0][0]+512', 3, filled)).toEqual({ result: 3n, bytes: [...latin1('te\0')] });
    expect(read(id, '8', 4, filled)).toEqual({ result: -14n, bytes: [0, 0, 0, 0] });
    expect(read(id, '8', 0, filled).result).toBe(0n);
  });
});

describe('text of a format that only the run knows', () => {
  const vprintk = (format: string, args: bigint[]): [bigint, string[]] => {
    const value = new Uint8Array(1024);
    value.set(latin1(`${format}\0`), 256);
    new BigUint64Array(value.buffer, 512, args.length).set(args);
    const lines: string[] = [];
    const text = `
      r1 = map[idx:0][0]+256
      r2 = ${format.length + 1}
      r3 = map[idx:0][0]+512
      r4 = ${args.length * 8}
      r5 = 0
      call 177
      ${store(0)}
      r0 = 0
      exit`;
    const print = { tracePrintk: (line: string) => void lines.push(line) };
    const outcome = inMachine({ type: 'raw_tracepoint', text, value }, 'jit', print);
    return [new DataView(outcome.value.buffer).getBigInt64(0, true), lines];
  };

  it('is printed as the kernel prints it, or refused', () => {
    expect(vprintk('%d and %llx\n', [0xffff_ffffn, 255n])).toEqual([10n, ['-1 and ff']]);
    expect(vprintk('%s.', [0n])).toEqual([1n, ['.']]);
    expect(vprintk('%pI4', [1n])).toEqual([7n, ['0.0.0.0']]);
    expect(vprintk('%d %d', [1n])).toEqual([-22n, []]);
    // Linux 6.12 knows ASCII only.
    expect(vprintk('caf\u00e9', [])).toEqual([-22n, []]);
    expect(vprintk('%', [1n])).toEqual([-22n, []]);
  });
});

describe('another thread that has the machine', () => {
  it('calls helpers and callbacks with its own task', () => {
    const loaded = load('jit', ['prints', 'drain', 'start_timers']);
    const lines: string[] = [];
    const options = { task: { comm: 'other', pid: 21 }, timers: 'virtual', clock: () => 0 } as const;
    const attached = attachMachine(loaded.machine.share(), {
      cpu: 1,
      ...options,
      tracePrintk: (line) => void lines.push(line),
    });
    const context = loaded.machine.alloc(16);
    const start = (name: string): bigint => attached.run(loaded.programs.get(name)!.id, context);
    expect(start('prints')).toBe(0n);
    expect(lines).toEqual(['other is 21']);
    for (const value of [1, 2]) (loaded.maps.get('samples') as UserRingBuffer).write(u32Key(value));
    expect(start('drain')).toBe(0n);
    expect((loaded.globals.get('out') as bigint[]).slice(0, 2)).toEqual([2n, 3n]);
    expect(start('start_timers')).toBe(0n);
    expect(attached.runtime.timers.pending).toBe(2);
  });
});

describe('the current task', () => {
  it('is a structure of the target, with the fields that are known', () => {
    const b = new BtfBuilder();
    const int = b.int('int', 4, { signed: true });
    const char = b.int('char', 1);
    const task = b.ptr(5);
    b.array(char, int, 16);
    const members = [
      { name: 'state', type: int, bitOffset: 0 },
      { name: 'pid', type: int, bitOffset: 32 },
      { name: 'tgid', type: int, bitOffset: 64 },
      { name: 'real_parent', type: task, bitOffset: 128 },
      { name: 'comm', type: 4, bitOffset: 192 },
    ];
    expect(b.struct('task_struct', 40, members)).toBe(5);
    const machine = createMachine({ task: { pid: 8, tgid: 7, ppid: 6, comm: 'abc' } });
    const map = machine.createMap({ name: 'out', type: 'array', keySize: 4, valueSize: 64, maxEntries: 1 });
    const program = machine.loadProgram({
      name: 'task',
      type: 'raw_tracepoint',
      targetBtf: b.build(),
      insns: assemble(`
        call 35
        r6 = r0
        r1 = map[idx:0][0]+0
        r2 = 40
        r3 = r6
        call 113
        r1 = map[idx:0][0]+48
        r2 = 8
        r3 = map[idx:0][0]+16
        r3 = *(u64 *)(r3 +0)
        r3 += 4
        call 113
        exit`),
      maps: [map.spec],
      loadedMaps: [map],
    });
    expect(program.testRun({ ctxIn: new Uint8Array(0) }).retval).toBe(0);
    const view = new DataView(map.lookup(u32Key(0))!.buffer);
    expect([4, 8, 48, 52].map((at) => view.getInt32(at, true))).toEqual([8, 7, 6, 6]);
    expect([...map.lookup(u32Key(0))!.subarray(24, 28)]).toEqual([97, 98, 99, 0]);
  });
});

describe('timers of real time', () => {
  it('fire by themselves', async () => {
    const loaded = load('jit', ['start_timers'], { timers: 'real', clock: () => performance.now() * 1e6 });
    run(loaded, 'start_timers');
    const key = new Uint8Array(BigUint64Array.of(7n).buffer);
    while (fired(loaded, 'hashed', key) === 0n) await new Promise((resolve) => setTimeout(resolve, 2));
    expect(fired(loaded, 'timers', u32Key(2))).toBe(102n);
    expect(fired(loaded, 'hashed', key)).toBe(107n);
  });
});

describe('what is refused', () => {
  it('says why, when the program is loaded', () => {
    const machine = createMachine();
    const text = 'r1 = 0\n r2 = r10\n r2 += -8\n *(u64 *)(r10 -8) = r1\n r3 = 8\n call 36\n exit';
    expect(() => inMachine({ type: 'raw_tracepoint', text }, 'jit')).toThrow(
      'probe_write_user is not in this machine',
    );
    expect(() => inMachine({ type: 'raw_tracepoint', text }, 'interpreter')).toThrow('probe_write_user');
    expect(machine.programs.size).toBe(0);
  });
});

describe('stacks', () => {
  it('are those of the option, cut by the flags', () => {
    const machine = createMachine({ stack: (user) => (user ? [1n, 2n, 3n] : [0xffffffff81000000n]) });
    const map = machine.createMap({
      name: 'stacks',
      type: 'stack_trace',
      keySize: 4,
      valueSize: 16,
      maxEntries: 8,
    });
    const load = (flags: number) =>
      machine.loadProgram({
        name: 'stack',
        type: 'raw_tracepoint',
        insns: assemble(`r2 = map[idx:0]\n r3 = ${flags}\n call 27\n exit`),
        maps: [map.spec],
        loadedMaps: [map],
      });
    const id = load(256 | 1).testRun({ ctxIn: new Uint8Array(0) }).retval;
    const frames = map.lookup(u32Key(id))!;
    expect(map).toBeInstanceOf(StackTraceMap);
    expect([...new BigUint64Array(frames.buffer)]).toEqual([2n, 3n]);
    expect(load(256 | 3).testRun({ ctxIn: new Uint8Array(0) }).retval | 0).toBe(-14);
    expect(load(1 << 14).testRun({ ctxIn: new Uint8Array(0) }).retval | 0).toBe(-22);
  });
});
