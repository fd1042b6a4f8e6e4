#!/usr/bin/env node
/** The command: `trapline bpf …` works on eBPF programs, everything else traces. Only what is needed is read. */
const [first, ...rest] = process.argv.slice(2);
process.exitCode = 1;
const code =
  first === 'bpf'
    ? await (await import('./bpf/main.ts')).bpfMain(rest)
    : await (await import('./tracing.ts')).tracingMain(process.argv.slice(2));
// Everything is written (standard streams are synchronous) and detached; a socket that closes slowly is not waited for.
process.exit(code);

export {};
