#!/usr/bin/env node
/**
 * The command: `trapline bpf …` works on eBPF programs, `trapline tracefs …` mounts, `record`, `report` and
 * `export` are about traces in files, everything else traces. Only what is needed
 * is read.
 */
import { written } from './complain.ts';

const [first, ...rest] = process.argv.slice(2);
process.exitCode = 1;
const code = await command();
// Everything is detached; a socket that closes slowly is not waited for.
await Promise.all([written(process.stdout), written(process.stderr)]);
process.exit(code);

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
