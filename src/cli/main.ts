#!/usr/bin/env node
/**
 * The command: `trapline bpf …` works on eBPF programs, `trapline tracefs …` mounts, `record`, `report` and
 * `export` are about traces in files, everything else traces. Only what is needed
 * is read.
 */
import { cannotWrite, written } from './complain.ts';

const [first, ...rest] = process.argv.slice(2);
process.exitCode = 1;
// looked for at the end
process.stdout.on('error', () => {});
const code = await command();
await written(process.stdout);
const failure: NodeJS.ErrnoException | null = process.stdout.errored;
// a reader that has gone has what it wanted, and a command that has failed has said why
const lost = failure !== null && failure.code !== 'EPIPE' && code === 0;
if (lost) process.stderr.write(`ERROR: ${cannotWrite('standard output', failure)}\n`);
// Everything is detached; a socket that closes slowly is not waited for.
await written(process.stderr);
process.exit(lost ? 1 : code);

async function command(): Promise<number> {
  switch (first) {
    case 'bpf':
      return await (await import('./bpf/main.ts')).bpfMain(rest);
    case 'tracefs':
      return await (await import('./tracefs.ts')).tracefsMain(rest);
    case 'record':
    case 'report':
    case 'export':
      return await (await import('./trace/main.ts')).traceMain(first, rest);
    default:
      return await (await import('./tracing.ts')).tracingMain(process.argv.slice(2));
  }
}
