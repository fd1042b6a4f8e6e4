import { afterEach, describe, expect, test } from 'vitest';
import { nodeBinaries } from '../support/nodes.ts';
import { missedOf, startService, stopAll, trapline } from './support.ts';

afterEach(stopAll);

/** Each way in which a script can look at a value. `ARG` is the value. */
const SCRIPTS: Record<string, string> = {
  'paths as text':
    '@[str(ARG.url)] = count(); @n[str(ARG.name)] = count(); @d[str(ARG.url.url.url.url)] = count();',
  'the value as a key and a value': '@[ARG] = count(); @v = ARG; @p[ARG.url, ARG.length] = count();',
  'numbers, lengths, truth':
    '@ = sum(ARG); @l = sum(len(ARG)); if (ARG) { @t = count(); } if (ARG.url == "/many") { @m = count(); }',
  printed:
    'print(ARG); printf("%s %d %s\\n", str(ARG), ARG, str(ARG.message)); print(ARG.url); @b = buf(ARG, 16);',
  'deep properties of its kind':
    '@[ARG.constructor, ARG.then, ARG.size, ARG.stack, ARG.buffer] = count(); @x[ARG[0], ARG["url"]] = count();',
};

const TIMES = 3;

describe.each(nodeBinaries())('hostile values, Node $version', ({ path }) => {
  test('no code of the application runs, the target lives, failed reads are counted', {
    timeout: 180_000,
  }, async () => {
    const service = await startService({ node: path, flags: ['--max-old-space-size=2048'] });
    // Made before, so that what making them costs is not in the way.
    await service.ask('hostile', { times: 0 });
    for (const [name, script] of Object.entries(SCRIPTS)) {
      for (const [probe, value] of [
        ['kprobe', 'arg0'],
        ['kretprobe', 'arg0'],
      ] as const) {
        if (probe === 'kretprobe' && name !== 'paths as text') continue;
        const text = `${probe}:work.mjs:look { @hits = count(); ${script.replaceAll('ARG', value)} }`;
        const tracer = trapline('-v', '-p', String(service.pid), text);
        await tracer.attached();
        const { names, notes } = await service.ask<{ names: string[]; notes: string[] }>('hostile', {
          times: TIMES,
        });
        const { code, out, err } = await tracer.interrupt();
        expect({ name, notes, code }).toEqual({ name, notes: [], code: 0 });
        const hits = Number(/^@hits: (\d+)$/m.exec(out)![1]);
        // Where a function with an end probe is rebound, the call that rebinds it began before the probe was in place.
        const missed = missedOf(err);
        expect(missed).toBe(0);
        const before = probe === 'kprobe' ? 0 : 1;
        expect(hits).toBeGreaterThanOrEqual(names.length * TIMES - before);
        expect(hits).toBeLessThanOrEqual(names.length * TIMES);
        // A warning has the place of the read in the script, and how often: a multiple of TIMES, as every round is the same.
        const warnings = [
          ...err.matchAll(/^stdin:1:(\d+): WARNING: a value could not be read, (\d+) times: /gm),
        ];
        if (script.includes('.url')) expect(warnings.length, err).toBeGreaterThan(0);
        for (const [, column, times] of warnings) {
          if (hits === names.length * TIMES) expect(Number(times) % TIMES, err).toBe(0);
          expect(text.slice(Number(column) - 1), err).toMatch(/^(str\b|len\b|buf\b|arg0\b|print\b|@)/);
        }
        expect(await service.get('/alive')).toBe('/alive 7');
      }
    }
  });

  test('what can be read is read', async () => {
    const service = await startService({ node: path, flags: ['--max-old-space-size=2048'] });
    await service.ask('hostile', { times: 0 });
    const tracer = trapline(
      '-v',
      '-p',
      String(service.pid),
      `kprobe:work.mjs:look { @[str(arg0.url)] = count(); @len[len(arg0)] = count(); }`,
    );
    await tracer.attached();
    await service.ask('hostile', { times: 2 });
    const { out } = await tracer.interrupt();
    for (const url of ['/many', '/foreign', '/deep', '/array', '/sparse', '/frozen']) {
      expect(out, url).toMatch(new RegExp(`^@\\[${url}\\]: 2$`, 'm'));
    }
    expect(out).toMatch(new RegExp(`^@len\\[${100 << 20}\\]: 2$`, 'm'));
  });
});
