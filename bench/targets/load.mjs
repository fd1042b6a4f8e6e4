// The load of function-tracer.mjs, in a process of its own: neither the tracer's work nor its garbage slows it. One autocannon run a message.
import autocannon from 'autocannon';

process.on('message', async (options) => {
  const { requests, non2xx, errors } = await autocannon(options);
  process.send({ rate: requests.average, failed: non2xx + errors });
});
process.on('disconnect', () => process.exit());
process.send('ready');
