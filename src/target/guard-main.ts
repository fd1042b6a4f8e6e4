/** The guard's process (guard.ts): `node guard-main.js PID SOCKET…`. Ends when its standard input does. */
import { setTimeout as sleep } from 'node:timers/promises';
import { CdpClient } from './cdp.ts';
import { closePort, openedSince } from './inspector-port.ts';

/** The port comes within milliseconds; a main thread that sits in a long native call needs longer. */
const WAIT_MS = 5000;

const [pid = '', ...seen] = process.argv.slice(2);
let word = '';
for await (const chunk of process.stdin) word += String(chunk);
if (word === '') await closeInspector(Number(pid), new Set(seen)).catch(() => undefined);

async function closeInspector(target: number, known: ReadonlySet<string>): Promise<void> {
  const until = Date.now() + WAIT_MS;
  while (Date.now() < until) {
    const url = await openedSince(target, known);
    if (url !== undefined) {
      const client = await CdpClient.connect(url);
      await closePort(client);
      await client.close();
      return;
    }
    await sleep(10);
  }
}
