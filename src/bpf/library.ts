/** The engine by single calls: maps and programs without an object file, in a machine that is there from the start. */
import { aBtf, aMachine, aMap, aMapSpec, insnList } from './argument-shapes.ts';
import {
  aBoolean,
  aList,
  aNumber,
  anObject,
  aRecord,
  aString,
  checkArgument,
  either,
  listOf,
  oneOf,
  optional,
  type Properties,
  someBytes,
  someOptions,
  stringOf,
} from './arguments.ts';
import { assemble } from './asm/assemble.ts';
import { BpfError } from './errors.ts';
import { decodeInsns, type Insn } from './isa.ts';
import {
  createMachine,
  type LoadedMap,
  type LoadedProgram,
  type LoadInput,
  type Machine,
} from './machine/index.ts';
import type { MapSpec } from './maps/map-spec.ts';
import type { ProgramInput, VerifiedProgram } from './verifier/types.ts';
import { verifyProgram } from './verifier/verifier.ts';

let shared: Machine | undefined;

/** The machine that `createMap()` and `loadProgram()` use unless told of another: one for the whole JavaScript realm. */
export function defaultMachine(): Machine {
  shared ??= createMachine();
  return shared;
}

/** Text is assembled, bytes are decoded. */
export type Instructions = readonly Insn[] | Uint8Array | string;

export interface InMachine {
  /** Default: `defaultMachine()`. */
  readonly machine?: Machine;
}

type Named<T extends ProgramInput> = Omit<T, 'name' | 'insns' | 'maps' | 'loadedMaps'> & {
  /** Default `prog`. */
  readonly name?: string;
  readonly insns: Instructions;
};

/** What `verify()` takes; `map[idx:0]` in the instructions is `maps[0]`. */
export type VerifyInput = Named<ProgramInput> & { readonly maps?: readonly MapSpec[] };

/** What `loadProgram()` takes; `map[idx:0]` in the instructions is `maps[0]`. */
export type LoadProgramInput = Named<LoadInput> & { readonly maps?: readonly LoadedMap[] };

const IN_MACHINE = someOptions<InMachine>({ machine: optional(aMachine) });

const INSNS = either(stringOf('text, bytes or decoded instructions'), someBytes, insnList);

const VERIFY: Properties<VerifyInput> = {
  name: optional(aString),
  type: optional(stringOf("a program's type: 'xdp', 'kprobe', 'socket_filter', …")),
  insns: INSNS,
  maps: optional(listOf(anObject)),
  ctx: optional(anObject),
  attachType: optional(aString),
  attachTo: optional(aString),
  targetBtf: optional(aBtf),
  btf: optional(aBtf),
  funcInfo: optional(aList),
  lineInfo: optional(aList),
  sleepable: optional(aBoolean),
  unprivileged: optional(aBoolean),
  frozen: optional(anObject),
  ksyms: optional(anObject),
  kfuncs: optional(aList),
  license: optional(aString),
  allowUninitStack: optional(aBoolean),
  maxInsns: optional(aNumber),
  strictAlignment: optional(aBoolean),
  logLevel: optional(oneOf(0, 1, 2)),
};
const PROGRAM = 'a program: { type, insns }';
const VERIFY_INPUT = aRecord<VerifyInput>({ ...VERIFY, maps: optional(listOf(aMapSpec)) }, PROGRAM);
const LOAD_INPUT = aRecord<LoadProgramInput>(
  {
    ...VERIFY,
    maps: optional(listOf(aMap)),
    engine: optional(oneOf('jit', 'interpreter')),
    imports: optional(anObject),
  },
  PROGRAM,
);

function instructions(insns: Instructions): readonly Insn[] {
  if (typeof insns === 'string') return assemble(insns);
  if (!(insns instanceof Uint8Array)) return insns;
  if (insns.length % 8 !== 0) {
    throw new BpfError('EINVAL', `${insns.length} bytes are no whole number of instructions of 8 bytes`);
  }
  return decodeInsns(insns);
}

/** Creates a map. Throws BpfError EINVAL, E2BIG or ENOMEM, as BPF_MAP_CREATE fails. */
export function createMap(spec: MapSpec, options: InMachine = {}): LoadedMap {
  checkArgument('createMap()', 'options', options, IN_MACHINE);
  return (options.machine ?? defaultMachine()).createMap(spec);
}

/**
 * Verifies a program and compiles it. Its maps have to be of the same machine. Throws VerifierError where it is refused, AsmError for
 * text that is no program.
 */
export function loadProgram(input: LoadProgramInput, options: InMachine = {}): LoadedProgram {
  checkArgument('loadProgram()', 'input', input, LOAD_INPUT);
  checkArgument('loadProgram()', 'options', options, IN_MACHINE);
  const { name = 'prog', insns, maps = [], ...rest } = input;
  return (options.machine ?? defaultMachine()).loadProgram({
    ...rest,
    name,
    insns: instructions(insns),
    maps: maps.map(({ spec }) => spec),
    loadedMaps: maps,
  });
}

/** Verifies a program without loading it: no machine is needed. Throws VerifierError where it is refused. */
export function verify(input: VerifyInput): VerifiedProgram {
  checkArgument('verify()', 'input', input, VERIFY_INPUT);
  const { name = 'prog', insns, maps = [], ...rest } = input;
  return verifyProgram({ ...rest, name, insns: instructions(insns), maps });
}
