// Target of versus.mjs: an object of functions that is called through a module binding, as a server calls its handlers.
const urls = ['/item/100000000000/a', '/item/200000000000/b', '/item/300000000000/c', '/item/400000000000/d'];
const requests = urls.map((url) => ({ url, method: 'GET' }));

export let handle = function handle(request) {
  return request.url.length;
};

/** The hand-written wrapper: what somebody who may change the source would do. */
const counts = new Map();
function wrap() {
  const original = handle;
  handle = function handle(request) {
    counts.set(request.url, (counts.get(request.url) ?? 0) + 1);
    return original(request);
  };
}

function run(calls) {
  let sum = 0;
  const begun = performance.now();
  for (let i = 0; i < calls; i++) sum += handle(requests[i & 3]);
  return { ms: performance.now() - begun, sum };
}

/** Calls in slices, so that the event loop turns. */
async function measure(calls, slices) {
  let ms = 0;
  let sum = 0;
  for (let i = 0; i < slices; i++) {
    const part = run(calls / slices);
    ms += part.ms;
    sum += part.sum;
    await new Promise((resolve) => setImmediate(resolve));
  }
  return { ms, sum, counts: [...counts] };
}

setInterval(() => run(4), 20).unref();
setInterval(() => {}, 1000);
process.on('message', async ({ wrapped, calls, slices }) => {
  if (wrapped) wrap();
  process.send(await measure(calls, slices));
});
process.on('disconnect', () => process.exit());
process.send('ready');
