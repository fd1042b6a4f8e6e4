// A small shop. Nothing in this folder knows of any tracer.
import Fastify from 'fastify';
import { checkout, productPage, search } from './catalog.js';
import { access, report } from './log.js';

const app = Fastify();

app.addHook('onResponse', (request, reply, done) => {
  access(request.routeOptions.url, reply.statusCode);
  done();
});

app.get('/', async () => ({ shop: 'demo' }));
app.get('/products/:id', async (request, reply) => {
  const page = await productPage(Number(request.params.id));
  return page ?? reply.code(404).send({ error: 'no such product' });
});
app.get('/search', async (request) => await search(request.query.q ?? ''));
app.post('/checkout', async (request) => await checkout(request.body.items));
app.get('/report', async () => report());

await app.listen({ port: Number(process.env.PORT ?? 0), host: '127.0.0.1' });
console.log(JSON.stringify({ pid: process.pid, port: app.server.address().port }));
process.on('SIGTERM', () => app.close());
