/** Kernel functions: iterators, sections, dynptrs of packets, exceptions; and locks and timers in map values. */
import { describe, expect, it } from 'vitest';
import {
  type Insn,
  isa,
  type MapSpec,
  type ProgType,
  VerifierError,
  verifyProgram,
} from '../../src/bpf/index.ts';
import { KERNEL_KFUNC_DECLS as KFUNCS, assembleWithKfuncs as program } from './support-verifier.ts';

const MAPS: readonly MapSpec[] = [
  {
    name: 'locked',
    type: 'array',
    keySize: 4,
    valueSize: 16,
    maxEntries: 4,
    record: { fields: [{ kind: 'spin_lock', offset: 4, size: 4 }] },
  },
  {
    name: 'timers',
    type: 'array',
    keySize: 4,
    valueSize: 32,
    maxEntries: 4,
    record: { fields: [{ kind: 'timer', offset: 0, size: 16 }] },
  },
];

function refusal(text: string, type: ProgType = 'sched_cls'): string | undefined {
  try {
    verifyProgram({
      name: 'p',
      type,
      insns: program(text),
      maps: MAPS,
      kfuncs: KFUNCS,
      allowUninitStack: true,
    });
    return undefined;
  } catch (error) {
    if (error instanceof VerifierError) return error.summary.split('\n').at(-1);
    throw error;
  }
}

const it8 = 'r1 = r10\nr1 += -8\n';
const create = `${it8}r2 = 0\nr3 = 100\nkcall bpf_iter_num_new\n`;
const destroy = `${it8}kcall bpf_iter_num_destroy\n`;
const end = 'r0 = 0\nexit';

describe('iterators', () => {
  it('loop until they are done, whatever the body adds up', () => {
    const body = `${create}r6 = 0\n${it8}kcall bpf_iter_num_next\nif r0 == 0x0 goto pc+3\nr1 = *(u32 *)(r0 +0)\nr6 += r1\ngoto pc-7\n${destroy}${end}`;
    expect(refusal(body)).toBeUndefined();
  });

  it.each([
    ['never made', `${destroy}${end}`, 'expected an initialized iter_num as arg #0'],
    ['made twice', `${create}${create}${end}`, 'expected uninitialized iter_num as arg #0'],
    ['destroyed twice', `${create}${destroy}${destroy}${end}`, 'expected an initialized iter_num as arg #0'],
    [
      'written over',
      `${create}*(u64 *)(r10 -8) = 0\n${destroy}${end}`,
      'expected an initialized iter_num as arg #0',
    ],
    ['not destroyed', `${create}${end}`, 'Unreleased reference id=1 alloc_insn=4'],
    [
      'read as memory',
      `${create}r0 = *(u64 *)(r10 -8)\n${destroy}${end}`,
      'invalid read from stack off -8+0 size 8',
    ],
    [
      'without a check of the element',
      `${create}${it8}kcall bpf_iter_num_next\nr0 = *(u32 *)(r0 +0)\n${destroy}${end}`,
      "R0 invalid mem access 'scalar'",
    ],
    [
      'elements are read only',
      `${create}${it8}kcall bpf_iter_num_next\nif r0 == 0x0 goto pc+1\n*(u32 *)(r0 +0) = 1\n${destroy}${end}`,
      'R0 cannot write into rdonly_mem',
    ],
  ])('%s', (_, text, message) => expect(refusal(text)).toBe(message));
});

/** The next two instructions are skipped for empty packets. */
const maybe = 'r0 = *(u32 *)(r1 +0)\nif r0 == 0x0 goto pc+2\n';

describe('sections', () => {
  it.each([
    ['a preempt section is left', `kcall bpf_preempt_disable\nkcall bpf_preempt_enable\n${end}`, undefined],
    ['a preempt section that stays', `kcall bpf_preempt_disable\n${end}`, '1 bpf_preempt_enable is missing'],
    [
      'nothing to enable',
      `kcall bpf_preempt_enable\n${end}`,
      'unmatched attempt to enable preemption (kernel function bpf_preempt_enable)',
    ],
    ['an RCU section that stays', `kcall bpf_rcu_read_lock\n${end}`, 'bpf_rcu_read_unlock is missing'],
    [
      'nested RCU sections',
      `kcall bpf_rcu_read_lock\nkcall bpf_rcu_read_lock\n${end}`,
      'nested rcu read lock (kernel function bpf_rcu_read_lock)',
    ],
    ['a throw', `${maybe}r1 = 0\nkcall bpf_throw\n${end}`, undefined],
    [
      'a throw out of an RCU section',
      `${maybe.replace('+2', '+3')}kcall bpf_rcu_read_lock\nr1 = 0\nkcall bpf_throw\n${end}`,
      'bpf_throw cannot be used inside bpf_rcu_read_lock-ed region',
    ],
    [
      'a throw with something in hand',
      `r6 = r1\n${create}r1 = r6\n${maybe}r1 = 0\nkcall bpf_throw\n${destroy}${end}`,
      'Unreleased reference id=1 alloc_insn=5',
    ],
  ])('%s', (_, text, message) => expect(refusal(text)).toBe(message));

  it('functions belong to program types', () => {
    expect(refusal(`r1 = 1\nkcall bpf_task_from_pid\n${end}`, 'socket_filter')).toBe(
      'calling kernel function bpf_task_from_pid is not allowed',
    );
    expect(refusal(`r1 = 1\nr2 = 0\nkcall bpf_lookup_user_key\n${end}`, 'tracing')).toBe(
      'program must be sleepable to call sleepable kfunc bpf_lookup_user_key',
    );
  });
});

describe('packets as dynptrs', () => {
  const make = 'r2 = 0\nr3 = r10\nr3 += -16\nkcall bpf_dynptr_from_skb\n';
  const slice = (name: string): string =>
    `${make}r1 = r10\nr1 += -16\nr2 = 0\nr3 = r10\nr3 += -32\nr4 = 16\nkcall ${name}\nif r0 == 0x0 goto pc+1\n`;
  it.each([
    ['a slice', `${slice('bpf_dynptr_slice')}r0 = *(u64 *)(r0 +8)\n${end}`, undefined],
    [
      'behind a slice',
      `${slice('bpf_dynptr_slice')}r0 = *(u64 *)(r0 +16)\n${end}`,
      'R0 min value is outside of the allowed memory range',
    ],
    [
      'a store into a slice',
      `${slice('bpf_dynptr_slice')}*(u8 *)(r0 +0) = 1\n${end}`,
      'R0 cannot write into rdonly_mem',
    ],
    ['a store into one to write', `${slice('bpf_dynptr_slice_rdwr')}*(u8 *)(r0 +0) = 1\n${end}`, undefined],
  ])('%s', (_, text, message) => expect(refusal(text)).toBe(message));

  it('slices to write are for programs that may', () => {
    expect(refusal(`${slice('bpf_dynptr_slice_rdwr')}${end}`, 'cgroup_skb')).toBe(
      'the prog does not allow writes to packet data',
    );
  });
});

describe('special fields', () => {
  const lookup = (map: number): string =>
    `*(u32 *)(r10 -4) = 0\nr1 = map[idx:${map}]\nr2 = r10\nr2 += -4\ncall bpf_map_lookup_elem#1\nif r0 != 0x0 goto pc+2\n${end}\nr6 = r0\n`;
  const lock = 'r1 = r6\nr1 += 4\ncall bpf_spin_lock#93\n';
  const unlock = 'r1 = r6\nr1 += 4\ncall bpf_spin_unlock#94\n';
  const held = lookup(0) + lock;
  it.each([
    ['a lock', `${held}*(u32 *)(r6 +0) = 1\n${unlock}${end}`, undefined],
    ['a lock that stays', `${held}${end}`, 'bpf_spin_unlock is missing'],
    ['two locks', `${held}${lock}${end}`, 'function calls are not allowed while holding a lock'],
    [
      'a call while locked',
      `${held}call bpf_ktime_get_ns#5\n${unlock}${end}`,
      'function calls are not allowed while holding a lock',
    ],
    ['nothing to unlock', `${lookup(0)}${unlock}${end}`, 'bpf_spin_unlock without taking a lock'],
    [
      'another element',
      `${lookup(0)}r8 = r6\n${lookup(0)}${lock}r1 = r8\nr1 += 4\ncall bpf_spin_unlock#94\n${end}`,
      'bpf_spin_unlock of different lock',
    ],
    [
      'beside it',
      `${lookup(0)}r1 = r6\ncall bpf_spin_lock#93\n${end}`,
      "off 0 doesn't point to 'struct bpf_spin_lock' that is at 4",
    ],
    [
      'a store into it',
      `${lookup(0)}*(u32 *)(r6 +4) = 1\n${end}`,
      'bpf_spin_lock cannot be accessed directly by load/store',
    ],
    [
      'a timer beside it',
      `${lookup(1)}r1 = r6\nr1 += 16\nr2 = map[idx:1]\nr3 = 1\ncall bpf_timer_init#169\n${end}`,
      "off 16 doesn't point to 'struct bpf_timer' that is at 0",
    ],
    ['a timer', `${lookup(1)}r1 = r6\nr2 = map[idx:1]\nr3 = 1\ncall bpf_timer_init#169\n${end}`, undefined],
  ])('%s', (_, text, message) => expect(refusal(text)).toBe(message));

  it('a timer’s function gives 0', () => {
    const text = (value: number): string =>
      `${lookup(1)}r1 = r6\nr2 = func pc+4\ncall bpf_timer_set_callback#170\n${end}\nr0 = ${value}\nexit`;
    const insns = (value: number): Insn[] => program(text(value).replace('r2 = func pc+4', 'r2 = 0 ll'));
    const set = (value: number): Insn[] => {
      const list = insns(value);
      const at = list.findIndex((insn, i) => isa.isLdImm64(insn) && insn.dst === 2 && i > 4);
      list[at] = { ...list[at]!, src: isa.BPF_PSEUDO_FUNC, imm: list.length - 2 - at - 1 };
      return list;
    };
    const verify = (value: number) =>
      verifyProgram({ name: 'p', type: 'sched_cls', insns: set(value), maps: MAPS, allowUninitStack: true });
    expect(verify(0).helpersUsed).toContain('timer_set_callback');
    expect(() => verify(1)).toThrow(
      'At async callback return the register R0 has smin=1 smax=1 should have been in [0, 0]',
    );
  });

  it('locks are not for tracing programs', () => {
    expect(refusal(`${lookup(0)}${end}`, 'kprobe')).toBe('tracing progs cannot use bpf_spin_lock yet');
  });
});
