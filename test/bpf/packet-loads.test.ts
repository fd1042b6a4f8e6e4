/** BPF_LD | BPF_ABS and BPF_IND in verified programs: both engines, and (as root) the kernel. */
import { afterAll, describe, expect, test } from 'vitest';
import { assemble } from '../../src/bpf/asm/assemble.ts';
import { createMachine } from '../../src/bpf/machine/index.ts';
import { kernelBpf } from '../support/kernel-bpf.ts';

const PACKET = Uint8Array.from({ length: 60 }, (_, n) => (n * 37 + 11) & 255);
const TYPES = { socket_filter: 1, sched_cls: 3 } as const;

afterAll(() => kernelBpf.closeAll());

describe.each([
  ['the first byte', 'r0 = *(u8 *)skb[0]'],
  ['two bytes, big-endian', 'r0 = *(u16 *)skb[5]'],
  ['four bytes', 'r0 = *(u32 *)skb[21]'],
  ['from a register on', 'r7 = 9\nr0 = *(u32 *)skb[r7 + 3]'],
  ['a register below 0', 'r7 = -4\nr0 = *(u16 *)skb[r7 + 10]'],
  ['behind the end: the program ends with 0', 'r0 = *(u32 *)skb[58]\nr0 += 1'],
  ['far behind', 'r7 = 0x7ffffff0\nr0 = *(u8 *)skb[r7 + 5]\nr0 += 1'],
  ['the network header', 'r0 = *(u16 *)skb[-0x100000]'],
  ['the link header', 'r0 = *(u16 *)skb[-0x200000]'],
  ['registers that are kept', 'r7 = 5\nr0 = *(u8 *)skb[1]\nr0 += r7'],
])('%s', (_name, body) => {
  const insns = assemble(`r6 = r1\n${body}\nexit`);

  test.each(['socket_filter', 'sched_cls'] as const)('%s', (type) => {
    const run = (engine: 'interpreter' | 'jit') => {
      const machine = createMachine();
      return machine
        .loadProgram({ name: 'packet', type, insns, maps: [], loadedMaps: [], engine })
        .testRun({ dataIn: PACKET }).retval;
    };
    const retval = run('interpreter');
    expect(run('jit')).toBe(retval);
    if (kernelBpf.reason !== undefined) return;
    const { fd, log } = kernelBpf.progLoad({ type: TYPES[type], insns, logLevel: 1 });
    expect(fd, log).toBeGreaterThanOrEqual(0);
    expect(retval).toBe(kernelBpf.progTestRun(fd, { dataIn: PACKET }).retval);
  });
});
