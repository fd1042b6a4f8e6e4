/** What a trace has not seen or could not read, said at its end. */
import { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import type { Trouble } from '../agent/protocol.ts';
import { didYouMean } from '../similar.ts';
import type { PlacedFault, Tracee } from './tracee.ts';

const { ENOENT } = constants.errno;
/** Names of properties in a hint. */
const MAX_NAMES = 8;

/** Values that could not be read: where in the script (an index of its positions), and why. */
export async function faultsOf(tracee: Tracee): Promise<{ position: number; message: string }[]> {
  return (await tracee.faults()).map((fault) => ({ position: fault.position, message: messageOf(fault) }));
}

function messageOf({ errno, count, trouble }: PlacedFault): string {
  const times = count === 1 ? 'once' : `${count} times`;
  if (errno === ENOENT && trouble !== undefined) {
    return `no value read here has a property '${trouble.key}', ${times}: it counts as undefined${hint(trouble)}`;
  }
  const reason = trouble === undefined ? faultReason(errno) : `${troubleReason(trouble)} (EFAULT)`;
  return `a value could not be read, ${times}: ${reason}`;
}

function troubleReason(trouble: Trouble): string {
  const { key, reason } = trouble;
  switch (reason) {
    case 'getter':
      return `'${key}' is a getter, whose code would have to run`;
    case 'proxy':
      return `'${key}' is a property of a Proxy, whose code would have to run`;
    case 'missing':
      return `there is no property '${key}'${hint(trouble)}`;
    default:
      return `'${key}' would be a property of null or undefined`;
  }
}

/** The nearest name, or what names there are. */
function hint({ key, names }: Trouble): string {
  const near = didYouMean(`${key}`, names);
  if (near !== undefined) return `; ${near}`;
  if (names.length === 0) return '';
  return `; there are ${names.slice(0, MAX_NAMES).join(', ')}${names.length > MAX_NAMES ? ', ...' : ''}`;
}

/** Hits that no program has seen, and functions whose only call was none for that reason. */
export async function missedOf(tracee: Tracee): Promise<string[]> {
  const stats = await tracee.session.siteStats();
  const onlyUnseen = stats.filter(({ nhit, nmissed, unseen = 0 }) => unseen > 0 && nhit + nmissed === 0);
  return [...unseen(onlyUnseen.length), ...missedHits(stats.reduce((sum, { nmissed }) => sum + nmissed, 0))];
}

function unseen(functions: number): string[] {
  if (functions === 0) return [];
  const whose = functions === 1 ? '1 function was' : `${functions} functions were`;
  return [
    `WARNING: ${whose} called only once, and that call put the probe in place: how calls end is seen from the second one on`,
  ];
}

function missedHits(missed: number): string[] {
  if (missed === 0) return [];
  const hits = missed === 1 ? '1 hit was' : `${missed} hits were`;
  const why =
    'calls by references that are not probed, or under way while their probe was armed, re-entry, or more than --maxactive';
  return [`WARNING: ${hits} missed: ${why}`];
}

/** What a command's process was prepared for and has not loaded: it counts there, and as it is in its file. */
export async function unloadedOf(tracee: Tracee): Promise<string[]> {
  const { pid, argv } = tracee.session.info;
  const names = (await tracee.unloaded()).map(({ type, target }) => `${type}:${target}`);
  const lines = names.map(
    (name) =>
      `WARNING: -c: process ${pid} (${argv.join(' ')}), the first of Node.js, has not loaded what ${name} names, or not as its file has it`,
  );
  if (lines.length > 0)
    lines.push(
      "HINT: only that process is traced: where it starts the program (npm, npx), give the program's own command",
    );
  return lines;
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
