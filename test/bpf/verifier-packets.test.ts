/** Packets, sockets with references, dynptrs, read-only maps, tail calls: what is refused and why, and that a kernel agrees. */
import { describe, expect, it } from 'vitest';
import {
  assemble,
  BPF_MAP_TYPE,
  type Insn,
  isa,
  type MapSpec,
  PROG_TYPES,
  type ProgType,
  VerifierError,
  verifyProgram,
} from '../../src/bpf/index.ts';
import { kernelBpf } from '../support/kernel-bpf.ts';
import { unless } from '../support/skip.ts';

const MAPS: readonly MapSpec[] = [
  { name: 'array', type: 'array', keySize: 4, valueSize: 16, maxEntries: 4 },
  { name: 'readonly', type: 'array', keySize: 4, valueSize: 16, maxEntries: 4, flags: 128 },
  { name: 'writeonly', type: 'array', keySize: 4, valueSize: 16, maxEntries: 4, flags: 256 },
  { name: 'programs', type: 'prog_array', keySize: 4, valueSize: 4, maxEntries: 4 },
  { name: 'ring', type: 'ringbuf', keySize: 0, valueSize: 0, maxEntries: 4096 },
  { name: 'stack', type: 'stack', keySize: 0, valueSize: 8, maxEntries: 4 },
];

/** r2 = data, r3 = data_end, r4 = data + `more`. */
const packet = (more: number): string => `
  r6 = r1
  r2 = *(u32 *)(r1 +76)
  r3 = *(u32 *)(r1 +80)
  r4 = r2
  r4 += ${more}`;
const xdp = (more: number): string => `
  r6 = r1
  r2 = *(u32 *)(r1 +0)
  r3 = *(u32 *)(r1 +4)
  r4 = r2
  r4 += ${more}`;
const end = '\nr0 = 0\nexit';

const lookup = (map: number): string => `
  *(u32 *)(r10 -4) = 0
  r1 = map[idx:${map}]
  r2 = r10
  r2 += -4
  call bpf_map_lookup_elem#1
  if r0 == 0x0 goto pc+1`;

/** r0 = a TCP socket or NULL. */
const socket = `
  *(u64 *)(r10 -48) = 0
  *(u64 *)(r10 -40) = 0
  *(u64 *)(r10 -32) = 0
  r2 = r10
  r2 += -48
  r3 = 12
  r4 = 0
  r5 = 0
  call bpf_sk_lookup_tcp#84`;

const dynptr = `
  r1 = map[idx:4]
  r2 = 8
  r3 = 0
  r4 = r10
  r4 += -16
  call bpf_ringbuf_reserve_dynptr#198`;
const submit = '\nr1 = r10\nr1 += -16\nr2 = 0\ncall bpf_ringbuf_submit_dynptr#199';

/** Name: program type, text, the last line of the refusal; undefined where it is accepted. */
const PROGRAMS: Record<string, readonly [type: ProgType, text: string, message?: string]> = {
  'a checked load': ['sched_cls', `${packet(14)}\nif r4 > r3 goto pc+1\nr0 = *(u16 *)(r2 +12)${end}`],
  'a load without a check': [
    'sched_cls',
    `${packet(14)}\nr0 = *(u16 *)(r2 +12)${end}`,
    'R2 offset is outside of the packet',
  ],
  'a load behind what was checked': [
    'sched_cls',
    `${packet(14)}\nif r4 > r3 goto pc+1\nr0 = *(u16 *)(r2 +13)${end}`,
    'R2 offset is outside of the packet',
  ],
  'a check the other way round': [
    'xdp',
    `${xdp(8)}\nif r3 >= r4 goto pc+2${end}\nr0 = *(u64 *)(r2 +0)${end}`,
  ],
  'the end itself is not inside': [
    'xdp',
    `${xdp(8)}\nif r4 >= r3 goto pc+1\nr0 = *(u8 *)(r2 +9)${end}`,
    'R2 offset is outside of the packet',
  ],
  'below the end one more byte is there': [
    'xdp',
    `${xdp(8)}\nif r4 >= r3 goto pc+1\nr0 = *(u8 *)(r2 +8)${end}`,
  ],
  'a variable header length': [
    'xdp',
    `${xdp(20)}
     if r4 > r3 goto pc+9
     r5 = *(u8 *)(r2 +0)
     r5 &= 15
     r5 <<= 2
     r2 += r5
     r4 = r2
     r4 += 4
     if r4 > r3 goto pc+1
     r0 = *(u32 *)(r2 +0)
     r0 = 0${end}`,
  ],
  'a variable offset needs a check of its own': [
    'xdp',
    `${xdp(20)}
     if r4 > r3 goto pc+5
     r5 = *(u8 *)(r2 +0)
     r5 &= 15
     r2 += r5
     r0 = *(u8 *)(r2 +0)
     r0 = 0${end}`,
    'R2 offset is outside of the packet',
  ],
  'a pointer is stale after the packet moved': [
    'xdp',
    `${xdp(8)}
     if r4 > r3 goto pc+5
     r7 = r2
     r1 = r6
     r2 = 4
     call bpf_xdp_adjust_head#44
     r0 = *(u8 *)(r7 +0)${end}`,
    "R7 invalid mem access 'scalar'",
  ],
  'sums with the end': ['xdp', `${xdp(8)}\nr3 += 8${end}`, 'R3 pointer arithmetic on pkt_end prohibited'],
  'a store': ['sched_cls', `${packet(14)}\nif r4 > r3 goto pc+1\n*(u8 *)(r2 +0) = 1${end}`],
  'a store where packets are read only': [
    'cgroup_skb',
    `${packet(14)}\nif r4 > r3 goto pc+1\n*(u8 *)(r2 +0) = 1\nr0 = 1\nexit`,
    'cannot write into packet',
  ],
  'an atomic in the packet': [
    'xdp',
    `${xdp(8)}\nif r4 > r3 goto pc+2\nr5 = 1\nlock *(u32 *)(r2 +0) += r5${end}`,
    'BPF_ATOMIC stores into R2 pkt is not allowed',
  ],
  'packet data as a key': [
    'sched_cls',
    `${packet(4)}\nif r4 > r3 goto pc+3\nr1 = map[idx:0]\ncall bpf_map_lookup_elem#1${end}`,
  ],
  'packet data where a helper takes none': [
    'sched_cls',
    `${packet(8)}
     if r4 > r3 goto pc+5
     r3 = r2
     r2 = 0
     r1 = r6
     r4 = 8
     call bpf_skb_load_bytes#26${end}`,
    'helper access to the packet is not allowed',
  ],
  'a load by LD_ABS': ['socket_filter', `r6 = r1\nr0 = *(u8 *)skb[14]${end}`],
  'LD_ABS without the context': [
    'socket_filter',
    `r6 = 0\nr0 = *(u8 *)skb[14]${end}`,
    'at the time of BPF_LD_ABS|IND R6 != pointer to skb',
  ],
  'LD_ABS in a program without packets': [
    'kprobe',
    `r6 = r1\nr0 = *(u8 *)skb[14]${end}`,
    'BPF_LD_[ABS|IND] instructions not allowed for this program type',
  ],
  'LD_ABS clobbers': ['socket_filter', `r6 = r1\nr3 = 0\nr0 = *(u8 *)skb[14]\nr0 = r3\nexit`, 'R3 !read_ok'],
  'a write to a map that is read only': [
    'socket_filter',
    `${lookup(1)}\n*(u8 *)(r0 +0) = 1${end}`,
    'write into map forbidden, value_size=16 off=0 size=1',
  ],
  'a read of a map that is write only': [
    'socket_filter',
    `${lookup(2)}\nr0 = *(u8 *)(r0 +0)${end}`,
    'read from map forbidden, value_size=16 off=0 size=1',
  ],
  'a tail call': ['socket_filter', `r2 = map[idx:3]\nr3 = 1\ncall bpf_tail_call#12${end}`],
  'a tail call into a map of another kind': [
    'socket_filter',
    `r2 = map[idx:0]\nr3 = 1\ncall bpf_tail_call#12${end}`,
    'expected prog array map for tail call',
  ],
  'a map of programs in another helper': [
    'socket_filter',
    `${lookup(3)}${end}`.replace('if r0 == 0x0 goto pc+1', ''),
    'cannot pass map_type 3 into func bpf_map_lookup_elem#1',
  ],
  'a value from a stack': [
    'socket_filter',
    'r1 = map[idx:5]\nr2 = r10\nr2 += -8\ncall bpf_map_pop_elem#88\nr0 = *(u64 *)(r10 -8)\nr0 = 0\nexit',
  ],
  'a socket that is given back': [
    'sched_cls',
    `${socket}\nif r0 == 0x0 goto pc+2\nr1 = r0\ncall bpf_sk_release#86${end}`,
  ],
  'a socket that may be NULL': [
    'sched_cls',
    `${socket}\nr0 = *(u32 *)(r0 +4)${end}`,
    "R0 invalid mem access 'sock_or_null'",
  ],
  'a socket that is given back twice': [
    'sched_cls',
    `${socket}\nif r0 == 0x0 goto pc+5\nr6 = r0\nr1 = r0\ncall bpf_sk_release#86\nr1 = r6\ncall bpf_sk_release#86${end}`,
    'R1 type=scalar expected=sock_common, sock, tcp_sock, xdp_sock, ptr_, trusted_ptr_',
  ],
  'a field that sockets do not have': [
    'sched_cls',
    `${socket}\nif r0 == 0x0 goto pc+4\nr6 = r0\nr0 = *(u32 *)(r6 +80)\nr1 = r6\ncall bpf_sk_release#86${end}`,
    'R6 invalid sock access off=80 size=4',
  ],
  'a TCP socket goes with its socket': [
    'sched_cls',
    `${socket}
     if r0 == 0x0 goto pc+9
     r6 = r0
     r1 = r0
     call bpf_tcp_sock#96
     r7 = r0
     r1 = r6
     call bpf_sk_release#86
     if r7 == 0x0 goto pc+1
     r0 = *(u32 *)(r7 +0)
     r0 = 0${end}`,
    "R7 invalid mem access 'scalar'",
  ],
  'a dynptr that is submitted': ['socket_filter', `${dynptr}${submit}${end}`],
  'a dynptr that is submitted twice': [
    'socket_filter',
    `${dynptr}${submit}${submit}${end}`,
    'arg 1 is an unacquired reference',
  ],
  'a dynptr that is overwritten': [
    'socket_filter',
    `${dynptr}\n*(u64 *)(r10 -16) = 0${end}`,
    'cannot overwrite referenced dynptr',
  ],
  'a slice of a dynptr that is gone': [
    'socket_filter',
    `${dynptr}
     r1 = r10
     r1 += -16
     r2 = 0
     r3 = 8
     call bpf_dynptr_data#203
     r6 = r0
     ${submit}
     if r6 == 0x0 goto pc+1
     *(u64 *)(r6 +0) = 1${end}`,
    "R6 invalid mem access 'scalar'",
  ],
  'an uninitialised dynptr': [
    'socket_filter',
    `r1 = r10\nr1 += -24\nr2 = 8\nr3 = r10\nr3 += -16\nr4 = 0\nr5 = 0\ncall bpf_dynptr_read#201${end}`,
    'Expected an initialized dynptr as arg #2',
  ],
};

function refusal(type: ProgType, insns: readonly Insn[]): VerifierError | undefined {
  try {
    verifyProgram({ name: 'p', type, insns, maps: MAPS, allowUninitStack: true });
    return undefined;
  } catch (error) {
    if (error instanceof VerifierError) return error;
    throw error;
  }
}

describe('packets and resources', () => {
  it.each(Object.entries(PROGRAMS))('%s', (_, [type, text, message]) => {
    const error = refusal(type, assemble(text));
    expect(error?.summary.split('\n').at(-1)).toBe(message);
  });

  it.each([
    ['a socket', 'sched_cls' as const, `${socket}${end}`],
    ['a dynptr', 'socket_filter' as const, `${dynptr}${end}`],
  ])('%s that is not given back', (_, type, text) => {
    expect(refusal(type, assemble(text))?.summary).toMatch(/^Unreleased reference id=\d+ alloc_insn=\d+$/);
  });
});

describe('as this machine’s kernel', unless(kernelBpf.reason), () => {
  it.each(Object.entries(PROGRAMS))('%s', (_, [type, text, message]) => {
    const fds = MAPS.map((map) => kernelBpf.mapCreate({ ...map, type: BPF_MAP_TYPE[map.type] }));
    expect(fds.every((fd) => fd > 0)).toBe(true);
    const insns = assemble(text);
    for (const insn of insns) {
      if (!isa.isLdImm64(insn) || insn.src !== isa.BPF_PSEUDO_MAP_IDX) continue;
      insn.src = isa.BPF_PSEUDO_MAP_FD;
      insn.imm = fds[insn.imm]!;
    }
    const { fd, log } = kernelBpf.progLoad({
      type: PROG_TYPES.indexOf(type),
      insns,
      license: 'GPL',
      logLevel: 1,
      logSize: 1 << 16,
    });
    for (const one of [...fds, fd]) if (one >= 0) kernelBpf.close(one);
    expect(fd >= 0 ? undefined : log).toEqual(
      message === undefined ? undefined : expect.stringContaining(message),
    );
  });
});
