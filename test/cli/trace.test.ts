import { spawn } from 'node:child_process';
import { afterEach, expect, test } from 'vitest';
import { trace } from '../../src/cli/run.ts';
import { TextPrinter } from '../../src/output/index.ts';

const printer = new TextPrinter({ data: () => {}, progress: () => {} });

test.each([[{ pids: [] }], [{} as never]])('trace() without a process is refused: %j', async (target) => {
  const tracing = trace({ target, script: 'BEGIN { }', printer });
  const refusal = { code: 'EINVAL', message: 'no process to trace' };
  await expect(tracing.attached).rejects.toMatchObject(refusal);
  await expect(tracing.finished).rejects.toMatchObject(refusal);
});

const started: { kill(signal: 'SIGKILL'): unknown }[] = [];
afterEach(() => {
  for (const child of started.splice(0)) child.kill('SIGKILL');
});

/** A process with a function, and what is warned of where tracing ends as soon as it says that it attaches. */
async function warningsOf(script: string, end: 'stop' | 'exit'): Promise<string[]> {
  const code = 'function tick() {} setInterval(() => tick(), 5); console.log(1)';
  const child = spawn(process.execPath, ['--inspect-port=0', '-e', code], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  started.push(child);
  await new Promise((resolve) => child.stdout.once('data', resolve));
  const warnings: string[] = [];
  const own = new TextPrinter({
    data: () => {},
    progress: (text) => {
      if (end === 'stop' && text.startsWith('Attaching')) tracing.stop();
    },
  });
  const tracing = trace({
    target: { pids: [child.pid!] },
    script,
    printer: own,
    observer: { warning: (text) => warnings.push(text) },
  });
  await tracing.finished;
  return warnings;
}

test('who stops before anything is armed is told that nothing has counted', async () => {
  const early = 'WARNING: tracing ended while probes were being armed: not all of them have counted';
  expect(await warningsOf('kprobe:tick { @ = count(); }', 'stop')).toEqual([early]);
  // nothing is armed for these, and exit() is what the script wants
  expect(await warningsOf('interval:s:1 { @ = count(); }', 'stop')).toEqual([]);
  expect(await warningsOf('BEGIN { exit(); } kprobe:tick { @ = count(); }', 'exit')).toEqual([]);
});
