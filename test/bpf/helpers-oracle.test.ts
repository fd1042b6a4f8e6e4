/** Helpers next to the kernel's own, where they mean the same in both: texts, formats, sums, dynptrs, packets. */
import { afterAll, describe, expect, it } from 'vitest';
import { fold } from '../../src/bpf/helpers/impl/checksum.ts';
import { kernelBpf } from '../support/kernel-bpf.ts';
import { type Case, compare, inKernel, inMachine, kfunc, latin1, result, store } from './support-helpers.ts';

const { reason } = kernelBpf;

afterAll(() => kernelBpf.closeAll());

describe(`helpers${reason === undefined ? ', as in this kernel' : ` (the kernel is not asked: ${reason})`}`, () => {
  const frame = Uint8Array.from({ length: 64 }, (_, n) => n + 1);

  it('strtol and strtoul', () => {
    const texts = [
      '0',
      '12',
      '-12',
      ' \t\n42abc',
      '+5',
      '',
      '-',
      ' ',
      '0x1f',
      '0X1F',
      '0x',
      '0xg',
      '010',
      '089',
      '08',
      'ff',
      '-0x10',
      '9223372036854775807',
      '9223372036854775808',
      '-9223372036854775808',
      '-9223372036854775809',
      '18446744073709551615',
      '18446744073709551616',
      '99999999999999999999999999',
      '\u00a07',
      `${'0'.repeat(62)}12345`,
      `${'0'.repeat(80)}1`,
      '--1',
      '- 1',
      '1 2',
    ];
    const parsed: bigint[] = [];
    for (const text of texts) {
      for (const flags of [0, 8, 10, 16, 2, 31, 32]) {
        const bytes = latin1(`${text}\0`);
        const call = (id: number, at: number): string => `
          r1 = map[idx:0][0]+512
          r2 = ${bytes.length}
          r3 = ${flags}
          r4 = map[idx:0][0]+${at + 8}
          call ${id}
          ${store(at / 8)}`;
        const value = new Uint8Array(1024);
        value.set(bytes, 512);
        value.fill(0xee, 0, 32);
        const outcome = compare({
          type: 'xdp',
          text: `${call(105, 0)}${call(106, 16)}r0 = 0\n exit`,
          value,
          run: { dataIn: frame },
        });
        parsed.push(result(outcome, 0));
      }
    }
    expect(parsed[0]).toBe(1n);
    expect(new Set(parsed).has(-34n)).toBe(true);
  });

  it('snprintf: formats and refusals', () => {
    const formats = [
      'plain',
      '%d %i %u',
      '%x %X %lx',
      '%5d|%-5d|%05d',
      '%+d % d %+u',
      '%ld %lld %llu',
      '%lu %li %llX',
      '%c%c',
      '%s',
      '[%10s]',
      '[%-10s]',
      '%%',
      '100%',
      '%',
      '%d%',
      '%d %d %d %d',
      '%q',
      '%f',
      '%h',
      '%hd',
      '%n',
      '%*d',
      '%.3d',
      '%#x',
      '%sx',
      '%s,%s',
      '%pks',
      '%12pks|%-20pI4|',
      '%pks%pks',
      '%pI4',
      '%pi4',
      '%pI6',
      '%pi6',
      '%pI5',
      '%pI',
      '%px',
      '%12px|%-12px|%px',
      '%020px|%-px|',
      '%px9ab %d',
      '%pI4h|',
      '%pi6c0|',
      '%pz',
      '%lld%%%d',
      '%-08x|',
      '%3c|',
      '\x01',
      '%llld',
      '%l',
      '%0-5d|',
      'tab\there',
      '%12d|%-12d|%012d',
    ];
    const outcomes: bigint[] = [];
    let refused = 0;
    for (const format of formats) {
      for (const room of [0, 1, 8, 64]) {
        const value = new Uint8Array(1024).fill(0xcc, 256, 384);
        const view = new DataView(value.buffer);
        // The text that %s reads lies on the map, whose address only a program knows.
        value.set(latin1('hello world\0'), 512);
        view.setBigInt64(136, -5n, true);
        view.setBigInt64(144, 0x1234_5678_9abc_def0n, true);
        const pointers = /s|I|i[46]/.test(format.replaceAll(/%l*i/g, ''));
        const text = `
          r6 = map[idx:0][0]+128
          ${pointers ? 'r7 = map[idx:0][0]+512' : 'r7 = 77'}
          *(u64 *)(r10 -24) = r7
          r8 = *(u64 *)(r6 +8)
          ${pointers ? 'r8 = r7' : ''}
          *(u64 *)(r10 -16) = r8
          r8 = *(u64 *)(r6 +16)
          *(u64 *)(r10 -8) = r8
          r1 = map[idx:0][0]+256
          r2 = ${room}
          r3 = map[idx:1][0]+0
          r4 = r10
          r4 += -24
          r5 = 24
          call 165
          ${store(0)}
          r0 = 0
          exit`;
        const one: Case = {
          type: 'xdp',
          text,
          value,
          constant: latin1(`${format}\0`),
          run: { dataIn: frame },
        };
        let message: string | undefined;
        try {
          inMachine(one, 'jit');
        } catch (error) {
          message = String(error);
        }
        if (message !== undefined) {
          refused++;
          expect(message).toContain('Invalid format string');
          if (reason === undefined) expect(() => inKernel(one), format).toThrow('Invalid format string');
          continue;
        }
        const outcome = compare(one, ({ retval, value: bytes }) => [format, retval, bytes.slice(0, 384)]);
        outcomes.push(result(outcome, 0));
      }
    }
    expect(refused).toBeGreaterThan(40);
    expect(outcomes[0]).toBe(6n);
  });

  it('csum_diff', () => {
    let state = 7;
    const random = (): number => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return state >>> 8;
    };
    for (let round = 0; round < 60; round++) {
      const value = new Uint8Array(1024);
      for (let i = 512; i < 1024; i++) value[i] = random() & 0xff;
      const sizes = [random() % 65, random() % 65].map((size) => size & ~3);
      if (round === 5) sizes.fill(256);
      const text = `
        r1 = map[idx:0][0]+512
        r2 = ${sizes[0]}
        r3 = map[idx:0][0]+768
        r4 = ${sizes[1]}
        r5 = ${random() & 0x7fffffff}
        call 28
        ${store(0)}
        r0 = 0
        exit`;
      // Linux 6.13 and later fold the sum to 16 bits.
      compare({ type: 'xdp', text, value, run: { dataIn: frame } }, (outcome) => {
        const sum = result(outcome, 0);
        return sum < 0n ? sum : fold(Number(sum));
      });
    }
  });

  it('csum_diff of odd sizes, or of more than there is room for', () => {
    // As in Linux 6.12; later ones take any size.
    for (const [from, to] of [
      [3, 4],
      [4, 2],
      [256, 260],
    ]) {
      const text = `
        r1 = map[idx:0][0]+0
        r2 = ${from}
        r3 = map[idx:0][0]+0
        r4 = ${to}
        r5 = 0
        call 28
        ${store(0)}
        r0 = 0
        exit`;
      for (const engine of ['jit', 'interpreter'] as const) {
        expect(result(inMachine({ type: 'xdp', text, run: { dataIn: frame } }, engine), 0)).toBe(-22n);
      }
    }
  });

  it('dynptrs of memory: bounds, reads, writes, slices', () => {
    const value = Uint8Array.from({ length: 1024 }, (_, n) => n & 0xff);
    const steps: string[] = [];
    let n = 0;
    const note = (): string => store(n++);
    const dynptr = 'r3 = r10\n r3 += -16\n';
    for (const [size, offset, flags] of [
      [8, 0, 0],
      [8, 56, 0],
      [8, 57, 0],
      [0, 64, 0],
      [16, 50, 0],
      [8, 0, 1],
      [8, -1, 0],
    ] as const) {
      steps.push(`r1 = map[idx:0][0]+700
        r2 = ${size}
        ${dynptr} r4 = ${offset}
        r5 = ${flags}
        call 201
        ${note()}`);
      steps.push(`r1 = r10
        r1 += -16
        r2 = ${offset}
        r3 = map[idx:0][0]+800
        r4 = ${size}
        r5 = ${flags}
        call 202
        ${note()}`);
    }
    for (const [offset, size] of [
      [0, 64],
      [1, 64],
      [60, 4],
    ]) {
      steps.push(`r1 = r10
        r1 += -16
        r2 = ${offset}
        r3 = ${size}
        call 203
        if r0 == 0 goto none${n}
        r1 = 7
        *(u8 *)(r0 +1) = r1
        r0 = 1
        none${n}: ${note()}`);
    }
    compare({
      type: 'xdp',
      text: `
        r1 = map[idx:0][0]+600
        r2 = 64
        r3 = 0
        r4 = r10
        r4 += -16
        call 197
        ${note()}${steps.join('\n')}
        r0 = 0
        exit`,
      value,
      run: { dataIn: frame },
    });
  });

  it('dynptr functions: adjust, clone, size, slices', () => {
    let n = 0;
    const note = (): string => store(n++);
    const self = 'r1 = r10\n r1 += -16\n';
    const call = (name: string, ...args: number[]): string =>
      `${self}${args.map((arg, i) => `r${i + 2} = ${arg}`).join('\n')}\n${kfunc(name)}\n${note()}`;
    const slice = (offset: number, size: number): string => `
      ${self} r2 = ${offset}
      r3 = 0
      r4 = ${size}
      ${kfunc('bpf_dynptr_slice')}
      if r0 == 0 goto none${n}
      r0 = *(u8 *)(r0 +0)
      none${n}: ${note()}`;
    const clone = `${self} r2 = r10\n r2 += -32\n ${kfunc('bpf_dynptr_clone')}\n ${note()}`;
    const text = `
      r1 = map[idx:0][0]+600
      r2 = 64
      r3 = 0
      r4 = r10
      r4 += -16
      call 197
      ${note()}
      ${call('bpf_dynptr_size')}
      ${call('bpf_dynptr_is_null')}
      ${call('bpf_dynptr_is_rdonly')}
      ${slice(0, 4)} ${slice(60, 4)} ${slice(61, 4)}
      ${call('bpf_dynptr_adjust', 8, 40)}
      ${call('bpf_dynptr_adjust', 5, 4)}
      ${call('bpf_dynptr_adjust', 0, 33)}
      ${call('bpf_dynptr_size')}
      ${slice(0, 4)} ${slice(28, 4)} ${slice(29, 4)}
      ${clone}
      ${call('bpf_dynptr_adjust', 32, 32)}
      ${call('bpf_dynptr_size')}
      r1 = r10
      r1 += -32
      ${kfunc('bpf_dynptr_size')}
      ${note()}
      r0 = 0
      exit`;
    const value = Uint8Array.from({ length: 1024 }, (_, at) => at & 0xff);
    compare({ type: 'xdp', text, value, run: { dataIn: frame } });
  });

  it.each([
    [0, 5],
    [-3, 3],
    [7, 7],
    [8, 7],
    [0, 0x80_0001],
    [-2147483648, 2147483647],
  ])('bpf_iter_num from %i to %i', (from, to) => {
    const text = `
      r6 = 0
      r7 = 0
      r1 = r10
      r1 += -8
      r2 = ${from}
      r3 = ${to}
      ${kfunc('bpf_iter_num_new')}
      ${store(0)}
      next: r1 = r10
      r1 += -8
      ${kfunc('bpf_iter_num_next')}
      if r0 == 0 goto done
      r1 = *(s32 *)(r0 +0)
      r6 += r1
      r7 += 1
      goto next
      done: r1 = r10
      r1 += -8
      ${kfunc('bpf_iter_num_destroy')}
      r0 = r6
      ${store(1)}
      r0 = r7
      ${store(2)}
      r0 = 0
      exit`;
    compare({ type: 'xdp', text, run: { dataIn: frame } });
  });

  it.each([0, 1, 2, 3, 512])('bpf_iter_bits over %i words', (words) => {
    const value = new Uint8Array(1024);
    for (const [at, byte] of [0x81, 0, 0, 0x10, 0, 0, 0, 0x80, 1, 0, 2].entries()) value[512 + at] = byte;
    const text = `
      r6 = 0
      r7 = 0
      r1 = r10
      r1 += -16
      r2 = map[idx:0][0]+512
      r3 = ${words}
      ${kfunc('bpf_iter_bits_new')}
      ${store(0)}
      next: r1 = r10
      r1 += -16
      ${kfunc('bpf_iter_bits_next')}
      if r0 == 0 goto done
      r1 = *(s32 *)(r0 +0)
      r6 += r1
      r7 += 1
      goto next
      done: r1 = r10
      r1 += -16
      ${kfunc('bpf_iter_bits_destroy')}
      r0 = r6
      ${store(1)}
      r0 = r7
      ${store(2)}
      r0 = 0
      exit`;
    const one: Case = { type: 'xdp', text, value, run: { dataIn: frame } };
    const error = result(compare(one), 0);
    expect(error).toBe(words === 0 ? 0xffff_ffean : words === 512 ? 0xffff_fff9n : 0n);
  });

  it('dynptrs of packets', () => {
    for (const [type, from] of [
      ['sched_cls', 'bpf_dynptr_from_skb'],
      ['xdp', 'bpf_dynptr_from_xdp'],
    ] as const) {
      let n = 0;
      const note = (): string => store(n++);
      const access = [
        [0, 14],
        [90, 8],
        [91, 8],
      ].map(
        ([offset, size]) => `
          r1 = map[idx:0][0]+600
          r2 = ${size}
          r3 = r10
          r3 += -16
          r4 = ${offset}
          r5 = 0
          call 201
          ${note()}
          r1 = r10
          r1 += -16
          r2 = ${offset}
          r3 = map[idx:0][0]+700
          r4 = ${size}
          r5 = 0
          call 202
          ${note()}
          r1 = r10
          r1 += -16
          r2 = ${offset}
          r3 = map[idx:0][0]+800
          r4 = ${size}
          ${kfunc('bpf_dynptr_slice')}
          if r0 == 0 goto none${n}
          r0 = *(u8 *)(r0 +1)
          none${n}: ${note()}`,
      );
      const text = `
        r2 = 0
        r3 = r10
        r3 += -16
        ${kfunc(from)}
        ${note()}
        r1 = r10
        r1 += -16
        ${kfunc('bpf_dynptr_size')}
        ${note()}
        ${access.join('\n')}
        r0 = 0
        exit`;
      const value = Uint8Array.from({ length: 1024 }, (_, at) => (at < 512 ? 0 : at & 0xff));
      compare({ type, text, value, run: { dataIn: ipv4() } });
    }
  });

  const ipv4 = (): Uint8Array => {
    const packet = new Uint8Array(98);
    packet.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
    packet.set([0x45, 0, 0, 84, 1, 2, 0, 0, 64, 17, 0x12, 0x34, 10, 0, 0, 1, 10, 0, 0, 2], 14);
    packet.set([0, 53, 0x30, 0x39, 0, 64, 0xab, 0xcd], 34);
    for (let i = 42; i < packet.length; i++) packet[i] = i;
    return packet;
  };
  /** r6 is the context; every call's result is kept. */
  function packets(
    type: 'sched_cls' | 'xdp',
    calls: readonly (readonly [id: number, ...args: number[]])[],
  ): Case {
    const text = calls.map(([id, ...args], n) =>
      [
        'r1 = r6',
        ...args.map((arg, i) => (arg === 9999 ? `r${i + 2} = map[idx:0][0]+600` : `r${i + 2} = ${arg}`)),
        `call ${id}`,
        store(n),
      ].join('\n'),
    );
    const value = Uint8Array.from({ length: 1024 }, (_, n) => (n < 512 ? 0 : n & 0xff));
    return { type, text: `r6 = r1\n${text.join('\n')}\n r0 = 0\n exit`, value, run: { dataIn: ipv4() } };
  }

  const MEMORY = 9999;
  it.each([
    [
      'loads',
      [
        [26, 0, MEMORY, 14],
        [26, 90, MEMORY, 8],
        [26, 91, MEMORY, 8],
        [26, -1, MEMORY, 1],
        [26, 0x10000, MEMORY, 4],
      ],
    ],
    [
      'relative loads',
      [
        [68, 0, MEMORY, 14, 0],
        [68, 0, MEMORY, 20, 1],
        [68, 80, MEMORY, 8, 1],
        [68, 0, MEMORY, 4, 2],
      ],
    ],
    [
      'stores',
      [
        [9, 14, MEMORY, 8, 0],
        [9, 90, MEMORY, 8, 1],
        [9, 91, MEMORY, 8, 0],
        [9, 0, MEMORY, 4, 4],
        [9, 0, MEMORY, 4, 2],
      ],
    ],
    [
      'pulls',
      [
        [39, 0],
        [39, 98],
        [39, 99],
        [39, 4000],
      ],
    ],
    [
      'header checksums',
      [
        [10, 24, 0x0100, 0x0200, 2],
        [10, 24, 0x1122, 0x3344, 4],
        [10, 24, 0, 0x55667788, 0],
        [10, 24, 1, 2, 0],
        [10, 24, 1, 2, 3],
        [10, 25, 1, 2, 2],
        [10, 98, 1, 2, 2],
        [10, 24, 1, 2, 18],
      ],
    ],
    [
      'transport checksums',
      [
        [11, 40, 0x0100, 0x0200, 2],
        [11, 40, 0x11223344, 0x3344, 0x14],
        [11, 40, 0, 0x55667788, 0x10],
        [11, 40, 1, 2, 0x22],
        [11, 41, 1, 2, 2],
        [11, 40, 1, 2, 0x200],
      ],
    ],
    [
      'tails',
      [
        [38, 120, 0],
        [38, 60, 0],
        [38, 10, 0],
        [38, 14, 0],
        [38, 70000, 0],
        [38, 100, 1],
        [38, 2000, 0],
      ],
    ],
    [
      'heads',
      [
        [43, 14, 0],
        [43, 0, 0],
        [43, 8, 1],
        [43, 4, 0],
      ],
    ],
    [
      'rooms at the network header',
      [
        [50, 20, 0, 0],
        [50, -20, 0, 0],
        [50, 5000, 0, 0],
        [50, -60, 0, 0],
        [50, 4, 2, 0],
      ],
    ],
    [
      'rooms at the link header',
      [
        [50, 20, 1, 2],
        [50, -20, 1, 0],
        [50, 8, 1, 6],
        [50, 8, 1, 0x18],
        [50, 4, 1, 0x1000],
      ],
    ],
    [
      'types',
      [
        [32, 1],
        [32, 4],
        [32, 0],
      ],
    ],
    [
      'sums of the packet',
      [
        [40, 5],
        [135, 0],
        [135, 1],
        [135, 4],
      ],
    ],
    ['VLAN tags', [[18, 0x0081, 5], [19], [19]]],
    ['VLAN tags, two', [[18, 0x0081, 5], [18, 0x0081, 6], [19]]],
  ] as [string, [number, ...number[]][]][])('sk_buff: %s', (_name, calls) => {
    compare(packets('sched_cls', calls));
  });

  it.each([
    [
      'heads',
      [
        [44, 4],
        [44, -4],
        [44, -300],
        [44, 90],
        [44, -200],
        [44, 216],
      ],
    ],
    [
      'tails',
      [
        [65, 10],
        [65, -30],
        [65, -90],
        [65, 5000],
        [65, 3000],
      ],
    ],
    [
      'metadata',
      [
        [54, -8],
        [54, -6],
        [54, -300],
        [54, 4],
        [54, 8],
      ],
    ],
    [
      'metadata that moves',
      [
        [54, -16],
        [44, -20],
        [44, 10],
        [54, 16],
      ],
    ],
    [
      'bytes',
      [
        [188],
        [189, 0, MEMORY, 14],
        [189, 90, MEMORY, 8],
        [189, 91, MEMORY, 8],
        [190, 4, MEMORY, 4],
        [190, 96, MEMORY, 4],
        [189, 0x10000, MEMORY, 4],
      ],
    ],
  ] as [string, [number, ...number[]][]][])('xdp_md: %s', (_name, calls) => {
    compare(packets('xdp', calls));
  });
});
