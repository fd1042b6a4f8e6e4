import { spawn } from 'node:child_process';

/** Characters of a command's output that are kept. */
const MAX_OUTPUT = 1 << 20;

/**
 * Runs a command of system() by /bin/sh in the tracer, with the tracer's rights, and waits for its end; resolves to its standard output.
 * Its standard error is the tracer's. Never rejects; ended by `signal`.
 */
export function runShell(command: string, signal: AbortSignal): Promise<string> {
  if (signal.aborted) return Promise.resolve('');
  return new Promise((resolve) => {
    let text = '';
    // a group of its own, so that all of it can be ended
    const child = spawn('/bin/sh', ['-c', command], { stdio: ['ignore', 'pipe', 'inherit'], detached: true });
    const end = (): void => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGTERM');
      } catch {
        // it has ended
      }
      resolve(text);
    };
    signal.addEventListener('abort', end, { once: true });
    child.stdout.setEncoding('utf8');
    child.stdout.on('data', (data: string) => {
      if (text.length < MAX_OUTPUT) text += data.slice(0, MAX_OUTPUT - text.length);
    });
    child.on('error', (error) => resolve(`${text}${error.message}\n`));
    child.on('close', () => {
      signal.removeEventListener('abort', end);
      resolve(text);
    });
  });
}
