// Load for the demo, in a process of its own: autocannon on a mix of routes. Sends what it counted once a second, and
// the whole result at the end.
import autocannon from 'autocannon';

const [url, seconds] = process.argv.slice(2);
const json = { 'content-type': 'application/json' };
const requests = [
  { method: 'GET', path: '/' },
  ...Array.from({ length: 5 }, (_, index) => ({ method: 'GET', path: `/products/${index * 7}` })),
  { method: 'GET', path: '/search?q=Product%201' },
  { method: 'GET', path: '/products/42' },
  {
    method: 'POST',
    path: '/checkout',
    headers: json,
    body: JSON.stringify({
      items: [
        { id: 3, quantity: 2 },
        { id: 14, quantity: 12 },
      ],
    }),
  },
];
const run = autocannon({ url, connections: 24, duration: Number(seconds), requests }, (error, result) => {
  if (error) throw error;
  // started by hand, it has nobody to tell
  if (process.send === undefined) return;
  process.send({ done: result });
  process.disconnect();
});
let responses = 0;
run.on('response', () => responses++);
setInterval(() => process.connected && process.send({ at: Date.now(), responses }), 250).unref();
process.on('SIGTERM', () => run.stop());
