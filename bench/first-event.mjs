// From starting the command to the first event it prints, on a process that has been running for a while: one with little in
// it, and one that serves with fastify. Each time a process of its own for the tracer, as a person starts it.
//
//   node bench/first-event.mjs [--quick]      needs dist/ (npm run build)

import { spawn } from 'node:child_process';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { median, quick, row } from './lib/report.mjs';
import { cli, node, registerArgs, root, startTarget } from './lib/trace.mjs';

const ROUNDS = quick ? 3 : 10;

/** Milliseconds to the first line; the first few lines have to be what the target calls with. */
function firstEvent(pid) {
  const begun = performance.now();
  const script = 'kprobe:warm.mjs:tick { printf("%d\\n", arg0); }';
  const child = spawn(node, [cli, '-v', '-p', String(pid), '-e', script], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let text = '';
  let notes = '';
  let first;
  let asked = false;
  child.stderr.on('data', (data) => {
    notes += data;
  });
  return new Promise((resolve, reject) => {
    child.stdout.on('data', (data) => {
      if (text === '') first = performance.now() - begun;
      text += data;
      // Once: the second Ctrl-C leaves without the maps.
      if (text.split('\n').length > 20 && !asked) asked = child.kill('SIGINT');
    });
    child.once('close', (code) => {
      const numbers = text.trim().split('\n').map(Number);
      const wrong = numbers.findIndex((n, i) => n !== numbers[0] + i);
      if (code === 0 && wrong === -1 && numbers.length >= 20) return resolve(first);
      const around =
        wrong === -1
          ? ''
          : `; in the middle of ${numbers.length} events ${numbers.slice(Math.max(0, wrong - 3), wrong + 3)}`;
      reject(new Error(`trapline ended with ${code}: ${notes}${around}`));
    });
  });
}

for (const [name, env, execArgv] of [
  ['a small process', {}, []],
  ['a process with fastify in it', { TARGET_FASTIFY: '1' }, []],
  ['a process with fastify in it, prepared', { TARGET_FASTIFY: '1' }, registerArgs],
]) {
  const target = await startTarget(path.join(root, 'bench/targets/warm.mjs'), { env, execArgv });
  await sleep(500);
  const times = [];
  for (let i = 0; i < ROUNDS; i++) {
    times.push(await firstEvent(target.pid));
    await sleep(200);
  }
  row({
    name: `command start to first event: ${name}`,
    value: median(times),
    unit: 'ms',
    limit: 1000,
    spread: [Math.min(...times), Math.max(...times)],
    note: `${ROUNDS} runs, events in order`,
  });
  await target.stop();
}
process.exit();
