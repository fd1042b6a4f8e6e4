/** How much of a program is followed again: as many instructions as Linux processes (its log's "processed N insns"). */
import { describe, expect, it } from 'vitest';
import { assemble, type Insn, verifyProgram } from '../../src/bpf/index.ts';
import { kernelBpf } from '../support/kernel-bpf.ts';
import { unless } from '../support/skip.ts';

const SCHED_CLS = 3;

/** A loop written out, each round with a bound of its own for the packet and a call of one function with a long straight body. */
function calls(count: number, body: number): Insn[] {
  const round = 9;
  const start = 5;
  const end = start + count * round;
  const text = ['r6 = r1', 'r8 = *(u32 *)(r6 +80)', 'r7 = *(u32 *)(r6 +76)', 'w9 = 0', 'r0 = 0'];
  for (let n = 0; n < count; n++) {
    const at = text.length;
    text.push(
      'r1 = r7',
      'r1 += r9',
      'r2 = r1',
      'r2 += 14',
      'if r2 > r8 goto pc+3',
      'r2 = *(u32 *)(r6 +48)',
      `call pc+${end + 2 - (at + 7)}`,
      '*(u32 *)(r6 +44) = r0',
      'w9 += 1',
    );
  }
  text.push('w0 = 0', 'exit');
  text.push('r0 = *(u32 *)(r1 +0)', 'r3 = *(u32 *)(r1 +4)', 'r4 = *(u32 *)(r1 +8)');
  const mix = ['w5 = w0', 'w5 <<= 8', 'w0 >>= 24', 'w0 |= w5', 'w3 -= w0', 'w4 ^= w3', 'w0 += w4'];
  for (let n = 0; n < body; n++) text.push(mix[n % mix.length]!);
  text.push('exit');
  return assemble(text.join('\n'));
}

/** Spills between branches whose outcome does not matter behind them. */
function spills(count: number): Insn[] {
  const text = ['r6 = r1', 'r7 = *(u32 *)(r6 +48)'];
  for (let n = 0; n < count; n++) {
    text.push(
      `*(u64 *)(r10 -${8 * (1 + (n % 16))}) = r7`,
      'r8 = *(u32 *)(r6 +0)',
      `if r8 == ${n} goto pc+2`,
      `r3 = *(u64 *)(r10 -${8 * (1 + (n % 16))})`,
      'w7 += w3',
      'call bpf_get_prandom_u32#7',
    );
  }
  text.push('r0 = r7', 'w0 &= 1', 'exit');
  return assemble(text.join('\n'));
}

/** With what Linux 6.18 says; 6.12 prunes them in the same way. */
const PROGRAMS: [name: string, insns: Insn[], processed: number][] = [
  ['40 calls of a long function', calls(40, 105), 11_035],
  ['100 calls of a short one', calls(100, 9), 41_965],
  ['spills between 60 branches', spills(60), 622],
];

describe('instructions processed', () => {
  it.each(PROGRAMS)('%s', (name, insns, processed) => {
    const { verifiedInsns } = verifyProgram({ name, type: 'sched_cls', insns, maps: [] });
    expect(verifiedInsns).toBe(processed);
  });

  it.each(PROGRAMS)('%s, in this kernel', unless(kernelBpf.reason), (_name, insns, processed) => {
    const { fd, log } = kernelBpf.progLoad({ type: SCHED_CLS, insns, logLevel: 4 });
    expect(fd, log).toBeGreaterThanOrEqual(0);
    kernelBpf.close(fd);
    expect(Number(/processed (\d+) insns/.exec(log)?.[1])).toBe(processed);
  });
});
