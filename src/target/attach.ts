/**
 * Attaching by PID: identify, open the inspector, inject the agent with one evaluation, leave the inspector and close
 * its port again. From then on there is only the agent's Unix socket.
 */

import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { agentPrefix, type InjectConfig, type InjectResult } from '../agent/inject/config.ts';
import { TraplineError } from '../errors.ts';
import { agentTexts } from './agent-text.ts';
import { CdpClient } from './cdp.ts';
import { AgentConnection } from './connection.ts';
import { guardInspector } from './guard.ts';
import { closePort, type OpenInspector, openInspector } from './inspector-port.ts';
import { identify } from './process.ts';
import { RemoteSession } from './remote-session.ts';
import type { SessionEvents, TraceSession } from './session.ts';

const AGENT_START_MS = 5000;

export interface AttachOptions {
  /** Told of each step and how long it took, in ms. */
  readonly onStep?: (step: string, ms: number) => void;
}

/** A session with a running process. Rejects with a TraplineError; then nothing of the process was changed. */
export async function attach(
  pid: number,
  events: SessionEvents,
  options: AttachOptions = {},
): Promise<TraceSession> {
  let last = performance.now();
  const step = (name: string): void => {
    const now = performance.now();
    options.onStep?.(name, now - last);
    last = now;
  };
  const identity = await identify(pid);
  step('identify');
  const guard = guardInspector(pid);
  let inspector: OpenInspector;
  let config: InjectConfig;
  let injected: Injected;
  try {
    inspector = await openInspector(identity, (seen) => guard.begin(seen));
    step('open inspector');
    const client = await CdpClient.connect(inspector.url);
    config = makeConfig(!inspector.wasOpen);
    try {
      injected = await injectThrough(client, config, pid);
    } catch (error) {
      if (!inspector.wasOpen) await closePort(client);
      throw error;
    } finally {
      await client.close();
    }
  } finally {
    // the agent closes the port itself from here on
    guard.end();
  }
  step('inject');
  const connection = await AgentConnection.open(reach(pid, injected.socket), AGENT_START_MS, () =>
    isAlive(pid),
  );
  try {
    const info = await connection.request('hello', { token: config.token });
    // only after leaving: closing waits for every client
    if (!inspector.wasOpen) await connection.request('closeInspector');
    step('connect');
    // not through /proc/PID/root: PIDs of another namespace mean other processes
    if (process.platform === 'linux' && existsSync(injected.folder)) sweep(injected.folder);
    const cleanUp = (): void => rmSync(injected.folder, { recursive: true, force: true });
    return new RemoteSession(connection, info, agentPrefix(config.nonce), events, cleanUp);
  } catch (error) {
    connection.close();
    throw error;
  }
}

export function makeConfig(closeInspector: boolean): InjectConfig {
  const texts = agentTexts();
  return {
    token: randomBytes(16).toString('hex'),
    key: `trapline.${randomBytes(16).toString('hex')}`,
    nonce: randomBytes(6).toString('hex'),
    closeInspector,
    workerText: texts.worker,
    agentText: texts.main,
    armingText: texts.arming,
  };
}

type Injected = Extract<InjectResult, { ok: true }>;

async function injectThrough(client: CdpClient, config: InjectConfig, pid: number): Promise<Injected> {
  const expression = `${agentTexts().inject}(${JSON.stringify(config)})`;
  const reply = (await client.send('Runtime.evaluate', {
    expression,
    returnByValue: true,
    silent: true,
  })) as {
    result: { value?: InjectResult };
    exceptionDetails?: { text: string; exception?: { description?: string } };
  };
  if (reply.exceptionDetails !== undefined) {
    const { text, exception } = reply.exceptionDetails;
    throw new TraplineError(
      'EINJECT',
      `cannot start the agent in process ${pid}: ${exception?.description ?? text}`,
    );
  }
  const result = reply.result.value;
  if (result === undefined) throw new TraplineError('EINJECT', `process ${pid} did not answer`);
  if (!result.ok) throw new TraplineError(result.code, result.message, { hint: result.hint });
  return result;
}

/** Folders of processes that were killed together with their tracer, beside the one that was just made. */
function sweep(folder: string): void {
  const base = path.dirname(folder);
  for (const name of readdirSync(base)) {
    const pid = Number(/^trapline-(\d+)-\w{6}$/.exec(name)?.[1]);
    if (!Number.isInteger(pid) || existsSync(`/proc/${pid}`)) continue;
    try {
      rmSync(path.join(base, name), { recursive: true, force: true });
    } catch {
      // another user's
    }
  }
}

/** In another mount namespace the folder is reached through the process's root. */
function reach(pid: number, socket: string): string {
  const through = `/proc/${pid}/root${socket}`;
  return process.platform === 'linux' && !existsSync(socket) && existsSync(through) ? through : socket;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
