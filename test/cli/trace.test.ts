import { expect, test } from 'vitest';
import { trace } from '../../src/cli/run.ts';
import { TextPrinter } from '../../src/output/index.ts';

const printer = new TextPrinter({ data: () => {}, progress: () => {} });

test.each([[{ pids: [] }], [{} as never]])('trace() without a process is refused: %j', async (target) => {
  const tracing = trace({ target, script: 'BEGIN { }', printer });
  const refusal = { code: 'EINVAL', message: 'no process to trace' };
  await expect(tracing.attached).rejects.toMatchObject(refusal);
  await expect(tracing.finished).rejects.toMatchObject(refusal);
});
