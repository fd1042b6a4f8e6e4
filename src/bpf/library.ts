/** The engine by single calls: maps and programs without an object file, in a machine that is there from the start. */
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
  return (options.machine ?? defaultMachine()).createMap(spec);
}

/**
 * Verifies a program and compiles it. Its maps have to be of the same machine. Throws VerifierError where it is refused, AsmError for
 * text that is no program.
 */
export function loadProgram(input: LoadProgramInput, options: InMachine = {}): LoadedProgram {
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
  const { name = 'prog', insns, maps = [], ...rest } = input;
  return verifyProgram({ ...rest, name, insns: instructions(insns), maps });
}
