import { beforeEach, describe, expect, it } from 'vitest';
import {
  KPROBE_FLAG_DISABLED,
  Kprobe,
  Kprobes,
  Kretprobe,
  kprobeOptimized,
} from '../../src/kernel/kprobes/index.ts';
import { TableArch } from './table-arch.ts';

let arch: TableArch;
let kprobes: Kprobes;
let hits: string[];
const functions: Record<string, () => number> = {};

beforeEach(() => {
  arch = new TableArch();
  kprobes = new Kprobes(arch);
  arch.kprobes = kprobes;
  hits = [];
  for (const name of ['a', 'b', 'c']) functions[name] = arch.define(name, (at) => at(0, () => 1));
});

const probe = (symbolName: string, post = false) =>
  new Kprobe({
    symbolName,
    preHandler: () => void hits.push(symbolName),
    postHandler: post ? () => void hits.push(`${symbolName} post`) : undefined,
  });
const states = () => ['a', 'b', 'c'].map((name) => arch.state(name));

describe('the optimizer', () => {
  it('arms with a trap and rewrites all that came meanwhile together, after the delay', async () => {
    await kprobes.registerKprobes([probe('a'), probe('b'), probe('c')]);
    expect(states()).toEqual(['trap', 'trap', 'trap']);
    expect(arch.delayedWork).toBe(1);
    functions['a']!();
    await arch.tick();
    expect(states()).toEqual(['jump', 'jump', 'jump']);
    expect(arch.log.filter((line) => line.startsWith('optimize'))).toEqual(['optimize a b c']);
    functions['a']!();
    expect(hits).toEqual(['a', 'a']);
    expect(arch.delayedWork).toBe(0);
  });

  it('never rewrites a probe with a post handler', async () => {
    await kprobes.registerKprobe(probe('a', true));
    expect(arch.delayedWork).toBe(0);
    await arch.tick();
    expect(arch.state('a')).toBe('trap');
    expect(kprobes.showList()).not.toContain('OPTIMIZED');
  });

  it('restores at once when a post handler comes, and rewrites again when it leaves', async () => {
    await kprobes.registerKprobe(probe('a'));
    await arch.tick();
    const post = probe('a', true);
    await kprobes.registerKprobe(post);
    expect(arch.state('a')).toBe('trap');
    functions['a']!();
    expect(hits).toEqual(['a', 'a', 'a post']);
    expect(arch.delayedWork).toBe(0);
    await kprobes.unregisterKprobe(post);
    await arch.tick();
    expect(arch.state('a')).toBe('jump');
    hits.length = 0;
    functions['a']!();
    expect(hits).toEqual(['a']);
  });

  it('restores for a post handler that is registered disabled too', async () => {
    await kprobes.registerKprobe(probe('a'));
    await arch.tick();
    const post = probe('a', true);
    post.flags = KPROBE_FLAG_DISABLED;
    await kprobes.registerKprobe(post);
    await arch.tick();
    expect([arch.state('a'), kprobeOptimized(kprobes.getKprobe(post.addr!)!)]).toEqual(['trap', false]);
  });

  it('takes a probe that leaves before the delay out of the queue', async () => {
    const kp = probe('a');
    await kprobes.registerKprobe(kp);
    await kprobes.unregisterKprobe(kp);
    await arch.tick();
    expect(arch.log.some((line) => line.startsWith('optimize'))).toBe(false);
    expect(arch.siteCount).toBe(0);
  });

  it('restores a rewritten probe later; until then it is deaf, and may be rescued', async () => {
    const kp = probe('a');
    await kprobes.registerKprobe(kp);
    await arch.tick();
    await kprobes.unregisterKprobe(kp);
    expect(arch.state('a')).toBe('jump');
    functions['a']!();
    expect(hits).toEqual([]);
    const rescued = probe('a');
    await kprobes.registerKprobe(rescued);
    functions['a']!();
    expect(hits).toEqual(['a']);
    await arch.tick();
    expect(arch.state('a')).toBe('jump');
    expect(arch.log.filter((line) => /^(un)?optimize/.test(line))).toEqual(['optimize a']);
    await kprobes.unregisterKprobe(rescued);
    await arch.tick();
    expect(arch.siteCount).toBe(0);
    expect(kprobes.addresses).toEqual([]);
    expect(arch.log.slice(-3)).toEqual(['unoptimize a', 'disarm a', 'remove a']);
  });

  it('disabling and enabling before it had its turn costs nothing', async () => {
    const kp = probe('a');
    await kprobes.registerKprobe(kp);
    await arch.tick();
    await kprobes.disableKprobe(kp);
    functions['a']!();
    await kprobes.enableKprobe(kp);
    functions['a']!();
    expect(hits).toEqual(['a']);
    await arch.tick();
    expect(arch.log).toEqual(['prepare a', 'arm a', 'optimize a']);
    await kprobes.disableKprobe(kp);
    await arch.tick();
    expect(arch.state('a')).toBeUndefined();
    await kprobes.enableKprobe(kp);
    await arch.tick();
    expect(arch.state('a')).toBe('jump');
  });

  it('tries again when the arch cannot at the moment, and gives up at never', async () => {
    arch.later.add('b');
    arch.never.add('c');
    const kps = [probe('a'), probe('b'), probe('c')];
    await kprobes.registerKprobes(kps);
    await arch.tick();
    expect(states()).toEqual(['jump', 'trap', 'trap']);
    expect(arch.delayedWork).toBe(1);
    await arch.tick();
    expect(states()).toEqual(['jump', 'trap', 'trap']);
    arch.later.clear();
    await arch.tick();
    expect(states()).toEqual(['jump', 'jump', 'trap']);
    expect(arch.delayedWork).toBe(0);
    for (const name of ['a', 'b', 'c']) functions[name]!();
    expect(hits).toEqual(['a', 'b', 'c']);
  });

  it('does not try for ever', async () => {
    arch.later.add('a');
    await kprobes.registerKprobe(probe('a'));
    let ticks = 0;
    while (arch.delayedWork > 0) {
      await arch.tick();
      if (++ticks > 1000) throw new Error('still trying');
    }
    expect(kprobes.showList()).not.toContain('OPTIMIZED');
    functions['a']!();
    expect(hits).toEqual(['a']);
  });

  it('a return probe on rewritten code is served, and rewritten with it', async () => {
    await kprobes.registerKprobe(probe('a'));
    await arch.tick();
    const rp = new Kretprobe({ kp: { symbolName: 'a' }, handler: () => void hits.push('left a') });
    await kprobes.registerKretprobe(rp);
    functions['a']!();
    expect(hits).toEqual(['a', 'left a']);
    await arch.tick();
    expect(arch.state('a')).toBe('jump');
    functions['a']!();
    expect(hits).toHaveLength(4);
  });

  it('debug.kprobes-optimization: 0 restores all traps, 1 rewrites them again', async () => {
    const kp = probe('a');
    await kprobes.registerKprobes([kp, probe('b')]);
    await arch.tick();
    await kprobes.setKprobesOptimization(false);
    expect(states()).toEqual(['trap', 'trap', undefined]);
    await kprobes.registerKprobe(probe('c'));
    await arch.tick();
    expect(states()).toEqual(['trap', 'trap', 'trap']);
    expect(kprobeOptimized(kprobes.getKprobe(kp.addr!)!)).toBe(false);
    await kprobes.setKprobesOptimization(true);
    await arch.tick();
    expect(states()).toEqual(['jump', 'jump', 'jump']);
    for (const name of ['a', 'b', 'c']) functions[name]!();
    expect(hits).toEqual(['a', 'b', 'c']);
  });

  it('disarming all restores before it returns', async () => {
    await kprobes.registerKprobes([probe('a'), probe('b')]);
    await arch.tick();
    await kprobes.disarmAllKprobes();
    expect(states()).toEqual([undefined, undefined, undefined]);
    await kprobes.armAllKprobes();
    await arch.tick();
    expect(states()).toEqual(['jump', 'jump', undefined]);
  });
});
