/**
 * How long attaching and detaching take, step by step, and that nothing remains: attach and detach a process under load,
 * again and again. Every request of the load has to be answered.
 *
 *   node bench/attach.mjs [--node PATH] [--rounds N] [--quick]
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { attach } from '../dist/target/attach.js';
import { quick, row } from './lib/report.mjs';

const { values } = parseArgs({
  options: {
    node: { type: 'string', default: process.env.TRAPLINE_NODE ?? process.execPath },
    rounds: { type: 'string', default: quick ? '5' : '100' },
    quick: { type: 'boolean' },
  },
});
const rounds = Number(values.rounds);

const TARGET = `
const http = require('node:http');
let failed = 0, served = 0;
const server = http.createServer((req, res) => res.end('ok')).listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
  setInterval(() => http.get({ port, host: '127.0.0.1', agent }, (res) => { served++; res.resume(); }).on('error', () => failed++), 2);
  process.send(0);
});
process.on('message', () => process.send({ served, failed, keys: Reflect.ownKeys(globalThis).length, rss: process.memoryUsage().rss }));
`;
const child = spawn(values.node, ['--inspect-port=0', '-e', TARGET], {
  stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
});
const answer = () => new Promise((resolve) => child.once('message', resolve));
const state = () => {
  const reply = answer();
  child.send(0);
  return reply;
};
const threads = () => Number(/^Threads:\s*(\d+)/m.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))[1]);

await answer();
await new Promise((resolve) => setTimeout(resolve, 300));
const before = await state();
const threadsBefore = threads();
const none = () => {};
const events = { onRecord: none, onArmed: none, onLost: none, onWarning: none, onGone: none };
const steps = new Map();
const note = (name, ms) => steps.set(name, [...(steps.get(name) ?? []), ms]);
try {
  for (let round = 0; round < rounds; round++) {
    const started = performance.now();
    const session = await attach(child.pid, events, { onStep: note });
    const attached = performance.now();
    await session.detach();
    note('attach, whole', attached - started);
    note('detach', performance.now() - attached);
  }
  await new Promise((resolve) => setTimeout(resolve, 300));
  const after = await state();
  if (after.failed !== 0) throw new Error(`${after.failed} requests failed`);
  if (after.keys !== before.keys) throw new Error(`${after.keys - before.keys} globals remain`);
  if (threads() !== threadsBefore) throw new Error(`${threads() - threadsBefore} threads remain`);
  console.log(
    `${rounds} attach and detach cycles, ${after.served - before.served} requests served meanwhile, 0 failed`,
  );
  console.log('step               median ms   longest ms');
  for (const [name, all] of steps) {
    all.sort((a, b) => a - b);
    const shown = (ms) => ms.toFixed(1).padStart(10);
    console.log(`${name.padEnd(16)} ${shown(all[all.length >> 1])}   ${shown(all.at(-1))}`);
  }
  const whole = steps.get('attach, whole');
  row({
    name: 'attaching, whole (no probe yet)',
    value: whole[whole.length >> 1],
    unit: 'ms',
    spread: [whole[0], whole.at(-1)],
    exact: after.failed === 0,
    note: `${rounds} attach and detach cycles, ${after.served - before.served} requests served meanwhile, ${after.failed} failed; globals and threads as before`,
  });
} finally {
  child.kill('SIGKILL');
}
