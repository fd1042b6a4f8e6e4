import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { blacklistReason } from '../../src/arch/v8/blacklist.ts';

test("Trapline's own code, Node's and V8's cannot be probed, with a reason each", () => {
  const own = fileURLToPath(new URL('../../src/agent/main/agent.ts', import.meta.url));
  expect(blacklistReason(own)).toMatch(/Trapline's own/);
  expect(blacklistReason('/app/node_modules/trapline/dist/agent/main.js')).toMatch(/Trapline's own/);
  expect(blacklistReason('trapline:agent')).toMatch(/Trapline's own/);
  expect(blacklistReason('node:internal/fs/utils')).toMatch(/internal to Node/);
  expect(blacklistReason('node:fs')).toMatch(/Node's own module/);
  expect(blacklistReason('wasm://wasm/1234')).toMatch(/WebAssembly/);
});

test('everything else can', () => {
  for (const file of [
    '/app/src/server.js',
    '/app/node_modules/fastify/fastify.js',
    '/app/trapline-notes/dist/a.js',
    'evalmachine.<anonymous>',
    '',
    fileURLToPath(import.meta.url),
  ]) {
    expect(blacklistReason(file)).toBeUndefined();
  }
});
