/** What a machine has no kernel for: helpers of tracing programs whose answer is a fixed one, or comes from the machine's options. */
import { describe, expect, it } from 'vitest';
import type { HelperEffect } from '../../src/bpf/helpers/impl/index.ts';
import { assemble, createMachine, type MachineOptions, type MapSpec } from '../../src/bpf/index.ts';
import type { MachineState } from '../../src/bpf/machine/machine.ts';
import { viewMemory } from '../../src/bpf/maps/memory-view.ts';
import type { ProgType } from '../../src/bpf/prog-types/index.ts';

const ENGINES = ['jit', 'interpreter'] as const;
const OUT = { name: 'out', type: 'array', keySize: 4, valueSize: 64, maxEntries: 1 } as const;
const KEY = new Uint8Array(4);
const [ENOENT, E2BIG, EAGAIN, EFAULT, EINVAL] = [-2n, -7n, -11n, -14n, -22n];

interface Options {
  readonly type?: ProgType;
  readonly second?: MapSpec;
  readonly machine?: MachineOptions;
  readonly cpu?: number;
}

/** r0 of a program on both engines, and the map `out` (map[idx:0]) behind it; map[idx:1] is `second`. */
function run(text: string, { type = 'raw_tracepoint', second, machine: options, cpu = 0 }: Options = {}) {
  const outcomes = ENGINES.map((engine) => {
    const machine = createMachine(options) as MachineState;
    const maps = [machine.createMap(OUT), ...(second === undefined ? [] : [machine.createMap(second)])];
    const program = machine.loadProgram({
      name: 'asks',
      type,
      insns: assemble(text),
      maps: maps.map(({ spec }) => spec),
      loadedMaps: maps,
      engine,
    });
    const ctx = machine.heap.alloc(192);
    viewMemory(machine.memory).u8.fill(0, ctx, ctx + 192);
    const r0 = BigInt.asIntN(64, program.run(ctx, { cpu }));
    const ax = viewMemory(machine.memory).data.getBigUint64(ctx + 80, true);
    return { r0, ax, out: [...maps[0]!.lookup(KEY)!] };
  });
  expect(outcomes[1]).toEqual(outcomes[0]);
  return outcomes[0]!;
}

describe('who and where', () => {
  it('get_numa_node_id, get_smp_processor_id, get_current_cgroup_id', () => {
    expect(run('call 42\n exit').r0).toBe(0n);
    expect(run('call 8\n exit', { machine: { ncpu: 3 }, cpu: 2 }).r0).toBe(2n);
    expect(run('call 80\n exit').r0).toBe(1n);
  });

  it('ktime_get_ns and get_prandom_u32 are the options', () => {
    expect(run('call 5\n exit', { machine: { clock: () => 4711 } }).r0).toBe(4711n);
    expect(run('call 7\n exit', { machine: { random: () => 99 } }).r0).toBe(99n);
  });

  it('current_task_under_cgroup: no control group can be in the map', () => {
    const second: MapSpec = { name: 'groups', type: 'cgroup_array', keySize: 4, valueSize: 4, maxEntries: 2 };
    const under = (index: number) => run(`r1 = map[idx:1]\n r2 = ${index}\n call 37\n exit`, { second }).r0;
    expect([under(0), under(1), under(2)]).toEqual([EAGAIN, EAGAIN, E2BIG]);
  });
});

describe('perf events', () => {
  const second: MapSpec = {
    name: 'events',
    type: 'perf_event_array',
    keySize: 4,
    valueSize: 4,
    maxEntries: 1,
  };

  it('perf_event_read and perf_event_read_value: there are no counters', () => {
    const read = (flags: string) => run(`r1 = map[idx:1]\n r2 = ${flags} ll\n call 22\n exit`, { second }).r0;
    expect(['0', '0xffffffff', '1', '0x100000000'].map(read)).toEqual([ENOENT, ENOENT, E2BIG, EINVAL]);
    const value = `r1 = map[idx:1]\n r2 = 0\n r3 = map[idx:0][0]+8\n r4 = 24\n call 55\n exit`;
    expect(run(value, { second, type: 'kprobe' }).r0).toBe(ENOENT);
  });

  it('get_stack: the frames of the option, whole ones', () => {
    const stack = (user: boolean): bigint[] => (user ? [1n, 2n, 3n] : []);
    const ask = (size: number, flags: number, machine?: MachineOptions) =>
      run(`r2 = map[idx:0][0]+0\n r3 = ${size}\n r4 = ${flags}\n call 67\n exit`, {
        ...(machine && { machine }),
      });
    const { r0, out } = ask(16, 256, { stack });
    expect([r0, ...new BigUint64Array(Uint8Array.from(out).buffer)]).toEqual([
      16n,
      1n,
      2n,
      0n,
      0n,
      0n,
      0n,
      0n,
      0n,
    ]);
    expect(ask(64, 256 | 1, { stack }).r0).toBe(16n);
    expect(ask(16, 0, { stack }).r0).toBe(EFAULT);
    expect(ask(16, 256).r0).toBe(EFAULT);
    expect(ask(12, 256, { stack }).r0).toBe(EINVAL);
  });

  it('perf_prog_read_value is refused', () => {
    const value = 'r2 = map[idx:0][0]+8\n r3 = 24\n call 56\n exit';
    expect(() => run(value, { type: 'perf_event' })).toThrow('perf_prog_read_value is not in this machine');
  });
});

describe('what only the caller can do', () => {
  it('override_return sets ax and is told to the option', () => {
    const effects: HelperEffect[] = [];
    const machine = { effect: (one: HelperEffect) => void effects.push(one) };
    const { r0, ax } = run('r2 = -12\n call 58\n exit', { type: 'kprobe', machine });
    expect([r0, BigInt.asIntN(64, ax)]).toEqual([0n, -12n]);
    expect(effects).toEqual(ENGINES.map(() => ({ kind: 'override_return', value: (1n << 64n) - 12n })));
  });
});
