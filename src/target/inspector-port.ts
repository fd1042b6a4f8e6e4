/**
 * Opens a process's inspector by SIGUSR1, or finds the one that is open. Only a socket that this very process listens
 * on is ever talked to: the default port may be somebody else's.
 */

import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { OWN_MARK } from '../agent/protocol.ts';
import { TraplineError } from '../errors.ts';
import type { CdpClient } from './cdp.ts';
import { awaitSignalHandler, type Identity, isAlive } from './process.ts';
import {
  type ListeningSocket,
  namespaceListeners,
  procArgv,
  processListeners,
  socketHolder,
} from './procfs.ts';

/** The port comes within milliseconds; a main thread that sits in a long native call needs longer. */
const OPEN_MS = 3000;
/** Another tracer that is just attaching to another process holds the default port for about 100 ms. */
const PORT_WAIT_MS = 2000;

export interface OpenInspector {
  /** ws:// address of the main thread's inspector. */
  readonly url: string;
  /** It was open before: it stays open. */
  readonly wasOpen: boolean;
}

/**
 * `beforeSignal` is called with the sockets that the process listens on, when SIGUSR1 is about to be sent.
 * Errors: ESRCH, ESIGUSR1, EADDRINUSE.
 */
export async function openInspector(
  target: Identity,
  beforeSignal: (seen: readonly string[]) => void = () => {},
): Promise<OpenInspector> {
  if (process.platform !== 'linux') return await openElsewhere(target);
  const { pid, inspector } = target;
  const before = processListeners(pid);
  const known = before.filter((socket) => expected(socket, target));
  const open = await firstInspector(known);
  if (open !== undefined) return { url: open, wasOpen: true };
  if (inspector.port !== 0) await awaitPort(target);
  await awaitSignalHandler(pid);
  const seen = new Set(before.map((socket) => socket.inode));
  beforeSignal([...seen]);
  signal(pid);
  const deadline = Date.now() + OPEN_MS;
  while (Date.now() < deadline) {
    const fresh = processListeners(pid).filter((socket) => !seen.has(socket.inode));
    const url = await firstInspector(fresh);
    if (url !== undefined) return { url, wasOpen: false };
    if (!isAlive(pid)) throw new TraplineError('ESRCH', `process ${pid} has exited`);
    await sleep(2);
  }
  // nothing new: the application opened an inspector by itself, on a port that nothing tells
  const unexpected = await firstInspector(
    before.filter((socket) => loopback(socket) && !expected(socket, target)),
  );
  if (unexpected !== undefined) return { url: unexpected, wasOpen: true };
  if (inspector.port !== 0) refuseHeldPort(target);
  throw new TraplineError('ESIGUSR1', `process ${pid} got SIGUSR1 but opened no inspector`, {
    hint: 'the application has its own SIGUSR1 handler, or its main thread is blocked; start it with --inspect=0 or --import trapline/register',
  });
}

const loopback = (socket: ListeningSocket): boolean =>
  socket.host.startsWith('127.') || /^(0:)*:?:?1$/.test(socket.host);

/** Where an inspector that is already open would be. Other ports are the application's: no request is sent to them. */
function expected(socket: ListeningSocket, { inspector }: Identity): boolean {
  if (inspector.open && inspector.port === 0) return loopback(socket);
  return socket.port === inspector.port;
}

function signal(pid: number): void {
  try {
    process.kill(pid, 'SIGUSR1');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'ESRCH';
    throw new TraplineError(code, `cannot signal process ${pid}: ${code}`, { cause: error });
  }
}

async function awaitPort(target: Identity): Promise<void> {
  const deadline = Date.now() + PORT_WAIT_MS;
  while (heldPort(target) !== undefined) {
    if (Date.now() > deadline) refuseHeldPort(target);
    await sleep(20);
  }
}

function heldPort({ pid, inspector }: Identity): ListeningSocket | undefined {
  const own = new Set(processListeners(pid).map((socket) => socket.inode));
  return namespaceListeners(pid).find((socket) => socket.port === inspector.port && !own.has(socket.inode));
}

function refuseHeldPort(target: Identity): void {
  const held = heldPort(target);
  if (held === undefined) return;
  const holder = socketHolder(held.inode);
  const who =
    holder === undefined ? "another user's process" : `process ${holder} (${shortCommand(procArgv(holder))})`;
  throw new TraplineError(
    'EADDRINUSE',
    `process ${target.pid} would open its inspector on port ${held.port}, which ${who} holds`,
    {
      hint: 'close that inspector, or start the process to be traced with --inspect-port=0',
    },
  );
}

/** Characters of a command line that are shown. */
const COMMAND_LENGTH = 80;

/** A command in one line: an argument may be a whole program. */
function shortCommand(argv: readonly string[]): string {
  const text = argv.join(' ').replace(/\s+/g, ' ');
  return text.length > COMMAND_LENGTH ? `${text.slice(0, COMMAND_LENGTH - 1)}…` : text;
}

/** An inspector that a process opened since it listened on those sockets. */
export async function openedSince(pid: number, seen: ReadonlySet<string>): Promise<string | undefined> {
  return await firstInspector(processListeners(pid).filter((socket) => !seen.has(socket.inode)));
}

/**
 * Has a process close its inspector's port: from a timer, so that this client has left by then, and after the event loop
 * has polled, where Node would open it once more when SIGUSR1 came while the loop was held up.
 */
export async function closePort(client: CdpClient): Promise<void> {
  const close = `()=>process.getBuiltinModule?.('inspector').close()`;
  const expression = `${OWN_MARK}setTimeout(()=>setImmediate(${close}),50).unref?.();void 0`;
  await client.send('Runtime.evaluate', { expression, silent: true }).catch(() => undefined);
}

async function firstInspector(sockets: readonly ListeningSocket[]): Promise<string | undefined> {
  for (const socket of sockets) {
    const url = await inspectorUrl(socket.host, socket.port);
    if (url !== undefined) return url;
  }
  return undefined;
}

/** The ws:// address that an inspector's discovery page names, or undefined when no inspector answers there. */
export function inspectorUrl(host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const options = { host, port, path: '/json/list', timeout: OPEN_MS, agent: false } as const;
    const request = http.get(options, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
        if (text.length > 1e5) request.destroy();
      });
      response.on('end', () => resolve(parseList(text, host, port)));
      response.on('error', () => resolve(undefined));
    });
    request.on('timeout', () => request.destroy());
    request.on('error', () => resolve(undefined));
  });
}

function parseList(text: string, host: string, port: number): string | undefined {
  try {
    const list: unknown = JSON.parse(text);
    const first = (list as { type?: unknown; webSocketDebuggerUrl?: unknown }[])[0];
    if (first?.type !== 'node' || typeof first.webSocketDebuggerUrl !== 'string') return undefined;
    const path = new URL(first.webSocketDebuggerUrl).pathname;
    return `ws://${host.includes(':') ? `[${host}]` : host}:${port}${path}`;
  } catch {
    return undefined;
  }
}

/** Without /proc: the port has to be the default one, and the page has to name the process. */
async function openElsewhere({ pid, inspector }: Identity): Promise<OpenInspector> {
  if ((await inspectorUrl('127.0.0.1', inspector.port)) !== undefined) {
    throw new TraplineError(
      'EADDRINUSE',
      `port ${inspector.port} already has an inspector, whose process cannot be told here`,
    );
  }
  signal(pid);
  const deadline = Date.now() + OPEN_MS;
  while (Date.now() < deadline) {
    const url = await inspectorUrl('127.0.0.1', inspector.port);
    if (url !== undefined) return { url, wasOpen: false };
    await sleep(5);
  }
  throw new TraplineError('ESIGUSR1', `process ${pid} got SIGUSR1 but opened no inspector`);
}
