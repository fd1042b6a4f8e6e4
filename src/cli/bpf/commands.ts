import type { BpfArguments, CommandName } from './options.ts';

export interface BpfCommand {
  readonly name: CommandName;
  /** What stands behind `trapline bpf NAME`. */
  readonly usage: string;
  readonly summary: string;
  /** Paragraphs for help and documentation. */
  readonly details: readonly string[];
  /** Gives the exit code. Read only when it is used: `conformance-plugin` has to start fast. */
  run(args: BpfArguments): Promise<number>;
}

const PROGRAM =
  'FILE is an object of clang, or instructions: bytes, hexadecimal digits, assembler text; `-` is standard input.';

/** The commands, in the order of help. */
export const BPF_COMMANDS: readonly BpfCommand[] = [
  {
    name: 'run',
    usage: 'FILE [--prog NAME] [--data-in BYTES] [--ctx-in BYTES] [--repeat N]',
    summary: 'Run a program on a packet or a context, as BPF_PROG_TEST_RUN does.',
    details: [
      PROGRAM,
      'Program types that the kernel has no test run for (kprobe, tracepoint, perf_event and so on) run on the context of --ctx-in.',
    ],
    run: async (args) => (await import('./run.ts')).runCommand(args),
  },
  {
    name: 'verify',
    usage: 'FILE... [--prog NAME] [--log-level N]',
    summary: 'Verify programs, and show where one is refused: the line of source, a caret, the log.',
    details: [PROGRAM, 'The exit code is 1 when a program was refused.'],
    run: async (args) => (await import('./verify.ts')).verifyCommand(args),
  },
  {
    name: 'dump',
    usage: 'FILE [--prog NAME] [--stage insns|xlated|wat]',
    summary: 'Show a program as it is in the object, as it is after loading, or as WebAssembly text.',
    details: [PROGRAM, 'Lines of source stand among the instructions where the object has them.'],
    run: async (args) => (await import('./dump.ts')).dumpCommand(args),
  },
  {
    name: 'disasm',
    usage: 'FILE [--syntax kernel|conformance]',
    summary: 'Disassemble raw instructions, or every function of an object, without loading anything.',
    details: [PROGRAM],
    run: async (args) => (await import('./disasm.ts')).disasmCommand(args),
  },
  {
    name: 'gen',
    usage: '[skeleton] FILE.o [-o FILE.ts] | object OUT.o IN.o...',
    summary: 'Write a typed TypeScript module for an object: maps, variables, programs; or link objects.',
    details: [
      'The module holds the object; see docs/btf.md.',
      '`gen object` makes one object of several, as bpftool does; see docs/objects.md.',
    ],
    run: async (args) => (await import('./gen.ts')).genCommand(args),
  },
  {
    name: 'btf',
    usage: 'dump FILE [format raw|c]',
    summary: "Show an object's or a kernel's types, one a line or as a C header.",
    details: ['FILE is an object with a .BTF section, or BTF itself (`/sys/kernel/btf/vmlinux`).'],
    run: async (args) => (await import('./btf.ts')).btfCommand(args),
  },
  {
    name: 'map',
    usage: 'FILE [--prog NAME] [--map NAME] [--data-in BYTES] [--ctx-in BYTES]',
    summary: 'Run a program, then show the contents of the maps, by their types.',
    details: ['Without a program to run, the maps are shown as they are after loading.'],
    run: async (args) => (await import('./map.ts')).mapCommand(args),
  },
  {
    name: 'attach',
    usage: 'FILE -p PID [--program NAME]',
    summary: 'Run the programs of an object in a Node.js process until Ctrl-C, then show its maps.',
    details: [
      'SEC("kprobe/FILE:FUNCTION"), SEC("kretprobe/…"), SEC("tracepoint/SYSTEM/NAME") and SEC("raw_tp/NAME") say where; see docs/objects.md.',
      'Lines of bpf_printk() and records of ring buffers and perf event arrays (in hexadecimal digits) are printed as they come, maps at the end.',
    ],
    run: async (args) => (await import('./attach.ts')).attachCommand(args),
  },
  {
    name: 'step',
    usage: 'FILE [--prog NAME] [--data-in BYTES] [--ctx-in BYTES]',
    summary: 'Debug a program: source lines, registers, stack, maps, breakpoints, forwards and backwards.',
    details: ['Commands are read from standard input, which may be a pipe; `help` lists them.'],
    run: async (args) => (await import('./step.ts')).stepCommand(args),
  },
  {
    name: 'conformance-plugin',
    usage: '[MEMORY] [--elf] [--interpret]',
    summary: 'Speak the protocol of bpf_conformance: program on standard input, r0 on standard output.',
    details: [
      'MEMORY is hexadecimal; r1 points to it and r2 is its length. Standard input is the program as hexadecimal bytes. Nothing is verified.',
    ],
    run: async (args) => (await import('./conformance-plugin.ts')).conformancePlugin(args),
  },
];
