// Target of throughput.mjs: calls `tick(n)` for n = 0, 1, 2, … at a given rate, in batches of 5 ms. Says how long the calls
// took. Commands by message: {rate, count} starts, answers {calls, ms, longestMs} when done.
let next = 0;

export function tick(n) {
  return n;
}

function run(rate, count) {
  const batch = Math.round(rate / 200);
  const end = next + count;
  const begun = performance.now();
  let busy = 0;
  let due = begun;
  let latest = 0;
  const step = () => {
    const start = performance.now();
    latest = Math.max(latest, start - due);
    // A late batch is followed by the next at once: the rate is kept.
    for (let i = Math.min(batch, end - next); i > 0; i--) tick(next++);
    busy += performance.now() - start;
    due += 5;
    if (next < end) setTimeout(step, Math.max(0, due - performance.now()));
    else
      process.send({ calls: count, busyMs: busy, wallMs: performance.now() - begun, longestDelayMs: latest });
  };
  step();
}

process.on('message', ({ rate, count }) => run(rate, count));
process.on('disconnect', () => process.exit());
process.send({ ready: true });
