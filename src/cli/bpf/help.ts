import { describe, optionLines, wrap } from '../help.ts';
import { BPF_COMMANDS, type BpfCommand } from './commands.ts';
import { type BpfOptionSpec, optionsOf } from './options.ts';

export const BPF_EXAMPLES: readonly (readonly [command: string, what: string])[] = [
  ['trapline bpf verify firewall.bpf.o', 'is it accepted? where not?'],
  ['trapline bpf run firewall.bpf.o --prog firewall --data-in packet.bin --repeat 1000', 'a test run'],
  [
    'trapline bpf run firewall.bpf.o --prog firewall --data-in zero:64 --set max_connections=3 -f json',
    'with a variable set',
  ],
  ['trapline bpf map firewall.bpf.o --prog firewall --data-in packet.bin', 'what it wrote into its maps'],
  ["printf 'r0 = 7\\nexit\\n' | trapline bpf run -", 'assembler text'],
  ['trapline bpf attach orders.bpf.o -p 1234', 'in a running process'],
  ['trapline bpf dump firewall.bpf.o --stage wat', 'what the JIT makes of it'],
  ['trapline bpf btf dump /sys/kernel/btf/vmlinux format c > vmlinux.h', 'a header of all types'],
];

const WIDTH = 100;

/** `trapline bpf --help` */
export function bpfHelp(): string {
  const lines = [
    'Runs, verifies and debugs eBPF programs, without a kernel.',
    '',
    'Usage:',
    '  trapline bpf COMMAND',
  ];
  lines.push('', 'Commands:');
  for (const { name, summary } of BPF_COMMANDS) {
    const [first = '', ...rest] = wrap(summary, WIDTH - 24);
    lines.push(`  ${name.padEnd(20)}  ${first}`, ...rest.map((line) => ' '.repeat(24) + line));
  }
  lines.push('', 'Examples:');
  for (const [command, what] of BPF_EXAMPLES) lines.push(`  # ${what}`, `  ${command}`);
  lines.push('', 'trapline bpf COMMAND --help shows what a command takes.');
  return `${lines.join('\n')}\n`;
}

/** `trapline bpf run --help` */
export function commandHelp(command: BpfCommand): string {
  const lines = [`trapline bpf ${command.name} ${command.usage}`, '', ...wrap(command.summary, WIDTH)];
  for (const paragraph of command.details) lines.push('', ...wrap(paragraph, WIDTH));
  lines.push('', 'Options:');
  for (const option of optionsOf(command.name)) lines.push(...optionLines(option));
  return `${lines.join('\n')}\n`;
}

const GENERATED = 'made from src/cli/bpf by `npm run generate`';

/** docs/bpf-cli.md */
export function bpfDocs(): string {
  const lines = [
    '# trapline bpf',
    '',
    `<!-- ${GENERATED} -->`,
    '',
    'eBPF programs on the command line: run, verify, look inside, debug. No kernel and no root: everything happens in this process.',
    'The commands follow bpftool. The same as a library: [bpf.md](bpf.md).',
    '',
    '```sh',
  ];
  for (const [command, what] of BPF_EXAMPLES) lines.push(`# ${what}`, command);
  lines.push('```');
  for (const command of BPF_COMMANDS) {
    lines.push(
      '',
      `## ${command.name}`,
      '',
      '```',
      `trapline bpf ${command.name} ${command.usage}`,
      '```',
      '',
    );
    lines.push(command.summary, ...command.details.flatMap((paragraph) => ['', paragraph]));
    lines.push('', '| option | meaning |', '| --- | --- |');
    for (const option of optionsOf(command.name)) {
      lines.push(`| ${markdownLabel(option)} | ${describe(option).replaceAll('|', '\\|')} |`);
    }
    const more = MORE[command.name];
    if (more !== undefined) lines.push('', ...more);
  }
  lines.push(
    '',
    '## Errors and exit codes',
    '',
    'Data goes to standard output, everything else to standard error. The exit code is 0, or 1 after an error in the command line, the',
    'file, the load or the run. A refused program is shown at its line of source where the object has line records (`clang -g`).',
    '',
  );
  return lines.join('\n');
}

/** What the documentation says beyond the options. */
const MORE: Partial<Record<BpfCommand['name'], readonly string[]>> = {
  step: [
    '```',
    '$ trapline bpf step firewall.bpf.o --prog firewall --data-in packet.bin',
    '(bpf) break firewall.bpf.c:140',
    '(bpf) continue',
    '(bpf) regs',
    '(bpf) map counters',
    '(bpf) reverse-continue',
    '```',
    '',
    '| command | |',
    '| --- | --- |',
    '| `step [N]`, `s` | one instruction, or N |',
    '| `next`, `n` | to the next line of source; calls are run through |',
    '| `finish` | until the function returns |',
    '| `continue`, `c` | to the next breakpoint or the end |',
    '| `back [N]`, `b` | one instruction backwards, or N |',
    '| `prev` | to the line before |',
    '| `reverse-continue`, `rc` | back to the breakpoint before, or the start |',
    '| `goto N` | to the moment after N instructions |',
    '| `break WHERE`, `delete N`, `breakpoints` | WHERE is a line (`42`, `file.c:42`), a function, or `*N` for an instruction |',
    '| `regs`, `stack`, `where` | registers, the frame in use, the calls |',
    '| `list`, `disas` | source and instructions around |',
    '| `print NAME` | a global variable by its type, a register |',
    '| `x ADDRESS [LENGTH]` | memory: `x r1 32`, `x r10-16`, `x 0x1000` |',
    '| `map [NAME]` | contents of a map, or the list of maps |',
    '| `quit` | |',
    '',
    'Going back runs the program again from its start, on the memory as it was then and with the same clock and random numbers. An empty line repeats',
    'the last command. Programs that are tail-called run in one step.',
  ],
  'conformance-plugin': [
    'The runner of bpf_conformance gives a plugin the memory first, so a script of one line stands between:',
    '',
    '```sh',
    'printf \'#!/bin/sh\\nexec trapline bpf conformance-plugin "$@"\\n\' > plugin; chmod +x plugin',
    'bpf_conformance_runner --test_file_directory tests --plugin_path ./plugin',
    '```',
  ],
};

function markdownLabel(option: BpfOptionSpec): string {
  const value = option.value === undefined ? '' : ` ${option.value}`;
  const short = option.short === undefined ? '' : `\`-${option.short}${value}\`, `;
  return `${short}\`--${option.name}${value}\``.replaceAll('|', '\\|');
}
