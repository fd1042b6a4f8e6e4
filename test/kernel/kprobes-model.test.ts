import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Kprobe, Kprobes, Kretprobe, kprobeOptimized } from '../../src/kernel/kprobes/index.ts';
import { TableArch } from './table-arch.ts';

// Random operations on a few probes, against a model that knows only what each operation promises.

const FUNCTIONS = ['f', 'g'] as const;
const OPTIONS = ['pre', 'post', 'ret', 'pre', 'settle'] as const;
const PROBES = FUNCTIONS.flatMap((name) => OPTIONS.map((option) => ({ name, option })));

type Op =
  | { op: 'register' | 'unregister' | 'enable' | 'disable'; probe: number }
  | { op: 'call' | 'gone'; name: (typeof FUNCTIONS)[number] }
  | { op: 'tick' | 'disarm' | 'arm' | 'optimize' | 'unoptimize' }
  | { op: 'batch'; probes: number[] };

const operation: fc.Arbitrary<Op> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      op: fc.constantFrom('register', 'register', 'unregister', 'enable', 'disable'),
      probe: fc.nat(PROBES.length - 1),
    }),
  },
  { weight: 6, arbitrary: fc.record({ op: fc.constant('call'), name: fc.constantFrom(...FUNCTIONS) }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('tick') }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('gone'), name: fc.constantFrom(...FUNCTIONS) }) },
  {
    weight: 2,
    arbitrary: fc.record({ op: fc.constantFrom('disarm', 'arm', 'optimize', 'unoptimize') }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant('batch'),
      probes: fc.uniqueArray(fc.nat(PROBES.length - 1), { minLength: 1, maxLength: 4 }),
    }),
  },
) as fc.Arbitrary<Op>;

interface Entry {
  readonly probe: number;
  enabled: boolean;
  gone: boolean;
}

class Model {
  readonly table = new Map<string, Entry[]>(FUNCTIONS.map((name) => [name, []]));
  armed = true;

  entry(probe: number): Entry | undefined {
    return this.table.get(PROBES[probe]!.name)!.find((entry) => entry.probe === probe);
  }

  expected(name: string): string[] {
    if (!this.armed) return [];
    const live = this.table.get(name)!.filter(({ enabled, gone }) => enabled && !gone);
    const option = (entry: Entry) => PROBES[entry.probe]!.option;
    return [
      ...live.map(({ probe }) => `pre ${probe}`),
      ...live.filter((e) => option(e) === 'post').map(({ probe }) => `post ${probe}`),
      ...live
        .filter((e) => option(e) === 'ret')
        .reverse()
        .map(({ probe }) => `ret ${probe}`),
      ...live
        .filter((e) => option(e) === 'settle')
        .reverse()
        .map(({ probe }) => `ret ${probe}`),
    ];
  }
}

describe('random sequences', () => {
  it('do what a plain model says, and leave nothing behind', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { maxLength: 60 }), async (ops) => {
        const arch = new TableArch();
        const kprobes = new Kprobes(arch);
        arch.kprobes = kprobes;
        const log: string[] = [];
        const functions = new Map(
          FUNCTIONS.map((name) => [name, arch.define(name, (at, n: number) => at(0, () => n + 1))]),
        );
        const probes = PROBES.map(({ name, option }, i) => {
          const pre = () => void log.push(`pre ${i}`);
          if (option === 'ret' || option === 'settle')
            return new Kretprobe({
              kp: { symbolName: name },
              event: option === 'ret' ? 'return' : 'settle',
              entryHandler: pre,
              handler: () => void log.push(`ret ${i}`),
            });
          return new Kprobe({
            symbolName: name,
            preHandler: pre,
            postHandler: option === 'post' ? () => void log.push(`post ${i}`) : undefined,
          });
        });
        const model = new Model();
        const kpOf = (i: number) => {
          const p = probes[i]!;
          return p instanceof Kretprobe ? p.kp : p;
        };
        const register = (i: number) => {
          const p = probes[i]!;
          return p instanceof Kretprobe ? kprobes.registerKretprobe(p) : kprobes.registerKprobe(p);
        };
        const unregister = (i: number) => {
          const p = probes[i]!;
          return p instanceof Kretprobe ? kprobes.unregisterKretprobe(p) : kprobes.unregisterKprobe(p);
        };

        for (const step of ops) {
          switch (step.op) {
            case 'register': {
              const registered = model.entry(step.probe) !== undefined;
              if (registered) await expect(register(step.probe)).rejects.toMatchObject({ code: 'EINVAL' });
              else {
                await register(step.probe);
                model.table
                  .get(PROBES[step.probe]!.name)!
                  .unshift({ probe: step.probe, enabled: true, gone: false });
              }
              break;
            }
            case 'unregister': {
              await unregister(step.probe);
              const list = model.table.get(PROBES[step.probe]!.name)!;
              const at = list.findIndex(({ probe }) => probe === step.probe);
              if (at >= 0) list.splice(at, 1);
              break;
            }
            case 'enable':
            case 'disable': {
              const entry = model.entry(step.probe);
              const done =
                step.op === 'enable'
                  ? kprobes.enableKprobe(kpOf(step.probe))
                  : kprobes.disableKprobe(kpOf(step.probe));
              if (entry === undefined || (entry.gone && step.op === 'enable'))
                await expect(done).rejects.toMatchObject({ code: 'EINVAL' });
              else {
                await done;
                if (!entry.gone) entry.enabled = step.op === 'enable';
              }
              break;
            }
            case 'batch': {
              const kps = step.probes.map(kpOf);
              const clash = step.probes.some((probe) => model.entry(probe) !== undefined);
              const simple = step.probes.every((probe) => !(probes[probe] instanceof Kretprobe));
              if (!simple) break;
              if (clash) {
                await expect(kprobes.registerKprobes(kps)).rejects.toMatchObject({ code: 'EINVAL' });
              } else {
                await kprobes.registerKprobes(kps);
                for (const probe of step.probes)
                  model.table.get(PROBES[probe]!.name)!.unshift({ probe, enabled: true, gone: false });
              }
              break;
            }
            case 'gone': {
              const { address, size } = arch.symbol(step.name);
              await kprobes.moduleGoing(address, address + BigInt(size));
              for (const entry of model.table.get(step.name)!) entry.gone = true;
              break;
            }
            case 'disarm':
              await kprobes.disarmAllKprobes();
              model.armed = false;
              break;
            case 'arm':
              await kprobes.armAllKprobes();
              model.armed = true;
              break;
            case 'optimize':
              await kprobes.setKprobesOptimization(true);
              break;
            case 'unoptimize':
              await kprobes.setKprobesOptimization(false);
              break;
            case 'tick':
              await arch.tick();
              break;
            case 'call':
              expect(functions.get(step.name)!(1)).toBe(2);
              expect(log.splice(0)).toEqual(model.expected(step.name));
              break;
          }
        }
        // What is listed is what is registered, and no post handler is ever optimized.
        const listed = kprobes.showList().split('\n').length - 1;
        expect(listed).toBe([...model.table.values()].reduce((sum, list) => sum + list.length, 0));
        for (const addr of kprobes.addresses) {
          const head = kprobes.getKprobe(addr)!;
          if (head.postHandler !== undefined) expect(kprobeOptimized(head)).toBe(false);
        }
        for (let i = 0; i < probes.length; i++) await unregister(i);
        await arch.tick();
        expect([arch.siteCount, kprobes.addresses.length, arch.delayedWork]).toEqual([0, 0, 0]);
      }),
      { numRuns: 400 },
    );
  });
});
