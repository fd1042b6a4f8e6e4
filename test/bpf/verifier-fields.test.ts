/** Opcodes and fields that have to be zero: which check of the kernel answers first, and in which words (Linux 6.12). */
import { afterAll, describe, expect, it } from 'vitest';
import { assemble, type Insn, type MapSpec, VerifierError, verify } from '../../src/bpf/index.ts';
import { kernelBpf } from '../support/kernel-bpf.ts';
import { unless } from '../support/skip.ts';

const PRELUDE = assemble('r0 = 5\n r6 = r1\n r7 = 7\n *(u64 *)(r10 -8) = r7');
const EPILOGUE = assemble('r0 = 0\n exit\n exit');

/** Every instruction is reachable, wherever the one in question goes. */
const around = (...insns: readonly Insn[]): Insn[] => [
  ...PRELUDE,
  ...assemble(`if r0 == 77 goto pc+${insns.length + 2}`),
  ...insns,
  ...EPILOGUE,
];

const insn = (code: number, dst: number, src: number, off: number, imm: number): Insn => ({
  code,
  dst,
  src,
  off,
  imm,
});
const SECOND = insn(0, 0, 0, 0, 0);

function refusal(insns: readonly Insn[], maps: readonly MapSpec[] = []): string {
  try {
    verify({ type: 'socket_filter', insns, maps });
    return 'accepted';
  } catch (error) {
    if (!(error instanceof VerifierError)) throw error;
    return `${error.errnoName} ${error.summary.split('\n').at(-1)}`;
  }
}

const CASES: readonly (readonly [what: string, insns: readonly Insn[], answer: string])[] = [
  ['an exit with a register', [insn(0x9d, 0, 6, 24, 31)], 'EINVAL unknown opcode 9d'],
  ['a 32-bit exit', [insn(0x96, 6, 0, 24, 0)], 'EINVAL unknown opcode 96'],
  ['a call with a register, far away', [insn(0x8e, 6, 1, 999, 64)], 'EINVAL unknown opcode 8e'],
  [
    'a long jump whose target wraps around',
    [insn(0x06, 0, 0, 0, 0x7fffffff)],
    'EINVAL jump out of range from insn 5 to -2147483643',
  ],
  ['a comparison of no register', [insn(0xbe, 11, 6, 1, -1)], 'EINVAL R11 is invalid'],
  ['a comparison of an unset register', [insn(0xa6, 5, 6, 1, 256)], 'EACCES R5 !read_ok'],
  ['a comparison with both operands', [insn(0xad, 0, 6, 1, 1)], 'EINVAL BPF_JMP/JMP32 uses reserved fields'],
  ['an lddw with an offset', [insn(0x18, 7, 0, 8, 0), SECOND], 'EINVAL BPF_LD_IMM64 uses reserved fields'],
  [
    'an lddw of no kind with an offset',
    [insn(0x18, 7, 10, 8, 0), SECOND],
    'EINVAL unrecognized bpf_ld_imm64 insn',
  ],
  [
    'an atomic of 32 bits that mean nothing',
    [insn(0xdb, 10, 7, -8, -2147483648)],
    'EINVAL BPF_ATOMIC uses invalid atomic opcode 80000000',
  ],
  [
    'an atomic whose low byte means something',
    [insn(0xdb, 10, 7, -8, 0x1f1)],
    'EINVAL BPF_ATOMIC uses invalid atomic opcode 1f1',
  ],
  [
    'the helper number 0',
    [insn(0x85, 0, 0, 0, 0)],
    'EINVAL program of this type cannot use helper bpf_unspec#0',
  ],
];

const MAYBE: typeof CASES = [
  ['a may_goto to the next instruction', [insn(0xe5, 0, 0, 0, 0)], 'EINVAL invalid may_goto off 0 imm 0'],
  ['a may_goto with a number', [insn(0xe5, 0, 0, 1, 3)], 'EINVAL invalid may_goto off 1 imm 3'],
];

describe('instructions that are none', () => {
  afterAll(() => kernelBpf.closeAll());

  for (const [what, insns, answer] of [...CASES, ...MAYBE]) {
    it(what, () => expect(refusal(around(...insns))).toBe(answer));
  }

  it('are told by the kernel in the same words', unless(kernelBpf.reason), () => {
    for (const [what, insns, answer] of CASES) {
      const { fd, log } = kernelBpf.progLoad({ type: 1, insns: around(...insns), logLevel: 4 });
      expect([what, fd], log).toEqual([what, answer.startsWith('EACCES') ? -13 : -22]);
      expect(log.split('\n')).toContain(answer.replace(/^\w+ /, ''));
    }
  });
});

describe('addresses in maps', () => {
  const load = (imm: number) => around(insn(0x18, 2, 6, 0, 0), insn(0, 0, 0, 0, imm));
  const array = { name: 'm', type: 'array', keySize: 4, valueSize: 16, maxEntries: 1 } as const;

  it('are those of arrays of one entry', () => {
    expect(refusal(load(8), [array])).toBe('accepted');
    expect(refusal(load(16), [array])).toBe(
      'EINVAL invalid access to map value pointer, value_size=16 off=16',
    );
    expect(refusal(load(0), [{ ...array, maxEntries: 2 }])).toBe(
      'ENOTSUPP invalid access to map value pointer, value_size=16 off=0',
    );
    expect(refusal(load(0), [{ ...array, type: 'hash' }])).toBe(
      'EINVAL no direct value access support for this map type',
    );
  });

  it('with a lock or timer need BTF', () => {
    const lock = assemble('r1 = map[idx:0][0]+0\n call bpf_spin_lock\n r0 = 0\n exit');
    expect(refusal(lock, [array])).toBe("EINVAL map 'm' has to have BTF in order to use bpf_spin_lock");
    const timer = assemble('r1 = map[idx:0][0]+0\n call bpf_timer_cancel\n r0 = 0\n exit');
    const input = { type: 'sched_cls', insns: timer, maps: [array] } as const;
    expect(() => verify(input)).toThrow("map 'm' has to have BTF in order to use bpf_timer");
  });

  it('that are not aligned are told as numbers, large ones in hexadecimal', () => {
    const strict = (text: string) => () =>
      verify({ type: 'socket_filter', insns: assemble(text), strictAlignment: true });
    expect(strict('r1 = -2147483648\n r0 = *(u64 *)(r1 +4)\n exit')).toThrow(
      'misaligned access off 0xffffffff80000000+0+4 size 8',
    );
    expect(strict('r1 = 9\n r0 = *(u64 *)(r1 +4)\n exit')).toThrow('misaligned access off 9+0+4 size 8');
  });
});
