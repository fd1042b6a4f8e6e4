import { attach } from '../target/attach.ts';
import { selfSession } from '../target/self.ts';
import type { SessionEvents, TraceSession } from '../target/session.ts';

/** Opens a session with every process; when one fails, the others are let go. */
export async function connect(
  target: { readonly pids: readonly number[] } | { readonly self: true },
  events: () => SessionEvents,
): Promise<TraceSession[]> {
  if ('self' in target) return [await selfSession(events())];
  const { pids } = target;
  const sessions: TraceSession[] = [];
  try {
    for (const pid of new Set(pids)) sessions.push(await attach(pid, events(), {}));
  } catch (error) {
    await Promise.allSettled(sessions.map((session) => session.detach()));
    throw error;
  }
  return sessions;
}
