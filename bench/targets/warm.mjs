// Target of first-event.mjs: calls tick(n) every 2 ms with n counting up, beside a fastify server if asked for one.
let n = 0;

export function tick(number) {
  // Something that a site is put into: functions as short as this one's code get none by default.
  return number + 1;
}

if (process.env.TARGET_FASTIFY === '1') {
  const { default: fastify } = await import('fastify');
  const app = fastify();
  app.get('/', async () => ({ ok: true }));
  await app.listen({ port: 0, host: '127.0.0.1' });
  for (let i = 0; i < 200; i++) await app.inject('/');
}
setInterval(() => {
  n = tick(n);
}, 2);
process.on('disconnect', () => process.exit());
process.send('ready');
