/** bpf(2) on a machine: descriptors, ids, pins, permissions, batches, programs, links; where root may, next to the kernel. */
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { assemble, bpf, closeFd, createMachine, ERRNO, type Machine, unpin } from '../../src/bpf/index.ts';
import { Link } from '../../src/bpf/machine/link.ts';
import type { MachineState } from '../../src/bpf/machine/machine.ts';
import { ATTR_FIELDS } from '../../src/bpf/syscall/attrs.ts';
import { BPF_CMD, kernelBpf } from '../support/kernel-bpf.ts';
import { unless } from '../support/skip.ts';

const u32 = (...values: number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);
const words = (bytes: Uint8Array): number[] => [...new Uint32Array(bytes.slice().buffer)];

const hashAttr = { mapType: 'hash', keySize: 4, valueSize: 4, maxEntries: 8, mapName: 'counts' } as const;

function filled(machine: Machine, count: number, attr: object = {}): number {
  const mapFd = bpf(machine, 'map_create', { ...hashAttr, ...attr });
  for (let n = 0; n < count; n++) {
    expect(bpf(machine, 'map_update_elem', { mapFd, key: u32(n), value: u32(n * 10) })).toBe(0);
  }
  return mapFd;
}

const program = (text: string) => ({
  progType: 'socket_filter',
  insns: assemble(text),
  license: 'GPL',
});

describe('descriptors and ids', () => {
  it('a map lives as long as a descriptor, a pin or a program needs it', () => {
    const machine = createMachine();
    const mapFd = filled(machine, 1);
    const info: Parameters<typeof bpf<'obj_get_info_by_fd'>>[2] = { bpfFd: mapFd };
    expect(bpf(machine, 'obj_get_info_by_fd', info)).toBe(0);
    expect(info.info).toMatchObject({ kind: 'map', type: 1, name: 'counts', keySize: 4, maxEntries: 8 });
    const { id } = info.info!;
    const progFd = bpf(machine, 'prog_load', {
      ...program('r1 = map[idx:0]\n r0 = 0\n exit'),
      fdArray: [mapFd],
    });
    expect(progFd).toBeGreaterThan(mapFd);
    expect(closeFd(machine, mapFd)).toBe(0);
    expect(closeFd(machine, mapFd)).toBe(-ERRNO.EBADF);
    expect(machine.maps.has(id)).toBe(true);
    const again = bpf(machine, 'map_get_fd_by_id', { id });
    expect(bpf(machine, 'obj_pin', { pathname: '/sys/fs/bpf/counts', bpfFd: again })).toBe(0);
    expect(bpf(machine, 'obj_pin', { pathname: '/sys/fs/bpf/counts', bpfFd: again })).toBe(-ERRNO.EEXIST);
    closeFd(machine, again);
    closeFd(machine, progFd);
    expect(machine.programs.size).toBe(0);
    expect(machine.maps.has(id)).toBe(true);
    const pinned = bpf(machine, 'obj_get', { pathname: '/sys/fs/bpf/counts' });
    const value = new Uint8Array(4);
    expect(bpf(machine, 'map_lookup_elem', { mapFd: pinned, key: u32(0), value })).toBe(0);
    closeFd(machine, pinned);
    expect(unpin(machine, '/sys/fs/bpf/counts')).toBe(0);
    expect(unpin(machine, '/sys/fs/bpf/counts')).toBe(-ERRNO.ENOENT);
    expect(machine.maps.size).toBe(0);
    expect(bpf(machine, 'map_get_fd_by_id', { id })).toBe(-ERRNO.ENOENT);
  });

  it('ids are listed in order', () => {
    const machine = createMachine();
    const fds = [0, 1, 2].map(() => filled(machine, 0));
    closeFd(machine, fds[1]!);
    const ids: number[] = [];
    for (
      const attr = { startId: 0, nextId: 0 };
      bpf(machine, 'map_get_next_id', attr) === 0;
      attr.startId = attr.nextId
    ) {
      ids.push(attr.nextId);
    }
    expect(ids).toEqual([1, 3]);
    expect(bpf(machine, 'prog_get_next_id', { startId: 0 })).toBe(-ERRNO.ENOENT);
    expect(bpf(machine, 'map_get_next_id', { startId: 2 ** 31 })).toBe(-ERRNO.EINVAL);
  });

  it('fields that a command does not have are refused, unless they are zero', () => {
    const machine = createMachine();
    const mapFd = filled(machine, 0);
    const freeze = (attr: object) => bpf(machine, 'map_freeze', { mapFd, ...attr } as { mapFd: number });
    expect(freeze({ count: 1 })).toBe(-ERRNO.EINVAL);
    expect(freeze({ ofALaterKernel: 1 })).toBe(-ERRNO.E2BIG);
    expect(freeze({ count: 0, ofALaterKernel: undefined })).toBe(0);
    expect(() => bpf(machine, 'map_fly' as 'map_freeze', { mapFd })).toThrow('there is no command map_fly');
    expect(bpf(machine, 'iter_create' as 'map_freeze', { mapFd })).toBe(-ERRNO.EOPNOTSUPP);
  });

  it('the wrong kind of descriptor is EINVAL, none is EBADF', () => {
    const machine = createMachine();
    const progFd = bpf(machine, 'prog_load', program('r0 = 0\n exit'));
    expect(bpf(machine, 'map_freeze', { mapFd: progFd })).toBe(-ERRNO.EINVAL);
    expect(bpf(machine, 'map_freeze', { mapFd: 99 })).toBe(-ERRNO.EBADF);
    expect(bpf(machine, 'prog_test_run', { progFd: 99 })).toBe(-ERRNO.EBADF);
  });
});

describe('nonsense', () => {
  const junk = fc.constantFrom<unknown[]>(
    undefined,
    null,
    -1,
    0,
    1,
    3,
    4,
    5,
    7,
    2 ** 31,
    2 ** 32,
    2 ** 53,
    Number.NaN,
    1.5,
    '',
    'hash',
    'array',
    'xdp',
    '/a',
    '/a/',
    10n,
    -1n,
    2n ** 70n,
    {},
    [],
    [3],
    [{}],
    new Uint8Array(0),
    new Uint8Array(4),
    new Uint8Array(8),
    new Uint8Array(16).fill(255),
    true,
  );
  const commands = Object.keys(ATTR_FIELDS) as (keyof typeof ATTR_FIELDS)[];

  it('is answered with an errno, and leaves the machine as it is', () => {
    const call = fc.constantFrom(...commands).chain((command) => {
      const fields = Object.fromEntries(ATTR_FIELDS[command].map((name) => [name, junk]));
      return fc.tuple(fc.constant(command), fc.record(fields, { requiredKeys: [] }));
    });
    fc.assert(
      fc.property(fc.array(call, { maxLength: 30 }), (calls) => {
        const machine = createMachine({ maxPages: 200 });
        const fds = [filled(machine, 2), bpf(machine, 'prog_load', program('r0 = 0\n exit'))];
        for (const [command, attr] of calls) {
          // As many runs as one asks for are made.
          if ('repeat' in attr && Number(attr.repeat) > 1000) attr.repeat = 1000;
          const result = bpf(machine, command, attr as never);
          if (!Number.isInteger(result)) throw new Error(`${command} gave ${result}`);
          if (result > 0) fds.push(result);
        }
        for (const fd of fds) closeFd(machine, fd);
        for (const path of [...machine.pins]) machine.unpin(path);
        expect([machine.maps.size, machine.programs.size]).toEqual([0, 0]);
      }),
      { numRuns: 300, seed: 71 },
    );
  });
});

describe('permissions', () => {
  const tryAll = (machine: Machine, mapFd: number) => {
    const value = new Uint8Array(4);
    return [
      bpf(machine, 'map_lookup_elem', { mapFd, key: u32(0), value }),
      bpf(machine, 'map_update_elem', { mapFd, key: u32(0), value }),
      bpf(machine, 'map_get_next_key', { mapFd, nextKey: value }),
      bpf(machine, 'map_lookup_and_delete_elem', { mapFd, key: u32(0), value }),
      bpf(machine, 'map_delete_elem', { mapFd, key: u32(0) }),
      bpf(machine, 'map_update_batch', { mapFd, keys: u32(1), values: u32(1), count: 1 }),
    ];
  };
  const P = -ERRNO.EPERM;

  it('of descriptors', () => {
    const machine = createMachine();
    const { id } = machine.createMap({ name: 'm', type: 'hash', keySize: 4, valueSize: 4, maxEntries: 4 });
    const both = bpf(machine, 'map_get_fd_by_id', { id });
    expect(bpf(machine, 'map_update_elem', { mapFd: both, key: u32(0), value: u32(1) })).toBe(0);
    const RDONLY = 8;
    const WRONLY = 16;
    expect(tryAll(machine, bpf(machine, 'map_get_fd_by_id', { id, openFlags: RDONLY }))).toEqual([
      0,
      P,
      0,
      P,
      P,
      P,
    ]);
    expect(tryAll(machine, bpf(machine, 'map_get_fd_by_id', { id, openFlags: WRONLY }))).toEqual([
      P,
      0,
      P,
      P,
      0,
      0,
    ]);
    expect(bpf(machine, 'map_get_fd_by_id', { id, openFlags: RDONLY | WRONLY })).toBe(-ERRNO.EINVAL);
  });

  it('of frozen maps', () => {
    const machine = createMachine();
    const mapFd = filled(machine, 1);
    expect(bpf(machine, 'map_freeze', { mapFd })).toBe(0);
    expect(bpf(machine, 'map_freeze', { mapFd })).toBe(-ERRNO.EBUSY);
    expect(tryAll(machine, mapFd)).toEqual([0, P, 0, P, P, P]);
  });
});

describe('batches', () => {
  it('go through a table in pieces, and take it out', () => {
    const machine = createMachine();
    const mapFd = filled(machine, 8);
    const seen = new Map<number, number>();
    let inBatch: Uint8Array | undefined;
    const errors: number[] = [];
    for (let n = 0; n < 10; n++) {
      const attr = {
        mapFd,
        inBatch,
        outBatch: new Uint8Array(4),
        keys: new Uint8Array(12),
        values: new Uint8Array(12),
        count: 3,
      };
      errors.push(bpf(machine, 'map_lookup_batch', attr));
      const keys = words(attr.keys);
      const values = words(attr.values);
      for (let i = 0; i < attr.count; i++) seen.set(keys[i]!, values[i]!);
      if (errors.at(-1) !== 0) break;
      inBatch = attr.outBatch;
    }
    expect(errors).toEqual([0, 0, -ERRNO.ENOENT]);
    expect([...seen].sort(([a], [b]) => a - b)).toEqual(Array.from({ length: 8 }, (_, n) => [n, n * 10]));
    const take = {
      mapFd,
      outBatch: new Uint8Array(4),
      keys: new Uint8Array(32),
      values: new Uint8Array(32),
      count: 8,
    };
    expect(bpf(machine, 'map_lookup_and_delete_batch', take)).toBe(-ERRNO.ENOENT);
    expect(take.count).toBe(8);
    expect(bpf(machine, 'map_get_next_key', { mapFd, nextKey: new Uint8Array(4) })).toBe(-ERRNO.ENOENT);
  });

  it('stop at the first element that fails', () => {
    const machine = createMachine();
    const mapFd = filled(machine, 3);
    const attr = { mapFd, keys: u32(0, 1, 7, 2), count: 4 };
    expect(bpf(machine, 'map_delete_batch', attr)).toBe(-ERRNO.ENOENT);
    expect(attr.count).toBe(2);
  });
});

describe('batches as in the kernel', unless(kernelBpf.reason), () => {
  afterEach(() => kernelBpf.closeAll());
  const types = {
    hash: 1,
    array: 2,
    percpu_hash: 5,
    percpu_array: 6,
    lru_hash: 9,
    lpm_trie: 11,
    queue: 22,
    stack_trace: 7,
  };
  const commands = {
    map_lookup_batch: BPF_CMD.MAP_LOOKUP_BATCH,
    map_lookup_and_delete_batch: BPF_CMD.MAP_LOOKUP_AND_DELETE_BATCH,
    map_update_batch: BPF_CMD.MAP_UPDATE_BATCH,
    map_delete_batch: BPF_CMD.MAP_DELETE_BATCH,
  } as const;

  it.each(Object.keys(types) as (keyof typeof types)[])('%s', (type) => {
    const machine = createMachine({ ncpu: kernelBpf.ncpu });
    const keySize = type === 'queue' ? 0 : type === 'lpm_trie' ? 8 : 4;
    const valueSize = type === 'stack_trace' ? 8 : 4;
    const flags = type === 'lpm_trie' ? 1 : 0;
    const mapFd = bpf(machine, 'map_create', {
      mapType: type,
      keySize,
      valueSize,
      maxEntries: 16,
      mapFlags: flags,
    });
    const kernelFd = kernelBpf.mapCreate({ type: types[type], keySize, valueSize, maxEntries: 16, flags });
    const size = type.startsWith('percpu') ? 8 * kernelBpf.ncpu : valueSize;
    const keys = (count: number): Uint8Array => {
      const bytes = new Uint8Array(count * keySize);
      const view = new DataView(bytes.buffer);
      for (let n = 0; n < count && keySize > 0; n++) {
        view.setUint32(n * keySize, type === 'lpm_trie' ? 32 : n, true);
        if (type === 'lpm_trie') view.setUint32(n * keySize + 4, n);
      }
      return bytes;
    };
    const run = (
      command: keyof typeof commands,
      options: { count: number; flags?: number; elemFlags?: number; inBatch?: Uint8Array; keys?: Uint8Array },
    ) => {
      const { count, inBatch } = options;
      const given = options.keys ?? keys(count);
      const lookup = command.includes('lookup');
      const values = new Uint8Array(count * size).fill(lookup ? 0 : 1);
      for (let at = 4; at < values.length && size > 4; at += 8) values.fill(0, at, at + 4);
      const outBatch = new Uint8Array(8);
      const attr = {
        mapFd,
        inBatch,
        outBatch,
        keys: given.slice(),
        values: values.slice(),
        count,
        elemFlags: options.elemFlags ?? 0,
        flags: options.flags ?? 0,
      };
      const error = bpf(machine, command, attr);
      const there = kernelBpf.mapBatch(commands[command], kernelFd, {
        inBatch,
        outBatchSize: 8,
        keys: given,
        values,
        count,
        elemFlags: BigInt(options.elemFlags ?? 0),
        flags: BigInt(options.flags ?? 0),
      });
      const what = { command, ...options };
      expect({ what, error, count: error === 0 || error === -2 ? attr.count : 0 }).toEqual({
        what,
        error: there.error,
        count: there.error === 0 || there.error === -2 ? there.count : 0,
      });
      if (lookup && (error === 0 || error === -2)) {
        const pairs = (k: Uint8Array, v: Uint8Array) =>
          Array.from({ length: attr.count }, (_, n) =>
            [k.slice(n * keySize, (n + 1) * keySize), v.slice(n * size, (n + 1) * size)]
              .map((b) => b.join())
              .join(':'),
          ).sort();
        expect(pairs(attr.keys, attr.values)).toEqual(pairs(there.keys, there.values));
      }
    };
    run('map_lookup_batch', { count: 4 });
    run('map_update_batch', { count: 5 });
    run('map_update_batch', { count: 2, elemFlags: 1 });
    run('map_update_batch', { count: 2, elemFlags: 4 });
    run('map_update_batch', { count: 0 });
    run('map_lookup_batch', { count: 16 });
    run('map_lookup_batch', { count: 0 });
    run('map_lookup_batch', { count: 16, flags: 1 });
    run('map_lookup_batch', { count: 16, elemFlags: 1 });
    run('map_delete_batch', { count: 2 });
    run('map_delete_batch', { count: 2 });
    run('map_lookup_and_delete_batch', { count: 16 });
    run('map_lookup_batch', { count: 16 });
  });
});

describe('programs', () => {
  it('load, with the log, and run', () => {
    const machine = createMachine();
    const bad: Parameters<typeof bpf<'prog_load'>>[2] = program('r0 = r3\n exit');
    expect(bpf(machine, 'prog_load', bad)).toBe(-ERRNO.EACCES);
    expect(bad.log).toContain('R3 !read_ok');
    const mapFd = filled(machine, 0);
    const text =
      'r1 = map[idx:0]\n r2 = r10\n r2 += -4\n *(u32 *)(r2 +0) = 5\n r3 = r2\n r4 = 0\n call bpf_map_update_elem\n exit';
    const progFd = bpf(machine, 'prog_load', { ...program(text), progName: 'put', fdArray: [mapFd] });
    expect(progFd).toBeGreaterThan(0);
    const run = { progFd, dataIn: new Uint8Array(64), repeat: 3, retval: -1, duration: -1 };
    expect(bpf(machine, 'prog_test_run', run)).toBe(0);
    expect(run.retval).toBe(0);
    const value = new Uint8Array(4);
    expect(bpf(machine, 'map_lookup_elem', { mapFd, key: u32(5), value })).toBe(0);
    expect(words(value)).toEqual([5]);
    const short = { progFd, dataIn: new Uint8Array(64).fill(1), dataOut: new Uint8Array(20), dataSizeOut: 0 };
    expect(bpf(machine, 'prog_test_run', short)).toBe(-ERRNO.ENOSPC);
    expect(short.dataSizeOut).toBe(64);
    expect(bpf(machine, 'prog_test_run', { progFd, dataIn: new Uint8Array(13) })).toBe(-ERRNO.EINVAL);
    const info: Parameters<typeof bpf<'obj_get_info_by_fd'>>[2] = { bpfFd: progFd };
    expect(bpf(machine, 'obj_get_info_by_fd', info)).toBe(0);
    expect(info.info).toMatchObject({ kind: 'prog', type: 1, name: 'put', mapIds: [1] });
    const wrong: Parameters<typeof bpf<'prog_load'>>[2] = program('r1 = map[idx:0]\n r0 = 0\n exit');
    expect(bpf(machine, 'prog_load', wrong)).toBe(-ERRNO.EPROTO);
    wrong.fdArray = [77];
    expect(bpf(machine, 'prog_load', wrong)).toBe(-ERRNO.EBADF);
    expect(wrong.log).toBe('fd 77 is not pointing to valid bpf_map\n');
  });

  it('of type syscall write their context back', () => {
    const machine = createMachine();
    const text = 'r2 = *(u64 *)(r1 +0)\n r2 += 1\n *(u64 *)(r1 +0) = r2\n r0 = 9\n exit';
    const progFd = bpf(machine, 'prog_load', { ...program(text), progType: 'syscall', progFlags: 16 });
    const attr = { progFd, ctxIn: u32(5, 0), retval: 0 };
    expect(bpf(machine, 'prog_test_run', attr)).toBe(0);
    expect([attr.retval, ...words(attr.ctxIn)]).toEqual([9, 6, 0]);
    expect(bpf(machine, 'prog_test_run', { ...attr, cpu: 1 })).toBe(-ERRNO.EINVAL);
  });

  it('have no test run where the kernel has none', () => {
    const machine = createMachine();
    const progFd = bpf(machine, 'prog_load', { ...program('r0 = 0\n exit'), progType: 'kprobe' });
    expect(bpf(machine, 'prog_test_run', { progFd })).toBe(-ERRNO.ENOTSUPP);
  });

  it('keep statistics while somebody asks for them', () => {
    const machine = createMachine();
    const progFd = bpf(machine, 'prog_load', program('r0 = 0\n exit'));
    const run = () => bpf(machine, 'prog_test_run', { progFd, dataIn: new Uint8Array(64), repeat: 10 });
    const runs = () => {
      const attr: Parameters<typeof bpf<'obj_get_info_by_fd'>>[2] = { bpfFd: progFd };
      bpf(machine, 'obj_get_info_by_fd', attr);
      return attr.info?.kind === 'prog' ? attr.info.runCnt : undefined;
    };
    run();
    const stats = bpf(machine, 'enable_stats', { type: 0 });
    run();
    closeFd(machine, stats);
    run();
    expect(runs()).toBe(10n);
    expect(bpf(machine, 'enable_stats', { type: 1 })).toBe(-ERRNO.EINVAL);
  });

  it('are run by hand through links', () => {
    const machine = createMachine();
    const load = (result: number) =>
      bpf(machine, 'prog_load', { ...program(`r0 = ${result}\n exit`), progType: 'raw_tracepoint' });
    const [one, two] = [load(1), load(2)];
    const linkFd = bpf(machine, 'raw_tracepoint_open', { name: 'sys_enter', progFd: one });
    const info: Parameters<typeof bpf<'obj_get_info_by_fd'>>[2] = { bpfFd: linkFd };
    expect(bpf(machine, 'obj_get_info_by_fd', info)).toBe(0);
    expect(info.info).toMatchObject({ kind: 'link', tpName: 'sys_enter', progId: 1 });
    const link = (machine as MachineState).objects.get<Link>('link', info.info!.id)!;
    expect(link).toBeInstanceOf(Link);
    expect(link.run(0)).toBe(1n);
    closeFd(machine, one);
    expect(link.run(0)).toBe(1n);
    expect(bpf(machine, 'link_update', { linkFd, newProgFd: two, flags: 4, oldProgFd: two })).toBe(
      -ERRNO.EPERM,
    );
    expect(bpf(machine, 'link_update', { linkFd, newProgFd: two })).toBe(0);
    expect(link.run(0)).toBe(2n);
    expect(machine.programs.size).toBe(1);
    expect(bpf(machine, 'link_detach', { linkFd })).toBe(0);
    expect(() => link.run(0)).toThrow(expect.objectContaining({ code: 'ENOLINK' }));
    expect(bpf(machine, 'link_update', { linkFd, newProgFd: two })).toBe(-ERRNO.ENOLINK);
    closeFd(machine, linkFd);
    expect(bpf(machine, 'link_get_next_id', { startId: 0 })).toBe(-ERRNO.ENOENT);
  });

  it('hold maps that are bound to them', () => {
    const machine = createMachine();
    const mapFd = filled(machine, 0);
    const progFd = bpf(machine, 'prog_load', program('r0 = 0\n exit'));
    expect(bpf(machine, 'prog_bind_map', { progFd, mapFd })).toBe(0);
    expect(bpf(machine, 'prog_bind_map', { progFd, mapFd, flags: 1 })).toBe(-ERRNO.EINVAL);
    closeFd(machine, mapFd);
    expect(machine.maps.size).toBe(1);
    closeFd(machine, progFd);
    expect(machine.maps.size).toBe(0);
  });
});

describe('type descriptions', () => {
  it('load where they are well-formed', () => {
    const machine = createMachine();
    const attr: Parameters<typeof bpf<'btf_load'>>[2] = { btf: new Uint8Array(10) };
    expect(bpf(machine, 'btf_load', attr)).toBe(-ERRNO.EINVAL);
    expect(attr.log).toBeTypeOf('string');
    // Header, a u32, one empty string.
    const btf = new Uint8Array(41);
    const view = new DataView(btf.buffer);
    view.setUint16(0, 0xeb9f, true);
    view.setUint8(2, 1);
    view.setUint32(4, 24, true);
    for (const [at, value] of [
      [12, 16],
      [16, 16],
      [20, 1],
      [28, 1 << 24],
      [32, 4],
      [36, 32],
    ])
      view.setUint32(at!, value!, true);
    const fd = bpf(machine, 'btf_load', { btf });
    expect(fd).toBeGreaterThan(0);
    expect(bpf(machine, 'btf_get_next_id', { startId: 0 })).toBe(0);
    expect(bpf(machine, 'obj_pin', { pathname: '/btf', bpfFd: fd })).toBe(-ERRNO.EINVAL);
  });
});
