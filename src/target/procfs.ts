/** What /proc says about a process. Linux only; every function returns undefined where there is nothing to read. */

import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

export interface ProcStatus {
  readonly name: string;
  readonly state: string;
  readonly uid: number;
  readonly threads: number;
  /** The PID in each namespace, outermost first. */
  readonly nsPids: readonly number[];
  /** Signal masks; bit n is signal n + 1. */
  readonly caught: bigint;
  readonly ignored: bigint;
}

export function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

function link(file: string): string | undefined {
  try {
    return readlinkSync(file);
  } catch {
    return undefined;
  }
}

export function procStatus(pid: number): ProcStatus | undefined {
  const text = read(`/proc/${pid}/status`);
  if (text === undefined) return undefined;
  const field = (name: string): string => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(text)?.[1] ?? '';
  const mask = (name: string): bigint => BigInt(`0x${field(name) || '0'}`);
  return {
    name: field('Name'),
    state: field('State').charAt(0),
    // the effective user: what decides whether a signal may be sent
    uid: Number(field('Uid').split(/\s+/)[1]),
    threads: Number(field('Threads')),
    nsPids: field('NSpid').split(/\s+/).map(Number),
    caught: mask('SigCgt'),
    ignored: mask('SigIgn'),
  };
}

/** All that a process has started and that has not left its family, itself first. */
export function procFamily(pid: number): number[] {
  const family = [pid];
  // it grows on the way
  for (const member of family) {
    for (const thread of entries(`/proc/${member}/task`)) {
      const children = read(`/proc/${member}/task/${thread}/children`) ?? '';
      for (const child of children.split(' ')) if (child !== '') family.push(Number(child));
    }
  }
  return family;
}

function entries(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** When a process began, in clock ticks since the machine did. */
export function procStart(pid: number): number | undefined {
  const stat = read(`/proc/${pid}/stat`);
  // counted from behind the name, which may hold anything
  return stat === undefined ? undefined : Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]);
}

const strings = (text: string | undefined): string[] =>
  (text ?? '').split('\0').filter((part) => part !== '');

export const procArgv = (pid: number): string[] => strings(read(`/proc/${pid}/cmdline`));
export const procExe = (pid: number): string | undefined => link(`/proc/${pid}/exe`);
export const procNamespace = (
  pid: number | 'self',
  kind: 'pid' | 'net' | 'mnt' | 'user',
): string | undefined => link(`/proc/${pid}/ns/${kind}`);

/** One variable of the environment the process was started with. */
export function procEnv(pid: number, name: string): string | undefined {
  const found = strings(read(`/proc/${pid}/environ`)).find((entry) => entry.startsWith(`${name}=`));
  return found?.slice(name.length + 1);
}

export interface ListeningSocket {
  readonly inode: string;
  /** Dotted or bracketless address to connect to: wildcards become loopback. */
  readonly host: string;
  readonly port: number;
}

/** Listening TCP sockets in the network namespace of a process. */
export function namespaceListeners(pid: number): ListeningSocket[] {
  const found: ListeningSocket[] = [];
  for (const [file, v6] of [
    [`/proc/${pid}/net/tcp`, false],
    [`/proc/${pid}/net/tcp6`, true],
  ] as const) {
    for (const line of (read(file) ?? '').split('\n').slice(1)) {
      const fields = line.trim().split(/\s+/);
      // state 0A is TCP_LISTEN
      if (fields[3] !== '0A') continue;
      const [address = '', port = '0'] = (fields[1] ?? '').split(':');
      found.push({ inode: fields[9] ?? '', host: hostOf(address, v6), port: Number.parseInt(port, 16) });
    }
  }
  return found;
}

/** /proc/net/tcp has an address as 32-bit words in the machine's byte order, which is little-endian here. */
function hostOf(hex: string, v6: boolean): string {
  const bytes: number[] = [];
  for (let word = 0; word < hex.length; word += 8) {
    for (let at = 6; at >= 0; at -= 2) bytes.push(Number.parseInt(hex.slice(word + at, word + at + 2), 16));
  }
  if (bytes.every((byte) => byte === 0)) return v6 ? '::1' : '127.0.0.1';
  if (!v6) return bytes.join('.');
  const groups: string[] = [];
  for (let at = 0; at < 16; at += 2)
    groups.push((((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)).toString(16));
  return groups.join(':');
}

/** Inodes of the sockets a process holds open; undefined when its descriptors may not be read. */
export function socketInodes(pid: number): Set<string> | undefined {
  let names: string[];
  try {
    names = readdirSync(`/proc/${pid}/fd`);
  } catch {
    return undefined;
  }
  const inodes = new Set<string>();
  for (const name of names) {
    const inode = /^socket:\[(\d+)\]$/.exec(link(`/proc/${pid}/fd/${name}`) ?? '')?.[1];
    if (inode !== undefined) inodes.add(inode);
  }
  return inodes;
}

/** The sockets on which this very process listens. */
export function processListeners(pid: number): ListeningSocket[] {
  const own = socketInodes(pid);
  return own === undefined ? [] : namespaceListeners(pid).filter((socket) => own.has(socket.inode));
}

/** Who holds a listening socket, among the processes whose descriptors may be read. */
export function socketHolder(inode: string): number | undefined {
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (Number.isInteger(pid) && socketInodes(pid)?.has(inode)) return pid;
  }
  return undefined;
}
