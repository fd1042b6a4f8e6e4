/** Arenas: what BPF_MAP_CREATE refuses, their pages, programs in JIT, interpreter and, as root, in this machine's kernel, objects of clang. */
import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import {
  type Arena,
  assemble,
  BPF_MAP_TYPE,
  type BpfError,
  bpf,
  createMachine,
  ERRNO,
  MACHINE_KFUNCS,
  MAP_FLAG,
  type MapSpec,
  openObject,
  type VerifierError,
} from '../../src/bpf/index.ts';
import { MachineState } from '../../src/bpf/machine/machine.ts';
import { kernelBpf } from '../support/kernel-bpf.ts';
import { unless } from '../support/skip.ts';
import {
  arenaSpec,
  type Case,
  compare,
  inKernel,
  inMachine,
  kfunc,
  result,
  store,
} from './support-helpers.ts';

const { reason } = kernelBpf;
const { BPF_F_MMAPABLE, BPF_F_NO_USER_CONV, BPF_F_SEGV_ON_FAULT } = MAP_FLAG;
const PAGE = 4096;
const START = (1n << 44n) + 0x1000_0000n;

afterAll(() => kernelBpf.closeAll());

const asked = reason === undefined ? ', as in this kernel' : ` (the kernel is not asked: ${reason})`;

describe(`maps${asked}`, () => {
  const spec: MapSpec = arenaSpec({ maxEntries: 2, mapExtra: START });
  const made = (one: MapSpec): number => {
    try {
      createMachine().createMap(one);
      return 0;
    } catch (error) {
      return -ERRNO[(error as BpfError).code as keyof typeof ERRNO];
    }
  };
  it.each([
    ['nothing wrong', {}, 0],
    ['a key', { keySize: 4 }, -ERRNO.EINVAL],
    ['a value', { valueSize: 4 }, -ERRNO.EINVAL],
    ['no pages', { maxEntries: 0 }, -ERRNO.EINVAL],
    ['no BPF_F_MMAPABLE', { flags: 0 }, -ERRNO.EINVAL],
    ['another flag', { flags: BPF_F_MMAPABLE | MAP_FLAG.BPF_F_NUMA_NODE }, -ERRNO.EINVAL],
    ['its own flags', { flags: BPF_F_MMAPABLE | BPF_F_SEGV_ON_FAULT | BPF_F_NO_USER_CONV }, 0],
    ['an address within a page', { mapExtra: START + 8n }, -ERRNO.EINVAL],
    ['4 GiB', { mapExtra: 1n << 44n, maxEntries: 1 << 20 }, 0],
    ['4 GiB anywhere', { mapExtra: 0n, maxEntries: 1 << 20 }, 0],
    ['more than 4 GiB', { mapExtra: 1n << 44n, maxEntries: (1 << 20) + 1 }, -ERRNO.E2BIG],
    ['up to the end of 4 GiB', { mapExtra: (1n << 45n) - 8192n }, 0],
    ['across 4 GiB', { mapExtra: (1n << 45n) - 4096n }, -ERRNO.ERANGE],
    ['a wrong address and too many pages', { mapExtra: 8n, maxEntries: 1 << 21 }, -ERRNO.EINVAL],
  ] as const)('%s', (_, change, expected) => {
    const one = { ...spec, ...change };
    expect(made(one)).toBe(expected);
    if (reason !== undefined) return;
    const fd = kernelBpf.mapCreate({ ...one, type: BPF_MAP_TYPE.arena });
    expect(Math.min(fd, 0)).toBe(expected);
    kernelBpf.close(fd);
  });

  it('have no elements', () => {
    const machine = createMachine();
    const mapFd = bpf(machine, 'map_create', { mapType: 'arena', maxEntries: 2, mapFlags: BPF_F_MMAPABLE });
    const none = new Uint8Array(0);
    const ours = [
      bpf(machine, 'map_lookup_elem', { mapFd, key: none, value: none }),
      bpf(machine, 'map_update_elem', { mapFd, key: none, value: none }),
      bpf(machine, 'map_delete_elem', { mapFd, key: none }),
      bpf(machine, 'map_get_next_key', { mapFd, nextKey: none }),
      bpf(machine, 'map_lookup_and_delete_elem', { mapFd, key: none, value: none }),
      bpf(machine, 'map_lookup_batch', { mapFd, count: 1 }),
    ];
    expect(ours).toEqual([
      -ERRNO.EINVAL,
      -ERRNO.EOPNOTSUPP,
      -ERRNO.EOPNOTSUPP,
      -ERRNO.EOPNOTSUPP,
      -ERRNO.ENOTSUPP,
      -ERRNO.ENOTSUPP,
    ]);
    if (reason !== undefined) return;
    const fd = kernelBpf.mapCreate({ ...spec, type: BPF_MAP_TYPE.arena });
    expect([
      kernelBpf.mapLookup(fd, undefined, 0),
      kernelBpf.mapUpdate(fd, undefined, none),
      kernelBpf.mapDelete(fd, none),
      kernelBpf.mapNextKey(fd, undefined, 0),
      kernelBpf.mapLookupAndDelete(fd, undefined, 0),
      kernelBpf.mapBatch(24, fd, { count: 1 }).error,
    ]).toEqual(ours);
  });

  it('can be in maps of maps', () => {
    const outer = { type: 'array_of_maps', keySize: 4, valueSize: 4, maxEntries: 1 } as const;
    expect(made({ ...outer, name: 'outer', innerMap: spec })).toBe(0);
    if (reason !== undefined) return;
    const innerMapFd = kernelBpf.mapCreate({ ...spec, type: BPF_MAP_TYPE.arena });
    expect(kernelBpf.mapCreate({ ...outer, type: BPF_MAP_TYPE.array_of_maps, innerMapFd })).toBeGreaterThan(
      0,
    );
  });
});

const ARENA = { maxEntries: 8, mapExtra: START };
const hex = (value: bigint): string => `0x${BigInt.asUintN(64, value).toString(16)}`;
const alloc = (address: bigint, count: number, node = -1, flags = 0): string => `
  r1 = map[idx:2]
  r2 = ${hex(address)} ll
  r3 = ${count}
  r4 = ${node}
  r5 = ${flags}
  ${kfunc('bpf_arena_alloc_pages')}
`;
const free = (address: bigint, count: number): string => `
  r1 = map[idx:2]
  r2 = ${hex(address)} ll
  r3 = ${count}
  ${kfunc('bpf_arena_free_pages')}
`;
/** r7: a pointer of the program. */
const pointTo = (address: bigint): string => `r6 = ${hex(address)} ll\n r7 = addr_space_cast(r6, 0, 1)\n`;
const program = (text: string, arena: NonNullable<Case['arena']> = ARENA): Case => ({
  type: 'syscall',
  text: `${text}\n r0 = 0\n exit`,
  arena,
});
const results = (one: Case, count: number): bigint[] => {
  const outcome = compare(one);
  return Array.from({ length: count }, (_, n) => BigInt.asUintN(64, result(outcome, n)));
};

describe(`programs${asked}`, () => {
  it('allocate pages, where they say or where there is room, and not twice', () => {
    const texts = [
      alloc(START + 4n * 4096n, 2),
      alloc(START + 5n * 4096n, 1),
      alloc(START + 8n * 4096n, 1),
      alloc(START + 7n * 4096n, 2),
      alloc(START + 1n, 1),
      // The low half counts.
      alloc(START + (1n << 40n), 1),
      alloc(0n, 0),
      alloc(0n, 9),
      alloc(0n, 1, -1, 1),
      alloc(0n, 1, 1000),
      alloc(0n, 3, 0),
      alloc(0n, 3),
      alloc(0n, 2),
    ];
    const found = results(program(texts.map((text, n) => text + store(n)).join('\n')), texts.length);
    expect(found).toEqual([
      START + 0x4000n,
      0n,
      0n,
      0n,
      0n,
      START,
      0n,
      0n,
      0n,
      0n,
      START + 0x1000n,
      0n,
      START + 0x6000n,
    ]);
  });

  it('find 0 where there is no page, and lose what they store there', () => {
    const ops = [
      `${pointTo(START)}*(u64 *)(r7 +0) = 7\n r0 = *(u64 *)(r7 +0)`,
      `${alloc(START, 1)}${pointTo(START)}*(u64 *)(r7 +8) = 7\n r0 = *(u64 *)(r7 +8)`,
      // Over the end of the page: nothing of it.
      `${pointTo(START + 4092n)}r1 = -1\n *(u64 *)(r7 +0) = r1\n r0 = *(u32 *)(r7 +0)`,
      `r0 = *(u64 *)(r7 -4)`,
      `${alloc(START + 4096n, 1)}${pointTo(START + 4092n)}r1 = ${hex(0x1122334455667788n)} ll\n *(u64 *)(r7 +0) = r1\n r0 = *(u64 *)(r7 +0)`,
      `r0 = *(u32 *)(r7 +4)`,
      `r0 = *(u16 *)(r7 +3)`,
      `${free(START, 1)}r0 = *(u64 *)(r7 +0)`,
      `r0 = *(u32 *)(r7 +4)`,
      `${alloc(START, 1)}r0 = *(u64 *)(r7 +0)`,
      // Before and behind all addresses.
      `${pointTo(4096n)}r0 = *(u64 *)(r7 -8192)`,
      `${pointTo(0xffff_fffcn)}*(u64 *)(r7 +0) = 1\n r0 = *(u64 *)(r7 +0)`,
    ];
    const found = results(program(ops.map((text, n) => `${text}\n${store(n)}`).join('\n')), ops.length);
    expect(found).toEqual([
      0n,
      7n,
      0n,
      0n,
      0x1122334455667788n,
      0x11223344n,
      0x4455n,
      0n,
      0x11223344n,
      0x11223344_00000000n,
      0n,
      0n,
    ]);
  });

  it('change words atomically; nothing happens where there is no page', () => {
    const atomics = (expected: bigint): string[] => [
      `${pointTo(START)}r2 = 5\n r2 = atomic64_fetch_add((u64 *)(r7 +8), r2)\n r0 = r2`,
      `r2 = 9\n r2 = atomic64_xchg((u64 *)(r7 +8), r2)\n r0 = r2`,
      `r0 = 9\n r2 = 3\n r0 = atomic64_cmpxchg((u64 *)(r7 +8), r0, r2)`,
      `r0 = ${hex(expected)} ll\n r2 = 4\n r0 = atomic_cmpxchg((u32 *)(r7 +8), r0, r2)`,
      `r2 = ${hex(0xffff_0000_0001n)} ll\n r2 = atomic_fetch_add((u32 *)(r7 +8), r2)\n r0 = r2`,
      `r2 = 6\n lock *(u64 *)(r7 +8) |= r2\n r0 = *(u64 *)(r7 +8)`,
      `r2 = -2\n lock *(u32 *)(r7 +8) &= r2\n r0 = *(u64 *)(r7 +8)`,
      `r2 = 15\n lock *(u64 *)(r7 +8) ^= r2\n r0 = *(u64 *)(r7 +8)`,
    ];
    const ops = [...atomics(0x7700000003n), `${alloc(START, 1)}r0 = 0`, ...atomics(3n)];
    const found = results(program(ops.map((text, n) => `${text}\n${store(n)}`).join('\n')), ops.length);
    expect(found.slice(0, 8)).toEqual([5n, 9n, 9n, 0x7700000003n, 0xffff_0000_0001n, 0n, 0n, 0n]);
    expect(found.slice(9)).toEqual([0n, 5n, 9n, 3n, 4n, 7n, 6n, 9n]);
  });

  it.each([
    ['as they are made', 0],
    ['without conversion', BPF_F_NO_USER_CONV],
  ])('have pointers of 32 bits, and user space whole ones: %s', (_, flags) => {
    const ops = [
      `${pointTo(START + 4096n)}r0 = r7`,
      `r0 = addr_space_cast(r7, 1, 0)`,
      `r7 += -4096\n r0 = r7`,
      `r0 = addr_space_cast(r7, 1, 0)`,
      `r7 <<= 4\n r0 = r7`,
      `r0 = addr_space_cast(r7, 1, 0)`,
      `r1 = 5\n r1 -= r7\n r0 = r1`,
      `r7 *= -3\n r0 = r7`,
      `r7 s>>= 4\n r0 = r7`,
      `r7 = map[idx:2][0]+72\n r0 = r7`,
    ];
    const text = ops.map((op, n) => `${op}\n${store(n)}`).join('\n');
    const found = results(program(text, { ...ARENA, flags }), ops.length);
    expect(found[0]).toBe(0x1000_1000n);
    expect(found[1]).toBe(flags === 0 ? START + 4096n : 0x1000_1000n);
    expect(found[2]).toBe(0x1000_0000n);
    expect(found[5]).toBe(0n);
    expect(found[9]).toBe(START + 72n);
  });

  it('cannot use its elements', () => {
    const calls = [
      ['r2 = r10', 'call bpf_map_lookup_elem'],
      ['r2 = r10\n r3 = r10\n r4 = 0', 'call bpf_map_update_elem'],
      ['r2 = r10', 'call bpf_map_delete_elem'],
      ['r2 = r10\n r3 = 0', 'call 87'],
      ['r2 = 0\n r3 = 0\n r4 = 0', 'call 131'],
    ] as const;
    for (const [args, call] of calls) {
      const one = program(`*(u64 *)(r10 -8) = 0\n r1 = map[idx:2]\n ${args}\n ${call}`);
      const thrown = (run: () => unknown): unknown => {
        try {
          return run();
        } catch (error) {
          return (error as VerifierError).errno ?? -Number.parseInt((error as Error).message, 10);
        }
      };
      const ours = thrown(() => inMachine(one, 'jit'));
      expect([ERRNO.EACCES, ERRNO.EINVAL]).toContain(ours);
      if (reason === undefined) expect(thrown(() => inKernel(one))).toBe(ours);
    }
  });

  it('are refused with other maps of that type, and without a reference to one', () => {
    const machine = createMachine();
    const maps = [machine.createMap(arenaSpec(ARENA)), machine.createMap(arenaSpec(ARENA))];
    const load = (text: string, options = {}) =>
      machine.loadProgram({
        name: 'p',
        type: 'syscall',
        insns: assemble(text),
        maps: maps.map((map) => map.spec),
        loadedMaps: maps,
        kfuncs: MACHINE_KFUNCS,
        ...options,
      });
    const code = (text: string, options = {}): string => {
      try {
        load(text, options);
        return 'none';
      } catch (error) {
        return `${(error as VerifierError).errnoName}: ${(error as VerifierError).message}`;
      }
    };
    const use = 'r1 = map[idx:0]\n';
    const end = 'r0 = 0\n exit';
    expect(code(`${use}r1 = map[idx:1]\n${end}`)).toMatch(/^EBUSY: .*Only one arena per program/);
    expect(code(`${use}${use}${end}`)).toBe('none');
    expect(code(`r1 = 0\n r1 = addr_space_cast(r1, 0, 1)\n${end}`)).toMatch(
      /^EINVAL: .*addr_space_cast insn can only be used in a program that has an associated arena/,
    );
    expect(code(`${use}r1 = 0\n r1 = addr_space_cast(r1, 0, 1)\n r0 = *(s32 *)(r1 +0)\n exit`)).toMatch(
      /^EOPNOTSUPP: .*sign extending loads from arena are not supported yet/,
    );
    expect(code(`r1 = map[idx:0][0]+32768\n${end}`)).toBe('none');
    expect(code(`r1 = map[idx:0][0]+32769\n${end}`)).toMatch(
      /^ERANGE: .*invalid access to map value pointer/,
    );
    // What bpf_arena_alloc_pages() gives is a number until it is cast.
    const pages = alloc(0n, 1).replace('idx:2', 'idx:0');
    expect(code(`${pages}\n r0 = *(u32 *)(r0 +0)\n exit`)).toMatch(
      /^EACCES: .*R0 invalid mem access 'scalar'/,
    );
    expect(code(use + end, { type: 'socket_filter', unprivileged: true })).toMatch(
      /^EPERM: .*CAP_BPF and CAP_PERFMON are required to use arena/,
    );
  });
});

/** Numbers that are the same every time. */
function random(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** A program of random allocations, accesses and arithmetic; every result is in the value. `strict`: what the kernel's processor takes too. */
function randomProgram(seed: number, strict: boolean): Case {
  const next = random(seed);
  const pick = <T>(list: readonly T[]): T => list[next(list.length)]!;
  const mapExtra = pick([START, 1n << 44n, (1n << 45n) - 8n * 4096n]);
  const page = (): bigint => mapExtra + BigInt(next(8)) * 4096n;
  const near = (): bigint => page() + BigInt(pick([0, 0, 1, 2040, 4088, 4092, 4093, 4095, -8, -3]));
  const sizes = { u8: 1, u16: 2, u32: 4, u64: 8 } as const;
  const size = (): keyof typeof sizes => pick(['u8', 'u16', 'u32', 'u64'] as const);
  const word = (): string => hex(BigInt(next(2 ** 32)) * 2n ** 31n + BigInt(next(2 ** 32)));
  const atomic = (): string => {
    const isWide = next(2) === 0;
    const bytes = isWide ? 8n : 4n;
    const at = strict ? (near() / bytes) * bytes : near();
    const type = isWide ? 'u64' : 'u32';
    const name = isWide ? 'atomic64' : 'atomic';
    return (
      pointTo(at) +
      pick([
        () => `r2 = ${word()} ll\n r2 = ${name}_fetch_add((${type} *)(r7 +0), r2)\n r0 = r2`,
        () => `r2 = ${word()} ll\n r2 = ${name}_xchg((${type} *)(r7 +0), r2)\n r0 = r2`,
        () =>
          `r0 = *(${type} *)(r7 +0)\n r2 = ${word()} ll\n r0 = ${name}_cmpxchg((${type} *)(r7 +0), r0, r2)`,
        () =>
          `r2 = ${word()} ll\n lock *(${type} *)(r7 +0) ${pick(['+', '|', '&', '^'])}= r2\n r0 = *(u64 *)(r7 +0)`,
      ])()
    );
  };
  const op = (): string =>
    pick([
      () => alloc(page(), 1 + next(3)),
      // Linux 6.13 and later have other rules where there are several gaps.
      () => alloc(strict ? page() : 0n, 1),
      () => `${free(page(), 1 + next(3))}r0 = 0`,
      () =>
        `${pointTo(near())}r1 = ${word()} ll\n *(${size()} *)(r7 ${pick(['+0', '+5', '-7', '+4090'])}) = r1\n r0 = *(u64 *)(r7 +0)`,
      () => `${pointTo(near())}*(${size()} *)(r7 +0) = ${next(2 ** 31) - 2 ** 30}\n r0 = *(u32 *)(r7 +2)`,
      () => `${pointTo(near())}r0 = *(${size()} *)(r7 ${pick(['+0', '+1', '-8', '+4088', '-32768'])})`,
      () =>
        `${pointTo(near())}r7 ${pick(['+', '-', '*', '|', '&', '^', '<<', '>>', 's>>'])}= ${next(31)}\n r0 = r7`,
      () => `r0 = *(u64 *)(r7 +0)`,
      () => `${pointTo(near())}r0 = addr_space_cast(r7, 1, 0)`,
      atomic,
    ])();
  const count = 60;
  const text = Array.from(
    { length: count },
    (_, n) => `${n === 0 ? pointTo(page()) : ''}${op()}\n${store(n)}`,
  );
  return program(text.join('\n'), { maxEntries: 8, mapExtra });
}

describe('random programs', () => {
  it('give the same in JIT and interpreter, unaligned atomics included', () => {
    const outcomes = Array.from({ length: 60 }, (_, seed) => {
      const one = randomProgram(seed, false);
      const [jit, interpreter] = (['jit', 'interpreter'] as const).map((engine) => inMachine(one, engine));
      expect({ seed, value: interpreter!.value }).toEqual({ seed, value: jit!.value });
      return jit!.value.filter((byte) => byte !== 0).length;
    });
    // They do something.
    expect(Math.min(...outcomes)).toBeGreaterThan(30);
  });

  it('give the same in the kernel', { ...unless(reason), timeout: 60_000 }, () => {
    for (let seed = 1000; seed < 1100; seed++) compare(randomProgram(seed, true));
  });
});

describe('user space', () => {
  const make = (arena: NonNullable<Case['arena']>, options = {}) => {
    const machine = createMachine(options);
    return { machine, map: machine.createMap(arenaSpec(arena)) as Arena };
  };

  it('reads and writes at addresses of programs, over the ends of pages', () => {
    const { map } = make(ARENA);
    const bytes = Uint8Array.from({ length: 9000 }, (_, n) => n * 7);
    map.write(START + 4000n, bytes);
    expect(map.pages).toBe(4);
    expect(map.read(START + 4000n, 9000)).toEqual(bytes);
    expect(map.read(START + 7n * 4096n, 8)).toEqual(new Uint8Array(8));
    expect(map.pages).toBe(5);
    expect(() => map.read(START - 1n, 1)).toThrow(expect.objectContaining({ code: 'EFAULT' }));
    expect(() => map.write(START + 8n * 4096n - 4n, new Uint8Array(5))).toThrow(
      expect.objectContaining({ code: 'EFAULT' }),
    );
    expect(() => map.read(0x1000_0000n, 1)).toThrow(expect.objectContaining({ code: 'EFAULT' }));
  });

  it('gets no pages of an arena that says so', () => {
    const { map } = make({ ...ARENA, flags: BPF_F_SEGV_ON_FAULT });
    expect(() => map.read(START, 1)).toThrow(
      expect.objectContaining({ code: 'EFAULT', message: 'map arena: there is no page at 0x100010000000' }),
    );
    expect(map.allocPages(START, 1, -1, 0)).toBe(START);
    map.write(START, Uint8Array.of(1));
    expect(map.read(START, 1)).toEqual(Uint8Array.of(1));
  });

  it('says short addresses where programs store these', () => {
    const { map } = make({ ...ARENA, flags: BPF_F_NO_USER_CONV });
    map.write(0x1000_0008n, Uint8Array.of(1, 2));
    expect(map.read(START + 8n, 2)).toEqual(Uint8Array.of(1, 2));
  });
});

describe('memory', () => {
  it('of 4 GiB costs what is allocated of it, and comes back', () => {
    const machine = new MachineState({});
    const before = machine.heap.used;
    const map = machine.createMap(arenaSpec({ maxEntries: 1 << 20 })) as Arena;
    expect(machine.heap.used - before).toBeLessThan(16 * 1024);
    const first = map.allocPages(0n, 1, -1, 0);
    expect(map.allocPages(map.userEnd - 4096n, 1, -1, 0)).toBe(map.userEnd - 4096n);
    expect(map.allocPages(0n, 300, -1, 0)).toBe(first + 4096n);
    // Tables of what is near: pages 0 to 300, the last one, and what is spare.
    expect(machine.heap.used - before).toBeLessThan((302 + 8) * PAGE);
    // More than the memory can be, and all that it can be: nothing stays of an attempt.
    const used = machine.heap.used;
    expect(map.allocPages(0n, (1 << 20) - 400, -1, 0)).toBe(0n);
    expect(map.pages).toBe(302);
    expect(machine.heap.used - used).toBeLessThan(1100 * 2 * PAGE);
    for (let n = 0; n < 50; n++) {
      const at = map.allocPages(0n, 7, -1, 0);
      map.freePages(at, 7, 0);
    }
    expect(map.pages).toBe(302);
    machine.release(map);
    expect(machine.heap.used).toBe(before);
  });

  it('that cannot be had is no page', () => {
    const machine = createMachine({ maxPages: 32 });
    const map = machine.createMap(arenaSpec({ maxEntries: 1 << 20, mapExtra: 1n << 44n })) as Arena;
    expect(map.allocPages(0n, 600, -1, 0)).toBe(0n);
    let count = 0;
    while (map.allocPages(0n, 1, -1, 0) !== 0n) count++;
    expect(count).toBeGreaterThan(400);
    expect(map.pages).toBe(count);
    map.freePages(map.userStart, 1 << 20, 0);
    expect(map.pages).toBe(0);
    expect(map.allocPages(0n, count, -1, 0)).toBe(1n << 44n);
    expect(() => map.read(map.userEnd - 1n, 1)).toThrow(expect.objectContaining({ code: 'ENOMEM' }));
  });
});

const bytes = new Uint8Array(readFileSync(new URL('./fixtures/arena/arena-19.o', import.meta.url)));

describe.each(['jit', 'interpreter'] as const)('an object of clang, %s', (engine) => {
  const load = (options = {}) => {
    const object = openObject(bytes, 'arena.o');
    object.globals.set('total', 40n);
    const loaded = object.load({ engine, ...options });
    const arena = loaded.maps.get('arena') as Arena;
    const run = (name: string, ctxIn?: Uint8Array): number =>
      loaded.programs.get(name)!.testRun(ctxIn === undefined ? {} : { ctxIn }).retval;
    return { object, loaded, arena, run };
  };
  const u64At = (arena: Arena, address: bigint): bigint =>
    new DataView(arena.read(address, 8).buffer).getBigUint64(0, true);

  it('has variables in its arena', () => {
    const { object, loaded, arena } = load();
    expect(object.spec.maps.get('arena')).toMatchObject({ type: 'arena', maxEntries: 100, mapExtra: START });
    expect(
      [...object.globals]
        .filter(({ map }) => map === 'arena')
        .map(({ name }) => name)
        .sort(),
    ).toEqual(['calls', 'first', 'total']);
    expect(object.globals.get('calls')).toEqual([1, 2, 0, 0]);
    expect(loaded.globals.get('first')).toEqual({ next: 0n, value: 7n });
    expect(arena.pages).toBe(1);
    loaded.globals.set('total', 50n);
    const { offset } = loaded.globals.variable('total');
    expect(u64At(arena, arena.userStart + BigInt(offset))).toBe(50n);
    expect(object.globals.get('total')).toBe(40n);
  });

  it('builds a list that user space walks by its pointers', () => {
    const { loaded, arena, run } = load();
    expect(run('build', new Uint8Array(Uint32Array.of(600).buffer))).toBe(0);
    expect(loaded.globals.get('pages_used')).toBe(3);
    expect(arena.pages).toBe(4);
    const values: bigint[] = [];
    for (let node = loaded.globals.get('head') as bigint; node !== 0n; node = u64At(arena, node)) {
      expect(node >> 32n).toBe(START >> 32n);
      values.push(u64At(arena, node + 8n));
    }
    expect(values).toEqual([...Array.from({ length: 600 }, (_, n) => BigInt(599 - n)), 7n]);
    const sum = 40 + 7 + (599 * 600) / 2;
    expect(run('add')).toBe(sum);
    expect(loaded.globals.get('total')).toBe(BigInt(sum));
    expect(loaded.globals.get('calls')).toEqual([1, 2, 0, 1]);
    expect(run('drop')).toBe(0);
    expect(arena.pages).toBe(3);
    expect(run('read_first')).toBe(7);
  });

  it('sees what user space wrote', () => {
    const { loaded, arena, run } = load();
    const node = arena.userStart + 5n * 4096n;
    arena.write(node, new Uint8Array(BigUint64Array.of(0n, 100n).buffer));
    loaded.globals.set('head', node);
    expect(run('add')).toBe(140);
  });
});

describe('objects', () => {
  it('are verified without a machine', () => {
    for (const name of ['build', 'add', 'drop', 'read_first'])
      expect(openObject(bytes).verify(name).arena).toMatchObject({ userStart: START });
  });

  it('with variables of an arena have one, and one that holds them', () => {
    const { btf } = openObject(bytes).spec;
    /** A definition's number is the length of an array of int in .BTF. */
    const changed = (from: number, to: number): Uint8Array => {
      const array = (length: number): Buffer =>
        Buffer.from(
          Uint32Array.of(btf!.byName('int', 'INT')!, btf!.byName('__ARRAY_SIZE_TYPE__', 'INT')!, length)
            .buffer,
        );
      const copy = bytes.slice();
      copy.set(array(to), Buffer.from(copy.buffer).indexOf(array(from)));
      return copy;
    };
    const refused = (object: Uint8Array, message: string) =>
      expect(() => openObject(object)).toThrow(
        expect.objectContaining({ code: 'OBJ_BAD_MAP', message: expect.stringContaining(message) }),
      );
    refused(changed(33, 1), 'there are variables of an arena, and no arena');
    refused(changed(100, 0), 'map arena: 40 bytes of variables do not fit into 0 pages');
  });
});
