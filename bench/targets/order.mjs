// Target of events.mjs: calls order(id, count, price, shop) or place(name) when told to, in rounds, and says what each round took.
const names = [
  'warehouse-north-0001',
  'warehouse-north-0002',
  'warehouse-north-0003',
  'warehouse-north-0004',
];

export function order(id, count, price, shop) {
  return id + count + price + shop;
}
export function place(name) {
  return name.length;
}

function orders(calls) {
  let sum = 0;
  for (let i = 0; i < calls; i++) sum += order(i, 2, 3, 4);
  if (sum !== (calls * (calls - 1)) / 2 + 9 * calls) throw new Error('order() gave a wrong result');
}
function places(calls) {
  let sum = 0;
  for (let i = 0; i < calls; i++) sum += place(names[i & 3]);
  if (sum !== calls * 20) throw new Error('place() gave a wrong result');
}

async function rounds({ loop, count, calls, waitMs = 0 }) {
  const run = loop === 'orders' ? orders : places;
  const ns = [];
  for (let i = 0; i < count; i++) {
    const begun = process.hrtime.bigint();
    run(calls);
    ns.push(Number(process.hrtime.bigint() - begun) / calls);
    await new Promise((resolve) => (waitMs === 0 ? setImmediate(resolve) : setTimeout(resolve, waitMs)));
  }
  return { ns };
}

// Now and then by themselves too, as a server's functions are, until told to be quiet.
let idle = setInterval(() => {
  orders(4);
  places(4);
}, 5);
const commands = {
  rounds,
  quiet() {
    clearInterval(idle);
    idle = undefined;
    return {};
  },
};
process.on('message', async (message) => process.send(await commands[message.do](message)));
process.on('disconnect', () => process.exit());
process.send('ready');
