/** BPF_PROG_TEST_RUN: contexts, packets and refusals; as root, next to the kernel's. */
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import {
  assemble,
  BpfError,
  createMachine,
  ERRNO,
  type ErrnoName,
  type TestRunOptions,
} from '../../src/bpf/index.ts';
import { PROG_TYPES, type ProgType } from '../../src/bpf/prog-types/index.ts';
import { kernelBpf } from '../support/kernel-bpf.ts';
import { unless } from '../support/skip.ts';

const load = (type: ProgType, text: string) =>
  createMachine().loadProgram({ name: 'test', type, insns: assemble(text), maps: [], loadedMaps: [] });

const outcome = (run: () => unknown): unknown => {
  try {
    return run();
  } catch (error) {
    if (error instanceof BpfError) return -ERRNO[error.code as ErrnoName];
    throw error;
  }
};

const frame = Uint8Array.from({ length: 64 }, (_, n) => n + 1);

describe('packets', () => {
  it('are what an XDP program reads and writes', () => {
    const program = load(
      'xdp',
      `r2 = *(u32 *)(r1 +0)
       r3 = *(u32 *)(r1 +4)
       r4 = r2
       r4 += 8
       r0 = 1
       if r4 > r3 goto out
       r0 = *(u8 *)(r2 +7)
       *(u8 *)(r2 +0) = 99
 out:  exit`,
    );
    const { retval, dataOut, duration } = program.testRun({ dataIn: frame, repeat: 100 });
    expect(retval).toBe(8);
    expect([...dataOut!]).toEqual([99, ...frame.subarray(1)]);
    expect(duration).toBeGreaterThanOrEqual(0);
    expect([...frame.subarray(0, 2)]).toEqual([1, 2]);
  });

  it('come with the link header for the traffic control, and without for sockets', () => {
    const text = 'r0 = *(u32 *)(r1 +0)\n r1 = *(u32 *)(r1 +16)\n r0 <<= 16\n r0 |= r1\n exit';
    expect(load('sched_cls', text).testRun({ dataIn: frame }).retval).toBe((64 << 16) | 0x0e0d);
    expect(load('socket_filter', text).testRun({ dataIn: frame }).retval).toBe((50 << 16) | 0x0e0d);
  });

  it('give a flow dissector keys to fill', () => {
    const program = load(
      'flow_dissector',
      `r6 = *(u64 *)(r1 +144)
       r2 = *(u16 *)(r6 +0)
       r2 += 20
       *(u16 *)(r6 +2) = r2
       *(u8 *)(r6 +9) = 6
       r0 = 0
       exit`,
    );
    const { dataOut } = program.testRun({ dataIn: frame, repeat: 5 });
    const keys = new DataView(dataOut!.buffer);
    expect([keys.byteLength, keys.getUint16(0, true), keys.getUint16(2, true), keys.getUint8(9)]).toEqual([
      56, 14, 34, 6,
    ]);
    expect(keys.getUint16(10)).toBe(0x0d0e);
  });

  it('leave no memory behind', () => {
    const program = load('xdp', 'r0 = 2\n exit');
    const { machine } = program as unknown as { machine: { heap: { used: number } } };
    const before = machine.heap.used;
    for (let n = 0; n < 50; n++) program.testRun({ dataIn: frame });
    expect(() => program.testRun({ dataIn: new Uint8Array(13) })).toThrow(
      'packet of 13 bytes, not 14 to 3520',
    );
    expect(machine.heap.used).toBe(before);
  });
});

describe('contexts', () => {
  it('of syscall programs are written back', () => {
    const program = load('syscall', 'r2 = *(u64 *)(r1 +8)\n r2 += 1\n *(u64 *)(r1 +0) = r2\n r0 = 3\n exit');
    const ctxIn = new Uint8Array(BigUint64Array.of(1n, 41n).buffer);
    const { retval, ctxOut } = program.testRun({ ctxIn });
    expect(retval).toBe(3);
    expect([...new BigUint64Array(ctxOut!.slice().buffer)]).toEqual([42n, 41n]);
    expect(() => program.testRun({ ctxIn: new Uint8Array(8) })).toThrow('context of 8 bytes, not 9 to 65535');
    expect(() => program.testRun({ ctxIn, repeat: 2 })).toThrow(BpfError);
  });

  it.each(['kprobe', 'tracepoint', 'perf_event', 'cgroup_sock', 'sk_msg'] as const)(
    '%s programs have no test run',
    (type) => {
      expect(() => load(type, 'r0 = 1\n exit').testRun()).toThrow(
        expect.objectContaining({ code: 'ENOTSUPP' }),
      );
    },
  );
});

const { reason } = kernelBpf;
if (reason !== undefined) console.log(`test runs against the kernel skipped: ${reason}`);

describe('test runs as in the kernel', unless(reason), () => {
  afterEach(() => kernelBpf.closeAll());

  /** The same run here and there: errno, result, packet and context. */
  function same(type: ProgType, text: string, options: TestRunOptions): void {
    const program = load(type, text);
    const { fd, log } = kernelBpf.progLoad({
      type: PROG_TYPES.indexOf(type),
      insns: assemble(text),
      logLevel: 1,
    });
    expect({ fd: Math.min(fd, 0), log: fd < 0 ? log : '' }).toEqual({ fd: 0, log: '' });
    const ctxOutSize =
      type === 'syscall' || type === 'raw_tracepoint' ? 0 : (options.ctxIn?.length ?? 0) && 256;
    const here = outcome(() => {
      const { retval, dataOut, ctxOut } = program.testRun(options);
      return { retval, dataOut: [...(dataOut ?? [])], ctxOut: type === 'syscall' ? [] : [...(ctxOut ?? [])] };
    });
    const ran = kernelBpf.progTestRun(fd, {
      ...options,
      ctxOutSize,
      ...(options.dataIn ? { dataOutSize: 5000 } : {}),
    });
    const there =
      ran.error < 0 ? ran.error : { retval: ran.retval, dataOut: [...ran.dataOut], ctxOut: [...ran.ctxOut] };
    kernelBpf.close(fd);
    const show = { type, data: options.dataIn?.length, ctx: options.ctxIn && [...options.ctxIn].join(' ') };
    expect({ ...show, result: here }).toEqual({ ...show, result: there });
  }

  const packet = fc
    .tuple(
      fc.constantFrom(0, 13, 14, 15, 60, 64, 100, 1500),
      fc.constantFrom(
        [0, 0, 0, 0, 0, 0],
        [1, 2, 3, 4, 5, 6],
        [2, 2, 3, 4, 5, 6],
        [255, 255, 255, 255, 255, 255],
      ),
      fc.constantFrom(0x0800, 0x86dd, 0x0010, 0x1234),
      fc.boolean(),
    )
    .map(([size, address, protocol, isRaw]) => {
      const bytes = Uint8Array.from({ length: size }, (_, n) => (n * 7 + 3) & 255);
      bytes.set(address.slice(0, size));
      if (size >= 14) bytes.set([protocol >> 8, protocol & 255], 12);
      if (size >= 16 && isRaw) bytes.set([255, 255], 14);
      return bytes;
    });

  it('xdp', () => {
    const text = `
      r2 = *(u32 *)(r1 +0)
      r3 = *(u32 *)(r1 +4)
      r5 = *(u32 *)(r1 +8)
      r0 = r3
      r0 -= r2
      r4 = r5
      r4 += 4
      if r4 > r2 goto short
      *(u32 *)(r5 +0) = 7
short: r4 = r2
      r4 += 14
      if r4 > r3 goto out
      r5 = *(u8 *)(r2 +13)
      *(u8 *)(r2 +1) = 77
      r0 += r5
out:  exit`;
    const context = fc.option(
      fc.record({
        meta: fc.constantFrom(0, 0, 4, 8, 6, 252, 256),
        extra: fc.constantFrom(0, 0, 0, 1),
        zero: fc.constantFrom(0, 0, 0, 1),
        size: fc.constantFrom(24, 24, 24, 12, 30),
      }),
    );
    fc.assert(
      fc.property(packet, context, (dataIn, given) => {
        if (dataIn.length === 0) return;
        if (given === null) return same('xdp', text, { dataIn });
        const ctxIn = new Uint8Array(given.size);
        const view = new DataView(ctxIn.buffer);
        view.setUint32(0, given.meta, true);
        view.setUint32(4, dataIn.length + given.extra, true);
        view.setUint32(8, given.zero, true);
        same('xdp', text, { dataIn, ctxIn });
      }),
      { numRuns: 120, seed: 61 },
    );
  });

  // Sums of fields that every type with a struct __sk_buff may read: len, pkt_type, mark, queue_mapping, protocol, VLAN, priority, ifindex.
  const FIELDS = [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40];
  const readAll = (fields: readonly number[]) =>
    `r0 = 0\n${fields.map((at) => `r2 = *(u32 *)(r1 +${at})\n r0 *= 31\n r0 += r2\n`).join('')} exit`;

  // Every network namespace has the loopback device, with one queue.
  it('devices', () => {
    const text = `r0 = *(u32 *)(r1 +12)\n r2 = *(u32 *)(r1 +16)\n r0 <<= 8\n r0 += r2\n exit`;
    same('xdp', text, { dataIn: frame });
    for (const device of [0, 1, 0x7fff_fff0]) {
      for (const queue of [0, 1, 0x7fff_fff0]) {
        const ctxIn = new Uint8Array(24);
        const view = new DataView(ctxIn.buffer);
        view.setUint32(4, frame.length, true);
        view.setUint32(12, device, true);
        view.setUint32(16, queue, true);
        same('xdp', text, { dataIn: frame, ctxIn });
      }
      const ctxIn = new Uint8Array(192);
      new DataView(ctxIn.buffer).setUint32(40, device, true);
      same('sched_cls', readAll([40]), { dataIn: frame, ctxIn });
    }
  });

  it.each<[ProgType, string]>([
    ['socket_filter', readAll([...FIELDS.filter((at) => at !== 28), 48, 52, 64])],
    [
      'sched_cls',
      `*(u32 *)(r1 +48) = 5\n r2 = *(u32 *)(r1 +8)\n r2 += 1\n *(u32 *)(r1 +8) = r2\n${readAll([...FIELDS, 44, 52, 68, 160, 164, 176])}`,
    ],
    ['sched_act', readAll([...FIELDS, 48])],
    ['cgroup_skb', `r6 = r1\n r0 = *(u32 *)(r1 +0)\n r0 &= 1\n exit`],
    ['lwt_xmit', readAll([0, 4, 8, 12, 16, 32])],
  ])('%s', (type, text) => {
    const context = fc.option(
      fc.record({
        at: fc.nat({ max: 48 }).map((n) => n * 4),
        value: fc.constantFrom(1, 2, 60, 100, 65536, 70000, 0xffffffff),
        mark: fc.nat(100),
        priority: fc.nat(100),
        wire: fc.constantFrom(0, 0, 200, 2000, 70000),
      }),
    );
    fc.assert(
      fc.property(packet, context, (dataIn, given) => {
        if (dataIn.length === 0) return;
        if (given === null) return same(type, text, { dataIn });
        const ctxIn = new Uint8Array(Math.max(192, given.at + 4));
        const view = new DataView(ctxIn.buffer);
        view.setUint32(8, given.mark, true);
        view.setUint32(32, given.priority, true);
        view.setUint32(160, given.wire, true);
        // A device of the kernel's may exist; see above.
        if (given.at !== 40) view.setUint32(given.at, given.value, true);
        same(type, text, { dataIn, ctxIn });
      }),
      { numRuns: 150, seed: 62 },
    );
  });

  it('raw_tracepoint and syscall', () => {
    const read = 'r0 = *(u64 *)(r1 +8)\n exit';
    for (const size of [0, 8, 15, 16, 24, 96, 97, 104]) {
      const ctxIn = Uint8Array.from({ length: size }, (_, n) => n);
      same('raw_tracepoint', read, size === 0 ? {} : { ctxIn });
      same('raw_tracepoint', 'r0 = 5\n exit', size === 0 ? {} : { ctxIn });
    }
    same('raw_tracepoint', read, { ctxIn: new Uint8Array(16), repeat: 3 });
    same('raw_tracepoint', read, { ctxIn: new Uint8Array(16), dataIn: new Uint8Array(64) });
    same('raw_tracepoint', read, { ctxIn: new Uint8Array(16), flags: 2 });
  });

  it('types without one', () => {
    for (const type of ['kprobe', 'tracepoint', 'perf_event', 'cgroup_sock', 'sk_msg'] as const) {
      same(type, 'r0 = 1\n exit', { dataIn: frame });
    }
  });
});
