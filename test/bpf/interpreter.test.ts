import { describe, expect, test } from 'vitest';
import { assemble } from '../../src/bpf/asm/assemble.ts';
import { checkClassic, convertFilter, SKB_HELPERS } from '../../src/bpf/classic.ts';
import { Interpreter } from '../../src/bpf/interpreter/interpreter.ts';
import { jitRaw } from '../../src/bpf/jit/raw.ts';
import { loadPacket, writeSkBuff } from '../../src/bpf/sk-buff.ts';
import { callSkbHelper } from '../../src/bpf/skb-helpers.ts';
import { decodeSockFilters, type SockFilter } from '../../src/bpf/sock-filter.ts';

const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
const STACK = 1024;
const start = (text: string, r1 = 0n): Interpreter =>
  new Interpreter({ insns: assemble(text), memory: memory.buffer, stack: STACK }, r1);

describe('the interpreter', () => {
  test('steps: registers, program counter, depth and the next instruction can be watched and changed', () => {
    const vm = start('r1 += 2\ncall +2\nr0 += r1\nexit\nr0 = r1\nexit', 40n);
    const trace: [number, number][] = [];
    do trace.push([vm.pc, vm.depth]);
    while (vm.step());
    expect(trace).toEqual([
      [0, 0],
      [1, 0],
      [4, 1],
      [5, 1],
      [2, 0],
      [3, 0],
    ]);
    expect([vm.regs[0], vm.steps, vm.exited]).toEqual([84n, 6, true]);
    expect(vm.step()).toBe(false);
    const changed = start('r0 = 1\nr0 += r3\nexit');
    changed.step();
    changed.regs[3] = 41n;
    expect(changed.run()).toBe(42n);
  });

  test('refuses what no program may do, and says where', () => {
    expect(() => start('r1 = -1\nr0 = *(u64 *)(r1 +0)\nexit').run()).toThrow('outside of the memory, at 1');
    expect(() => start('goto +5').run()).toThrow('control left the program to 6');
    expect(() => start('goto -1').run(100)).toThrow('100 instructions were run without an exit');
    expect(() => start('call 3\nexit').run()).toThrow('unknown helper 3 at 0');
  });

  test('a stack frame is 512 bytes at the given place, and a called function has the next one', () => {
    const vm = start('r6 = r10\ncall +2\nr0 -= r6\nexit\nr0 = r10\nexit');
    expect(vm.regs[10]).toBe(BigInt(STACK + 512));
    expect(vm.run()).toBe(512n);
  });

  test('acquire loads and release stores, as compiled programs do them', () => {
    const text =
      'r1 = 0x1122334455667788 ll\nstore_release((u64 *)(r10 -8), r1)\nr0 = load_acquire((u16 *)(r10 -5))\nexit';
    expect(start(text).run()).toBe(0x4455n);
    const wasm = jitRaw(assemble(text), { memory: { min: 1, max: 1, shared: true }, stack: STACK });
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(wasm), { env: { memory } });
    expect((exports['run64'] as (a: bigint, b: bigint) => bigint)(0n, 0n)).toBe(0x4455n);
  });
});

// ip and tcp port 80 or 443, as tcpdump compiles it, with the length to keep.
const BPF = { ldh: 0x28, ldb: 0x30, ldhInd: 0x48, msh: 0xb1, jeq: 0x15, jset: 0x45, ret: 0x06 };
const op = (code: number, k: number, jt = 0, jf = 0): SockFilter => ({ code, k, jt, jf });
const PORTS = [
  op(BPF.ldh, 12),
  op(BPF.jeq, 0x0800, 0, 9),
  op(BPF.ldb, 23),
  op(BPF.jeq, 6, 0, 7),
  op(BPF.ldh, 20),
  op(BPF.jset, 0x1fff, 5, 0),
  op(BPF.msh, 14),
  op(BPF.ldhInd, 16),
  op(BPF.jeq, 80, 1, 0),
  op(BPF.jeq, 443, 0, 1),
  op(BPF.ret, 262144),
  op(BPF.ret, 0),
];

const SKB = 8192;
const DATA = 16384;
const view = new DataView(memory.buffer);
const engines = (filters: readonly SockFilter[]): (() => number)[] => {
  const insns = convertFilter(filters);
  const call = (id: number, args: readonly bigint[]): bigint => {
    const low = (value: bigint | undefined): number => Number(BigInt.asUintN(32, value ?? 0n));
    return BigInt(callSkbHelper(view, id, low(args[0]), low(args[1]), low(args[2])) ?? 0);
  };
  const ids = Object.values(SKB_HELPERS);
  const wasm = jitRaw(insns, { memory: { min: 1, max: 1, shared: true }, stack: STACK, helpers: ids });
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(wasm), {
    env: { memory },
    helper: Object.fromEntries(ids.map((id) => [id, (...args: bigint[]) => call(id, args)])),
  });
  const run64 = exports['run64'] as (a: bigint, b: bigint) => bigint;
  return [
    () => Number(BigInt.asUintN(32, run64(BigInt(SKB), 0n))),
    () => {
      const vm = new Interpreter(
        {
          insns,
          memory: memory.buffer,
          stack: STACK,
          helper: call,
          packetLoad(skb, offset, size) {
            const value = loadPacket(view, Number(skb), offset, size);
            return value === undefined ? undefined : BigInt(value);
          },
        },
        BigInt(SKB),
      );
      return Number(BigInt.asUintN(32, vm.run()));
    },
  ];
};

function packet(port: number, { protocol = 6, options = 0, fragment = 0 } = {}): Uint8Array {
  const bytes = new Uint8Array(14 + 20 + options + 20);
  const data = new DataView(bytes.buffer);
  data.setUint16(12, 0x0800);
  data.setUint8(14, 0x40 | ((20 + options) / 4));
  data.setUint16(20, fragment);
  data.setUint8(23, protocol);
  data.setUint16(14 + 20 + options + 2, port);
  data.setUint8(14 + 20 + options + 12, 5 << 4);
  return bytes;
}

function give(bytes: Uint8Array): void {
  new Uint8Array(memory.buffer).fill(0, SKB);
  new Uint8Array(memory.buffer).set(bytes, DATA);
  writeSkBuff(view, SKB, { data: DATA, len: bytes.length, networkOffset: 14, protocol: 0x0800, mark: 7 });
}

describe('classic filters, converted', () => {
  test('a port filter on packets that match, that do not, and that end too early', () => {
    for (const run of engines(PORTS)) {
      const expectations: [Uint8Array, number][] = [
        [packet(80), 262144],
        [packet(443, { options: 12 }), 262144],
        [packet(81), 0],
        [packet(80, { protocol: 17 }), 0],
        [packet(80, { fragment: 100 }), 0],
        [packet(80).subarray(0, 37), 0],
        [new Uint8Array(0), 0],
      ];
      for (const [bytes, expected] of expectations) {
        give(bytes);
        expect(run()).toBe(expected);
      }
    }
  });

  test('ancillary data, negative offsets, the payload offset, division by zero', () => {
    const ancillary = (which: number): SockFilter[] => [op(0x20, 0xfffff000 + which), op(0x16, 0)];
    const results = (filters: SockFilter[]): number[] => engines(filters).map((run) => run());
    give(packet(80, { options: 8 }));
    expect(results(ancillary(20))).toEqual([7, 7]);
    expect(results(ancillary(0))).toEqual([0x0800, 0x0800]);
    expect(results(ancillary(52))).toEqual([62, 62]);
    // SKF_NET_OFF + 9: the protocol; SKF_LL_OFF + 12: the type; before the first byte: nothing.
    expect(results([op(BPF.ldb, 0xfff00009), op(0x16, 0)])).toEqual([6, 6]);
    expect(results([op(BPF.ldh, 0xffe0000c), op(0x16, 0)])).toEqual([0x0800, 0x0800]);
    expect(results([op(BPF.ldb, 0xffefffff), op(0x16, 0)])).toEqual([0, 0]);
    expect(results([op(0x00, 8), op(0x01, 0), op(0x3c, 0), op(BPF.ret, 1)])).toEqual([0, 0]);
  });

  test.each<[string, SockFilter[], string]>([
    ['nothing', [], '0 instructions'],
    ['an unknown code', [op(0xff, 0), op(0x06, 0)], 'code 0xff does not exist'],
    ['a constant division by zero', [op(0x34, 0), op(0x06, 0)], 'division by zero'],
    ['a shift by 32', [op(0x64, 32), op(0x06, 0)], 'shift by 32'],
    ['a jump out', [op(0x05, 5), op(0x06, 0)], 'jumps out of the program'],
    ['a jump behind the last', [op(0x15, 0, 1, 0), op(0x06, 0)], 'jumps out of the program'],
    ['no return at the end', [op(0x00, 0)], 'the last one is no return'],
    ['a memory word that is not there', [op(0x02, 16), op(0x06, 0)], 'no memory word 16'],
    [
      'a word stored on one path only',
      [op(0x15, 0, 0, 1), op(0x02, 3), op(0x60, 3), op(0x16, 0)],
      'memory word 3',
    ],
    ['ancillary data that does not exist', [op(0x20, 0xfffff040), op(0x06, 0)], 'no ancillary data 64'],
  ])('%s is refused', (_, filters, message) => {
    expect(() => checkClassic(filters)).toThrow(message);
    expect(() => convertFilter(filters)).toThrow(message);
  });

  // How far a jump reaches: the numbers are the border of a real kernel's SO_ATTACH_FILTER (EINVAL beyond).
  test.each([
    ['loads of the header length', op(0xb1, 0), 1820],
    ['loads of bytes', op(0x30, 4), 2520],
    ['loads of words', op(0x20, 40_000), 2047],
  ])('a jump over %s', (_, insn, border) => {
    const over = (count: number): SockFilter[] => [op(0x05, count), ...Array(count).fill(insn), op(0x06, 1)];
    expect(convertFilter(over(border)).length).toBeGreaterThan(border);
    expect(() => convertFilter(over(border + 1))).toThrow('classic instruction 0: jumps over too much');
  });

  test.each([
    ['indirect loads', op(0x48, 0)],
    ['ancillary words', op(0x20, 0xfffff008)],
    ['divisions', op(0x3c, 0)],
  ])('a jump over %s reaches over the longest program', (_, insn) => {
    const filters = [op(0x05, 3000), ...Array(3000).fill(insn), op(0x06, 1)];
    expect(convertFilter(filters).length).toBeGreaterThan(3000);
  });

  test('no jump stands behind 32768 converted instructions', () => {
    const behind = (count: number): SockFilter[] => [
      ...Array(count).fill(op(0xb1, 0)),
      op(0x15, 1, 0, 1),
      op(0x06, 0),
      op(0x06, 1),
    ];
    expect(convertFilter(behind(1820)).length).toBeGreaterThan(1820);
    expect(() => convertFilter(behind(1821))).toThrow('classic instruction 1821: jumps over too much');
  });

  test('decodes struct sock_filter', () => {
    expect(decodeSockFilters(Buffer.from('15000102ffffffff', 'hex'))).toEqual([op(0x15, 0xffffffff, 1, 2)]);
  });
});
