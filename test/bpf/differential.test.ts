/** Random verified programs: interpreter, JIT and (as root) the kernel's JIT leave the same result, packet and maps. */
import { afterAll, describe, expect, test } from 'vitest';
import * as bpf from '../../src/bpf/index.ts';
import { runDifferential } from '../conformance/differential.mjs';
import { randomProgram } from '../conformance/differential-programs.mjs';
import { kernelBpf } from '../support/kernel-bpf.ts';
import { unless } from '../support/skip.ts';

afterAll(() => kernelBpf.closeAll());

const run = (first: number, count: number, kernel?: typeof kernelBpf) => {
  const problems: string[] = [];
  const report = (name: string, list: readonly string[]) => problems.push(`${name}: ${list.join('\n')}`);
  return { counts: runDifferential(bpf, { first, count, kernel, report }), problems };
};

describe('random verified programs', () => {
  test('give the same in the interpreter and the JIT', { timeout: 60_000 }, () => {
    const { counts, problems } = run(1, 250);
    expect(problems).toEqual([]);
    // Nearly all are accepted.
    expect(counts.passed).toBeGreaterThan(225);
    expect(counts.passed + counts.refused).toBe(250);
  });

  test('give the same in the kernel', { ...unless(kernelBpf.reason), timeout: 60_000 }, () => {
    const { counts, problems } = run(1001, 150, kernelBpf);
    expect(problems).toEqual([]);
    expect(counts.passed + counts.skipped).toBe(150);
    expect(counts.passed).toBeGreaterThan(145);
  });

  test('cover the instruction set: operations, sizes, jumps, atomics, loops, calls and callbacks', () => {
    const codes = new Set<number>();
    const atomics = new Set<number>();
    let backward = 0;
    let calls = 0;
    const others = { callbacks: 0, mayGoto: 0, loop: 0, forEach: 0, mapsOfMaps: 0 };
    for (let seed = 1; seed <= 250; seed++) {
      for (const { code, src, off, imm } of randomProgram(seed)) {
        codes.add(code);
        if ((code & 0xe7) === 0xc3) atomics.add(imm);
        if ((code & 6) === 4 && (code & 1) === 1 && code !== 0x85 && off < 0) backward++;
        if (code === 0x85 && src === 1) calls++;
        if (code === 0x18 && src === 4) others.callbacks++;
        if (code === 0x18 && src === 5 && imm === 2) others.mapsOfMaps++;
        if (code === 0xe5) others.mayGoto++;
        if (code === 0x85 && src === 0 && imm === 181) others.loop++;
        if (code === 0x85 && src === 0 && imm === 164) others.forEach++;
      }
    }
    expect(codes.size).toBeGreaterThan(110);
    expect([...atomics].sort((a, b) => a - b)).toEqual([
      0, 1, 0x40, 0x41, 0x50, 0x51, 0xa0, 0xa1, 0xe1, 0xf1, 0x100, 0x110,
    ]);
    expect(backward).toBeGreaterThan(20);
    expect(calls).toBeGreaterThan(100);
    for (const [name, count] of Object.entries(others)) expect(count, name).toBeGreaterThan(20);
  });

  test('a wrong engine is noticed', () => {
    const wrong = {
      ...bpf,
      createMachine: () => {
        const machine = bpf.createMachine();
        const load = machine.loadProgram.bind(machine);
        machine.loadProgram = (input) => {
          if (input.engine !== 'jit') return load(input);
          const insns = input.insns.map((insn) =>
            insn.code === 0x27 ? { ...insn, imm: insn.imm + 2 } : insn,
          );
          return load({ ...input, insns });
        };
        return machine;
      },
    };
    const problems: string[] = [];
    const counts = runDifferential(wrong, {
      first: 1,
      count: 3,
      report: (name: string) => problems.push(name),
    });
    expect(counts.failed).toBe(3);
    expect(problems).toEqual(['seed 1', 'seed 2', 'seed 3']);
  });
});
