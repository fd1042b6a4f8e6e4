// A fastify service whose three functions of its own are called once for each request; says how often when it is asked.
import Fastify from 'fastify';

let calls = 0;

function parse(query) {
  calls++;
  return Number(query.n ?? 1);
}

function compute(n) {
  let sum = 0;
  for (let i = 0; i < n; i++) sum += i;
  return sum;
}

async function answer(request) {
  return { sum: compute(parse(request.query)) };
}

const app = Fastify();
app.get('/sum', answer);
await app.listen({ port: 0, host: '127.0.0.1' });
process.on('message', () => process.send({ calls }));
process.send({ port: app.server.address().port });
