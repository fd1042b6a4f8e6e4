/** func_info, line_info and BTF of BPF_PROG_LOAD and BPF_BTF_LOAD: what is wrong with them, as the machine's own kernel says it. */
import { afterAll, describe, expect, test } from 'vitest';
import { BtfBuilder } from '../../src/bpf/btf/index.ts';
import { assemble, bpf, createMachine, ERRNO } from '../../src/bpf/index.ts';
import { kernelBpf } from '../support/kernel-bpf.ts';

const SOCKET_FILTER = 1;
const FUNCTIONS = assemble('call pc+3\n r0 = 1 ll\n exit\n r0 = 0\n exit');
const PLAIN = assemble('r0 = 1 ll\n exit');
/** Positions in FUNCTIONS: the second function, the second half of the wide load. */
const SECOND = 4;

const b = new BtfBuilder();
const int = b.int('int', 4, { signed: true });
const proto = b.funcProto(int, []);
const nothing = b.funcProto(0, []);
const main = b.func('main', proto);
const other = b.func('other', proto);
const quiet = b.func('quiet', nothing);
const file = b.string('a.c');
const text = b.string('return 0;');
const BYTES = b.toBytes();

type Words = readonly number[];
interface Case {
  insns?: typeof PLAIN;
  func?: readonly Words[];
  funcSize?: number;
  line?: readonly Words[];
  lineSize?: number;
  errno?: keyof typeof ERRNO;
  says?: string;
}

const FUNC = [
  [0, main],
  [SECOND, other],
];
const at = (insn: number, name = text): Words => [insn, file, name, (7 << 10) | 3];
const LINE = [at(0), at(1), at(SECOND)];

const CASES: Record<string, Case> = {
  'are right': { func: FUNC, line: LINE },
  'may be functions alone': { func: FUNC },
  'may have longer records with zeros behind': {
    func: FUNC.map((one) => [...one, 0]),
    funcSize: 12,
    line: LINE.map((one) => [...one, 0, 0]),
    lineSize: 24,
  },
  'func: something behind what is known': {
    func: FUNC.map((one) => [...one, 1]),
    funcSize: 12,
    errno: 'E2BIG',
    says: 'nonzero tailing record in func info',
  },
  'func: records too short': {
    func: [[0]],
    funcSize: 4,
    errno: 'EINVAL',
    says: 'invalid func info rec size 4',
  },
  'func: the first is not at 0': {
    func: [
      [1, main],
      [SECOND, other],
    ],
    errno: 'EINVAL',
    says: 'nonzero insn_off 1 for the first func info record',
  },
  'func: not in order': {
    func: [
      [0, main],
      [0, other],
    ],
    errno: 'EINVAL',
    says: 'same or smaller insn offset (0) than previous func info record (0)',
  },
  'func: a type that is none': {
    func: [
      [0, main],
      [SECOND, 99],
    ],
    errno: 'EINVAL',
    says: 'invalid type id 99 in func info',
  },
  'func: a type that is no function': {
    func: [
      [0, int],
      [SECOND, other],
    ],
    errno: 'EINVAL',
    says: `invalid type id ${int} in func info`,
  },
  'func: one is missing': {
    func: [[0, main]],
    errno: 'EINVAL',
    says: "number of funcs in func_info doesn't match number of subprogs",
  },
  'func: another place than the function': {
    func: [
      [0, main],
      [SECOND - 1, other],
    ],
    errno: 'EINVAL',
    says: "func_info BTF section doesn't match subprog layout in BPF program",
  },
  'line: something behind what is known': {
    func: FUNC,
    line: LINE.map((one) => [...one, 9]),
    lineSize: 20,
    errno: 'E2BIG',
    says: 'nonzero tailing record in line_info',
  },
  'line: records too short': { func: FUNC, line: [[0, file, text]], lineSize: 12, errno: 'EINVAL' },
  'line: not in order': {
    func: FUNC,
    line: [at(0), at(SECOND), at(1)],
    errno: 'EINVAL',
    says: 'Invalid line_info[2].insn_off:1 (prev_offset:4 prog->len:6)',
  },
  'line: behind the program': {
    func: FUNC,
    line: [at(0), at(SECOND), at(6)],
    errno: 'EINVAL',
    says: 'Invalid line_info[2].insn_off:6 (prev_offset:4 prog->len:6)',
  },
  'line: within a wide load': {
    func: FUNC,
    line: [at(0), at(2), at(SECOND)],
    errno: 'EINVAL',
    says: 'Invalid insn code at line_info[1].insn_off',
  },
  'line: a text outside of the strings': {
    func: FUNC,
    line: [at(0, 100_000), at(SECOND)],
    errno: 'EINVAL',
    says: 'Invalid line_info[0].line_off or .file_name_off',
  },
  'line: none for a function, others behind it': {
    func: FUNC,
    line: [at(0), at(SECOND + 1)],
    errno: 'EINVAL',
    says: 'missing bpf_line_info for func#1',
  },
  'line: none for the last function': {
    func: FUNC,
    line: [at(0)],
    errno: 'EINVAL',
    says: 'missing bpf_line_info for 1 funcs starting from func#1',
  },
  'line: without functions': { insns: PLAIN, line: [at(0)] },
  'LD_ABS in a function without BTF': {
    insns: assemble('call pc+1\n exit\n r6 = r1\n r0 = *(u8 *)skb[0]\n exit'),
    errno: 'EINVAL',
    says: 'LD_ABS is not allowed in subprogs without BTF',
  },
  'LD_ABS in a function that returns nothing': {
    insns: assemble('call pc+1\n exit\n r6 = r1\n r0 = *(u8 *)skb[0]\n exit'),
    func: [
      [0, main],
      [2, quiet],
    ],
    errno: 'EINVAL',
    says: "LD_ABS is only allowed in functions that return 'int'.",
  },
};

const bytesOf = (records: readonly Words[]): Uint8Array =>
  new Uint8Array(Uint32Array.from(records.flat()).buffer);

afterAll(() => kernelBpf.closeAll());

describe('records of functions and lines', () => {
  test.each(Object.entries(CASES))(
    '%s',
    (_name, { insns = FUNCTIONS, func, line, errno, says, ...sizes }) => {
      const machine = createMachine();
      const attr: Parameters<typeof bpf<'prog_load'>>[2] = {
        progType: 'socket_filter',
        insns,
        license: 'GPL',
        logLevel: 1,
        progBtfFd: bpf(machine, 'btf_load', { btf: BYTES }),
        ...(func === undefined ? {} : { funcInfo: bytesOf(func), funcInfoRecSize: sizes.funcSize ?? 8 }),
        ...(line === undefined ? {} : { lineInfo: bytesOf(line), lineInfoRecSize: sizes.lineSize ?? 16 }),
      };
      const result = bpf(machine, 'prog_load', attr);
      if (errno === undefined) expect(result, attr.log).toBeGreaterThan(0);
      else expect(result, attr.log).toBe(-ERRNO[errno]);
      if (says !== undefined) expect(attr.log).toContain(says);

      if (kernelBpf.reason !== undefined) return;
      const records = (list: readonly Words[], size: number) => ({
        bytes: bytesOf(list),
        size,
        count: list.length,
      });
      const theirs = kernelBpf.progLoad({
        type: SOCKET_FILTER,
        insns,
        logLevel: 1,
        btfFd: kernelBpf.btfLoad(BYTES),
        ...(func === undefined ? {} : { funcRecords: records(func, sizes.funcSize ?? 8) }),
        ...(line === undefined ? {} : { lineRecords: records(line, sizes.lineSize ?? 16) }),
      });
      if (errno === undefined) expect(theirs.fd, theirs.log).toBeGreaterThan(0);
      else expect(theirs.fd, theirs.log).toBe(-ERRNO[errno]);
      if (says !== undefined) expect(theirs.log).toContain(says);
    },
  );

  test('BTF that does not fit together is refused with its errno', () => {
    const wrong = new BtfBuilder();
    wrong.ptr(7);
    const bytes = wrong.toBytes();
    const machine = createMachine();
    expect(bpf(machine, 'btf_load', { btf: bytes })).toBe(-ERRNO.EINVAL);
    if (kernelBpf.reason === undefined) expect(kernelBpf.btfLoad(bytes)).toBe(-ERRNO.EINVAL);
    const named = new BtfBuilder();
    named.func('1bad', named.funcProto(0, []));
    expect(bpf(machine, 'btf_load', { btf: named.toBytes() })).toBe(-ERRNO.EINVAL);
    if (kernelBpf.reason === undefined) expect(kernelBpf.btfLoad(named.toBytes())).toBe(-ERRNO.EINVAL);
  });
});
