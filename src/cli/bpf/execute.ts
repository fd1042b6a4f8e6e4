/** Runs a loaded program as the command line says: a test run, or a context as it is where the kernel has no test run. */
import { BpfError, type LoadedProgram, type Machine, type TestRunResult } from '../../bpf/index.ts';
import { SKB_TYPES } from '../../bpf/machine/test-run.ts';
import { TraplineError } from '../../errors.ts';
import { bytesArgument } from './files.ts';
import type { Loaded } from './load.ts';
import type { BpfArguments } from './options.ts';

/** Program types that take a packet. */
const PACKET_TYPES = new Set(['xdp', ...SKB_TYPES]);
const TEST_RUN_TYPES = new Set([...PACKET_TYPES, 'raw_tracepoint', 'raw_tracepoint_writable', 'syscall']);

/** Room for a context that the program does not get in full: `struct pt_regs` and every other but a tracepoint's fit. */
const CONTEXT_ROOM = 8192;

export interface RunInput {
  readonly dataIn: Uint8Array | undefined;
  readonly ctxIn: Uint8Array | undefined;
  readonly repeat: number;
}

export function runInput(args: BpfArguments, loaded: Loaded): RunInput {
  const data = args.text('data-in');
  const ctx = args.text('ctx-in');
  const takesPacket = PACKET_TYPES.has(loaded.program.type);
  if (takesPacket && data === undefined) {
    throw new TraplineError('EUSAGE', `programs of type ${loaded.program.type} run on a packet`, {
      hint: '--data-in FILE, --data-in hex:… or --data-in zero:64',
    });
  }
  if (!takesPacket && data !== undefined) {
    throw new TraplineError('EUSAGE', `programs of type ${loaded.program.type} take no packet`, {
      hint: 'give the context with --ctx-in',
    });
  }
  return {
    dataIn: data === undefined ? undefined : bytesArgument('data-in', data),
    ctxIn: ctx === undefined ? undefined : bytesArgument('ctx-in', ctx),
    repeat: args.number('repeat', 1, 1),
  };
}

/** `execute` runs in place of the program (see TestRunOptions). */
export function execute(
  { machine, program }: Pick<Loaded, 'machine' | 'program'>,
  { dataIn, ctxIn, repeat }: RunInput,
  instead?: (ctx: bigint) => bigint,
): TestRunResult {
  if (!TEST_RUN_TYPES.has(program.type)) return executeContext(machine, program, ctxIn, repeat, instead);
  const isContextOnly = !PACKET_TYPES.has(program.type);
  const options = {
    ...(dataIn === undefined ? {} : { dataIn }),
    ...(ctxIn === undefined ? {} : { ctxIn }),
    ...(instead === undefined ? {} : { execute: instead }),
  };
  if (!isContextOnly) return program.testRun({ ...options, repeat });
  // The kernel runs these once a call.
  let result = program.testRun(options);
  let total = result.duration;
  for (let n = 1; n < repeat; n++) {
    result = program.testRun(options);
    total += result.duration;
  }
  return { ...result, duration: Math.round(total / repeat) };
}

function executeContext(
  machine: Machine,
  program: LoadedProgram,
  ctxIn: Uint8Array | undefined,
  repeat: number,
  instead?: (ctx: bigint) => bigint,
): TestRunResult {
  const input = ctxIn ?? new Uint8Array(0);
  if (input.length > CONTEXT_ROOM) {
    throw new BpfError('E2BIG', `a context of ${input.length} bytes is above ${CONTEXT_ROOM}`);
  }
  const address = machine.alloc(CONTEXT_ROOM);
  try {
    const bytes = () => new Uint8Array(machine.memory.buffer, address, CONTEXT_ROOM);
    bytes().set(input);
    let result = 0n;
    const start = performance.now();
    for (let n = 0; n < repeat; n++) {
      result = instead === undefined ? program.run(address) : instead(BigInt(address));
    }
    const duration = Math.round(((performance.now() - start) * 1e6) / repeat);
    const ctxOut = bytes().slice(0, input.length);
    return { retval: Number(BigInt.asUintN(32, result)), duration, ctxOut };
  } finally {
    machine.free(address, CONTEXT_ROOM);
  }
}
