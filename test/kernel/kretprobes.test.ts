import { beforeEach, describe, expect, it } from 'vitest';
import { Kprobe, Kprobes, Kretprobe, type KretprobeInstance } from '../../src/kernel/kprobes/index.ts';
import { TableArch } from './table-arch.ts';

let arch: TableArch;
let kprobes: Kprobes;
let target: (value: number) => number;
let recursive: (n: number) => number;
let query: (gate: Promise<unknown>) => Promise<unknown>;

beforeEach(() => {
  arch = new TableArch();
  kprobes = new Kprobes(arch);
  arch.kprobes = kprobes;
  target = arch.define(
    'target',
    (at, value: number) => {
      at(0, () => {});
      return at(10, () => {
        if (value < 0) throw new RangeError('negative');
        return value / 2;
      });
    },
    { offsets: [10] },
  );
  recursive = arch.define('recursive', (at, n: number): number =>
    at(0, () => (n === 0 ? 0 : 1 + recursive(n - 1))),
  );
  query = arch.define('query', async (at, gate: Promise<unknown>) => at(0, () => gate));
});

describe('a return probe', () => {
  it('hands data from the entry handler to the handler of the same call', async () => {
    const seen: unknown[] = [];
    const rp = new Kretprobe<number>({
      kp: { symbolName: 'target' },
      entryHandler: (ri, regs) => {
        ri.data = (regs.arg(0) as number) * 100;
      },
      handler: (ri, regs) => {
        seen.push([ri.rp === rp, ri.data, regs.retval, regs.threw, regs.arg(0)]);
      },
    });
    await kprobes.registerKretprobe(rp);
    expect(target(8)).toBe(4);
    expect(() => target(-1)).toThrow(new RangeError('negative'));
    expect(seen).toEqual([
      [true, 800, 4, false, 8],
      [true, -100, undefined, true, -1],
    ]);
    expect(kprobes.showList()).toMatch(/ {2}r {2}target\+0x0/);
    await kprobes.unregisterKretprobe(rp);
    target(8);
    expect(seen).toHaveLength(2);
    expect(arch.siteCount).toBe(0);
  });

  it('throw: only calls that end by one, and instances of the others are free again', async () => {
    const thrown: unknown[] = [];
    const rp = new Kretprobe({
      kp: { symbolName: 'target' },
      event: 'throw',
      maxactive: 1,
      handler: (_ri, regs) => void thrown.push([regs.threw, regs.error]),
    });
    await kprobes.registerKretprobe(rp);
    for (const value of [2, -1, 4, -2]) {
      if (value > 0) expect(target(value)).toBe(value / 2);
      else expect(() => target(value)).toThrow('negative');
    }
    const error = new RangeError('negative');
    expect({ thrown, nmissed: rp.nmissed }).toEqual({
      thrown: [
        [true, error],
        [true, error],
      ],
      nmissed: 0,
    });
    await kprobes.unregisterKretprobe(rp);
  });

  it('several on one function: the one registered last is entered first and returns last', async () => {
    const order: string[] = [];
    const make = (name: string) =>
      new Kretprobe({
        kp: { symbolName: 'target' },
        entryHandler: () => void order.push(`enter ${name}`),
        handler: () => void order.push(`leave ${name}`),
      });
    await kprobes.registerKretprobes([make('a'), make('b')]);
    const kp = new Kprobe({ symbolName: 'target', preHandler: () => void order.push('kprobe') });
    await kprobes.registerKprobe(kp);
    target(2);
    expect(order).toEqual(['kprobe', 'enter b', 'enter a', 'leave a', 'leave b']);
  });

  it('of which the entry handler answers 1 is not called at the return', async () => {
    const returned: number[] = [];
    const rp = new Kretprobe({
      kp: { symbolName: 'target' },
      maxactive: 1,
      entryHandler: (_ri, regs) => ((regs.arg(0) as number) % 2 === 0 ? 0 : 1),
      handler: (_ri, regs) => void returned.push(regs.retval as number),
    });
    await kprobes.registerKretprobe(rp);
    for (let i = 0; i < 6; i++) target(i);
    expect(returned).toEqual([0, 1, 2]);
    expect([rp.nmissed, rp.pool!.active]).toEqual([0, 0]);
  });

  it('nested calls of several probed functions come back inside out', async () => {
    const inner = arch.define('inner', (at, n: number) => at(0, () => n + 1));
    const outer = arch.define('outer', (at, n: number) => at(0, () => inner(n) * 2));
    const order: unknown[] = [];
    const make = (symbolName: string) =>
      new Kretprobe({
        kp: { symbolName },
        handler: (_ri, regs) => void order.push([symbolName, regs.retval]),
      });
    await kprobes.registerKretprobes([make('outer'), make('inner')]);
    expect(outer(1)).toBe(4);
    expect(order).toEqual([
      ['inner', 2],
      ['outer', 4],
    ]);
  });
});

describe('refusals', () => {
  const refused = (rp: Kretprobe, code: string) =>
    expect(kprobes.registerKretprobe(rp)).rejects.toMatchObject({ name: 'KernelError', code });

  it('not at a function’s entry, unknown, too much data, registered already', async () => {
    await refused(new Kretprobe({ kp: { symbolName: 'target', offset: 10 } }), 'EINVAL');
    await refused(new Kretprobe({ kp: { symbolName: 'nowhere' } }), 'ENOENT');
    await refused(new Kretprobe({ kp: { symbolName: 'target' }, dataSize: 4097 }), 'E2BIG');
    await refused(new Kretprobe({ kp: { symbolName: 'target' }, dataSize: -1 }), 'EINVAL');
    await refused(new Kretprobe({ kp: { symbolName: 'target' }, maxactive: 1.5 }), 'EINVAL');
    const rp = new Kretprobe({ kp: { symbolName: 'target' } });
    await kprobes.registerKretprobe(rp);
    await refused(rp, 'EINVAL');
    expect(rp.pool).toBeDefined();
    await expect(kprobes.registerKretprobes([])).rejects.toMatchObject({ code: 'EINVAL' });
    const good = new Kretprobe({ kp: { symbolName: 'recursive' } });
    await expect(
      kprobes.registerKretprobes([good, new Kretprobe({ kp: { symbolName: 'nowhere' } })]),
    ).rejects.toMatchObject({ code: 'ENOENT' });
    expect(good.pool).toBeUndefined();
    expect(kprobes.addresses).toEqual([arch.symbol('target').address]);
  });
});

describe('instances', () => {
  it.each([
    [1, 0, 0],
    [4, 9, 6],
    [10, 9, 0],
    [3, 40, 38],
  ])('maxactive %i with %i nested calls misses %i', async (maxactive, depth, missed) => {
    let entered = 0;
    let left = 0;
    const rp = new Kretprobe({
      kp: { symbolName: 'recursive' },
      maxactive,
      entryHandler: () => void entered++,
      handler: () => void left++,
    });
    await kprobes.registerKretprobe(rp);
    expect(recursive(depth)).toBe(depth);
    expect([entered, left, rp.nmissed]).toEqual([depth + 1 - missed, depth + 1 - missed, missed]);
    expect(rp.pool!.active).toBe(0);
  });

  it('0 is 4096; a second registration counts from 0', async () => {
    const rp = new Kretprobe({ kp: { symbolName: 'recursive' }, maxactive: -1 });
    await kprobes.registerKretprobe(rp);
    expect(rp.maxactive).toBe(4096);
    rp.nmissed = 3;
    await kprobes.unregisterKretprobe(rp);
    await kprobes.registerKretprobe(rp);
    expect(rp.nmissed).toBe(0);
  });

  it('dataSize gives bytes that stay with the instance', async () => {
    const instances = new Set<KretprobeInstance<Uint8Array>>();
    const rp = new Kretprobe<Uint8Array>({
      kp: { symbolName: 'recursive' },
      dataSize: 8,
      entryHandler: (ri, regs) => {
        ri.data[0] = regs.arg(0) as number;
        instances.add(ri);
      },
      handler: (ri, regs) => {
        if (ri.data[0] !== regs.arg(0) || ri.data.length !== 8) throw new Error('mixed up');
      },
    });
    await kprobes.registerKretprobe(rp);
    for (let i = 0; i < 5; i++) recursive(3);
    expect(instances.size).toBe(4);
    expect(rp.kp.nfault).toBe(0);
  });

  it('a value left in data does not reach the next call', async () => {
    const found: unknown[] = [];
    const rp = new Kretprobe<number | undefined>({
      kp: { symbolName: 'target' },
      entryHandler: (ri) => {
        found.push(ri.data);
        ri.data = 1;
      },
    });
    await kprobes.registerKretprobe(rp);
    target(1);
    target(1);
    expect(found).toEqual([undefined, undefined]);
  });
});

describe('asynchronous functions', () => {
  function gates(n: number) {
    const open: ((value: unknown) => void)[] = [];
    const fail: ((error: unknown) => void)[] = [];
    const promises = Array.from(
      { length: n },
      () =>
        new Promise((resolve, reject) => {
          open.push(resolve);
          fail.push(reject);
        }),
    );
    return { promises, open, fail };
  }

  it('return: the caller has the promise; settle: it is fulfilled or rejected', async () => {
    const events: unknown[] = [];
    await kprobes.registerKretprobes([
      new Kretprobe({
        kp: { symbolName: 'query' },
        handler: (_ri, regs) => void events.push(['return', regs.retval instanceof Promise]),
      }),
      new Kretprobe({
        kp: { symbolName: 'query' },
        event: 'settle',
        handler: (_ri, regs) => void events.push(['settle', regs.retval, regs.threw, regs.error]),
      }),
    ]);
    const { promises, open, fail } = gates(2);
    const first = query(promises[0]!);
    const second = query(promises[1]!);
    expect(events.splice(0)).toEqual([
      ['return', true],
      ['return', true],
    ]);
    fail[1]!('no');
    open[0]!('yes');
    await Promise.allSettled([first, second]);
    expect(events).toEqual(
      expect.arrayContaining([
        ['settle', 'yes', false, undefined],
        ['settle', undefined, true, 'no'],
      ]),
    );
    expect(events).toHaveLength(2);
  });

  it('maxactive and nmissed are exact under interleaving', async () => {
    const order: number[] = [];
    let next = 0;
    const rp = new Kretprobe<number>({
      kp: { symbolName: 'query' },
      event: 'settle',
      maxactive: 3,
      entryHandler: (ri) => {
        ri.data = next;
      },
      handler: (ri) => void order.push(ri.data),
    });
    await kprobes.registerKretprobe(rp);
    const { promises, open } = gates(7);
    const calls: Promise<unknown>[] = [];
    const call = () => {
      calls.push(query(promises[next]!));
      next++;
    };
    for (let i = 0; i < 5; i++) call();
    expect([rp.nmissed, rp.pool!.active]).toEqual([2, 3]);
    open[1]!(0);
    await calls[1];
    open[4]!(0);
    await calls[4];
    expect([order, rp.pool!.active]).toEqual([[1], 2]);
    call();
    call();
    expect([rp.nmissed, rp.pool!.active]).toEqual([3, 3]);
    for (const o of open) o(0);
    await Promise.all(calls);
    expect(order.toSorted()).toEqual([0, 1, 2, 5]);
    expect([rp.nmissed, rp.pool!.active]).toEqual([3, 0]);
  });

  it('settle of a synchronous function is its return', async () => {
    const values: unknown[] = [];
    await kprobes.registerKretprobe(
      new Kretprobe({
        kp: { symbolName: 'target' },
        event: 'settle',
        handler: (_ri, regs) => void values.push(regs.retval),
      }),
    );
    target(6);
    expect(values).toEqual([3]);
  });

  it('calls under way end with the handler when disabled, without it when unregistered', async () => {
    let settled = 0;
    const rp = new Kretprobe({ kp: { symbolName: 'query' }, event: 'settle', handler: () => void settled++ });
    await kprobes.registerKretprobe(rp);
    const { promises, open } = gates(3);
    const calls = [query(promises[0]!)];
    await kprobes.disableKretprobe(rp);
    calls.push(query(promises[1]!));
    open[0]!(0);
    await calls[0];
    expect(settled).toBe(1);
    await kprobes.enableKretprobe(rp);
    calls.push(query(promises[2]!));
    await kprobes.unregisterKretprobe(rp);
    await kprobes.registerKretprobe(rp);
    for (const o of open) o(0);
    await Promise.all(calls);
    expect([settled, rp.pool!.active]).toEqual([1, 0]);
  });
});

describe('handlers', () => {
  it('hits inside of a return handler are missed, not recursed into', async () => {
    let inner = 0;
    const kp = new Kprobe({ symbolName: 'target', preHandler: () => void inner++ });
    const rp = new Kretprobe({ kp: { symbolName: 'recursive' }, handler: () => void target(4) });
    await kprobes.registerKretprobe(rp);
    await kprobes.registerKprobe(kp);
    recursive(2);
    expect([inner, kp.nmissed]).toEqual([0, 3]);
  });

  it('a hit missed because of a running handler counts on kp.nmissed, not on nmissed', async () => {
    const rp = new Kretprobe({ kp: { symbolName: 'target' }, handler: () => {} });
    await kprobes.registerKretprobe(rp);
    await kprobes.registerKprobe(new Kprobe({ symbolName: 'recursive', preHandler: () => void target(2) }));
    recursive(0);
    expect([rp.kp.nmissed, rp.nmissed]).toEqual([1, 0]);
  });

  it.each(['entryHandler', 'handler'] as const)(
    'a throwing %s is contained and disables the probe',
    async (which) => {
      const rp = new Kretprobe({
        kp: { symbolName: 'target' },
        [which]: () => {
          throw new Error('boom');
        },
      });
      await kprobes.registerKretprobe(rp);
      expect(target(2)).toBe(1);
      expect(target(2)).toBe(1);
      expect([rp.kp.nfault, rp.pool!.active]).toEqual([1, 0]);
      await kprobes.waitForKprobeOptimizer();
      expect(arch.state('target')).toBeUndefined();
    },
  );

  it('the stack of a return handler is readable', async () => {
    let stack = '';
    function caller() {
      return target(2);
    }
    const rp = new Kretprobe({
      kp: { symbolName: 'target' },
      handler: () => {
        stack = new Error('here').stack ?? '';
      },
    });
    await kprobes.registerKretprobe(rp);
    caller();
    expect(stack).toMatch(/at caller /);
  });
});
