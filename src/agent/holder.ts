/** Whether the tracer that a session belongs to is still there, as the traced process sees it. */

type ReadText = (file: string, encoding: 'utf8') => string;

/**
 * False for a zombie. Undefined where processes cannot be looked up. A tracer in another PID namespace is not seen either: only a
 * process that was seen once can be told to have gone.
 */
export function holderAlive(pid: number, readFileSync: ReadText): boolean | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch (error) {
    const { code } = error as { code?: string };
    return code === 'ENOENT' || code === 'ESRCH' ? false : undefined;
  }
  // the name before it may hold anything
  const state = stat[stat.lastIndexOf(')') + 2];
  return state !== 'Z' && state !== 'X';
}
