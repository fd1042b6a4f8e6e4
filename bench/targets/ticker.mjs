// Target of throughput.mjs: calls `tick(n)` for n = 0, 1, 2, … at a given rate, in batches of 5 ms, and says what a call took in
// each batch. Commands by message: {rate, count}.
let next = 0;

export function tick(n) {
  return n;
}

function batchOf(calls) {
  for (let i = 0; i < calls; i++) tick(next++);
}

function run({ rate, count }) {
  const batch = Math.max(1, Math.round(rate / 200));
  const end = next + count;
  const begun = performance.now();
  const ns = [];
  let due = begun;
  let latest = 0;
  const step = () => {
    const start = performance.now();
    latest = Math.max(latest, start - due);
    // A late batch is followed by the next at once: the rate is kept.
    const calls = Math.min(batch, end - next);
    batchOf(calls);
    ns.push(((performance.now() - start) * 1e6) / calls);
    due += 5;
    if (next < end) setTimeout(step, Math.max(0, due - performance.now()));
    else process.send({ ns, wallMs: performance.now() - begun, latestMs: latest, next });
  };
  step();
}

process.on('message', run);
process.on('disconnect', () => process.exit());
process.send('ready');
