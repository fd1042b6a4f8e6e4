/** What BTF adds: global functions, typed contexts, kernel structures, objects of the program's own types. */
import { describe, expect, it } from 'vitest';
import {
  BtfBuilder,
  type MapSpec,
  type ProgramInput,
  VerifierError,
  verifyProgram,
} from '../../src/bpf/index.ts';
import { KERNEL_KFUNC_DECLS as KFUNCS, assembleWithKfuncs as program } from './support-verifier.ts';

function refusal(text: string, options: Partial<ProgramInput> = {}): string | undefined {
  try {
    verifyProgram({
      name: 'p',
      type: 'sched_cls',
      insns: program(text),
      maps: [],
      kfuncs: KFUNCS,
      ...options,
    });
    return undefined;
  } catch (error) {
    if (error instanceof VerifierError) return error.summary.split('\n').at(-1);
    throw error;
  }
}

/** The types of a program with one global function behind the main one. */
function withFunction(
  params: (b: BtfBuilder, int: number) => readonly { name: string; type: number }[],
  start: number,
  tag?: string,
): Partial<ProgramInput> {
  const b = new BtfBuilder();
  const int = b.int('int', 4, { signed: true });
  const main = b.func('main', b.funcProto(int, []), 'global');
  const func = b.func('helper', b.funcProto(int, params(b, int)), 'global');
  if (tag !== undefined) b.declTag(tag, func, 0);
  return {
    btf: b.build(),
    funcInfo: [
      { insn: 0, typeId: main },
      { insn: start, typeId: func },
    ],
  };
}

describe('global functions', () => {
  const pointer = (b: BtfBuilder, int: number) => [{ name: 'p', type: b.ptr(int) }];
  const call = (before: string, body: string): string => `${before}call pc+1\nexit\n${body}`;
  const checked = 'if r1 == 0x0 goto pc+1\n*(u32 *)(r1 +0) = 1\nr0 = 0\nexit';

  it('are checked by their types, not by their callers', () => {
    const text = call('*(u64 *)(r10 -8) = 0\nr1 = r10\nr1 += -8\n', checked);
    expect(refusal(text, withFunction(pointer, 5))).toBeUndefined();
    const bare = call('*(u64 *)(r10 -8) = 0\nr1 = r10\nr1 += -8\n', '*(u32 *)(r1 +0) = 1\nr0 = 0\nexit');
    expect(refusal(bare, withFunction(pointer, 5))).toBe("R1 invalid mem access 'mem_or_null'");
    expect(refusal(bare, withFunction(pointer, 5, 'arg:nonnull'))).toBeUndefined();
  });

  it('their callers give what the types ask for', () => {
    const said = "Caller passes invalid args into func#1 ('helper')";
    expect(refusal(call('r1 = 5\n', checked), withFunction(pointer, 3))).toBe(said);
    expect(refusal(call('r1 = 0\n', checked), withFunction(pointer, 3))).toBeUndefined();
    expect(refusal(call('r1 = 0\n', checked), withFunction(pointer, 3, 'arg:nonnull'))).toBe(said);
    // The context is no memory.
    expect(refusal(call('', checked), withFunction(pointer, 2))).toBe(said);
    expect(
      refusal(call('', 'r0 = *(u32 *)(r1 +0)\nexit'), withFunction(pointer, 2, 'arg:ctx')),
    ).toBeUndefined();
  });

  it('give any number', () => {
    const text = 'r1 = 1\ncall pc+3\nr2 = r10\nr2 += r0\nexit\nr0 = 0\nexit';
    const scalar = (_: BtfBuilder, int: number) => [{ name: 'n', type: int }];
    expect(refusal(text, withFunction(scalar, 5))).toMatch(/unbounded min value/);
    expect(refusal(text)).toBeUndefined();
  });
});

describe('kernel structures', () => {
  const b = new BtfBuilder();
  const int = b.int('int', 4, { signed: true });
  const mm = b.struct('mm_struct', 8, [{ name: 'count', type: int, bitOffset: 0 }]);
  const task = b.struct('task_struct', 24, [
    { name: 'pid', type: int, bitOffset: 0 },
    { name: 'mm', type: b.ptr(mm), bitOffset: 64 },
    { name: 'real_parent', type: b.ptr(3), bitOffset: 128 },
  ]);
  b.typedef(
    'btf_trace_started',
    b.ptr(
      b.funcProto(0, [
        { name: '', type: b.ptr(0) },
        { name: 't', type: b.ptr(task) },
      ]),
    ),
  );
  const targetBtf = b.build();
  const options: Partial<ProgramInput> = {
    type: 'tracing',
    attachType: 'trace_raw_tp',
    attachTo: 'started',
    targetBtf,
  };
  const load = 'r6 = *(u64 *)(r1 +0)\n';
  it.each([
    ['a member', `${load}r0 = *(u32 *)(r6 +0)\nexit`, undefined],
    ['a member of what it points to', `${load}r1 = *(u64 *)(r6 +8)\nr0 = *(u32 *)(r1 +0)\nexit`, undefined],
    ['padding', `${load}r0 = *(u32 *)(r6 +4)\nexit`, "struct task_struct doesn't have field at offset 4"],
    [
      'half of a pointer',
      `${load}r0 = *(u32 *)(r6 +8)\nexit`,
      'cannot access ptr member mm with moff 8 in struct task_struct with off 8 size 4',
    ],
    [
      'behind the end',
      `${load}r0 = *(u32 *)(r6 +24)\nexit`,
      'access beyond struct task_struct at off 24 size 4',
    ],
    ['a store', `${load}*(u32 *)(r6 +0) = 1\nr0 = 0\nexit`, 'only read is supported'],
    ['a second argument', 'r0 = *(u64 *)(r1 +8)\nexit', 'invalid bpf_context access off=8 size=8'],
    [
      'a reference',
      `${load}r1 = r6\nkcall bpf_task_acquire\nif r0 == 0x0 goto pc+2\nr1 = r0\nkcall bpf_task_release\nr0 = 0\nexit`,
      undefined,
    ],
    [
      'a reference that may be NULL',
      `${load}r1 = r6\nkcall bpf_task_acquire\nr1 = r0\nkcall bpf_task_release\nr0 = 0\nexit`,
      'Possibly NULL pointer passed to trusted arg0',
    ],
    [
      'what nobody vouches for',
      `${load}r1 = *(u64 *)(r6 +8)\nkcall bpf_task_acquire\nr0 = 0\nexit`,
      'R1 must be a rcu pointer',
    ],
    [
      'what the kernel does not hand out',
      `${load}r1 = r6\nkcall bpf_task_release\nr0 = 0\nexit`,
      'release kernel function bpf_task_release expects refcounted PTR_TO_BTF_ID',
    ],
  ])('%s', (_, text, message) => expect(refusal(text, options)).toBe(message));
});

describe('objects', () => {
  const b = new BtfBuilder();
  const long = b.int('long', 8, { signed: true });
  const plain = b.struct('plain', 16, [
    { name: 'a', type: long, bitOffset: 0 },
    { name: 'b', type: long, bitOffset: 64 },
  ]);
  const rbNode = b.struct('bpf_rb_node', 32, []);
  const node = b.struct('node', 40, [
    { name: 'key', type: long, bitOffset: 0 },
    { name: 'rb', type: rbNode, bitOffset: 64 },
  ]);
  const btf = b.build();
  const maps: readonly MapSpec[] = [
    {
      name: 'tree',
      type: 'array',
      keySize: 4,
      valueSize: 32,
      maxEntries: 1,
      record: {
        fields: [
          { kind: 'spin_lock', offset: 0, size: 4 },
          { kind: 'rb_root', offset: 8, size: 16, typeId: node, typeName: 'node', nodeOffset: 8 },
        ],
      },
    },
  ];
  const options = { btf, maps };
  const make = (id: number): string => `r1 = ${id}\nr2 = 0\nkcall bpf_obj_new_impl\n`;
  const drop = 'r1 = r6\nr2 = 0\nkcall bpf_obj_drop_impl\n';
  const some = 'if r0 != 0x0 goto pc+2\nr0 = 0\nexit\nr6 = r0\n';
  const end = 'r0 = 0\nexit';
  const lock = 'r1 = map[idx:0][0]+0\ncall bpf_spin_lock#93\n';
  const first = 'r1 = map[idx:0][0]+8\nkcall bpf_rbtree_first\n';
  const unlock = 'r1 = map[idx:0][0]+0\ncall bpf_spin_unlock#94\n';
  it.each([
    ['are read and written', `${make(plain)}${some}*(u64 *)(r6 +8) = 1\n${drop}${end}`, undefined],
    ['may not be there', `${make(plain)}r0 = *(u64 *)(r0 +0)\nexit`, "R0 invalid mem access 'ptr_or_null_'"],
    [
      'have an end',
      `${make(plain)}${some}*(u64 *)(r6 +16) = 1\n${drop}${end}`,
      'access beyond struct plain at off 16 size 8',
    ],
    [
      'are dropped once',
      `${make(plain)}${some}${drop}${drop}${end}`,
      'arg#0 expected pointer to allocated object',
    ],
    [
      'have a type',
      `${make(long)}${end}`,
      'bpf_obj_new/bpf_percpu_obj_new type ID argument must be of a struct',
    ],
    [
      'keep their links to themselves',
      `${make(node)}${some}*(u64 *)(r6 +8) = 1\n${drop}${end}`,
      'direct access to bpf_rb_node is disallowed',
    ],
    ['of a tree need its lock', `${first}${end}`, 'bpf_spin_lock at off=0 must be held for bpf_rb_root'],
    [
      'of a tree are borrowed',
      `${lock}${first}r6 = r0\n${unlock}if r6 == 0x0 goto pc+1\nr0 = *(u64 *)(r6 +0)\n${end}`,
      "R6 invalid mem access 'scalar'",
    ],
  ])('%s', (_, text, message) => expect(refusal(text, options)).toBe(message));

  it('that are not dropped', () => {
    expect(refusal(`${make(plain)}${some}${end}`, options)).toMatch(/^Unreleased reference/);
  });
});
