/** The guard's process (guard.ts): `node guard-main.js PID SOCKET…`. Ends when its standard input does. */

import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { CdpClient } from './cdp.ts';
import { closePort, openedSince } from './inspector-port.ts';
import { isAlive } from './process.ts';
import { procArgv, procStart } from './procfs.ts';

/** The port comes within milliseconds; a main thread that sits in a long native call needs longer. */
const WAIT_MS = 5000;
/** The tracer has given up on a main thread that is held up; so long that may go on. */
const LATE_MS = 60_000;
/** Longer than another tracer needs it: an inspector that stays is nobody's. */
const STAYS_MS = 1000;

const [pid = '', ...seen] = process.argv.slice(2);
let word = '';
for await (const chunk of process.stdin) word += String(chunk);
if (word !== 'done') await closeInspector(Number(pid), new Set(seen), word === 'late').catch(() => undefined);

async function closeInspector(target: number, known: ReadonlySet<string>, late: boolean): Promise<void> {
  const until = Date.now() + (late ? LATE_MS : WAIT_MS);
  while (Date.now() < until && isAlive(target)) {
    const url = await openedSince(target, known);
    // another tracer attaches: what opens now is its own, and its guard's care
    if (guardsOf(target).some(isYounger)) return;
    if (late && url !== undefined) await sleep(STAYS_MS);
    if (url !== undefined && (!late || (await openedSince(target, known)) === url)) {
      const client = await CdpClient.connect(url);
      await closePort(client);
      await client.close();
      return;
    }
    await sleep(late ? 100 : 10);
  }
}

/** Processes that stand by for the same one. */
function guardsOf(target: number): number[] {
  const script = fileURLToPath(import.meta.url);
  const pids = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
  return pids.filter((pid) => {
    const argv = procArgv(pid);
    return argv[1] === script && argv[2] === String(target);
  });
}

function isYounger(other: number): boolean {
  const [mine, its] = [procStart(process.pid), procStart(other)];
  if (mine === undefined || its === undefined || other === process.pid) return false;
  return its > mine || (its === mine && other > process.pid);
}
