/** What each program type may do with its context, which helpers it has, what it may return; where there is a kernel, as it says. */
import { describe, expect, it } from 'vitest';
import {
  ATTACH_TYPES,
  type Insn,
  PROG_TYPES,
  type ProgType,
  VerifierError,
  verifyProgram,
} from '../../src/bpf/index.ts';
import type { AttachType } from '../../src/bpf/prog-types/index.ts';
import { kernelBpf } from '../support/kernel-bpf.ts';
import { unless } from '../support/skip.ts';

const insn = (code: number, dst = 0, src = 0, off = 0, imm = 0): Insn => ({ code, dst, src, off, imm });

/** Attach types that differ in what they allow; for most program types there is only one. */
const ATTACH: Partial<Record<ProgType, readonly AttachType[]>> = {
  cgroup_skb: ['cgroup_inet_ingress', 'cgroup_inet_egress'],
  cgroup_sock: ['cgroup_inet_sock_create', 'cgroup_inet4_post_bind', 'cgroup_inet6_post_bind'],
  cgroup_sock_addr: [
    'cgroup_inet4_bind',
    'cgroup_inet6_connect',
    'cgroup_udp4_sendmsg',
    'cgroup_udp6_sendmsg',
    'cgroup_inet6_getpeername',
  ],
  sk_lookup: ['sk_lookup'],
  cgroup_sockopt: ['cgroup_getsockopt', 'cgroup_setsockopt'],
  xdp: ['xdp', 'xdp_devmap'],
  cgroup_device: ['cgroup_device'],
  cgroup_sysctl: ['cgroup_sysctl'],
  sock_ops: ['cgroup_sock_ops'],
  sk_skb: ['sk_skb_stream_verdict'],
  sk_msg: ['sk_msg_verdict'],
  flow_dissector: ['flow_dissector'],
  sk_reuseport: ['sk_reuseport_select'],
};
/** Those whose context a target's prototype gives, or that only load with more than instructions. */
const TYPED: ReadonlySet<string> = new Set([
  'unspec',
  'struct_ops',
  'tracing',
  'lsm',
  'ext',
  'lirc_mode2',
  'syscall',
  'netfilter',
]);
const TYPES = PROG_TYPES.filter((type): type is ProgType => !TYPED.has(type));

function refusal(
  type: ProgType,
  attachType: AttachType | undefined,
  insns: readonly Insn[],
): string | undefined {
  try {
    verifyProgram({ name: 'p', type, insns, maps: [], ...(attachType === undefined ? {} : { attachType }) });
    return undefined;
  } catch (error) {
    if (error instanceof VerifierError) return error.summary;
    throw error;
  }
}

/** `r0 = 1`, with one load from the context or store of 1 before it. */
const access = (off: number, size: 1 | 2 | 4 | 8, write: boolean): Insn[] => {
  const bits = { 1: 0x10, 2: 0x08, 4: 0, 8: 0x18 }[size];
  return [
    insn(0xb7, 0, 0, 0, 1),
    write ? insn(0x63 | bits, 1, 0, off) : insn(0x61 | bits, 2, 1, off),
    insn(0xb7, 0, 0, 0, 1),
    insn(0x95),
  ];
};

describe.each([
  // type, attach type, offset, size, write, allowed
  ['xdp', 'xdp', 0, 4, false, true],
  ['xdp', 'xdp', 0, 8, false, false],
  ['xdp', 'xdp', 20, 4, false, false],
  ['xdp', 'xdp_devmap', 20, 4, false, true],
  ['xdp', 'xdp', 12, 4, true, false],
  ['sched_cls', undefined, 8, 4, true, true],
  ['sched_cls', undefined, 8, 2, true, false],
  ['sched_cls', undefined, 10, 2, false, true],
  ['sched_cls', undefined, 180, 1, false, true],
  ['sched_cls', undefined, 88, 4, false, false],
  ['socket_filter', undefined, 76, 4, false, false],
  ['socket_filter', undefined, 48, 8, true, true],
  ['socket_filter', undefined, 8, 4, true, false],
  ['cgroup_sock_addr', 'cgroup_inet4_bind', 4, 4, true, true],
  ['cgroup_sock_addr', 'cgroup_inet6_bind', 4, 4, true, false],
  ['cgroup_sock_addr', 'cgroup_inet6_bind', 8, 8, true, true],
  ['cgroup_sock', 'cgroup_inet_sock_create', 16, 4, true, true],
  ['cgroup_sock', 'cgroup_inet4_post_bind', 16, 4, false, false],
  ['cgroup_sockopt', 'cgroup_getsockopt', 36, 4, true, true],
  ['cgroup_sockopt', 'cgroup_setsockopt', 36, 4, true, false],
  ['perf_event', undefined, 168, 4, false, true],
  ['perf_event', undefined, 0, 4, false, false],
  ['tracepoint', undefined, 4, 4, false, false],
  ['tracepoint', undefined, 8, 4, false, true],
] as const)('%s %s: offset %i, %i bytes, write %s', (type, attach, off, size, write, isAllowed) => {
  it(isAllowed ? 'is allowed' : 'is refused', () => {
    const said = refusal(type, attach, access(off, size, write));
    expect(said).toBe(isAllowed ? undefined : `invalid bpf_context access off=${off} size=${size}`);
  });
});

describe('a program may return', () => {
  const returning = (value: number): Insn[] => [insn(0xb7, 0, 0, 0, value), insn(0x95)];
  it.each([
    ['cgroup_sock_addr', 'cgroup_udp4_recvmsg', 0, '[1, 1]'],
    ['cgroup_sock_addr', 'cgroup_inet4_bind', 4, '[0, 3]'],
    ['cgroup_skb', 'cgroup_inet_ingress', 2, '[0, 1]'],
    ['tracing', 'trace_fentry', 1, '[0, 0]'],
    ['tracing', 'trace_iter', 2, '[0, 1]'],
    ['sk_lookup', 'sk_lookup', -1, '[0, 1]'],
  ] as const)('%s %s: not %i', (type, attach, value, range) => {
    expect(refusal(type, attach, returning(value))).toBe(
      `At program exit the register R0 has smin=${value} smax=${value} should have been in ${range}`,
    );
  });
  it('anything where nobody looks', () => expect(refusal('xdp', 'xdp', returning(-7))).toBeUndefined());
});

it('helpers belong to program types', () => {
  const call = (id: number): Insn[] => [insn(0x85, 0, 0, 0, id), insn(0xb7, 0, 0, 0, 1), insn(0x95)];
  const no = (id: number, name: string): string => `program of this type cannot use helper bpf_${name}#${id}`;
  expect(refusal('xdp', 'xdp', call(65))).toBe('R2 !read_ok');
  expect(refusal('socket_filter', undefined, call(65))).toBe(no(65, 'xdp_adjust_tail'));
  expect(refusal('cgroup_sock_addr', 'cgroup_inet4_bind', call(64))).toBe(no(64, 'bind'));
  expect(refusal('cgroup_sock_addr', 'cgroup_inet4_connect', call(64))).toBe('R2 !read_ok');
  expect(refusal('cgroup_sockopt', 'cgroup_getsockopt', call(49))).toBe(no(49, 'setsockopt'));
});

describe('as this machine’s kernel', unless(kernelBpf.reason), () => {
  /** The kernel's answer to the same instructions. */
  function kernel(type: ProgType, attach: AttachType | undefined, insns: readonly Insn[]) {
    const { fd, log } = kernelBpf.progLoad({
      type: PROG_TYPES.indexOf(type),
      insns,
      license: 'GPL',
      logLevel: 1,
      logSize: 1 << 14,
      ...(attach === undefined ? {} : { expectedAttachType: ATTACH_TYPES.indexOf(attach) }),
    });
    if (fd >= 0) kernelBpf.close(fd);
    return { ok: fd >= 0, log };
  }

  it.each(TYPES)('%s: every field of the context', (type) => {
    // Nothing is known to differ but offsets below a tracepoint's start, which the kernel lets through.
    const from = type === 'tracepoint' ? 0 : -8;
    for (const attach of ATTACH[type] ?? [undefined]) {
      const end = type === 'tracepoint' ? 32 : 232;
      for (let off = from; off < end; off += 2) {
        for (const size of [1, 2, 4, 8] as const) {
          if (off % size !== 0 && off % 4 !== 2) continue;
          for (const write of [false, true]) {
            const insns = access(off, size, write);
            const ours = refusal(type, attach, insns);
            const theirs = kernel(type, attach, insns);
            if (theirs.ok !== (ours === undefined)) {
              expect.fail(
                `${attach ?? ''} offset ${off} size ${size} write ${write}: ${theirs.log} but ${ours ?? 'ok'}`,
              );
            }
          }
        }
      }
    }
  });
});
