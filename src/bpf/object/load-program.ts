/** One program of an object: relocated against target and machine, loaded, its errors at their line of source. */
import { applyCoreRelocations, CoreReloError, type CoreReloReport } from '../core-relo/index.ts';
import { ObjectError } from '../elf/index.ts';
import { BpfError } from '../errors.ts';
import type { KfuncDecl } from '../helpers/kfunc.ts';
import { HELPER_NAMES } from '../helpers/names.ts';
import { BPF_CALL, BPF_JMP, type Insn } from '../isa.ts';
import type { MapSpec } from '../maps/map-spec.ts';
import { VerifierError } from '../verifier/error.ts';
import type { ProgramInput } from '../verifier/types.ts';
import { checkAttachTarget } from './attach-target.ts';
import { POISON_KFUNC_BASE, patchKsyms, type ResolvedKsym } from './externs-resolve.ts';
import { type LoadObjectOptions, own } from './load-options.ts';
import { lineOf, ProgramLoadError } from './program-error.ts';
import type { ObjectSpec, ProgramSpec } from './spec.ts';

/** A map as a program sees it. */
export interface ProgramMap {
  readonly spec: MapSpec;
  /** The value of a frozen map's only key. */
  contents(): Uint8Array | undefined;
}

/** What every program of a load needs. `T` is what becomes of one. */
export interface Loading<T> {
  readonly spec: ObjectSpec;
  /** In the order of the object's maps; tables of functions are none. */
  readonly maps: readonly (ProgramMap | undefined)[];
  readonly ksyms: ReadonlyMap<number, ResolvedKsym>;
  readonly kfuncs: readonly KfuncDecl[];
  readonly options: LoadObjectOptions;
  /** Verifies, and loads where there is a machine. `used` are places in `maps`, one for each map of the input. */
  submit(input: ProgramInput, used: readonly number[]): T;
}

/** Relocates one program and submits it. Throws ProgramLoadError or ObjectError. */
export function loadProgram<T>(
  loading: Loading<T>,
  program: ProgramSpec,
): { loaded: T; report: readonly CoreReloReport[] } {
  const { spec, options } = loading;
  const type = own(options.types, program.name) ?? program.type;
  if (type === undefined) {
    throw new ObjectError(
      'OBJ_NO_PROG_TYPE',
      `program ${program.name}: section name ${program.section} says no program type`,
      { section: program.section },
      { hint: 'name the section as libbpf does, or give the type with the option types' },
    );
  }
  const attachTo = own(options.attachTo, program.name) ?? program.attachTo;
  if (program.attachBtf && attachTo !== undefined && options.targetBtf !== undefined && type !== 'ext') {
    checkAttachTarget(program.name, program.attachType, attachTo, options.targetBtf);
  }
  const insns = program.insns.map((insn) => ({ ...insn }));
  patchKsyms(insns, program, loading.ksyms);
  const relocated = relocateCore(insns, program, spec, options);
  const used = usedMaps(relocated.insns, program, spec);
  const maps = used.map((index) => loading.maps[index]!);
  const frozen = new Map<number, Uint8Array>();
  const list = [...spec.maps.values()];
  for (const [index, original] of used.entries()) {
    const contents = list[original]!.frozen ? maps[index]!.contents() : undefined;
    if (contents !== undefined) frozen.set(index, contents);
  }
  try {
    const input: ProgramInput = {
      name: program.name,
      type,
      insns: relocated.insns,
      maps: maps.map((map) => map.spec),
      license: spec.license,
      frozen,
      kfuncs: loading.kfuncs,
      sleepable: program.sleepable,
      // As the kernel does for root.
      allowUninitStack: options.unprivileged !== true,
      funcInfo: spec.btf === undefined ? [] : program.functions.filter(({ typeId }) => typeId !== 0),
      lineInfo: program.lineInfo,
      ...(program.attachType === undefined ? {} : { attachType: program.attachType }),
      ...(attachTo === undefined ? {} : { attachTo }),
      ...(spec.btf === undefined ? {} : { btf: spec.btf }),
      ...(options.targetBtf === undefined ? {} : { targetBtf: options.targetBtf }),
      ...(options.ksyms === undefined ? {} : { ksyms: new Map(Object.entries(options.ksyms)) }),
      ...(options.logLevel === undefined ? {} : { logLevel: options.logLevel }),
      ...(options.unprivileged === undefined ? {} : { unprivileged: options.unprivileged }),
    };
    const loaded = loading.submit(input, used);
    return { loaded, report: relocated.report };
  } catch (error) {
    if (!(error instanceof BpfError)) throw error;
    if (!(error instanceof VerifierError)) {
      const at = callOfHelper(relocated.insns, error.message);
      // The machine names the program too.
      const prefix = `program ${program.name}: `;
      const { message } = error;
      const summary = message.startsWith(prefix) ? message.slice(prefix.length) : message;
      throw new ProgramLoadError(program.name, at, summary, lineOf(program, at), error);
    }
    const summary = explain(error, relocated, program, spec);
    throw new ProgramLoadError(program.name, error.insn, summary, lineOf(program, error.insn), error);
  }
}

/** The first call of the helper that a message names (`helper get_stackid …`); -1 without. */
function callOfHelper(insns: readonly Insn[], message: string): number {
  const name = /\bhelper (\w+)/.exec(message)?.[1];
  const id = name === undefined ? -1 : HELPER_NAMES.indexOf(name);
  return id < 1
    ? -1
    : insns.findIndex((insn) => insn.code === (BPF_JMP | BPF_CALL) && insn.src === 0 && insn.imm === id);
}

interface Relocated {
  readonly insns: Insn[];
  readonly report: readonly CoreReloReport[];
}

/** BPF_CORE_TYPE_ID_LOCAL, BPF_CORE_TYPE_ID_TARGET */
const TYPE_IDS = [6, 7] as const;

function relocateCore(
  insns: Insn[],
  program: ProgramSpec,
  spec: ObjectSpec,
  { targetBtf }: LoadObjectOptions,
): Relocated {
  if (program.coreRelos.length === 0 || spec.btf === undefined) return { insns, report: [] };
  // Without a target the object's own types are meant. The compiler's code fits these as it is, but for the numbers of types;
  // searching them by name would find several flavours of one.
  const relos = program.coreRelos
    .filter(({ kind }) => targetBtf !== undefined || kind === TYPE_IDS[0] || kind === TYPE_IDS[1])
    .map(({ insn, kind, ...relo }) => ({
      ...relo,
      kind: targetBtf === undefined ? TYPE_IDS[0] : kind,
      insnOff: insn * 8,
      accessStrOff: 0,
    }));
  try {
    return applyCoreRelocations(insns, relos, spec.btf, targetBtf ?? spec.btf, { program: program.name });
  } catch (error) {
    if (!(error instanceof CoreReloError)) throw error;
    const at = Number(/at insn #(\d+)/.exec(error.message)?.[1] ?? -1);
    throw new ProgramLoadError(program.name, at, error.message, lineOf(program, at), error);
  }
}

/** Positions of the maps that a program refers to, in the order of their first use; its instructions are made to count these. */
function usedMaps(insns: Insn[], program: ProgramSpec, spec: ObjectSpec): number[] {
  const used = new Map<number, number>();
  for (const { insn: at, kind } of program.relocations) {
    if (kind !== 'map' && kind !== 'data' && kind !== 'kconfig') continue;
    const insn = insns[at]!;
    // CO-RE may have poisoned the instruction; nothing else changes a map's.
    if (insn.imm < 0 || insn.imm >= spec.maps.size) continue;
    const index = used.get(insn.imm) ?? used.size;
    used.set(insn.imm, index);
    insn.imm = index;
  }
  return [...used.keys()];
}

/** The verifier's words, or what they mean where the loader itself put something impossible there (fixup_verifier_log). */
function explain(
  error: VerifierError,
  { insns, report }: Relocated,
  program: ProgramSpec,
  spec: ObjectSpec,
): string {
  const failed = report.find(({ insn, outcome }) => insn === error.insn && outcome === 'poisoned');
  if (failed !== undefined) {
    return `${failed.local} is not in the target's types (CO-RE relocation ${failed.kind})`;
  }
  const insn = insns[error.insn];
  const poisoned = program.relocations.some(({ insn: at, kind }) => at === error.insn && kind === 'kfunc');
  if (poisoned && insn !== undefined && insn.imm >= POISON_KFUNC_BASE) {
    return `calls the kernel function ${spec.externs[insn.imm - POISON_KFUNC_BASE]?.name}, which is not there`;
  }
  // The verifier may add a line about the caller.
  const summary = error.summary.trim().split('\n').join('; ');
  return summary.startsWith('ldimm64 failed to find the address')
    ? `${summary} Give it, in the machine's memory, with the option ksyms`
    : summary;
}
