import { attach } from '../target/attach.ts';
import type { SessionEvents, TraceSession } from '../target/session.ts';

/** Opens a session with every process; when one fails, the others are let go. */
export async function connect(
  { pids }: { readonly pids: readonly number[] },
  events: () => SessionEvents,
): Promise<TraceSession[]> {
  const sessions: TraceSession[] = [];
  try {
    for (const pid of new Set(pids)) sessions.push(await attach(pid, events(), {}));
  } catch (error) {
    await Promise.allSettled(sessions.map((session) => session.detach()));
    throw error;
  }
  return sessions;
}
