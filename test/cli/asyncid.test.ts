import { describe, expect, test } from 'vitest';
import { nodeBinaries } from '../support/nodes.ts';
import { launchFolder } from './launch-support.ts';

// Jobs come by callbacks of one resource: a repeated timer, a connection, a port, an emitter; each does its part in every way in which
// work goes on later.
const FILES = {
  'jobs.mjs': `
import { EventEmitter } from 'node:events';
import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { MessageChannel } from 'node:worker_threads';
const JOBS = 4;
const emitter = new EventEmitter();
emitter.on('job', async (job) => { step(job); await sleep(1); step(job); });
export function step(job) { return job; }
let done = 0;
async function handle(job) {
  step(job);
  emitter.emit('job', job);
  await null;
  step(job);
  await Promise.all([sleep(2), new Promise((resolve) => process.nextTick(() => { step(job); setImmediate(resolve); }))]);
  step(job);
  await new Promise((resolve) => setTimeout(() => { step(job); resolve(); }, 1));
  if (++done === JOBS) setTimeout(() => process.exit(), 20);
}
/** Calls so many times, each when the one before has been handled. */
function feed(send) {
  let sent = 0;
  const timer = setInterval(() => {
    if (sent > done) return;
    if (sent === JOBS) clearInterval(timer);
    else send(\`job\${sent++}\`);
  }, 5);
}
const sources = {
  timer() {
    let next = 0;
    setInterval(() => { if (next === done && next < JOBS) handle(\`job\${next++}\`); }, 5);
  },
  connection() {
    const server = net.createServer((socket) => socket.on('data', (data) => handle(String(data))));
    server.listen(0, '127.0.0.1', () => {
      const client = net.connect(server.address().port, '127.0.0.1');
      feed((job) => client.write(job));
    });
  },
  port() {
    const { port1, port2 } = new MessageChannel();
    port2.on('message', handle);
    feed((job) => port1.postMessage(job));
  },
  http() {
    const server = http.createServer((request, response) => { handle(request.url.slice(1)); response.end(); });
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      feed((job) => http.get({ port, host: '127.0.0.1', path: \`/\${job}\`, agent }, (response) => response.resume()));
    });
  },
  http2() {
    const server = http2.createServer();
    server.on('stream', (stream, headers) => { handle(headers[':path'].slice(1)); stream.respond(); stream.end(); });
    server.listen(0, '127.0.0.1', () => {
      const client = http2.connect(\`http://127.0.0.1:\${server.address().port}\`);
      feed((job) => client.request({ ':path': \`/\${job}\` }).resume());
    });
  },
};
sources[process.argv[2]]();
`,
};

const { run } = launchFolder(FILES);

describe.each(nodeBinaries())('asyncid, Node $version', ({ path: node }) => {
  test.each(['timer', 'connection', 'port', 'http', 'http2'])('one number a job: %s', async (source) => {
    const script = 'kprobe:jobs.mjs:step { printf("%s %d\\n", str(arg0), asyncid); }';
    const { code, out, err } = await run(['-c', `${node} jobs.mjs ${source}`, script]);
    expect({ code, err }).toEqual({ code: 0, err: expect.not.stringMatching(/ERROR|Lost/) });
    const ids = new Map<string, Set<string>>();
    const steps = out
      .trim()
      .split('\n')
      .map((line) => line.split(' ') as [string, string]);
    for (const [job, id] of steps) ids.set(job, (ids.get(job) ?? new Set()).add(id));
    expect([...ids.keys()].sort()).toEqual(['job0', 'job1', 'job2', 'job3']);
    expect([...ids.values()].map(({ size }) => size)).toEqual([1, 1, 1, 1]);
    expect(new Set([...ids.values()].flatMap((set) => [...set])).size).toBe(4);
    expect(steps).toHaveLength(4 * 7);
  });
});
