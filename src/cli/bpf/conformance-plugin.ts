/**
 * The plugin side of bpf_conformance: memory as hexadecimal on the command line, the program on standard input, r0 in hexadecimal on
 * standard output. Programs are not verified; the sandbox is the WebAssembly memory.
 */
import { Interpreter } from '../../bpf/interpreter/interpreter.ts';
import { decodeInsns, type Insn } from '../../bpf/isa.ts';
import { jitRaw } from '../../bpf/jit/raw.ts';
import { TraplineError } from '../../errors.ts';
import { parseHex, readBytes } from './files.ts';
import type { BpfArguments } from './options.ts';

const PAGE = 65536;
/** Addresses: nothing below, the stack, the memory of the test. */
const STACK = 4096;
const DATA = 16384;
const MAX_FRAMES = 8;
const MAX_STEPS = 100_000_000;
/** bpf_conformance's helper: gives its first argument back, and ends the program where that is 0. */
const UNWIND_HELPER = 5;

/** `trapline bpf conformance-plugin` */
export async function conformancePlugin(args: BpfArguments): Promise<number> {
  const text = args.positionals.join(' ');
  const memory = parseHex(text);
  if (memory === undefined) throw new TraplineError('EUSAGE', `the memory is not hexadecimal: ${text}`);
  const insns = await readProgram(args.flag('elf'));
  const result = runOnMemory(insns, memory, args.flag('interpret') ? 'interpreter' : 'jit');
  process.stdout.write(`${result.toString(16)}\n`);
  return 0;
}

/** r0 of a program that gets the memory and its length. Throws where the program fails. */
export function runOnMemory(
  insns: readonly Insn[],
  memory: Uint8Array,
  engine: 'interpreter' | 'jit',
): bigint {
  const pages = Math.ceil((DATA + memory.length) / PAGE) + 1;
  const area = new WebAssembly.Memory({ initial: pages, maximum: pages });
  new Uint8Array(area.buffer).set(memory, DATA);
  const r1 = memory.length === 0 ? 0n : BigInt(DATA);
  const run = engine === 'jit' ? compile : interpret;
  return BigInt.asUintN(64, run(insns, area, pages, r1, BigInt(memory.length)));
}

async function readProgram(isElf: boolean): Promise<readonly Insn[]> {
  const input = readBytes('-', 'program');
  const decoded = parseHex(new TextDecoder('latin1').decode(input));
  const bytes = isElf && input[0] === 0x7f ? input : decoded;
  if (bytes === undefined) throw new TraplineError('EINPUT', 'standard input is not hexadecimal');
  if (isElf) return await programOf(bytes);
  return decodeWhole(bytes);
}

function decodeWhole(bytes: Uint8Array): Insn[] {
  if (bytes.length === 0 || bytes.length % 8 !== 0) {
    throw new TraplineError('EINPUT', `${bytes.length} bytes are no program: instructions have 8 bytes`);
  }
  return decodeInsns(bytes);
}

/** The suite writes its programs as a function in `.text`, or in section `xdp`. */
async function programOf(bytes: Uint8Array): Promise<readonly Insn[]> {
  // Most of the engine, which other runs do not need.
  const { parseElf, SHF_EXECINSTR } = await import('../../bpf/elf/index.ts');
  const { sections } = parseElf(bytes);
  const [code, other] = sections.filter(({ flags, size }) => (flags & SHF_EXECINSTR) !== 0 && size > 0);
  if (code?.name === '.text' && other === undefined) return decodeWhole(code.data);
  const { openObject } = await import('../../bpf/object/index.ts');
  const [program, second] = openObject(bytes).spec.programs.values();
  if (program === undefined) throw new TraplineError('EINPUT', 'the object has no program');
  if (second !== undefined) throw new TraplineError('EINPUT', 'the object has more than one program');
  return program.insns;
}

type Run = (
  insns: readonly Insn[],
  area: WebAssembly.Memory,
  pages: number,
  r1: bigint,
  r2: bigint,
) => bigint;

const helper = (id: number, argument: bigint): bigint => {
  if (id === UNWIND_HELPER) return argument;
  throw new TraplineError('EINVAL', `there is no helper ${id}`);
};

const interpret: Run = (insns, area, _pages, r1, r2) =>
  new Interpreter(
    {
      insns,
      memory: area.buffer,
      stack: STACK,
      maxFrames: MAX_FRAMES,
      unwindHelper: UNWIND_HELPER,
      helper: (id, args) => helper(id, args[0]!),
    },
    r1,
    r2,
  ).run(MAX_STEPS);

const compile: Run = (insns, area, pages, r1, r2) => {
  const wasm = jitRaw(insns, {
    memory: { min: pages, max: pages, shared: false },
    stack: STACK,
    maxFrames: MAX_FRAMES,
    helpers: [UNWIND_HELPER],
    unwindHelper: UNWIND_HELPER,
  });
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(wasm as Uint8Array<ArrayBuffer>), {
    env: { memory: area },
    helper: { [UNWIND_HELPER]: (argument: bigint) => helper(UNWIND_HELPER, argument) },
  });
  try {
    return (exports['run64'] as (a: bigint, b: bigint) => bigint)(r1, r2);
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError) {
      throw new TraplineError('EFAULT', `the program failed: ${error.message}`, { cause: error });
    }
    throw error;
  }
};
