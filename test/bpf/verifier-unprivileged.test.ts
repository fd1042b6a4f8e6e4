/** What users without capabilities may not do: leak addresses, loop, and what a processor could run ahead of a check. */
import { describe, expect, it } from 'vitest';
import {
  assemble,
  type MapSpec,
  type ProgramInput,
  VerifierError,
  verifyProgram,
} from '../../src/bpf/index.ts';

const MAPS: readonly MapSpec[] = [
  { name: 'array', type: 'array', keySize: 4, valueSize: 48, maxEntries: 4 },
  { name: 'other', type: 'array', keySize: 4, valueSize: 16, maxEntries: 4 },
];

function refusal(text: string, options: Partial<ProgramInput> = {}): string | undefined {
  try {
    verifyProgram({
      name: 'p',
      type: 'socket_filter',
      insns: assemble(text),
      maps: MAPS,
      allowUninitStack: true,
      ...options,
    });
    return undefined;
  } catch (error) {
    if (error instanceof VerifierError) return error.summary.split('\n').at(-1);
    throw error;
  }
}

const lookup = `*(u32 *)(r10 -4) = 0
  r1 = map[idx:0]
  r2 = r10
  r2 += -4
  call bpf_map_lookup_elem#1
  if r0 != 0x0 goto pc+2
  r0 = 0
  exit
  `;
const end = 'r0 = 0\nexit';

const REFUSED: Record<string, readonly [text: string, message: string]> = {
  'an address as result': ['r0 = r10\nexit', 'R0 leaks addr as return value'],
  'an address in a map': [`${lookup}*(u64 *)(r0 +0) = r10\n${end}`, 'R10 leaks addr into map'],
  'an address in the context': [`*(u64 *)(r1 +48) = r10\n${end}`, 'R10 leaks addr into ctx'],
  'an address for a helper': [
    'r1 = map[idx:0]\nr2 = r10\nr2 += -4\n*(u32 *)(r10 -4) = 0\nr3 = r10\nr3 += -64\nr4 = r10\ncall bpf_map_update_elem#2\nr0 = 0\nexit',
    'invalid indirect read from stack R3 off -64+0 size 48',
  ],
  'a comparison of addresses': [
    `r2 = r10\nif r1 == r2 goto pc+0\n${end}`,
    'R2 pointer comparison prohibited',
  ],
  'half of an address': [`w0 = w1\n${end}`, 'R1 partial copy of pointer'],
  'an address negated': [`r1 = -r1\n${end}`, 'R1 pointer arithmetic prohibited'],
  'the distance of addresses': [`r2 = r10\nr2 -= r10\n${end}`, 'R2 pointer -= pointer prohibited'],
  'part of a spilled address': [
    `*(u64 *)(r10 -8) = r1\n*(u32 *)(r10 -8) = 0\n${end}`,
    'attempt to corrupt spilled pointer on stack',
  ],
  'stack that was never written': [
    'r0 = *(u64 *)(r10 -8)\nexit',
    'invalid read from stack R10 off=-8 size=8',
  ],
  'a loop': ['r1 = 0\nr1 += 1\nif r1 < 0x4 goto pc-2\nr0 = 0\nexit', 'back-edge from insn 2 to 1'],
  'a function': [
    'call pc+2\nr0 = 0\nexit\nr0 = 1\nexit',
    'loading/calling other bpf or kernel functions are allowed for CAP_BPF and CAP_SYS_ADMIN',
  ],
  'a helper of the privileged': [
    `call bpf_get_current_task#35\n${end}`,
    'program of this type cannot use helper bpf_get_current_task#35',
  ],
  'a stack pointer that moves': [
    `r2 = *(u32 *)(r1 +0)\nr2 &= 8\nr2 += -16\nr3 = r10\nr3 += r2\n${end}`,
    'R3 variable stack access prohibited for !root, var_off=(0xfffffffffffffff0; 0x8) off=-16',
  ],
  'a stack pointer above the stack': [
    `r2 = r10\nr2 += 8\n${end}`,
    'R2 stack pointer arithmetic goes out of range, prohibited for !root; off=8',
  ],
  'a value pointer outside of its value': [
    `${lookup}r0 += 48\nr0 += -48\n${end}`,
    'R0 pointer arithmetic of map value goes out of range, prohibited for !root',
  ],
  'a sum of either sign': [
    `r6 = *(u32 *)(r1 +0)\nr6 &= 15\nr6 += -8\n${lookup}r0 += r6\n${end}`,
    'R6 has unknown scalar with mixed signed bounds, pointer arithmetic with it prohibited for !root',
  ],
  'a sum that is a number on another path': [
    `r6 = *(u32 *)(r1 +0)
     r7 = r6
     r7 &= 7
     ${lookup}r8 = 0
     if r6 == 0x0 goto pc+1
     r8 = r0
     r8 += r7
     ${end}`,
    'R8 tried to add from different maps, paths or scalars, pointer arithmetic with it prohibited for !root',
  ],
  'the inside of a map': [
    `r1 = map[idx:0]\nr0 = *(u32 *)(r1 +0)\n${end}`,
    "'struct bpf_array' access is allowed only to CAP_PERFMON and CAP_SYS_ADMIN",
  ],
};

describe('unprivileged', () => {
  it.each(Object.entries(REFUSED))('%s', (_, [text, message]) => {
    expect(refusal(text, { unprivileged: true })).toBe(message);
  });

  it.each([
    ['an address on the stack', `*(u64 *)(r10 -8) = r1\nr1 = *(u64 *)(r10 -8)\nr0 = *(u32 *)(r1 +0)\nexit`],
    ['a masked index', `r6 = *(u32 *)(r1 +0)\nr6 &= 31\n${lookup}r0 += r6\nr0 = *(u8 *)(r0 +0)\nexit`],
    ['a check for NULL', `${lookup}r0 = *(u64 *)(r0 +0)\nexit`],
  ])('%s is fine', (_, text) => expect(refusal(text, { unprivileged: true })).toBeUndefined());

  it('is for two program types', () => {
    expect(
      refusal('r0 = 0\nexit', { unprivileged: true, type: 'cgroup_skb', attachType: 'cgroup_inet_ingress' }),
    ).toBe(undefined);
    expect(refusal('r0 = 0\nexit', { unprivileged: true, type: 'xdp' })).toMatch(/not for unprivileged/);
  });

  it('root may do most of it', () => {
    for (const name of [
      'an address as result',
      'a comparison of addresses',
      'half of an address',
      'a loop',
      'a function',
    ]) {
      expect([name, refusal(REFUSED[name]![0])]).toEqual([name, undefined]);
    }
  });
});
