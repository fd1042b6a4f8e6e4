/** Paths that meet: pruning, and callbacks of loops whose states have to converge. */
import { describe, expect, it } from 'vitest';
import { assemble, type MapSpec } from '../../src/bpf/index.ts';
import { lookup, refusal, verify } from './support-verifier.ts';

describe('pruning', () => {
  it('keeps many branches that meet again cheap', () => {
    const diamonds = Array.from(
      { length: 60 },
      () => 'r2 = *(u64 *)(r1 +112)\nr0 = 1\nif r2 == 0x5 goto pc+1\nr0 = 2',
    );
    const { log } = verify([...diamonds, 'exit'].join('\n'), { logLevel: 2 });
    expect(Number(/processed (\d+) insns/.exec(log)![1])).toBeLessThan(2000);
  });

  it('does not take a state for another where a scalar decides about memory', () => {
    // On one path r6 is 0, on the other 100: the second one must not be covered by the first.
    const error = refusal(`
      r7 = *(u64 *)(r1 +112)
      r6 = 0
      if r7 == 0x1 goto pc+1
      goto pc+1
      r6 = 100
      ${lookup(1)}
      r0 += r6
      r1 = *(u64 *)(r0 +0)
      r0 = 0
      exit`);
    expect(error.summary.split('\n')[0]).toBe('invalid access to map value, value_size=48 off=100 size=8');
  });

  it('nor where it was spilled in between', () => {
    const error = refusal(`
      r7 = *(u64 *)(r1 +112)
      r6 = 0
      if r7 == 0x1 goto pc+1
      goto pc+1
      r6 = 100
      *(u64 *)(r10 -16) = r6
      ${lookup(1)}
      r6 = *(u64 *)(r10 -16)
      r0 += r6
      r1 = *(u64 *)(r0 +0)
      r0 = 0
      exit`);
    expect(error.summary.split('\n')[0]).toBe('invalid access to map value, value_size=48 off=100 size=8');
  });

  it('nor where a bound was learned from a copy', () => {
    // Behind the first branch r9 is r6; behind the second it is something else, and its bound says nothing about r6.
    const error = refusal(`
      r6 = *(u8 *)(r1 +112)
      r8 = *(u64 *)(r1 +104)
      r9 = r6
      *(u64 *)(r10 -8) = 0
      if r8 == 0x1 goto pc+1
      goto pc+2
      r9 = r8
      r9 &= 255
      ${'if r8 == 0x2 goto pc+0\n'.repeat(8)}
      if r9 > 0x7 goto pc+4
      r2 = r10
      r2 += -8
      r2 += r6
      *(u8 *)(r2 +0) = 1
      r0 = 0
      exit`);
    expect(error.summary).toMatch(/^invalid variable-offset write to stack R2/);
  });

  it('nor through a function', () => {
    const error = refusal(
      `
      r7 = *(u64 *)(r1 +112)
      r1 = 8
      if r7 == 0x1 goto pc+1
      goto pc+1
      r1 = 600
      ${'if r7 == 0x2 goto pc+0\n'.repeat(8)}
      call pc+1
      exit
      r2 = r10
      r1 *= -1
      r2 += r1
      *(u8 *)(r2 +0) = 1
      r0 = 0
      exit`,
    );
    expect(error.summary.split('\n')[0]).toBe('invalid write to stack R2 off=-600 size=1');
  });
});

it('gives up above its limit of instructions', () => {
  const error = refusal('r0 = 0\nr0 += 1\nif r0 < 0x100000 goto pc-2\nexit', { maxInsns: 20_000 });
  expect(error.summary).toBe('BPF program is too large. Processed 20001 insn');
  expect(error.errnoName).toBe('E2BIG');
});

describe('bpf_for_each_map_elem', () => {
  const maps: MapSpec[] = [
    { name: 'm', type: 'hash', keySize: 8, valueSize: 16, maxEntries: 8 },
    { name: 'a', type: 'array', keySize: 4, valueSize: 16, maxEntries: 8 },
  ];
  function each(body: string, { map = 0, after = '' } = {}) {
    const insns = assemble(`
      *(u64 *)(r10 -8) = 0
      r1 = 0 ll
      r2 = 0 ll
      r3 = r10
      r3 += -8
      r4 = 0
      call bpf_for_each_map_elem#164
      ${after}
      r0 = 0
      exit
      ${body}`);
    const [first, second] = insns.flatMap(({ code }, i) => (code === 0x18 ? [i] : []));
    const start = insns.findIndex(({ code }) => code === 0x95) + 1;
    insns[first!] = { ...insns[first!]!, src: 5, imm: map };
    insns[second!] = { ...insns[second!]!, src: 4, imm: start - second! - 1 };
    return { insns, maps };
  }

  it('gives the callback map, key, value and context', () => {
    const sum =
      'r5 = *(u64 *)(r2 +0)\nr0 = *(u64 *)(r3 +8)\nr0 += r5\n*(u64 *)(r4 +0) = r0\n*(u64 *)(r3 +0) = r0';
    const { reachable, subprogs } = verify('', each(`${sum}\ncall bpf_map_delete_elem#3\nr0 = 0\nexit`));
    expect(subprogs).toHaveLength(2);
    expect(reachable.every((one) => one)).toBe(true);
  });

  it.each([
    ['*(u64 *)(r2 +0) = 1\nr0 = 0\nexit', /^write to change key R2 not allowed/],
    ['r0 = *(u64 *)(r2 +4)\nr0 = 0\nexit', /^invalid access to map key, key_size=8 off=4 size=8/],
    ['r0 = *(u64 *)(r3 +16)\nr0 = 0\nexit', /^invalid access to map value, value_size=16 off=16 size=8/],
    ['r0 = *(u64 *)(r4 +8)\nr0 = 0\nexit', /^invalid read from stack R4 off=0 size=8/],
    ['r1 = r2\nr2 = 8\ncall bpf_get_current_comm#16\nr0 = 0\nexit', /^R1 cannot write into map_key/],
    ['r0 = r5\nexit', /^R5 !read_ok/],
    ['r0 = 2\nexit', /^At callback return the register R0 has smin=2 smax=2 should have been in \[0, 1\]/],
  ])('%j is refused', (body, message) => {
    expect(refusal('', each(body)).summary).toMatch(message);
  });

  it('is for arrays too', () => {
    expect(verify('', each('r0 = 0\nexit', { map: 1 })).helpersUsed).toContain('for_each_map_elem');
  });

  it('knows no bound of what rounds add up', () => {
    const body = 'r0 = *(u64 *)(r4 +0)\nr0 += 8\n*(u64 *)(r4 +0) = r0\nr0 = 0\nexit';
    const after = 'r1 = *(u64 *)(r10 -8)\nr2 = r10\nr2 += -64\nr2 += r1\n*(u8 *)(r2 +0) = 1';
    expect(verify('', each(body)).subprogs).toHaveLength(2);
    expect(refusal('', each(body, { after })).summary).toMatch(/invalid write to stack R2|unbounded/);
  });
});

describe('bpf_loop', () => {
  it('is followed through its callback, however many rounds there are', () => {
    const insns = loopProgram('r3 = *(u64 *)(r2 +0)\nr3 += 1\n*(u64 *)(r2 +0) = r3\nr0 = 0\nexit');
    expect(verify('', { insns }).subprogs).toHaveLength(2);
  });

  it('has the same rules inside', () => {
    expect(refusal('', { insns: loopProgram('r0 = *(u64 *)(r2 +8)\nexit') }).summary).toMatch(
      /^invalid read from stack R2 off=0 size=8/,
    );
    expect(refusal('', { insns: loopProgram('r0 = 2\nexit') }).summary).toBe(
      'At callback return the register R0 has smin=2 smax=2 should have been in [0, 1]',
    );
    expect(refusal('', { insns: loopProgram('r0 = r3\nexit') }).summary).toBe('R3 !read_ok');
  });

  it('does not take the first round for all: a sum of rounds is no index', () => {
    // The callback moves a byte offset on; the program uses it behind the loop.
    const insns = loopProgram('r3 = *(u64 *)(r2 +0)\nr3 += 8\n*(u64 *)(r2 +0) = r3\nr0 = 0\nexit', [
      'r1 = *(u64 *)(r10 -8)',
      'r2 = r10',
      'r2 += -64',
      'r2 += r1',
      '*(u8 *)(r2 +0) = 1',
    ]);
    expect(refusal('', { insns }).summary).toMatch(/invalid write to stack R2|unbounded/);
  });

  it('looks into a loop within a loop, also into one of a single round', () => {
    const nested = (inner: string) => {
      const insns = assemble(`
        r1 = 4
        r2 = 0 ll
        r3 = 0
        r4 = 0
        call bpf_loop#181
        r0 = 0
        exit
        r1 = 1
        r2 = 0 ll
        r3 = 0
        r4 = 0
        call bpf_loop#181
        r0 = 0
        exit
        ${inner}`);
      const loads = insns.flatMap(({ code }, i) => (code === 0x18 ? [i] : []));
      const exits = insns.flatMap(({ code }, i) => (code === 0x95 ? [i] : []));
      for (const [n, at] of loads.entries()) insns[at] = { ...insns[at]!, src: 4, imm: exits[n]! - at };
      return insns;
    };
    expect(verify('', { insns: nested('r0 = 0\nexit') }).reachable.every((one) => one)).toBe(true);
    expect(refusal('', { insns: nested('r0 = r9\nexit') }).summary).toBe('R9 !read_ok');
  });

  function loopProgram(body: string, after: readonly string[] = []) {
    const insns = assemble(`
      *(u64 *)(r10 -8) = 0
      r1 = *(u64 *)(r1 +112)
      r2 = 0 ll
      r3 = r10
      r3 += -8
      r4 = 0
      call bpf_loop#181
      ${after.join('\n')}
      r0 = *(u64 *)(r10 -8)
      exit
      ${body}`);
    const load = insns.findIndex(({ code }) => code === 0x18);
    const start = insns.findIndex(({ code }) => code === 0x95) + 1;
    insns[load] = { ...insns[load]!, src: 4, imm: start - load - 1 };
    return insns;
  }
});
