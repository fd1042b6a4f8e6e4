import { beforeEach, describe, expect, it } from 'vitest';
import {
  KPROBE_FLAG_DISABLED,
  KPROBE_FLAG_FTRACE,
  KPROBE_FLAG_GONE,
  KPROBE_FLAG_ON_FUNC_ENTRY,
  Kprobe,
  type KprobeInit,
  Kprobes,
  type PtRegs,
} from '../../src/kernel/kprobes/index.ts';
import { TableArch } from './table-arch.ts';

let arch: TableArch;
let kprobes: Kprobes;
let target: (value: number) => number;
let target2: (value: number) => number;
let lines: (value: number) => string;

beforeEach(() => {
  arch = new TableArch();
  kprobes = new Kprobes(arch);
  arch.kprobes = kprobes;
  target = arch.define('target', (at, value: number) => at(0, () => value / 2), { module: 'app.js' });
  target2 = arch.define('target2', (at, value: number) => at(0, () => value / 2 + 1));
  lines = arch.define(
    'lines',
    (at, value: number) => {
      at(0, () => {});
      const doubled = at(40, () => value * 2);
      return at(80, () => `${doubled}`);
    },
    { offsets: [40, 80] },
  );
});

const refusal = (code: string, errno: number) =>
  expect.objectContaining({ name: 'KernelError', code, errno });

describe('one kprobe', () => {
  it('calls the pre handler with the arguments and the post handler behind the entry statement', async () => {
    const seen: unknown[] = [];
    const kp = new Kprobe({
      symbolName: 'target',
      preHandler: (p, regs) => {
        seen.push([
          'pre',
          p === kp,
          regs.arg(0),
          regs.arg(1),
          regs.argc,
          regs.thisValue,
          regs.ip === kp.addr,
        ]);
        return 0;
      },
      postHandler: (p, _regs, flags) => {
        seen.push(['post', p === kp, flags]);
      },
    });
    await kprobes.registerKprobe(kp);
    expect(target.call('me', 34)).toBe(17);
    expect(seen).toEqual([
      ['pre', true, 34, undefined, 1, 'me', true],
      ['post', true, 0],
    ]);
    await kprobes.unregisterKprobe(kp);
    expect(target(34)).toBe(17);
    expect(seen).toHaveLength(2);
    expect(arch.siteCount).toBe(0);
  });

  it('sits on a statement by symbol+offset and by address', async () => {
    const order: string[] = [];
    const by = (init: KprobeInit, label: string) =>
      new Kprobe({
        ...init,
        preHandler: () => void order.push(`${label} pre`),
        postHandler: () => void order.push(`${label} post`),
      });
    const first = by({ symbolName: 'lines', offset: 40 }, '40');
    const second = by({ addr: arch.symbol('lines').address + 80n }, '80');
    const third = by({ addr: arch.symbol('lines').address, offset: 0 }, '0');
    await kprobes.registerKprobes([first, second, third]);
    expect(lines(4)).toBe('8');
    expect(order).toEqual(['0 pre', '0 post', '40 pre', '40 post', '80 pre', '80 post']);
    expect(first.flags & KPROBE_FLAG_ON_FUNC_ENTRY).toBe(0);
    expect(third.flags & KPROBE_FLAG_ON_FUNC_ENTRY).not.toBe(0);
  });

  it('runs the post handler when the statement throws, and passes the error on', async () => {
    const failing = arch.define('failing', (at) =>
      at(0, (): number => {
        throw new RangeError('mine');
      }),
    );
    let post = 0;
    await kprobes.registerKprobe(new Kprobe({ symbolName: 'failing', postHandler: () => void post++ }));
    expect(() => failing()).toThrow(new RangeError('mine'));
    expect(post).toBe(1);
  });

  it('takes only the disabled flag from the user', async () => {
    const kp = new Kprobe({
      symbolName: 'target',
      flags: KPROBE_FLAG_GONE | KPROBE_FLAG_FTRACE | KPROBE_FLAG_DISABLED,
    });
    await kprobes.registerKprobe(kp);
    expect(kp.flags).toBe(KPROBE_FLAG_DISABLED | KPROBE_FLAG_ON_FUNC_ENTRY);
    expect(arch.state('target')).toBeUndefined();
  });
});

describe('refusals', () => {
  it.each<[string, KprobeInit, string, number]>([
    ['both a name and an address', { symbolName: 'target', addr: 1n }, 'EINVAL', -22],
    ['neither', {}, 'EINVAL', -22],
    ['a name that is no string', { symbolName: 5 as unknown as string }, 'EINVAL', -22],
    ['an address that is no bigint', { addr: 5 as unknown as bigint }, 'EINVAL', -22],
    ['an unknown name', { symbolName: 'targett' }, 'ENOENT', -2],
    ['an address outside of the text', { addr: 5n }, 'ENOENT', -2],
    ['an offset beyond every function', { symbolName: 'lines', offset: 1 << 20 }, 'ENOENT', -2],
    ['the middle of a statement', { symbolName: 'lines', offset: 41 }, 'EILSEQ', -84],
    ['an offset that is no integer', { symbolName: 'lines', offset: 1.5 }, 'EINVAL', -22],
  ])('%s', async (_what, init, code, errno) => {
    const kp = new Kprobe(init);
    await expect(kprobes.registerKprobe(kp)).rejects.toEqual(refusal(code, errno));
    expect(kprobes.showList()).toBe('');
    expect(arch.siteCount).toBe(0);
    expect(kp.addr).toBe(init.addr);
  });

  it('suggests a name', async () => {
    await expect(kprobes.registerKprobe(new Kprobe({ symbolName: 'targett' }))).rejects.toMatchObject({
      message: "no function 'targett'",
      hint: 'did you mean target?',
    });
  });

  it('a probe that is registered already, alone or in an aggregator', async () => {
    const kp = new Kprobe({ symbolName: 'target' });
    await kprobes.registerKprobe(kp);
    await expect(kprobes.registerKprobe(kp)).rejects.toEqual(refusal('EINVAL', -22));
    await kprobes.registerKprobe(new Kprobe({ symbolName: 'target' }));
    await expect(kprobes.registerKprobe(kp)).rejects.toEqual(refusal('EINVAL', -22));
    const table = kprobes.getKprobe(kp.addr!)!;
    await expect(kprobes.registerKprobe(table)).rejects.toEqual(refusal('EINVAL', -22));
  });

  it('can be registered again after it was unregistered, whatever it had been through', async () => {
    const kp = new Kprobe({ symbolName: 'target' });
    await kprobes.registerKprobe(kp);
    expect(kp.addr).toBe(arch.symbol('target').address);
    await kprobes.disableKprobe(kp);
    await kprobes.unregisterKprobe(kp);
    expect([kp.addr, kp.flags]).toEqual([undefined, 0]);
    await kprobes.registerKprobe(kp);
    expect(arch.state('target')).toBe('trap');
  });

  it('a blacklisted address, with its reason', async () => {
    kprobes.blacklist.add(arch.symbol('target2'), 'Trapline runs on it');
    const kp = new Kprobe({ symbolName: 'target2' });
    await expect(kprobes.registerKprobe(kp)).rejects.toMatchObject({
      code: 'EINVAL',
      message: 'target2 must not be probed: Trapline runs on it',
    });
    const { address } = arch.symbol('target2');
    expect(kprobes.withinKprobeBlacklist(address + 255n)?.name).toBe('target2');
    expect(kprobes.withinKprobeBlacklist(address + 256n)).toBeUndefined();
    expect(kprobes.showBlacklist()).toBe('0x00007e0000001100-0x00007e0000001200\ttarget2\n');
  });

  it('an arch that cannot arm: nothing stays behind', async () => {
    arch.stubborn.add('target');
    const kp = new Kprobe({ symbolName: 'target' });
    await expect(kprobes.registerKprobe(kp)).rejects.toMatchObject({ code: 'EBUSY' });
    expect(arch.siteCount).toBe(0);
    expect(kprobes.addresses).toEqual([]);
    arch.stubborn.clear();
    await kprobes.registerKprobe(kp);
    // A second one that cannot be armed leaves the first as it was.
    await kprobes.disableKprobe(kp);
    arch.stubborn.add('target');
    await expect(kprobes.registerKprobe(new Kprobe({ symbolName: 'target' }))).rejects.toMatchObject({
      code: 'EBUSY',
    });
    await expect(kprobes.enableKprobe(kp)).rejects.toMatchObject({ code: 'EBUSY' });
    expect(kp.flags & KPROBE_FLAG_DISABLED).not.toBe(0);
    arch.stubborn.clear();
    await kprobes.enableKprobe(kp);
    expect(arch.state('target')).toBe('trap');
    expect(kprobes.showList().split('\n')).toHaveLength(2);
  });

  it('enabling or disabling what is not registered', async () => {
    const kp = new Kprobe({ symbolName: 'target' });
    await expect(kprobes.enableKprobe(kp)).rejects.toEqual(refusal('EINVAL', -22));
    await expect(kprobes.disableKprobe(kp)).rejects.toEqual(refusal('EINVAL', -22));
    kp.addr = arch.symbol('target').address;
    await kprobes.unregisterKprobe(kp);
    expect(kp.addr).toBeUndefined();
  });
});

describe('arrays', () => {
  it('registers and unregisters several', async () => {
    const hits: string[] = [];
    const kp = new Kprobe({ symbolName: 'target', preHandler: () => void hits.push('target') });
    const kp2 = new Kprobe({ symbolName: 'target2', preHandler: () => void hits.push('target2') });
    await kprobes.registerKprobes([kp, kp2]);
    expect([target(2), target2(2)]).toEqual([1, 2]);
    expect(hits).toEqual(['target', 'target2']);
    await kprobes.unregisterKprobes([kp, kp2]);
    expect([target(2), target2(2)]).toEqual([1, 2]);
    expect(hits).toHaveLength(2);
  });

  it('is all or nothing', async () => {
    const kp = new Kprobe({ symbolName: 'target' });
    await expect(kprobes.registerKprobes([kp, new Kprobe({ symbolName: 'nowhere' })])).rejects.toEqual(
      refusal('ENOENT', -2),
    );
    expect(kprobes.addresses).toEqual([]);
    expect(arch.siteCount).toBe(0);
    await expect(kprobes.registerKprobes([])).rejects.toEqual(refusal('EINVAL', -22));
  });
});

describe('several probes on one address', () => {
  it('calls the one registered last first; a number other than 0 ends the hit', async () => {
    const order: string[] = [];
    let answer = 0;
    const make = (name: string) =>
      new Kprobe({
        symbolName: 'target',
        preHandler: () => {
          order.push(name);
          return name === 'b' ? answer : 0;
        },
        postHandler: () => void order.push(`${name} post`),
      });
    const probes = ['a', 'b', 'c'].map(make);
    await kprobes.registerKprobes(probes);
    target(2);
    expect(order.splice(0)).toEqual(['c', 'b', 'a', 'c post', 'b post', 'a post']);
    answer = 1;
    expect(target(2)).toBe(1);
    expect(order.splice(0)).toEqual(['c', 'b']);
    answer = 0;
    await kprobes.unregisterKprobe(probes[1]!);
    target(2);
    expect(order.splice(0)).toEqual(['c', 'a', 'c post', 'a post']);
    await kprobes.unregisterKprobes([probes[0]!, probes[2]!]);
    target(2);
    expect(order).toEqual([]);
    expect(arch.siteCount).toBe(0);
  });

  it('counts on while others come, go and sleep', async () => {
    const counts = [0, 0, 0];
    const probes = counts.map(
      (_, i) =>
        new Kprobe({ symbolName: 'target', preHandler: () => void counts.splice(i, 1, counts[i]! + 1) }),
    );
    const [a, b, c] = probes as [Kprobe, Kprobe, Kprobe];
    await kprobes.registerKprobes([a, b]);
    target(1);
    await kprobes.disableKprobe(a);
    target(1);
    await kprobes.disableKprobe(b);
    expect(arch.state('target')).toBeUndefined();
    target(1);
    await kprobes.registerKprobe(c);
    target(1);
    await kprobes.enableKprobe(a);
    await kprobes.enableKprobe(a);
    target(1);
    expect(counts).toEqual([2, 2, 2]);
  });

  it('arms again when the demands grow', async () => {
    await kprobes.registerKprobe(new Kprobe({ symbolName: 'target' }));
    await kprobes.registerKprobe(new Kprobe({ symbolName: 'target' }));
    const post = new Kprobe({ symbolName: 'target', postHandler: () => {}, flags: KPROBE_FLAG_DISABLED });
    await kprobes.registerKprobe(post);
    expect(arch.log.filter((line) => line.startsWith('arm'))).toEqual(['arm target']);
    await kprobes.enableKprobe(post);
    expect(arch.log.filter((line) => line.startsWith('arm'))).toEqual(['arm target', 'arm target post']);
  });
});

describe('re-entry', () => {
  it('counts hits from within a handler as missed, on every probe of the address', async () => {
    let inner = 0;
    const innerProbes = [1, 2].map(
      () => new Kprobe({ symbolName: 'target2', preHandler: () => void inner++ }),
    );
    const outer = new Kprobe({
      symbolName: 'target',
      preHandler: (_p, regs) => void target2(regs.arg(0) as number),
      postHandler: () => void target2(1),
    });
    await kprobes.registerKprobes([outer, ...innerProbes]);
    expect(target(8)).toBe(4);
    expect(inner).toBe(0);
    expect(innerProbes.map((p) => p.nmissed)).toEqual([2, 2]);
    target2(1);
    expect(inner).toBe(2);
    expect(outer.nmissed).toBe(0);
  });

  it('does not recurse into itself; registering again starts from 0', async () => {
    let hits = 0;
    const kp: Kprobe = new Kprobe({
      symbolName: 'target',
      preHandler: () => {
        hits++;
        target(1);
      },
    });
    await kprobes.registerKprobe(kp);
    for (let i = 0; i < 5; i++) target(1);
    expect([hits, kp.nmissed]).toEqual([5, 5]);
    await kprobes.unregisterKprobe(kp);
    await kprobes.registerKprobe(kp);
    expect(kp.nmissed).toBe(0);
  });

  it('sees a hit nested in the probed function itself', async () => {
    const recursive: (n: number) => number = arch.define('recursive', (at, n: number): number =>
      at(0, () => (n === 0 ? 0 : 1 + recursive(n - 1))),
    );
    const order: string[] = [];
    const kp = new Kprobe({
      symbolName: 'recursive',
      preHandler: (_p, regs) => void order.push(`pre ${regs.arg(0)}`),
      postHandler: (_p, regs) => void order.push(`post ${regs.arg(0)}`),
    });
    await kprobes.registerKprobe(kp);
    expect(recursive(2)).toBe(2);
    expect(order).toEqual(['pre 2', 'pre 1', 'pre 0', 'post 0', 'post 1', 'post 2']);
    expect(kp.nmissed).toBe(0);
  });
});

describe('a handler that throws', () => {
  const boom = () => {
    throw new Error('boom');
  };

  it('is disabled at the first fault, is not seen by the application, and can be enabled again', async () => {
    let others = 0;
    const other = new Kprobe({ symbolName: 'target', preHandler: () => void others++ });
    const kp = new Kprobe({ symbolName: 'target', preHandler: boom });
    await kprobes.registerKprobes([other, kp]);
    expect(target(2)).toBe(1);
    expect(target(2)).toBe(1);
    expect(others).toBe(2);
    expect([kp.nfault, (kp.lastFault as Error).message]).toEqual([1, 'boom']);
    expect(kp.flags & KPROBE_FLAG_DISABLED).not.toBe(0);
    await kprobes.enableKprobe(kp);
    expect(kp.nfault).toBe(0);
    target(2);
    expect(kp.nfault).toBe(1);
  });

  it('is deaf from the fault on, before it is disarmed', async () => {
    arch.never.add('target');
    const kp = new Kprobe({ symbolName: 'target', preHandler: boom });
    await kprobes.registerKprobe(kp);
    expect([target(1), target(1), target(1)]).toEqual([0.5, 0.5, 0.5]);
    expect(arch.state('target')).toBe('trap');
    expect(kp.nfault).toBe(1);
  });

  it('the only probe of an address is disarmed soon after', async () => {
    const kp = new Kprobe({ symbolName: 'target', postHandler: boom });
    await kprobes.registerKprobe(kp);
    target(2);
    await kprobes.waitForKprobeOptimizer();
    expect(arch.state('target')).toBeUndefined();
    await kprobes.unregisterKprobe(kp);
    expect(arch.siteCount).toBe(0);
  });

  it('bears as many faults as faultLimit says', async () => {
    const kp = new Kprobe({ symbolName: 'target', preHandler: boom, faultLimit: 3 });
    const never = new Kprobe({
      symbolName: 'target2',
      preHandler: boom,
      faultLimit: Number.POSITIVE_INFINITY,
    });
    await kprobes.registerKprobes([kp, never]);
    for (let i = 0; i < 10; i++) [target(1), target2(1)];
    expect([kp.nfault, never.nfault]).toEqual([3, 10]);
  });

  it('an asynchronous handler that rejects is a fault too, not an unhandled rejection', async () => {
    const unhandled: unknown[] = [];
    const listener = (reason: unknown) => unhandled.push(reason);
    process.on('unhandledRejection', listener);
    const kp = new Kprobe({ symbolName: 'target', preHandler: async () => boom() });
    await kprobes.registerKprobe(kp);
    expect(target(2)).toBe(1);
    await new Promise((resolve) => setTimeout(resolve, 5));
    process.off('unhandledRejection', listener);
    expect(unhandled).toEqual([]);
    expect(kp.nfault).toBe(1);
  });

  it('survives a stack that overflows, and goes on', async () => {
    let hits = 0;
    const kp = new Kprobe({ symbolName: 'endless', preHandler: () => void hits++, faultLimit: Infinity });
    const endless: () => number = arch.define('endless', (at): number => at(0, () => 1 + endless()));
    await kprobes.registerKprobe(kp);
    expect(() => endless()).toThrow(RangeError);
    expect(kprobes.handlers.running).toBe(false);
    const before = hits;
    expect(() => endless()).toThrow(RangeError);
    expect(hits).toBeGreaterThan(before);
  });
});

describe('scripts that go', () => {
  it('marks their probes GONE: neither hit nor enabled, only unregistered', async () => {
    let hits = 0;
    const kps = [1, 2].map(() => new Kprobe({ symbolName: 'target', preHandler: () => void hits++ }));
    const elsewhere = new Kprobe({ symbolName: 'lines', preHandler: () => void hits++ });
    await kprobes.registerKprobes([...kps, elsewhere]);
    const { address } = arch.symbol('target');
    await kprobes.moduleGoing(address, address + 256n);
    target(1);
    expect(hits).toBe(0);
    lines(1);
    expect(hits).toBe(1);
    expect(kprobes.showList()).toMatch(/target\+0x0 {2}app\.js \[GONE\]\n.*\[GONE\]\n.*lines/);
    await expect(kprobes.enableKprobe(kps[0]!)).rejects.toEqual(refusal('EINVAL', -22));
    // New text at the same place can be probed; those that have gone stay so.
    await kprobes.registerKprobe(new Kprobe({ symbolName: 'target', preHandler: () => void hits++ }));
    target(1);
    expect(hits).toBe(2);
    await kprobes.unregisterKprobes(kps);
    target(1);
    expect(hits).toBe(3);
  });
});

describe('views and switches', () => {
  it('lists probes as the kernel does', async () => {
    const probed = arch.define('compiled', (at) => at(0, () => 1), { ftrace: true });
    const a = new Kprobe({ symbolName: 'target', preHandler: () => 0 });
    const b = new Kprobe({ symbolName: 'target', preHandler: () => 0 });
    const c = new Kprobe({ symbolName: 'compiled', preHandler: () => 0 });
    const d = new Kprobe({ symbolName: 'lines', offset: 40, flags: KPROBE_FLAG_DISABLED });
    await kprobes.registerKprobes([a, b, c, d]);
    expect(probed()).toBe(1);
    expect(kprobes.showList()).toBe(
      [
        '00007e0000001000  k  target+0x0  app.js [OPTIMIZED]',
        '00007e0000001000  k  target+0x0  app.js [OPTIMIZED]',
        '00007e0000001300  k  compiled+0x0    [FTRACE]',
        '00007e0000001228  k  lines+0x28    [DISABLED]',
        '',
      ].join('\n'),
    );
  });

  it('kprobes/enabled disarms and arms all, and keeps what is disabled', async () => {
    let hits = 0;
    const count = (_p: Kprobe, _regs: PtRegs) => void hits++;
    const a = new Kprobe({ symbolName: 'target', preHandler: count });
    const b = new Kprobe({ symbolName: 'target2', preHandler: count, flags: KPROBE_FLAG_DISABLED });
    await kprobes.registerKprobes([a, b]);
    await kprobes.disarmAllKprobes();
    expect(kprobes.enabled).toBe(false);
    target(1);
    const c = new Kprobe({ symbolName: 'lines', preHandler: count });
    await kprobes.registerKprobe(c);
    lines(1);
    await kprobes.enableKprobe(b);
    target2(1);
    expect(hits).toBe(0);
    expect(arch.log.filter((line) => /^arm/.test(line))).toEqual(['arm target']);
    await kprobes.armAllKprobes();
    target(1);
    target2(1);
    lines(1);
    expect(hits).toBe(3);
  });

  it('arms the others when one refuses', async () => {
    let hits = 0;
    await kprobes.registerKprobes(
      ['target', 'target2'].map((symbolName) => new Kprobe({ symbolName, preHandler: () => void hits++ })),
    );
    await kprobes.disarmAllKprobes();
    arch.stubborn.add('target');
    await expect(kprobes.armAllKprobes()).rejects.toMatchObject({ code: 'EBUSY' });
    target(1);
    target2(1);
    expect(hits).toBe(1);
  });

  it('dispose() leaves nothing armed', async () => {
    await kprobes.registerKprobes(
      ['target', 'target', 'target2'].map((symbolName) => new Kprobe({ symbolName })),
    );
    await arch.tick();
    expect(arch.state('target')).toBe('jump');
    await kprobes.dispose();
    expect([arch.siteCount, kprobes.addresses.length, arch.delayedWork]).toEqual([0, 0, 0]);
  });
});
