/** A thread of symbols-pool.ts: batches of texts in, their packed symbols out. */
import { parentPort } from 'node:worker_threads';
import { scanFunctions } from './symbols.ts';
import { packSymbols } from './symbols-pack.ts';
import type { PoolBatch, PoolReply } from './symbols-pool.ts';

const NOWHERE = { scriptId: '', url: '', length: 0, sourceMapURL: '', executionContextId: 0, hash: '' };

parentPort?.on('message', (batch: PoolBatch) => {
  const packed = batch.map(({ source, isModule }) =>
    packSymbols(scanFunctions({ ...NOWHERE, isModule }, source, 0n)),
  );
  const reply: PoolReply = packed;
  parentPort?.postMessage(
    reply,
    packed.map(({ numbers }) => numbers.buffer as ArrayBuffer),
  );
});
