import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { attachTracefs } from '../../src/index.ts';
import { nodeBinaries } from '../support/nodes.ts';
import { random, randomModule, randomSession } from './random-module.ts';
import { full, startService, stopAll } from './support.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'trapline-random-'));
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(stopAll);

const SEEDS = Array.from({ length: full ? 100 : 4 }, (_, n) => n + 1);

describe.each(nodeBinaries())('random sessions on random modules, Node $version', ({ path: node, major }) => {
  // seeds of their own for each version
  test.each(SEEDS.map((seed) => seed + 1000 * major))(
    'seed %i: results stay as they are, and every text afterwards',
    async (seed) => {
      const next = random(seed * 7919);
      const file = `random${seed}.${seed % 2 === 0 ? 'mjs' : 'cjs'}`;
      const module = randomModule(next, file.endsWith('.cjs'));
      writeFileSync(path.join(folder, file), module.text);
      const service = await startService({ node, file: path.join(folder, file) });
      const texts = await service.ask('texts');
      const results = await service.ask('results');
      const fs = await attachTracefs(service.pid, { maxPauseMs: 60_000 });
      const told: string[] = [];
      // calls go on while the next writes arm and disarm
      let under = service.ask('results');
      for (const step of randomSession(next, module, file)) {
        if ('call' in step) {
          expect(await under, told.join('\n')).toEqual(results);
          expect(await service.ask('results'), told.join('\n')).toEqual(results);
          under = service.ask('results');
          continue;
        }
        const { write, text, append } = step;
        told.push(`${text.trim()} > ${write}`);
        // some are refused: a second event on a return, a tracer that is busy
        const done = append ? fs.appendFile(write, text) : fs.writeFile(write, text);
        await done.catch((error: Error) => told.push(`  ${error.message}`));
      }
      const { failures = [] } = await fs.detach();
      expect(await under, told.join('\n')).toEqual(results);
      expect(failures, told.join('\n')).toEqual([]);
      expect(await service.ask('results'), told.join('\n')).toEqual(results);
      expect(await service.ask('texts'), told.join('\n')).toEqual(texts);
    },
  );
});
