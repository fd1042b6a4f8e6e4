/**
 * Between SIGUSR1 and the injection nothing in the process closes its inspector when the tracer is killed. So a process of
 * its own stands by for that moment: when the tracer's end of the pipe goes without a word, it closes the port.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export interface InspectorGuard {
  /** About to send SIGUSR1; `seen` are the sockets that the process listened on before. */
  begin(seen: readonly string[]): void;
  /** The port is somebody else's care from now on. */
  end(): void;
  /** The port has not come, and may still: it is closed when it does. */
  late(): void;
}

export function guardInspector(pid: number): InspectorGuard {
  let child: ChildProcess | undefined;
  return {
    begin(seen) {
      const script = fileURLToPath(new URL('./guard-main.js', import.meta.url));
      // run from its source, by a Node that does not know TypeScript
      if (import.meta.url.endsWith('.ts') || process.platform !== 'linux') return;
      const { NODE_OPTIONS: _options, ...env } = process.env;
      child = spawn(process.execPath, [script, String(pid), ...seen], {
        stdio: ['pipe', 'ignore', 'ignore'],
        // signals for the tracer's group are not for it
        detached: true,
        env,
      });
      child.on('error', () => {});
      child.stdin?.on('error', () => {});
      child.unref();
    },
    end() {
      child?.stdin?.end('done');
    },
    late() {
      child?.stdin?.end('late');
    },
  };
}
