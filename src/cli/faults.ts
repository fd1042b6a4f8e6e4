/** What a trace has not seen or could not read, said at its end. */
import { getSystemErrorName } from 'node:util';
import type { Tracee } from './tracee.ts';

/** Values that could not be read: where in the script (an index of its positions), and why. */
export async function faultsOf(tracee: Tracee): Promise<{ position: number; message: string }[]> {
  return (await tracee.faults()).map(({ position, errno, count }) => {
    const times = count === 1 ? 'once' : `${count} times`;
    return { position, message: `a value could not be read, ${times}: ${faultReason(errno)}` };
  });
}

/** Hits that no program has seen. */
export async function missedOf(tracee: Tracee): Promise<string[]> {
  const missed = (await tracee.session.siteStats()).reduce((sum, { nmissed }) => sum + nmissed, 0);
  if (missed === 0) return [];
  const hits = missed === 1 ? '1 hit was' : `${missed} hits were`;
  const why =
    'calls by references that are not probed, or under way while their probe was armed, re-entry, or more than --maxactive';
  return [`WARNING: ${hits} missed: ${why}`];
}

/** What a command's process was prepared for and has not loaded: it counts there, and as it is in its file. */
export async function unloadedOf(tracee: Tracee): Promise<string[]> {
  const { pid } = tracee.session.info;
  return (await tracee.unloaded()).map(
    ({ type, target }) =>
      `WARNING: -c: process ${pid}, the first of Node.js, has not loaded what ${type}:${target} names, or not as its file has it`,
  );
}

const FAULTS: Record<string, string> = {
  EFAULT: 'no plain value is there (a getter, a Proxy, or a property of null or undefined)',
  EINVAL: 'it is of another type',
  ENOENT: 'there is no such property',
  ESTALE: 'it belonged to an earlier hit',
  E2BIG: 'it is too large',
};

function faultReason(errno: number): string {
  let name = `errno ${errno}`;
  try {
    name = getSystemErrorName(-Math.abs(errno));
  } catch {
    // A number that is none of the system's.
  }
  return FAULTS[name] === undefined ? name : `${FAULTS[name]} (${name})`;
}
