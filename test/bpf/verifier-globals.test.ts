/** Global functions by their tags, exception callbacks, and what attach targets rule out. */
import { describe, expect, it } from 'vitest';
import {
  BtfBuilder,
  type MapSpec,
  type ProgramInput,
  VerifierError,
  verifyProgram,
} from '../../src/bpf/index.ts';
import { KERNEL_KFUNC_DECLS as KFUNCS, assembleWithKfuncs as program } from './support-verifier.ts';

/** What the verifier says last, and with which error number; undefined where it accepts. */
function refusal(text: string, options: Partial<ProgramInput> = {}): string | undefined {
  try {
    verifyProgram({
      name: 'p',
      type: 'sched_cls',
      insns: program(text),
      maps: [],
      kfuncs: KFUNCS,
      allowUninitStack: true,
      ...options,
    });
    return undefined;
  } catch (error) {
    if (error instanceof VerifierError) return `${error.errnoName} ${error.summary.split('\n').at(-1)}`;
    throw error;
  }
}

interface Function {
  readonly at: number;
  readonly result?: 'int' | 'void';
  readonly params?: (b: BtfBuilder, int: number) => readonly number[];
  readonly tags?: readonly string[];
}

/** The types of a program `main` whose other functions are global: `f1`, `f2` … */
function types(functions: readonly Function[], mainTags: readonly string[] = []): Partial<ProgramInput> {
  const b = new BtfBuilder();
  const int = b.int('int', 4, { signed: true });
  const main = b.func('main', b.funcProto(int, []), 'global');
  for (const tag of mainTags) b.declTag(tag, main, -1);
  const funcInfo = [{ insn: 0, typeId: main }];
  for (const [n, { at, result = 'int', params = () => [], tags = [] }] of functions.entries()) {
    const list = params(b, int).map((type, i) => ({ name: `a${i}`, type }));
    const typeId = b.func(`f${n + 1}`, b.funcProto(result === 'int' ? int : 0, list), 'global');
    for (const tag of tags) b.declTag(tag, typeId, 0);
    funcInfo.push({ insn: at, typeId });
  }
  return { btf: b.build(), funcInfo };
}

/** The kernel's: one structure, and a raw tracepoint with it. */
function kernel(): ReturnType<BtfBuilder['build']> {
  const b = new BtfBuilder();
  const int = b.int('int', 4, { signed: true });
  const task = b.struct('task_struct', 8, [{ name: 'pid', type: int, bitOffset: 0 }]);
  const proto = b.funcProto(0, [
    { name: '', type: b.ptr(0) },
    { name: 't', type: b.ptr(task) },
  ]);
  b.typedef('btf_trace_started', b.ptr(proto));
  for (const hook of ['task_free', 'file_open', 'getprocattr'])
    b.func(`bpf_lsm_${hook}`, b.funcProto(int, [{ name: 't', type: b.ptr(task) }]), 'global');
  b.func('vfs_getattr', b.funcProto(int, [{ name: 't', type: b.ptr(task) }]), 'global');
  return b.build();
}

const CALL = 'call pc+1\nexit\nr0 = 0\nexit';
const INVALID = "Caller passes invalid args into func#1 ('f1')";

describe('global functions', () => {
  it('give a number, or nobody may call them', () => {
    const options = types([{ at: 2, result: 'void' }]);
    expect(refusal(CALL, options)).toBe(`EINVAL ${INVALID}`);
  });

  const pointer = (b: BtfBuilder, int: number) => [b.ptr(int)];
  it.each([
    ['an unknown tag', ['arg:other'], pointer, 'EOPNOTSUPP'],
    ['NULL that is not trusted', ['arg:nullable'], pointer, 'EINVAL'],
    ['a tag of a number', ['arg:nonnull'], (_: BtfBuilder, int: number) => [int], 'EINVAL'],
    ['an arena and more', ['arg:arena', 'arg:nonnull'], pointer, 'EINVAL'],
  ] as const)('refuse %s', (_, tags, params, code) => {
    expect(refusal(CALL, types([{ at: 2, params, tags }]))).toBe(`${code} ${INVALID}`);
  });

  const traced: Partial<ProgramInput> = {
    type: 'tracing',
    attachType: 'trace_raw_tp',
    attachTo: 'started',
    targetBtf: kernel(),
  };
  const task = (name: string) => (b: BtfBuilder) => [b.ptr(b.fwd(name, 'struct'))];
  const giveTask = `r1 = *(u64 *)(r1 +0)\n${CALL}`;
  const giveNull = `r1 = 0\n${CALL}`;
  it.each([
    ['a task', giveTask, 'task_struct', ['arg:trusted'], undefined],
    ['a task by another flavour of its name', giveTask, 'task_struct___mine', ['arg:trusted'], undefined],
    ['NULL', giveNull, 'task_struct', ['arg:trusted'], `EACCES ${INVALID}`],
    ['NULL where that is allowed', giveNull, 'task_struct', ['arg:trusted', 'arg:nullable'], undefined],
    ['what the kernel does not have', giveTask, 'no_such', ['arg:trusted'], `ENOENT ${INVALID}`],
  ])('trusted pointers: %s', (_, text, name, tags, said) => {
    const at = program(text).length - 2;
    expect(refusal(text, { ...traced, ...types([{ at, params: task(name), tags }]) })).toBe(said);
  });
});

describe('exception callbacks', () => {
  const TAG = 'exception_callback:f1';
  const text = 'r1 = 0\nkcall bpf_throw\nr0 = 0\nexit\n';
  const number = (_: BtfBuilder, int: number) => [int];
  const callback = (
    body: string,
    params: Function['params'],
    tags = [TAG],
    more: Partial<ProgramInput> = {},
  ) => refusal(`${text}${body}`, { ...types([{ at: 4, ...(params && { params }) }], tags), ...more });

  it('take one number', () => {
    expect(callback('r0 = r1\nexit', number)).toBeUndefined();
    const said = 'EINVAL exception cb only supports single integer argument';
    expect(callback('r0 = 0\nexit', () => [])).toBe(said);
    expect(callback('r0 = 0\nexit', (_, int) => [int, int])).toBe(said);
    expect(callback('r0 = 0\nexit', (b, int) => [b.ptr(int)])).toBe(said);
  });

  it('do not throw', () => {
    expect(callback('r1 = 0\nkcall bpf_throw\nr0 = 0\nexit', number)).toBe(
      'EINVAL bpf_throw kfunc (insn 5) cannot be called from callback subprog 1',
    );
  });

  it('are one a program', () => {
    expect(callback('r0 = 0\nexit', number, [TAG, TAG])).toBe(
      'EEXIST multiple exception callback tags for main subprog',
    );
  });

  it('give what the program may give', () => {
    const options: Partial<ProgramInput> = {
      type: 'tracing',
      attachType: 'trace_fentry',
      attachTo: 'vfs_getattr',
      targetBtf: kernel(),
    };
    expect(callback('r0 = 0\nexit', number, [TAG], options)).toBeUndefined();
    expect(callback('r0 = r1\nexit', number, [TAG], options)).toMatch(
      /At program exit the register R0 has unknown scalar value/,
    );
  });
});

describe('attach targets', () => {
  const lsm = (attachTo: string): Partial<ProgramInput> => ({
    type: 'lsm',
    attachType: 'lsm_mac',
    attachTo,
    targetBtf: kernel(),
  });
  const acquire =
    'r1 = *(u64 *)(r1 +0)\nkcall bpf_task_acquire\nif r0 == 0x0 goto pc+2\nr1 = r0\nkcall bpf_task_release\nr0 = 0\nexit';

  it('objects of hooks that free them are not trusted', () => {
    expect(refusal(acquire, lsm('file_open'))).toBeUndefined();
    expect(refusal(acquire, lsm('task_free'))).toBe('EINVAL R1 must be a rcu pointer');
  });

  it('some hooks are closed', () => {
    expect(refusal('r0 = 0\nexit', lsm('getprocattr'))).toMatch(
      /^EINVAL attach_btf_id \d+ points to disabled hook bpf_lsm_getprocattr$/,
    );
    expect(refusal('r0 = 0\nexit', { ...lsm('file_open'), license: 'MIT' })).toBe(
      'EINVAL LSM programs must have a GPL compatible license',
    );
  });

  it('memory of the kernel is not written by helpers', () => {
    const load = 'r1 = *(u64 *)(r1 +0)\nr2 = 4\nr3 = 0\ncall bpf_probe_read_kernel#113\nr0 = 0\nexit';
    expect(
      refusal(load, {
        ...lsm('file_open'),
        type: 'tracing',
        attachType: 'trace_raw_tp',
        attachTo: 'started',
      }),
    ).toBe('EACCES bpf_probe_read_kernel() may write into memory pointed by R1 type=trusted_ptr_');
  });
});

describe('maps and kernel functions', () => {
  const queue = (name: string): MapSpec => ({
    name,
    type: 'array',
    keySize: 4,
    valueSize: 16,
    maxEntries: 1,
    record: { fields: [{ kind: 'wq', offset: 0, size: 16 }] },
  });
  const init = (second: string): string => `
    *(u32 *)(r10 -4) = 0
    r1 = map[idx:0]
    r2 = r10
    r2 += -4
    call bpf_map_lookup_elem#1
    if r0 == 0x0 goto pc+${second.includes('map') ? 5 : 4}
    r1 = r0
    r2 = ${second}
    r3 = 0
    kcall bpf_wq_init
    r0 = 0
    exit`;

  it('a work queue is started with its own map', () => {
    const maps = [queue('one'), queue('two')];
    expect(refusal(init('map[idx:0]'), { maps })).toBeUndefined();
    expect(refusal(init('map[idx:1]'), { maps })).toBe(
      "EINVAL workqueue pointer in R1 map_uid=0 doesn't match map pointer in R2 map_uid=0",
    );
    expect(refusal(init('r10'), { maps })).toBe("EINVAL pointer in R2 isn't map pointer");
  });

  it('descriptors of maps mean nothing here', () => {
    const insns = [
      { code: 0x18, dst: 1, src: 1, off: 0, imm: 7 },
      { code: 0, dst: 0, src: 0, off: 0, imm: 0 },
      { code: 0xb7, dst: 0, src: 0, off: 0, imm: 0 },
      { code: 0x95, dst: 0, src: 0, off: 0, imm: 0 },
    ];
    expect(refusal('exit', { insns })).toBe('EBADF fd 7 is not pointing to valid bpf_map');
  });
});

describe('bounds that overlap on one side', () => {
  it.each([
    [
      '64 bits',
      'call bpf_get_prandom_u32#7\nr0 = (s8)r0\nr1 = 127\nif r0 > r1 goto pc+2\nif r0 s< 0 goto pc+1\ngoto pc+1\nr10 = 0\nr0 = 0\nexit',
    ],
    [
      '32 bits',
      'call bpf_get_prandom_u32#7\nif w0 < 0x3 goto pc+3\nif w0 s> 0x1 goto pc+2\nif w0 s< 0x0 goto pc+1\nr10 = 0\nr0 = 0\nexit',
    ],
  ])('%s: a jump is decided', (_, text) => {
    expect(refusal(text)).toBe(_ === '64 bits' ? 'EACCES frame pointer is read only' : undefined);
  });
});
