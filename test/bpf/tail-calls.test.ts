/** Tail calls: the same results and counts in the interpreter, the JIT and (as root) the kernel. */
import { afterAll, describe, expect, test } from 'vitest';
import { assemble } from '../../src/bpf/asm/assemble.ts';
import type { Insn } from '../../src/bpf/isa.ts';
import { createMachine, type LoadedProgram } from '../../src/bpf/machine/index.ts';
import type { MapSpec } from '../../src/bpf/maps/map-spec.ts';
import { kernelBpf } from '../support/kernel-bpf.ts';
import { unless } from '../support/skip.ts';
import { functionTypes } from './support-programs.ts';

const MAPS: readonly MapSpec[] = [
  { name: 'programs', type: 'prog_array', keySize: 4, valueSize: 4, maxEntries: 4 },
  { name: 'counts', type: 'array', keySize: 4, valueSize: 8, maxEntries: 2 },
];
const XDP = 6;
const KERNEL_TYPES = [3, 2];
const PACKET = Uint8Array.from({ length: 64 }, (_, n) => n);

/** Adds 1 to count `n`. Keeps r6 and r7. */
const count = (n: number): string => `
  *(u32 *)(r10 -4) = ${n}
  r1 = map[idx:1]
  r2 = r10
  r2 += -4
  call 1
  if r0 == 0 goto +3
  r1 = *(u64 *)(r0 +0)
  r1 += 1
  *(u64 *)(r0 +0) = r1`;
/** Goes on in program `index`, with the context in r6. */
const tailCall = (index: number | string): string => `
  r1 = r6
  r2 = map[idx:0]
  r3 = ${index}
  call 12`;
const returns = (value: number): string => `r0 = ${value}\nexit`;

interface Scenario {
  /** The first one is run; each is at its index in the array, but for `undefined`. */
  programs: (string | undefined)[];
  retval: number;
  counts: [bigint, bigint];
}

const SCENARIOS: Record<string, Scenario> = {
  'to another program and not back': {
    programs: [`r6 = r1 ${tailCall(1)}\n${returns(5)}`, `${count(0)}\n${returns(9)}`],
    retval: 9,
    counts: [1n, 0n],
  },
  'to an empty entry, an index out of range and one whose low half counts': {
    programs: [
      `r6 = r1 ${tailCall(2)} ${tailCall(99)} ${count(0)} ${tailCall('0x500000001 ll')}\n${returns(5)}`,
      `${count(1)}\n${returns(3)}`,
    ],
    retval: 3,
    counts: [1n, 1n],
  },
  'to itself until the limit': {
    programs: [`r6 = r1 ${count(0)} ${tailCall(0)}\n${returns(1)}`],
    retval: 1,
    counts: [34n, 0n],
  },
  'in a circle of two': {
    programs: [
      `r6 = r1 ${count(0)} ${tailCall(1)}\n${returns(1)}`,
      `r6 = r1 ${count(1)} ${tailCall(0)}\n${returns(2)}`,
    ],
    retval: 2,
    counts: [17n, 17n],
  },
  'from a function: the caller goes on with the result, and finds its stack as it was': {
    programs: [
      `r6 = r1
       *(u64 *)(r10 -16) = 1000
       call sub
       r1 = *(u64 *)(r10 -16)
       r0 += r1
       exit
  sub: r6 = r1
       *(u64 *)(r10 -8) = 7 ${tailCall(1)}
       r0 = 500
       exit`,
      `*(u64 *)(r10 -16) = 77\n*(u64 *)(r10 -8) = 77 ${count(0)}\n${returns(23)}`,
    ],
    retval: 1023,
    counts: [1n, 0n],
  },
  'from a function twice, all counted together': {
    programs: [
      `r6 = r1 ${count(0)}
       r1 = r6
       call sub
       r7 = r0
       r1 = r6
       call sub
       r0 += r7
       exit
  sub: r6 = r1 ${count(1)} ${tailCall(0)}
       r0 = 1
       exit`,
    ],
    retval: 35,
    counts: [34n, 68n],
  },
};

const key = (n: number): Uint8Array => Uint8Array.of(n, 0, 0, 0);
const number = (value: Uint8Array | undefined): bigint =>
  new DataView(value!.buffer, value!.byteOffset).getBigUint64(0, true);

function run(engine: 'interpreter' | 'jit', { programs }: Scenario) {
  const machine = createMachine();
  const loadedMaps = MAPS.map((spec) => machine.createMap(spec));
  let first: LoadedProgram | undefined;
  for (const [index, text] of programs.entries()) {
    if (text === undefined) continue;
    const insns = assemble(text);
    const { btf, funcInfo } = functionTypes(insns);
    const program = machine.loadProgram({
      btf,
      funcInfo,
      name: `p${index}`,
      type: 'xdp',
      insns,
      maps: MAPS,
      loadedMaps,
      engine,
    });
    first ??= program;
    expect(machine.setElement(loadedMaps[0]!, key(index), program)).toBe(0);
  }
  const counts = () => [0, 1].map((n) => number(loadedMaps[1]!.lookup(key(n))));
  const { retval } = first!.testRun({ dataIn: PACKET });
  const result = { retval, counts: counts() };
  // From now on every program is known to the calls: once more by itself, in a loop, and with the whole r0.
  expect(first!.testRun({ dataIn: PACKET }).retval).toBe(retval);
  expect(first!.testRun({ dataIn: PACKET, repeat: 3 }).retval).toBe(retval);
  expect(first!.run(0)).toBe(BigInt(retval));
  expect(counts()).toEqual(result.counts.map((one) => one * 6n));
  return result;
}

function runInKernel({ programs }: Scenario) {
  const fds = MAPS.map(({ keySize, valueSize, maxEntries }, n) =>
    kernelBpf.mapCreate({ type: KERNEL_TYPES[n]!, keySize, valueSize, maxEntries }),
  );
  let first = -1;
  for (const [index, text] of programs.entries()) {
    if (text === undefined) continue;
    const insns = assemble(text).map(
      (insn): Insn =>
        insn.code === 0x18 && insn.src === 5 ? { ...insn, src: 1, imm: fds[insn.imm]! } : insn,
    );
    const { bytes, funcInfo } = functionTypes(insns);
    const btfFd = kernelBpf.btfLoad(bytes);
    expect(btfFd).toBeGreaterThanOrEqual(0);
    const { fd, log } = kernelBpf.progLoad({ type: XDP, insns, logLevel: 1, btfFd, funcInfo });
    expect(fd, log).toBeGreaterThanOrEqual(0);
    if (first < 0) first = fd;
    expect(kernelBpf.mapUpdate(fds[0]!, key(index), new Uint8Array(Uint32Array.of(fd).buffer))).toBe(0);
  }
  const { retval } = kernelBpf.progTestRun(first, { dataIn: PACKET });
  return { retval, counts: [0, 1].map((n) => number(kernelBpf.mapLookup(fds[1]!, key(n), 8) as Uint8Array)) };
}

afterAll(() => kernelBpf.closeAll());

describe.each(Object.entries(SCENARIOS))('a tail call %s', (_name, scenario) => {
  const { retval, counts } = scenario;
  const expected = { retval, counts };

  test.each(['interpreter', 'jit'] as const)('%s', (engine) => {
    expect(run(engine, scenario)).toEqual(expected);
  });

  test('kernel', unless(kernelBpf.reason), () => {
    expect(runInKernel(scenario)).toEqual(expected);
  });
});
