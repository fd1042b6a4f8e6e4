// Target of tracepoints.mjs: fires a tracepoint of its own or publishes on a channel when told to, in rounds, and says what each round took.
import { channel } from 'node:diagnostics_channel';
import { defineTracepoint } from '../../dist/index.js';

const checkout = defineTracepoint('bench', 'checkout', { id: 'u64', count: 'u32', sku: 'string' });
const orders = channel('bench.orders');
const loops = {
  tracepoint(calls) {
    for (let i = 0; i < calls; i++) checkout({ id: i, count: 3, sku: 'warehouse-north-0001' });
  },
  channel(calls) {
    for (let i = 0; i < calls; i++) orders.publish({ id: i, count: 3, sku: 'warehouse-north-0001' });
  },
};

process.on('message', async ({ loop, count, calls }) => {
  const ns = [];
  for (let i = 0; i < count; i++) {
    const begun = process.hrtime.bigint();
    loops[loop](calls);
    ns.push(Number(process.hrtime.bigint() - begun) / calls);
    await new Promise((resolve) => setImmediate(resolve));
  }
  process.send({ ns });
});
process.on('disconnect', () => process.exit());
process.send('ready');
