/**
 * Identify before acting. SIGUSR1 ends a process that has no handler for it, so everything that can be known about a
 * process without touching it is known before the signal is sent.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { TraplineError } from '../errors.ts';
import { exportsNodeApi } from './elf.ts';
import { type ProcStatus, procArgv, procEnv, procExe, procNamespace, procStatus, read } from './procfs.ts';

const SIGUSR1_BIT = 1n << 9n;
/** A process that has just been started gets this long to install its handler. */
const BOOT_MS = 2000;

export interface Identity {
  readonly pid: number;
  readonly exe: string | undefined;
  readonly argv: readonly string[];
  readonly uid: number;
  readonly threads: number;
  /** Where its inspector is to be expected, from its command line and NODE_OPTIONS. */
  readonly inspector: InspectorOptions;
}

export interface InspectorOptions {
  /** --inspect, --inspect-brk or --inspect-wait was given: an inspector is open since the start. */
  readonly open: boolean;
  /** 0: any port. */
  readonly port: number;
}

/** Options that take the next argument as their value do not matter here: none of those that are looked for does. */
function nodeOptionsOf(argv: readonly string[], nodeOptions: string | undefined): string[] {
  const options = (nodeOptions ?? '').split(/\s+/);
  for (const arg of argv.slice(1)) {
    // the script: what follows is the application's own
    if (!arg.startsWith('-')) break;
    options.push(arg);
  }
  return options;
}

/** Whether Node's permission model is on in a process. */
function withPermission(pid: number): boolean {
  const options = nodeOptionsOf(procArgv(pid), procEnv(pid, 'NODE_OPTIONS'));
  return options.some((option) => /^--(experimental-)?permission$/.test(option));
}

export function inspectorOptions(argv: readonly string[], nodeOptions: string | undefined): InspectorOptions {
  let open = false;
  let port = 9229;
  for (const option of nodeOptionsOf(argv, nodeOptions)) {
    const match = /^--(inspect|inspect-brk|inspect-wait|inspect-port|debug-port)(?:=(.*))?$/.exec(option);
    if (match === null) continue;
    if (match[1]?.startsWith('inspect') && match[1] !== 'inspect-port') open = true;
    const number = /(?:^|:)(\d+)$/.exec(match[2] ?? '')?.[1];
    if (number !== undefined) port = Number(number);
  }
  return { open, port };
}

const refuse = (code: string, message: string, hint?: string): never => {
  throw new TraplineError(code, message, { hint });
};

/** By their command lines: from Node 24 on, the kernel's name for such a process is that of its main thread. */
export const HOW_TO_FIND = "pgrep -af '^([^ ]*/)?node ' lists the Node processes";

/**
 * Everything about a process that decides how to attach, or a refusal.
 * Errors: ESRCH, ENOTNODE, EPERM, ENAMESPACE, ESIGUSR1, EZOMBIE.
 */
export async function identify(pid: number): Promise<Identity> {
  if (!Number.isSafeInteger(pid) || pid <= 0) refuse('ESRCH', `${pid} is not a process ID`);
  if (pid === process.pid) {
    refuse(
      'ESELF',
      'a process cannot attach to itself by PID',
      'selfSession() and registerKprobe() of the library probe the own process: docs/kprobes.md',
    );
  }
  return process.platform === 'linux' ? await identifyLinux(pid) : identifyElsewhere(pid);
}

async function identifyLinux(pid: number): Promise<Identity> {
  const status = procStatus(pid);
  if (status === undefined) return refuse('ESRCH', `no process ${pid}`, HOW_TO_FIND);
  if (status.state === 'Z' || status.state === 'X')
    refuse('ESRCH', `process ${pid} has exited and is a zombie`);
  const own = process.geteuid?.() ?? -1;
  if (own !== 0 && own !== status.uid) {
    refuse(
      'EPERM',
      `process ${pid} (${status.name}) belongs to user ${status.uid}, you are user ${own}`,
      `run as that user: sudo -u '#${status.uid}' trapline -p ${pid}`,
    );
  }
  if (status.state === 'T' || status.state === 't') {
    refuse('ESTOPPED', `process ${pid} is stopped`, `continue it first: kill -CONT ${pid}`);
  }
  checkNamespaces(pid, status);
  const exe = procExe(pid);
  const argv = procArgv(pid);
  // one that calls exec() has none for a moment, too
  if (argv.length === 0 && exe === undefined)
    refuse('ENOTNODE', `process ${pid} (${status.name}) is a kernel thread`);
  if (!isNode(pid)) {
    refuse('ENOTNODE', `process ${pid} (${exe ?? status.name}) is not a Node.js process`, HOW_TO_FIND);
  }
  const inspector = inspectorOptions(argv, procEnv(pid, 'NODE_OPTIONS'));
  return { pid, exe, argv, uid: status.uid, threads: status.threads, inspector };
}

/** Whether a process has not ended yet; one that nobody has waited for has. */
export function isAlive(pid: number): boolean {
  if (process.platform === 'linux') {
    const state = procStatus(pid)?.state;
    return state !== undefined && state !== 'Z' && state !== 'X';
  }
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Through /proc/PID/exe, which also leads to an executable that has been replaced since, or is in another mount namespace. */
export function isNode(pid: number): boolean {
  if (exportsNodeApi(`/proc/${pid}/exe`) === true) return true;
  for (const line of (read(`/proc/${pid}/maps`) ?? '').split('\n')) {
    const file = /\s(\/\S*\/libnode\.so\S*)$/.exec(line)?.[1];
    if (file !== undefined) return exportsNodeApi(`/proc/${pid}/root${file}`) === true;
  }
  return false;
}

/**
 * The inspector's port and the agent's socket live in the target's namespaces. A tracer in another network namespace
 * cannot reach the port, so it has to be run inside.
 */
function checkNamespaces(pid: number, status: ProcStatus): void {
  const differs = (kind: 'net' | 'mnt' | 'pid'): boolean => {
    const theirs = procNamespace(pid, kind);
    return theirs !== undefined && theirs !== procNamespace('self', kind);
  };
  if (!differs('net')) return;
  const inner = status.nsPids.at(-1) ?? pid;
  const where = differs('mnt') ? 'a container' : 'another network namespace';
  refuse(
    'ENAMESPACE',
    `process ${pid} runs in ${where}: its inspector cannot be reached from here`,
    differs('mnt')
      ? `run trapline inside: docker exec CONTAINER npx trapline -p ${inner}, or nsenter -t ${pid} -a`
      : `enter it first: sudo nsenter -t ${pid} -n trapline -p ${pid}`,
  );
}

export type SignalState = 'caught' | 'ignored' | 'default';

/** What SIGUSR1 does to a process now. */
export function sigusr1State(status: ProcStatus): SignalState {
  if ((status.ignored & SIGUSR1_BIT) !== 0n) return 'ignored';
  return (status.caught & SIGUSR1_BIT) !== 0n ? 'caught' : 'default';
}

/** Resolves when SIGUSR1 is safe to send; waits for a process that is just booting. Throws ESIGUSR1 or ESRCH. */
export async function awaitSignalHandler(pid: number): Promise<void> {
  if (process.platform !== 'linux') return;
  const deadline = Date.now() + BOOT_MS;
  const young = processAgeMs(pid) < BOOT_MS * 2;
  for (;;) {
    const status = procStatus(pid);
    if (status === undefined || status.state === 'Z') return refuse('ESRCH', `process ${pid} has exited`);
    const state = sigusr1State(status);
    if (state === 'caught') return;
    if (state === 'ignored' || !young || Date.now() > deadline) {
      refuse(
        'ESIGUSR1',
        `process ${pid} does not open its inspector on SIGUSR1 (the signal is ${state === 'ignored' ? 'ignored' : 'not handled and would end it'})`,
        withPermission(pid)
          ? '--permission keeps the inspector closed; Node 24 and later open it with --allow-inspector --allow-worker --allow-fs-write=/tmp'
          : 'it was started with --disable-sigusr1 or is not up yet; start it with --inspect=0 or --import trapline/register',
      );
    }
    await sleep(5);
  }
}

/** Since its start, from field 22 of /proc/PID/stat (clock ticks of 10 ms) and the uptime. */
function processAgeMs(pid: number): number {
  const stat = read(`/proc/${pid}/stat`) ?? '';
  const ticks = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]);
  const uptime = Number((read('/proc/uptime') ?? '0').split(' ')[0]);
  return Number.isFinite(ticks) ? uptime * 1000 - ticks * 10 : 0;
}

/** macOS and others: what kill(2) says, and the default port. */
function identifyElsewhere(pid: number): Identity {
  try {
    process.kill(pid, 0);
  } catch (error) {
    const denied = (error as NodeJS.ErrnoException).code === 'EPERM';
    refuse(
      denied ? 'EPERM' : 'ESRCH',
      denied ? `process ${pid} belongs to another user` : `no process ${pid}`,
    );
  }
  return { pid, exe: undefined, argv: [], uid: -1, threads: -1, inspector: { open: false, port: 9229 } };
}
