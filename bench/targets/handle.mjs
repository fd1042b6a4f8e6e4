// Target of hit.mjs and versus.mjs: calls handle(request, n) when told to, in rounds, and says what each round took.
// handle() is called now and then by itself too, as a server's functions are, until told to be quiet.
const urls = ['/item/100000000000/a', '/item/200000000000/b', '/item/300000000000/c', '/item/400000000000/d'];
class Message {
  constructor(url) {
    this.method = 'GET';
    this.url = url;
    this.httpVersion = '1.1';
  }
}
const requests = urls.map((url) => new Message(url));

export function handle(request, n) {
  // Next to nothing, and V8 inlines it: all that is measured beyond that is the probe's.
  return request.url.length + n;
}

// What somebody who may change the source would write.
const counts = new Map();
export function byHand(request, n) {
  const { url } = request;
  counts.set(url, (counts.get(url) ?? 0) + 1);
  return bare(request, n);
}
// The same once more, so that the one that is probed has only its own callers.
function bare({ url: { length } }, n) {
  return n + length;
}

function run(calls) {
  let sum = 0;
  for (let i = 0; i < calls; i++) sum += handle(requests[i & 3], i);
  return sum;
}
function runByHand(calls) {
  let sum = 0;
  for (let i = 0; i < calls; i++) sum += byHand(requests[i & 3], i);
  return sum;
}

let total = 0;
async function rounds(count, calls, loop, waitMs = 0) {
  const ns = [];
  for (let i = 0; i < count; i++) {
    const begun = process.hrtime.bigint();
    const sum = loop(calls);
    ns.push(Number(process.hrtime.bigint() - begun) / calls);
    if (loop === run) total += calls;
    if (sum !== calls * 20 + (calls * (calls - 1)) / 2) throw new Error('handle() gave a wrong result');
    await new Promise((resolve) => (waitMs === 0 ? setImmediate(resolve) : setTimeout(resolve, waitMs)));
  }
  return ns;
}

let idle;
const commands = {
  async rounds({ count, calls, waitMs }) {
    return { ns: await rounds(count, calls, run, waitMs), total };
  },
  async byHand({ count, calls }) {
    return { ns: await rounds(count, calls, runByHand), counts: [...counts] };
  },
  quiet({ on }) {
    clearInterval(idle);
    idle = undefined;
    if (!on) {
      idle = setInterval(() => {
        run(4);
        total += 4;
      }, 5);
    }
    return { total };
  },
};
commands.quiet({ on: false });
process.on('message', async (message) => process.send(await commands[message.do](message)));
process.on('disconnect', () => process.exit());
process.send('ready');
