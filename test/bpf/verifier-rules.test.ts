/** Rules of the verifier, from both sides: programs that it accepts, and what it says about those that it refuses. */
import { describe, expect, it } from 'vitest';
import { lookup, refusal, reserve, verify } from './support-verifier.ts';

const ACCEPTED: Record<string, string> = {
  'a constant': 'r0 = 0\nexit',
  'context reads of 1, 2, 4 and 8 bytes': `
    r0 = *(u8 *)(r1 +113)
    r2 = *(u16 *)(r1 +114)
    r3 = *(u32 *)(r1 +116)
    r4 = *(u64 *)(r1 +112)
    exit`,
  'a value behind a check for NULL': `${lookup(0)}\nr1 = *(u64 *)(r0 +0)\nr1 += 1\n*(u64 *)(r0 +0) = r1\nr0 = 0\nexit`,
  'an atomic add': `${lookup(0)}\nr1 = 1\nlock *(u64 *)(r0 +0) += r1\nr0 = 0\nexit`,
  'an index that was compared': `
    r6 = *(u64 *)(r1 +112)
    ${lookup(1)}
    if r6 > 0x5 goto pc+3
    r6 <<= 3
    r0 += r6
    r1 = *(u64 *)(r0 +0)
    r0 = 0
    exit`,
  'an index that was masked': `
    r6 = *(u64 *)(r1 +112)
    ${lookup(1)}
    r6 &= 31
    r0 += r6
    r1 = *(u8 *)(r0 +16)
    r0 = 0
    exit`,
  'a signed index compared from both sides': `
    r6 = *(u64 *)(r1 +112)
    ${lookup(1)}
    if r6 s< 0x0 goto pc+4
    if r6 s> 0x28 goto pc+3
    r0 += r6
    r1 = *(u8 *)(r0 +0)
    goto pc+0
    r0 = 0
    exit`,
  'a spilled pointer that comes back': `
    *(u64 *)(r10 -16) = r1
    r2 = *(u64 *)(r10 -16)
    r0 = *(u64 *)(r2 +112)
    exit`,
  'a record reserved and submitted': `
    ${reserve(16)}
    if r0 == 0x0 goto pc+5
    *(u64 *)(r0 +0) = 1
    *(u64 *)(r0 +8) = 2
    r1 = r0
    r2 = 0
    call bpf_ringbuf_submit#132
    r0 = 0
    exit`,
  'a bounded loop': `
    r0 = 0
    r1 = 0
    r0 += r1
    r1 += 1
    if r1 < 0x64 goto pc-3
    exit`,
  'a loop to a variable bound': `
    r2 = *(u64 *)(r1 +112)
    if r2 > 0x20 goto pc+3
    r0 = 0
    r0 += 1
    if r0 < r2 goto pc-2
    r0 = 0
    exit`,
  'calls between functions, with the stack of the caller': `
    *(u64 *)(r10 -8) = 5
    r1 = r10
    r1 += -8
    call pc+1
    exit
    r2 = *(u64 *)(r1 +0)
    *(u64 *)(r1 +0) = 7
    r0 = r2
    exit`,
  'a kfunc that fills the stack': `
    r3 = *(u64 *)(r1 +112)
    r1 = r10
    r1 += -64
    r2 = 64
    r4 = 1
    call kernel-function#2
    r0 = *(u64 *)(r10 -64)
    exit`,
  'a helper that fills memory of variable size': `
    r6 = *(u64 *)(r1 +112)
    r3 = *(u64 *)(r1 +104)
    r6 &= 15
    *(u64 *)(r10 -16) = 0
    *(u64 *)(r10 -8) = 0
    r1 = r10
    r1 += -16
    r2 = r6
    call bpf_probe_read_kernel#113
    r0 = 0
    exit`,
  'the value of a map of one entry': `
    r1 = map[idx:4][0]+8
    r0 = *(u64 *)(r1 +0)
    exit`,
  'a per-CPU lookup': `
    *(u32 *)(r10 -4) = 0
    r1 = map[idx:3]
    r2 = r10
    r2 += -4
    r3 = 1
    call bpf_map_lookup_percpu_elem#195
    if r0 == 0x0 goto pc+1
    r0 = *(u64 *)(r0 +0)
    exit`,
  'a zero known through the stack': `
    *(u64 *)(r10 -8) = 0
    r1 = *(u64 *)(r10 -8)
    r2 = r10
    r2 += r1
    *(u64 *)(r2 -8) = 1
    r0 = 0
    exit`,
};

describe('32-bit operations that are not followed', () => {
  // As Linux 6.12: __mark_reg_unknown without zero extension (adjust_scalar_min_max_vals).
  const indexed = (operation: string): string => `${lookup(1)}
    r7 = *(u32 *)(r0 +0)
    r1 = 3
    ${operation}
    if w7 < 0x19 goto pc+2
    r0 = 0
    exit
    r0 += r7
    r0 = *(u8 *)(r0 +0)
    exit`;

  it.each(['w7 /= 200', 'w7 %= 25', 'w7 <<= w7'])('%s: nothing is known of the upper half', (operation) => {
    expect(refusal(indexed(operation)).message).toContain('unbounded min value');
  });

  it.each(['w7 /= 200\n w7 = w7', 'w7 >>= 3', 'w7 <<= w1', 'w7 *= w1'])('%s: is followed', (operation) => {
    expect(verify(indexed(operation)).verifiedInsns).toBeGreaterThan(0);
  });
});

describe('accepts', () => {
  it.each(Object.entries(ACCEPTED))('%s', (_, text) => {
    expect(verify(text).reachable.every((one) => one)).toBe(true);
  });
});

const REFUSED: Record<string, [text: string, summary: string, insn?: number]> = {
  'a register that was never written': ['r0 = r2\nexit', 'R2 !read_ok', 0],
  'no result': ['exit', 'R0 !read_ok', 0],
  'a register that a call clobbered': ['call bpf_ktime_get_ns#5\nr0 = r1\nexit', 'R1 !read_ok', 1],
  'a write to the frame pointer': ['r10 = 0\nexit', 'frame pointer is read only'],
  'a scalar used as an address': ['r1 = 5\nr0 = *(u64 *)(r1 +0)\nexit', "R1 invalid mem access 'scalar'"],
  'a context read across registers': [
    'r0 = *(u64 *)(r1 +116)\nexit',
    'invalid bpf_context access off=116 size=8',
  ],
  'a context read beyond its end': [
    'r0 = *(u64 *)(r1 +168)\nexit',
    'invalid bpf_context access off=168 size=8',
  ],
  'a context write': ['*(u64 *)(r1 +0) = 1\nr0 = 0\nexit', 'invalid bpf_context access off=0 size=8'],
  'a context pointer that was moved': [
    'r1 += 8\nr0 = *(u64 *)(r1 +0)\nexit',
    'dereference of modified ctx ptr R1 off=8 disallowed',
  ],
  'a context pointer moved by something unknown': [
    'r2 = *(u64 *)(r1 +112)\nr1 += r2\nr0 = 0\nexit',
    'math between ctx pointer and register with unbounded min value is not allowed',
    1,
  ],
  'a value without a check for NULL': [
    `r1 = map[idx:0]
     *(u64 *)(r10 -8) = 0
     r2 = r10
     r2 += -8
     call bpf_map_lookup_elem#1
     r0 = *(u64 *)(r0 +0)
     exit`,
    "R0 invalid mem access 'map_value_or_null'",
    6,
  ],
  'arithmetic before the check for NULL': [
    `r1 = map[idx:0]
     *(u64 *)(r10 -8) = 0
     r2 = r10
     r2 += -8
     call bpf_map_lookup_elem#1
     r0 += 8
     exit`,
    'R0 pointer arithmetic on map_value_or_null prohibited, null-check it first',
  ],
  'reading behind a value': [
    `${lookup(0)}\nr1 = *(u64 *)(r0 +8)\nexit`,
    'invalid access to map value, value_size=8 off=8 size=8',
  ],
  'reading before a value': [
    `${lookup(0)}\nr1 = *(u64 *)(r0 -8)\nexit`,
    'invalid access to map value, value_size=8 off=-8 size=8',
  ],
  'an index that was not checked': [
    `r6 = *(u64 *)(r1 +112)\n${lookup(1)}\nr0 += r6\nr1 = *(u8 *)(r0 +0)\nexit`,
    'math between map_value pointer and register with unbounded min value is not allowed',
  ],
  'an index checked from above only, as signed': [
    `r6 = *(u64 *)(r1 +112)\n${lookup(1)}\nif r6 s> 0x5 goto pc+2\nr0 += r6\nr1 = *(u8 *)(r0 +0)\nexit`,
    'math between map_value pointer and register with unbounded min value is not allowed',
  ],
  'an index one too large': [
    `r6 = *(u64 *)(r1 +112)\n${lookup(1)}\nif r6 > 0x30 goto pc+2\nr0 += r6\nr1 = *(u8 *)(r0 +0)\nr0 = 0\nexit`,
    'invalid access to map value, value_size=48 off=48 size=1',
  ],
  'a store below the stack': [
    '*(u64 *)(r10 -520) = 1\nr0 = 0\nexit',
    'invalid write to stack R10 off=-520 size=8',
  ],
  'a load above the stack': ['r0 = *(u64 *)(r10 +0)\nexit', 'invalid read from stack R10 off=0 size=8'],
  'stack that was never written': [
    'r0 = *(u64 *)(r10 -8)\nexit',
    'invalid read from stack R10 off=-8 size=8',
  ],
  'half of a spilled pointer': [
    '*(u64 *)(r10 -8) = r1\nr0 = *(u32 *)(r10 -8)\nexit',
    'invalid size of register fill',
  ],
  'a pointer spilled to half a slot': [
    '*(u32 *)(r10 -8) = r1\nr0 = 0\nexit',
    'invalid size of register spill',
  ],
  'a misaligned stack access': [
    'r2 = 1\n*(u64 *)(r10 -12) = r2\nr0 = 0\nexit',
    'misaligned stack access off 0+0+-12 size 8',
  ],
  'a misaligned atomic': [
    `${lookup(1)}\nr1 = 1\nlock *(u64 *)(r0 +4) += r1\nexit`,
    'misaligned value access off 0+0+4 size 8',
  ],
  'a key that is not initialised': [
    'r1 = map[idx:0]\nr2 = r10\nr2 += -8\ncall bpf_map_lookup_elem#1\nr0 = 0\nexit',
    'invalid indirect read from stack R2 off -8+0 size 8',
  ],
  'a key partly initialised': [
    '*(u32 *)(r10 -8) = 0\nr1 = map[idx:0]\nr2 = r10\nr2 += -8\ncall bpf_map_lookup_elem#1\nr0 = 0\nexit',
    'invalid indirect read from stack R2 off -8+4 size 8',
  ],
  'a number for a map': [
    'r1 = 1\nr2 = r10\ncall bpf_map_lookup_elem#1\nr0 = 0\nexit',
    'R1 type=scalar expected=map_ptr',
  ],
  'the wrong type of map': [
    '*(u64 *)(r10 -8) = 0\nr1 = map[idx:0]\nr2 = 8\nr3 = 0\ncall bpf_ringbuf_reserve#131\nr0 = 0\nexit',
    'cannot pass map_type 1 into func bpf_ringbuf_reserve#131',
  ],
  'arithmetic on a map': [
    'r1 = map[idx:0]\nr1 += 8\nr0 = 0\nexit',
    'R1 pointer arithmetic on map_ptr prohibited',
  ],
  'a record that is not released': [`${reserve(8)}\nr0 = 0\nexit`, 'Unreleased reference id=2 alloc_insn=4'],
  'a record used after its submission': [
    `${reserve(8)}
     if r0 == 0x0 goto pc+5
     r6 = r0
     r1 = r0
     r2 = 0
     call bpf_ringbuf_submit#132
     *(u64 *)(r6 +0) = 1
     r0 = 0
     exit`,
    "R6 invalid mem access 'scalar'",
  ],
  'a record written beyond its end': [
    `${reserve(8)}
     if r0 == 0x0 goto pc+4
     *(u64 *)(r0 +8) = 1
     r1 = r0
     r2 = 0
     call bpf_ringbuf_submit#132
     r0 = 0
     exit`,
    'invalid access to memory, mem_size=8 off=8 size=8',
  ],
  'a record submitted from its middle': [
    `${reserve(16)}
     if r0 == 0x0 goto pc+4
     r1 = r0
     r1 += 8
     r2 = 0
     call bpf_ringbuf_submit#132
     r0 = 0
     exit`,
    'R1 must have zero offset when passed to release func or trusted arg to kfunc',
  ],
  'a record of unknown size': [
    'r2 = *(u64 *)(r1 +112)\nr1 = map[idx:2]\nr3 = 0\ncall bpf_ringbuf_reserve#131\nr0 = 0\nexit',
    "R2 is not a known constant'",
  ],
  'a negative size': [
    `r2 = *(u64 *)(r1 +112)
     *(u64 *)(r10 -8) = 0
     r1 = r10
     r1 += -8
     if r2 s> 0x8 goto pc+2
     r3 = 0
     call bpf_probe_read_kernel#113
     r0 = 0
     exit`,
    "R2 min value is negative, either use unsigned or 'var &= const'",
  ],
  'a size beyond the stack': [
    'r1 = r10\nr1 += -8\nr2 = 9\nr3 = 0\ncall bpf_probe_read_kernel#113\nr0 = 0\nexit',
    'invalid indirect access to stack R1 off=-8 size=9',
  ],
  'a size of zero': [
    '*(u64 *)(r10 -8) = 0\nr1 = r10\nr1 += -8\nr2 = 0\ncall bpf_get_current_comm#16\nr0 = 0\nexit',
    'R2 invalid zero-sized read: u64=[0,0]',
  ],
  'division by a zero': ['r0 = 1\nr0 /= 0\nexit', 'div by zero', 1],
  'a shift by 64': ['r0 = 1\nr0 <<= 64\nexit', 'invalid shift 64', 1],
  'a 32-bit shift by 32': ['r0 = 1\nw0 <<= 32\nexit', 'invalid shift 32', 1],
  'the sum of two pointers': ['r1 += r10\nr0 = 0\nexit', 'R1 pointer += pointer prohibited'],
  'a product with a pointer': ['r1 *= 2\nr0 = 0\nexit', 'R1 pointer arithmetic with *= operator prohibited'],
  'bits of a pointer': ['r1 &= 8\nr0 = 0\nexit', 'R1 bitwise operator &= on pointer prohibited'],
  '32-bit arithmetic on a pointer': ['w1 += 1\nr0 = 0\nexit', 'R1 32-bit pointer arithmetic prohibited'],
  'a number minus a pointer': ['r2 = 1\nr2 -= r1\nr0 = 0\nexit', 'R2 tried to subtract pointer from scalar'],
  'an offset too large': [
    'r1 += 536870912\nr0 = 0\nexit',
    'math between ctx pointer and 536870912 is not allowed',
  ],
  'an infinite loop': ['r0 = 0\ngoto pc-1\nexit', 'unreachable insn 2'],
  'an infinite loop with a condition': [
    'r0 = *(u64 *)(r1 +0)\nif r0 == 0x0 goto pc-1\nexit',
    'infinite loop detected at insn 1',
  ],
  recursion: ['r1 = 1\ncall pc+1\nexit\ncall pc-1\nexit', 'the call stack of 9 frames is too deep'],
  'a stack pointer given to the caller': [
    'call pc+1\nexit\nr0 = r10\nexit',
    'cannot return stack pointer to the caller',
  ],
  'too much stack in all frames together': [
    '*(u64 *)(r10 -304) = 0\ncall pc+1\nexit\n*(u64 *)(r10 -304) = 0\nr0 = 0\nexit',
    'combined stack size of 2 calls is 608. Too large',
  ],
  'code that is never reached': ['r0 = 0\nexit\nr0 = 1\nexit', 'unreachable insn 2'],
  'a jump out of the program': ['r0 = 0\nif r0 == 0x0 goto pc+5\nexit', 'jump out of range from insn 1 to 7'],
  'no exit at the end': ['r0 = 0', 'last insn is not an exit or jmp'],
  'tail calls': ['r2 = 0\nr3 = 0\ncall bpf_tail_call#12\nexit', 'R2 type=scalar expected=map_ptr'],
  'an unknown kfunc': ['call kernel-function#99\nexit', 'kernel function btf_id 99 is not a kernel function'],
  'a path number that is not constant': [
    'r2 = *(u64 *)(r1 +112)\nr1 = 1\ncall kernel-function#1\nexit',
    'R2 must be a known constant',
  ],
  'a pointer for a JavaScript value': ['r2 = 1\ncall kernel-function#1\nexit', 'R1 is not a scalar'],
  'the result of a kfunc that has none': ['r1 = 1\ncall kernel-function#3\nexit', 'R0 !read_ok'],
  'kfunc memory beyond the stack': [
    'r1 = r10\nr1 += -8\nr2 = 16\nr3 = 0\nr4 = 0\ncall kernel-function#2\nr0 = 0\nexit',
    'invalid indirect access to stack R1 off=-8 size=16',
  ],
  'a map that does not exist': ['r1 = map[idx:9]\nr0 = 0\nexit', 'fd 9 is not pointing to valid bpf_map'],
  'one instruction for context and stack': [
    `*(u64 *)(r10 -8) = 0
     r2 = *(u64 *)(r1 +112)
     r3 = r1
     if r2 == 0x0 goto pc+2
     r3 = r10
     r3 += -8
     r0 = *(u64 *)(r3 +0)
     exit`,
    'same insn cannot be used with different pointers',
  ],
};

describe('refuses', () => {
  it.each(Object.entries(REFUSED))('%s', (_, [text, summary, insn]) => {
    const error = refusal(text);
    expect(error.summary.split('\n')[0]).toBe(summary);
    if (insn !== undefined) expect(error.insn).toBe(insn);
    expect(error.code).toBe('VERIFIER');
    // The log leads there: its last lines are the reason and the count.
    const lines = error.log!.split('\n');
    expect(lines.at(-1)).toMatch(/^processed \d+ insns \(limit 1000000\)/);
    expect(error.log).toContain(summary);
  });
});

it('refuses an unknown helper', () => {
  const insns = [
    { code: 0x85, dst: 0, src: 0, off: 0, imm: 9999 },
    { code: 0x95, dst: 0, src: 0, off: 0, imm: 0 },
  ];
  expect(refusal('', { insns }).summary).toBe('invalid func unknown#9999');
});

it('refuses calls through a register, and opcodes that do not exist', () => {
  for (const code of [0x8d, 0xff, 0x8e]) {
    const insns = [
      { code, dst: 0, src: 0, off: 0, imm: 0 },
      { code: 0x95, dst: 0, src: 0, off: 0, imm: 0 },
    ];
    expect(refusal('', { insns }).summary).toBe(`unknown opcode ${code.toString(16).padStart(2, '0')}`);
  }
});
