import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import { processListeners } from '../../src/target/procfs.ts';
import { nodeBinaries } from '../support/nodes.ts';
import { OwnTime, processesOf } from '../support/own-time.ts';
import { unless } from '../support/skip.ts';

const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));
const dist = (name: string) => pathToFileURL(path.join(root, 'dist/target', name)).href;

/** Opens the inspector as attach() does, says so, and is killed at once where `end` is not given. */
const tracer = (pid: number, end: boolean) => `
import { guardInspector } from ${JSON.stringify(dist('guard.js'))};
import { openInspector } from ${JSON.stringify(dist('inspector-port.js'))};
import { identify } from ${JSON.stringify(dist('process.js'))};
const guard = guardInspector(${pid});
await openInspector(await identify(${pid}), (seen) => guard.begin(seen));
if (${end}) guard.end();
else process.kill(process.pid, 'SIGKILL');
`;

/** Of the time that the target and those that stand by for it have to themselves. */
const ownTime = (pid: number): OwnTime =>
  new OwnTime(() => [pid, ...processesOf('guard-main.js', String(pid))]);

/** A tracer's death undoes everything within this. */
const CLOSED_MS = 2000;
/** An inspector that opens late is left to another tracer for so long. */
const STAYS_MS = 1000;

describe.each(nodeBinaries())(
  'Node $version',
  unless(process.platform === 'linux' ? undefined : 'signals of Linux'),
  ({ path: node }) => {
    test.each([
      ['a tracer killed between SIGUSR1 and the injection', false],
      ['a tracer that goes on', true],
    ])('%s', async (_name, end) => {
      const script = 'setInterval(() => {}, 5); console.log(1)';
      const target = spawn(node, ['--inspect-port=0', '-e', script], { stdio: ['ignore', 'pipe', 'ignore'] });
      try {
        await once(target.stdout!, 'data');
        const pid = target.pid!;
        const text = tracer(pid, end);
        const child = spawn(process.execPath, ['--input-type=module', '-e', text], { stdio: 'ignore' });
        const [code, signal] = (await once(child, 'exit')) as [number | null, string | null];
        const time = ownTime(pid);
        expect({ code, signal }).toEqual(end ? { code: 0, signal: null } : { code: null, signal: 'SIGKILL' });
        expect(await time.within(end ? 500 : CLOSED_MS, () => processListeners(pid).length === 0)).toBe(!end);
        expect(target.exitCode).toBe(null);
      } finally {
        target.kill('SIGKILL');
      }
    });

    test('the guard of a tracer that was killed leaves the next tracer alone', async () => {
      const script = 'setInterval(() => {}, 5); console.log(1)';
      const target = spawn(node, ['--inspect-port=0', '-e', script], { stdio: ['ignore', 'pipe', 'ignore'] });
      try {
        await once(target.stdout!, 'data');
        const main = path.join(root, 'dist/target/guard-main.js');
        for (let i = 0; i < 3; i++) {
          // killed before it sent the signal: nothing opens, and the guard waits for it
          const guard = spawn(process.execPath, [main, String(target.pid)], {
            stdio: ['pipe', 'ignore', 'ignore'],
          });
          guard.stdin.end();
          const text = `import { attach } from ${JSON.stringify(dist('attach.js'))};
          const session = await attach(${target.pid}, {});
          await session.detach();`;
          const child = spawn(process.execPath, ['--input-type=module', '-e', text], { stdio: 'ignore' });
          expect(await once(child, 'exit')).toEqual([0, null]);
          guard.kill();
        }
      } finally {
        target.kill('SIGKILL');
      }
    }, 60_000);

    test('a main thread that opens its inspector after the tracer has given up', async () => {
      // blocked until a line is written
      const script = `setTimeout(() => { require('fs').writeSync(1, 'blocked');
        require('child_process').spawnSync('sh', ['-c', 'read line'], { stdio: 'inherit' }); }, 100);
      setInterval(() => {}, 50)`;
      const target = spawn(node, ['--inspect-port=0', '-e', script], { stdio: ['pipe', 'pipe', 'pipe'] });
      try {
        await once(target.stdout!, 'data');
        let said = '';
        target.stderr!.on('data', (text) => {
          said += text;
        });
        const text = `import { attach } from ${JSON.stringify(dist('attach.js'))};
        await attach(${target.pid}, {}).catch((error) => { process.exitCode = error.code === 'ESIGUSR1' ? 7 : 1; });`;
        const child = spawn(process.execPath, ['--input-type=module', '-e', text], { stdio: 'ignore' });
        expect(await once(child, 'exit')).toEqual([7, null]);
        const time = ownTime(target.pid!);
        target.stdin!.write('\n');
        const closed = () => said.includes('Debugger ending') && processListeners(target.pid!).length === 0;
        expect(await time.within(STAYS_MS + CLOSED_MS, closed)).toBe(true);
        expect(said).toContain('Debugger listening');
        expect(target.exitCode).toBe(null);
      } finally {
        target.kill('SIGKILL');
      }
    }, 60_000);
  },
);
