import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, expect, test } from 'vitest';
import { AgentConnection } from '../../src/target/connection.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'trapline-test-'));
let server: Server | undefined;
afterEach(() => void server?.close());
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function frame(message: unknown): Buffer {
  const payload = Buffer.from(JSON.stringify(message));
  const header = Buffer.alloc(5);
  header.writeUInt32LE(payload.length);
  return Buffer.concat([header, payload]);
}

/** An agent that answers what it is asked, and closes its end behind the answer to `detach`. */
async function open(alive: () => boolean): Promise<{ connection: AgentConnection; agent: Socket }> {
  const socket = path.join(folder, `socket${Math.random()}`);
  const accepted = new Promise<Socket>((resolve) => {
    server = createServer((agent) => {
      agent.on('error', () => {});
      agent.on('data', (chunk: Buffer) => {
        const { id, method } = JSON.parse(chunk.subarray(5).toString()) as { id: number; method: string };
        if (method === 'flush') agent.write(frame({ id, result: null }));
        if (method !== 'detach') return;
        agent.write(frame({ id, result: { functionsRestored: 1 } }));
        agent.end(() => agent.destroy());
      });
      resolve(agent);
    }).listen(socket);
  });
  const connection = await AgentConnection.open(socket, 1000, alive);
  return { connection, agent: await accepted };
}

test('nothing is asked behind the last request, whose answer is not lost to a write that fails', async () => {
  const { connection, agent } = await open(() => true);
  await connection.request('flush');
  const closed = new Promise((resolve) => agent.once('close', resolve));
  const reply = connection.finish('detach');
  // the answer has come, the other end is closed, and nothing of that has been read when the next thing is asked for
  const late = closed.then(() => connection.request('closeWindow', { sites: [1] }));
  await expect(late).rejects.toMatchObject({ code: 'EGONE', message: /the session has ended/ });
  await expect(reply).resolves.toEqual({ functionsRestored: 1 });
});

test.each([
  [true, 'the agent in the process has ended'],
  [false, 'the process has exited'],
])('a connection that breaks, process alive: %s', async (alive, reason) => {
  const { connection, agent } = await open(() => alive);
  const told = new Promise<[string, boolean]>((resolve) => {
    connection.events = {
      onNotice: () => {},
      onRecord: () => {},
      onClose: (...how) => resolve(how),
    };
  });
  const unanswered = connection.request('faults');
  unanswered.catch(() => undefined);
  await sleep(20);
  agent.destroy();
  expect(await told).toEqual([reason, !alive]);
  await expect(unanswered).rejects.toMatchObject({ code: 'EGONE', message: reason });
  await expect(connection.request('faults')).rejects.toMatchObject({ code: 'EGONE' });
});
