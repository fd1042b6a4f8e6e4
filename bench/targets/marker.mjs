// Target of record.mjs: calls that Node itself has trace events for, at a rate as ticker.mjs has it: fs.accessSync(), a begin and an end
// each with `--trace-event-categories node.fs.sync`. (performance.mark() makes none on Node 20.) Commands by message: {rate, count}.
import { accessSync } from 'node:fs';

let next = 0;

function run({ rate, count }) {
  const batch = Math.max(1, Math.round(rate / 200));
  const end = next + count;
  const begun = performance.now();
  const ns = [];
  let due = begun;
  const step = () => {
    const start = performance.now();
    const calls = Math.min(batch, end - next);
    for (let i = 0; i < calls; i++, next++) accessSync('/');
    ns.push(((performance.now() - start) * 1e6) / calls);
    due += 5;
    if (next < end) setTimeout(step, Math.max(0, due - performance.now()));
    else process.send({ ns, wallMs: performance.now() - begun, next });
  };
  step();
}

process.on('message', run);
// Its file is complete after an exit, and not after a signal that is not handled.
process.on('SIGTERM', () => process.exit());
process.on('disconnect', () => process.exit());
process.send('ready');
