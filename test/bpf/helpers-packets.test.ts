/** Helpers of packets that user space can have: other IP versions, redirections, SYN cookies; and iteration over tasks. */
import { afterAll, describe, expect, it } from 'vitest';
import { BtfBuilder, createMachine, ERRNO, MACHINE_KFUNCS } from '../../src/bpf/index.ts';
import { kernelBpf } from '../support/kernel-bpf.ts';
import { compare, kfunc, machineInsns, type Outcome, result, store } from './support-helpers.ts';

const { reason } = kernelBpf;

afterAll(() => kernelBpf.closeAll());

/** An Ethernet frame of a version of IP, its bytes numbered. */
function frame(type: number, length: number): Uint8Array {
  const bytes = Uint8Array.from({ length }, (_, n) => n & 0xff);
  new DataView(bytes.buffer).setUint16(12, type, false);
  bytes[14] = type === 0x86dd ? 0x60 : 0x45;
  return bytes;
}

const IPV4 = 0x0800;
const IPV6 = 0x86dd;
const networkOrder = (value: number): number => ((value & 0xff) << 8) | (value >> 8);

describe(`helpers${reason === undefined ? ', as in this kernel' : ` (the kernel is not asked: ${reason})`}`, () => {
  it.each([
    [IPV4, IPV6, 60, 0, 0],
    [IPV6, IPV4, 80, 0, 0],
    [IPV6, IPV4, 54, 0, 0],
    [IPV4, IPV4, 60, 0, -524],
    [IPV6, IPV6, 60, 0, -524],
    [IPV4, 0x0806, 60, 0, -524],
    [0x0806, IPV6, 60, 0, -524],
    [IPV4, IPV6, 60, 1, -ERRNO.EINVAL],
  ])('skb_change_proto from %i to %i, %i bytes, flags %i', (from, to, length, flags, expected) => {
    const text = `
      r6 = r1
      r2 = ${networkOrder(to)}
      r3 = ${flags}
      call bpf_skb_change_proto
      ${store(0)}
      r0 = *(u32 *)(r6 +16)
      ${store(1)}
      r0 = *(u32 *)(r6 +0)
      ${store(2)}
      r0 = 0
      exit`;
    const outcome = compare({ type: 'sched_cls', text, run: { dataIn: frame(from, length) } });
    expect(result(outcome, 0)).toBe(BigInt(expected));
    const grown = expected !== 0 ? 0 : to === IPV6 ? 20 : -20;
    expect(outcome.dataOut).toHaveLength(length + grown);
  });

  it.each([
    [0, 0, 0, 7],
    [20, 0, 1, 7],
    [24, 0, 1, 7],
    [12, 0, 1, 2],
    [0, 1, 0, 2],
  ])('redirect_neigh with %i bytes, flags %i', (size, flags, given, expected) => {
    const text = `
      r1 = 0
      *(u64 *)(r10 -8) = r1
      *(u64 *)(r10 -16) = r1
      *(u64 *)(r10 -24) = r1
      r1 = 1
      r2 = ${given === 0 ? '0' : 'r10'}
      ${given === 0 ? '' : 'r2 += -24'}
      r3 = ${size}
      r4 = ${flags}
      call bpf_redirect_neigh
      exit`;
    const outcome = compare({ type: 'sched_cls', text, run: { dataIn: frame(IPV4, 60) } });
    expect(outcome.retval).toBe(expected);
  });

  it.each([
    [0, 7],
    [1, 2],
  ])('redirect_peer, flags %i', (flags, expected) => {
    const text = `r1 = 1\n r2 = ${flags}\n call bpf_redirect_peer\n exit`;
    const outcome = compare({ type: 'sched_cls', text, run: { dataIn: frame(IPV4, 60) } });
    expect(outcome.retval).toBe(expected);
  });

  /** A SYN with options in the value: IP at 256, TCP at 320. */
  function syn(version: 4 | 6, options: readonly number[]): Uint8Array {
    const value = new Uint8Array(512);
    const view = new DataView(value.buffer);
    for (let at = 256; at < 296; at++) value[at] = at * 7;
    value[256] = version === 4 ? 0x45 : 0x60;
    view.setUint16(320, 40_000, false);
    view.setUint16(322, 443, false);
    view.setUint32(324, 0xfffffff0, false);
    view.setUint8(332, (5 + options.length / 4) << 4);
    value.set(options, 340);
    return value;
  }
  /** Makes a cookie, answers with it, and checks the answer; then one of another port, and one a bit off. */
  const handshake = (version: 4 | 6, length: number): string => {
    const check = (n: number): string => `
      r1 = map[idx:0][0]+256
      r2 = map[idx:0][0]+320
      call bpf_tcp_raw_check_syncookie_ipv${version}
      ${store(n)}`;
    return `
      r1 = map[idx:0][0]+256
      r2 = map[idx:0][0]+320
      r3 = ${length}
      call bpf_tcp_raw_gen_syncookie_ipv${version}
      r6 = r0
      r6 s>>= 32
      r0 = r6
      ${store(0)}
      if r6 s< 0 goto out
      r1 = map[idx:0][0]+256
      r2 = map[idx:0][0]+320
      r3 = ${length}
      call bpf_tcp_raw_gen_syncookie_ipv${version}
      w7 = w0
      r7 += 1
      r7 = be32 r7
      r8 = map[idx:0][0]+320
      *(u32 *)(r8 +8) = r7
      r1 = *(u32 *)(r8 +4)
      r1 = be32 r1
      r1 += 1
      r1 = be32 r1
      *(u32 *)(r8 +4) = r1
      ${check(1)}
      r8 = map[idx:0][0]+320
      r1 = 7
      *(u8 *)(r8 +1) = r1
      ${check(2)}
      r8 = map[idx:0][0]+320
      r1 = 64
      *(u8 *)(r8 +1) = r1
      ${check(3)}
      r8 = map[idx:0][0]+320
      r1 = *(u8 *)(r8 +8)
      r1 ^= 128
      *(u8 *)(r8 +8) = r1
      ${check(4)}
      out: r0 = 0
      exit`;
  };
  const results = (outcome: Outcome): bigint[] => [0, 1, 2, 3, 4].map((n) => result(outcome, n));
  const EACCES = BigInt(-ERRNO.EACCES);

  it.each([
    [4, [], 536],
    [4, [2, 4, 0x05, 0xb4], 1460],
    [4, [1, 1, 1, 0, 2, 4, 5, 0xb4], 536],
    [4, [3, 3, 7, 1, 2, 4, 0x05, 0x14], 1300],
    [4, [2, 4, 0, 0], 536],
    [4, [2, 9, 5, 0xb4], 536],
    [6, [], 1220],
    [6, [2, 4, 0x22, 0xf0], 8940],
    [6, [2, 4, 0x05, 0xa0], 1440],
  ] as const)('SYN cookies of IPv%i, options %j: segments of %i bytes', (version, options, size) => {
    const text = handshake(version, 20 + options.length);
    const outcome = compare(
      { type: 'xdp', text, value: syn(version, options), run: { dataIn: new Uint8Array(64) } },
      results,
    );
    expect(results(outcome)).toEqual([BigInt(size), 0n, EACCES, 0n, EACCES]);
  });

  it('SYN cookies of a header with another length', () => {
    const text = handshake(4, 24);
    const outcome = compare(
      { type: 'xdp', text, value: syn(4, []), run: { dataIn: new Uint8Array(64) } },
      results,
    );
    expect(results(outcome)).toEqual([-1n, 0n, 0n, 0n, 0n]);
  });
});

describe('tasks', () => {
  const b = new BtfBuilder();
  const int = b.int('int', 4, { signed: true });
  const char = b.int('char', 1, { signed: true });
  const u64 = b.int('long long unsigned int', 8);
  b.struct('task_struct', 32, [
    { name: 'pid', type: int, bitOffset: 0 },
    { name: 'tgid', type: int, bitOffset: 32 },
    { name: 'comm', type: b.array(char, int, 16), bitOffset: 64 },
  ]);
  b.struct('bpf_iter_task', 24, [{ name: '__opaque', type: b.array(u64, int, 3), bitOffset: 0 }]);
  const targetBtf = b.build();

  /** r0 of a program in a machine of three threads. */
  function run(
    text: string,
    engine: 'jit' | 'interpreter',
    type: 'raw_tracepoint' | 'syscall' = 'raw_tracepoint',
  ): number {
    const machine = createMachine({ ncpu: 3, task: { pid: 77, tgid: 70 } });
    const program = machine.loadProgram({
      name: 'tasks',
      type,
      license: 'GPL',
      insns: machineInsns(text),
      maps: [],
      loadedMaps: [],
      kfuncs: MACHINE_KFUNCS,
      targetBtf,
      engine,
    });
    return program.testRun({ ctxIn: new Uint8Array(8) }).retval;
  }

  /** Sums up the pids of the tasks that an iterator gives. */
  const iterate = (flags: number): string => `
    r6 = 0
    r1 = r10
    r1 += -24
    r2 = 0
    r3 = ${flags}
    ${kfunc('bpf_iter_task_new')}
    next: r1 = r10
    r1 += -24
    ${kfunc('bpf_iter_task_next')}
    if r0 == 0 goto done
    r1 = *(u32 *)(r0 +0)
    r6 += r1
    goto next
    done: r1 = r10
    r1 += -24
    ${kfunc('bpf_iter_task_destroy')}
    r0 = r6
    exit`;

  it.each([
    ['all processes: the one', 0, 77],
    ['all threads', 1, 3 * 77],
    ['the threads of no task', 2, 0],
    ['unknown', 3, 0],
  ])('bpf_iter_task: %s', (_, flags, expected) => {
    for (const engine of ['jit', 'interpreter'] as const) expect(run(iterate(flags), engine)).toBe(expected);
  });

  it.each([
    [77, 77],
    [78, 1],
  ])('bpf_task_from_pid(%i)', (pid, expected) => {
    const text = `
      r1 = ${pid}
      ${kfunc('bpf_task_from_pid')}
      if r0 == 0 goto none
      r6 = *(u32 *)(r0 +0)
      r1 = r0
      ${kfunc('bpf_task_release')}
      r0 = r6
      exit
      none: r0 = 1
      exit`;
    for (const engine of ['jit', 'interpreter'] as const) expect(run(text, engine, 'syscall')).toBe(expected);
  });
});
