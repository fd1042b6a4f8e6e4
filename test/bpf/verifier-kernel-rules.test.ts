/** Rules that follow from what a kernel does around the program: inlined calls, arenas, hooks, tracepoints, casts to its types. */
import { describe, expect, it } from 'vitest';
import {
  assemble,
  BtfBuilder,
  type Insn,
  isa,
  KERNEL_KFUNCS,
  type KfuncDecl,
  VerifierError,
  verifyProgram,
} from '../../src/bpf/index.ts';
import type { ProgramInput } from '../../src/bpf/verifier/types.ts';

const KFUNCS: readonly KfuncDecl[] = [...KERNEL_KFUNCS.values()].map((kernel, i) => ({
  id: 1000 + i,
  name: kernel.name,
  args: [],
  result: 'void',
  kernel,
}));

/** `kcall NAME` calls a kernel function. */
function program(text: string): Insn[] {
  const lines = text.trim().split('\n');
  const names = lines.flatMap((line) => /^\s*kcall (\w+)/.exec(line)?.[1] ?? []);
  const insns = assemble(lines.map((line) => line.replace(/kcall \w+/, 'call pc+0')).join('\n'));
  let n = 0;
  return insns.map((insn) => {
    if (insn.code !== 0x85 || insn.src !== 1 || insn.imm !== 0 || n === names.length) return insn;
    const id = KFUNCS.find(({ name }) => name === names[n])?.id ?? 0;
    n++;
    return { ...insn, src: isa.BPF_PSEUDO_KFUNC_CALL, imm: id };
  });
}

/** The last line of a refusal, with its error; undefined when accepted. */
function said(text: string, options: Partial<ProgramInput> = {}): string | undefined {
  try {
    verifyProgram({
      name: 'p',
      type: 'socket_filter',
      insns: program(text),
      maps: [],
      kfuncs: KFUNCS,
      ...options,
    });
  } catch (error) {
    if (error instanceof VerifierError) return `${error.errnoName} ${error.summary.split('\n').at(-1)}`;
    throw error;
  }
  return undefined;
}

describe('spills around calls that are inlined', () => {
  /** A frame of 512 bytes, the last 16 of which save registers around a call of `helper`, and a function with a frame of 16. */
  const deep = (between: string, helper = 'bpf_get_smp_processor_id#8'): string => `
    r1 = 1
    r2 = 2
    *(u64 *)(r10 -504) = r2
    *(u64 *)(r10 -512) = r1
    call ${helper}
    r1 = *(u64 *)(r10 -512)
    r2 = *(u64 *)(r10 -504)
    ${between}
    call pc+2
    r0 = 0
    exit
    *(u64 *)(r10 -16) = 0
    r0 = 0
    exit`;
  const refused = 'EACCES combined stack size of 2 calls is 528. Too large';

  it('need no stack', () => {
    expect(said(deep('r0 = 0'))).toBeUndefined();
    expect(said(deep('*(u64 *)(r10 -496) = 0'))).toBeUndefined();
  });

  it('do where something else uses that stack', () => {
    expect(said(deep('r3 = *(u64 *)(r10 -512)'))).toBe(refused);
    expect(said(deep('*(u64 *)(r10 -504) = 0'))).toBe(refused);
  });

  it('do where the call stays a call', () => {
    expect(said(deep('r0 = 0', 'bpf_ktime_get_ns#5'))).toBe(refused);
  });

  it('do where a jump goes between them', () => {
    // The first spill may be jumped to.
    const jumping = (distance: number): string =>
      `r2 = 0\n${deep('r0 = 0').replace('r1 = 1', `r1 = 1\nif r2 == 0x1 goto pc+${distance}`)}`;
    expect(said(jumping(1))).toBeUndefined();
    expect(said(jumping(2))).toBe(refused);
  });
});

describe('arenas', () => {
  const maps = [{ name: 'arena', type: 'arena', keySize: 0, valueSize: 0, maxEntries: 1 }] as const;
  const cast: Insn = { code: 0xbf, dst: 1, src: 1, off: 1, imm: 1 };
  it('let their pointers be calculated with in any way', () => {
    const insns = [
      ...assemble('r1 = map[idx:0]\nr1 = 4096'),
      cast,
      ...assemble('r1 *= 3\nr2 = 5\nr2 <<= r1\nr0 = *(u32 *)(r2 +0)\nr0 = 0\nexit'),
    ];
    expect(() => verifyProgram({ name: 'p', type: 'socket_filter', insns, maps: [...maps] })).not.toThrow();
  });
});

/** A kernel with a hook and tracepoints, one of which may have NULL, one an error number. */
function kernel(): ReturnType<BtfBuilder['build']> {
  const b = new BtfBuilder();
  const int = b.int('int', 4, { signed: true });
  const task = b.struct('task_struct', 8, [{ name: 'pid', type: int, bitOffset: 0 }]);
  b.struct('sk_buff', 8, [{ name: 'len', type: int, bitOffset: 0 }]);
  const arg = { name: 't', type: b.ptr(task) };
  const proto = b.funcProto(0, [{ name: '', type: b.ptr(0) }, arg, arg]);
  for (const name of ['sched_pi_setprio', 'sched_process_exit']) b.typedef(`btf_trace_${name}`, b.ptr(proto));
  b.func('bpf_lsm_file_open', b.funcProto(int, [arg]), 'global');
  return b.build();
}

describe('what a program is attached to', () => {
  const targetBtf = kernel();
  const tracepoint = (attachTo: string): Partial<ProgramInput> => ({
    type: 'tracing',
    attachType: 'trace_raw_tp',
    attachTo,
    targetBtf,
  });
  const second = 'r1 = *(u64 *)(r1 +8)\nr0 = *(u32 *)(r1 +0)\nr0 = 0\nexit';

  it('says which arguments of a tracepoint may be NULL', () => {
    expect(said(second, tracepoint('sched_process_exit'))).toBeUndefined();
    expect(said(second, tracepoint('sched_pi_setprio'))).toBe(
      "EACCES R1 invalid mem access 'trusted_ptr_or_null_'",
    );
    const checked = second.replace('r0 = *', 'if r1 == 0x0 goto pc+1\nr0 = *');
    expect(said(checked, tracepoint('sched_pi_setprio'))).toBeUndefined();
  });

  it('gives pointers whole', () => {
    expect(said('r0 = *(u32 *)(r1 +0)\nr0 = 0\nexit', tracepoint('sched_process_exit'))).toBe(
      'EACCES invalid bpf_context access off=0 size=4',
    );
  });

  const hook: Partial<ProgramInput> = {
    type: 'lsm',
    attachType: 'lsm_mac',
    attachTo: 'file_open',
    targetBtf,
  };
  it('says what the programs before returned, which may be returned again', () => {
    expect(said('r0 = *(u64 *)(r1 +8)\nexit', hook)).toBeUndefined();
    expect(said('r0 = *(u64 *)(r1 +8)\nr0 += 1\nexit', hook)).toMatch(
      /^EINVAL At program exit the register R0/,
    );
  });

  it('decides whether it may sleep', () => {
    const options = { ...tracepoint('sched_process_exit'), sleepable: true };
    expect(said('r0 = 0\nexit', options)).toBe(
      'EINVAL Only fentry/fexit/fmod_ret, lsm, iter, uprobe, and struct_ops programs can be sleepable',
    );
    expect(said('r0 = 0\nexit', { ...hook, sleepable: true })).toBeUndefined();
  });

  it('casts to types of the kernel', () => {
    const field = 'r0 = *(u32 *)(r0 +0)\nr0 = 0\nexit';
    const type: Partial<ProgramInput> = { type: 'sched_cls', targetBtf };
    expect(said(`kcall bpf_cast_to_kern_ctx\n${field}`, type)).toBeUndefined();
    expect(said(`kcall bpf_cast_to_kern_ctx\n${field.replace('+0', '+64')}`, type)).toBe(
      'EACCES access beyond struct sk_buff at off 64 size 4',
    );
    const id = targetBtf.byName('task_struct', 'STRUCT')!;
    expect(said(`r2 = ${id}\nkcall bpf_rdonly_cast\n${field}`, type)).toBeUndefined();
    expect(said(`r2 = 1\nkcall bpf_rdonly_cast\n${field}`, type)).toBe(
      'EINVAL kfunc bpf_rdonly_cast type ID argument must be of a struct',
    );
  });
});

describe('calls of nothing', () => {
  it('are for code that nobody reaches', () => {
    const refused = 'EINVAL invalid kernel function call not eliminated in verifier pass';
    expect(said('kcall nothing\nr0 = 0\nexit')).toBe(refused);
    expect(said('r1 = 0\nif r1 == 0x0 goto pc+1\nkcall nothing\nr0 = 0\nexit')).toBeUndefined();
  });
});

describe('atomics of unprivileged programs', () => {
  it.each([
    [
      'a pointer that is exchanged',
      'r2 = r10\nr2 = atomic64_xchg((u64 *)(r10 -8), r2)',
      'R2 leaks addr into mem',
    ],
    [
      'a pointer to compare with',
      'r0 = r10\nr2 = 0\nr0 = atomic64_cmpxchg((u64 *)(r10 -8), r0, r2)',
      'R0 leaks addr into mem',
    ],
  ])('do not give away %s', (_, text, words) => {
    expect(said(`*(u64 *)(r10 -8) = 0\n${text}\nr0 = 0\nexit`, { unprivileged: true })).toBe(
      `EACCES ${words}`,
    );
  });

  it('do not read a pointer that was spilled', () => {
    const text = '*(u64 *)(r10 -8) = r1\nr2 = 0\nr2 = atomic64_fetch_and((u64 *)(r10 -8), r2)\nr0 = 0\nexit';
    expect(said(text, { unprivileged: true })).toBe('EACCES leaking pointer from stack off -8');
  });
});
