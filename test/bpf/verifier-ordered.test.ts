/** Load-acquire and store-release: checked as loads and stores are, aligned, and run by both engines. */
import { describe, expect, it } from 'vitest';
import { assemble, loadProgram, VerifierError, verifyProgram } from '../../src/bpf/index.ts';

const run = (text: string, engine: 'jit' | 'interpreter'): number =>
  loadProgram({ name: 'p', type: 'xdp', insns: assemble(text), maps: [], engine }).testRun({
    dataIn: new Uint8Array(64),
  }).retval;

function refusal(text: string): string | undefined {
  try {
    verifyProgram({ name: 'p', type: 'xdp', insns: assemble(text), maps: [] });
    return undefined;
  } catch (error) {
    if (error instanceof VerifierError) return error.summary.split('\n').at(-1);
    throw error;
  }
}

describe.each(['jit', 'interpreter'] as const)('%s', (engine) => {
  it.each([
    [1, 0x88],
    [2, 0x7788],
    [4, 0x55667788],
  ])('loads %i bytes, zero-extended', (size, expected) => {
    const bits = size * 8;
    const text = `r1 = 0x1122334455667788 ll\n*(u64 *)(r10 -8) = r1\nr0 = -1\nr0 = load_acquire((u${bits} *)(r10 -8))\nexit`;
    expect(run(text, engine)).toBe(expected);
  });

  it('stores through a pointer that is also the value’s neighbour', () => {
    const text = `
      r1 = 0
      *(u64 *)(r10 -8) = r1
      r2 = r10
      r2 += -8
      r3 = 0x1234
      store_release((u8 *)(r2 +1), r3)
      r0 = *(u64 *)(r10 -8)
      exit`;
    expect(run(text, engine)).toBe(0x3400);
  });

  it('what was released is seen by plain loads, and the other way round', () => {
    const text = `
      r1 = 7
      store_release((u64 *)(r10 -8), r1)
      r0 = *(u64 *)(r10 -8)
      r0 *= 2
      *(u64 *)(r10 -8) = r0
      r0 = load_acquire((u64 *)(r10 -8))
      exit`;
    expect(run(text, engine)).toBe(14);
  });
});

describe('the verifier', () => {
  it.each([
    ['a register nobody set', 'r0 = load_acquire((u64 *)(r3 +0))\nexit', 'R3 !read_ok'],
    [
      'stack nobody wrote',
      'r0 = load_acquire((u64 *)(r10 -8))\nexit',
      'invalid read from stack R10 off=-8 size=8',
    ],
    ['the context', 'r0 = load_acquire((u32 *)(r1 +0))\nexit', 'BPF_ATOMIC loads from R1 ctx is not allowed'],
    [
      'an unaligned place',
      '*(u64 *)(r10 -8) = 0\nr0 = load_acquire((u32 *)(r10 -7))\nexit',
      'misaligned stack access off 0+0+-7 size 4',
    ],
    [
      'the frame pointer',
      '*(u64 *)(r10 -8) = 0\nr10 = load_acquire((u64 *)(r10 -8))\nexit',
      'frame pointer is read only',
    ],
    [
      'a store to nowhere',
      'r2 = 0\nstore_release((u32 *)(r2 +0), r2)\nr0 = 0\nexit',
      "R2 invalid mem access 'scalar'",
    ],
  ])('refuses %s', (_, text, said) => {
    expect(refusal(text)).toBe(said);
  });

  it('follows what is spilled', () => {
    // The value of r1 is known after the round trip: it decides the jump behind which nothing is allowed.
    const text = `
      r1 = 5
      store_release((u64 *)(r10 -8), r1)
      r2 = load_acquire((u64 *)(r10 -8))
      if r2 == 5 goto pc+1
      r10 = 0
      r0 = 0
      exit`;
    expect(refusal(text)).toBeUndefined();
  });
});
