import { closeSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { nodeBinaries } from '../support/nodes.ts';
import { full, startService, stopAll, traplineWith } from './support.ts';

afterEach(stopAll);

const STORM_MS = full ? 10_000 : 1500;
/** What a turn of the target's event loop may take longer than without a tracer: slices are of 5 ms. */
const DELAY_MS = 250;

interface Storm {
  readonly hits: number;
  readonly ms: number;
}

describe.each(nodeBinaries())('a probe storm, Node $version', ({ path: node, major }) => {
  test.each(['stopped', 'reading'] as const)('printf at each hit, the consumer is %s', async (consumer) => {
    const service = await startService({ node });
    await service.ask('delay');
    await service.ask('storm', { ms: STORM_MS });
    const alone = await service.ask<{ longest: number }>('delay');
    const file = path.join(tmpdir(), `trapline-e2e-storm-${process.pid}`);
    const fd = openSync(file, 'w');
    try {
      const tracer = traplineWith(
        { stdout: fd },
        '-v',
        '-p',
        String(service.pid),
        'kprobe:work.mjs:add { @hits = count(); printf("%d\\n", arg1); }',
      );
      await tracer.attached();
      if (consumer === 'stopped') tracer.child.kill('SIGSTOP');
      await service.ask('delay');
      const { hits, ms } = await service.ask<Storm>('storm', { ms: STORM_MS });
      const { longest, turns } = await service.ask<{ longest: number; turns: number }>('delay');
      // The service answers others meanwhile and behind it.
      expect(await service.get('/alive')).toBe('/alive 7');
      tracer.child.kill('SIGCONT');
      await sleep(200);
      const { code, err } = await tracer.interrupt();
      expect(code).toBe(0);
      const lines = readFileSync(file, 'utf8').split('\n');
      const printed = lines.filter((line) => /^\d+$/.test(line)).map(Number);
      const lost = [...err.matchAll(/^Lost (\d+) events?$/gm)].reduce(
        (sum, match) => sum + Number(match[1]),
        0,
      );
      const counted = Number(/^@hits: (\d+)$/m.exec(lines.join('\n'))![1]);
      console.log(
        `Node ${major} ${consumer}: ${Math.round((hits / ms) * 1000)} hits a second, ${printed.length} printed, ${lost} lost; ` +
          `longest turn ${longest.toFixed(0)} ms of ${turns}, without a tracer ${alone.longest.toFixed(0)} ms`,
      );
      // 1 is the hit of the request.
      expect(counted).toBe(hits + 1);
      expect(printed.length + lost).toBe(counted);
      expect(printed.length).toBeGreaterThan(0);
      if (consumer === 'stopped') expect(lost).toBeGreaterThan(0);
      // In order, each once.
      const storm = printed.slice(0, -1);
      expect(storm.every((value, index) => index === 0 || value > storm[index - 1]!)).toBe(true);
      expect(longest).toBeLessThan(alone.longest + DELAY_MS);
      expect(hits / ms).toBeGreaterThan(50);
    } finally {
      closeSync(fd);
      rmSync(file, { force: true });
    }
  });

  test('counts alone are exact', async () => {
    const service = await startService({ node });
    const tracer = traplineWith(
      {},
      '-v',
      '-p',
      String(service.pid),
      `kprobe:work.mjs:add { @hits = count(); @by[arg0] = count(); @s = sum(arg1); }`,
    );
    await tracer.attached();
    const { hits, ms } = await service.ask<Storm>('storm', { ms: 500 });
    const { out } = await tracer.interrupt();
    console.log(`Node ${major}: ${Math.round((hits / ms) * 1000)} counted hits a second`);
    expect(out).toMatch(new RegExp(`^@hits: ${hits}$`, 'm'));
    expect(out).toMatch(new RegExp(`^@by\\[1\\]: ${hits}$`, 'm'));
  });
});
