import { aBtf, insnList } from '../argument-shapes.ts';
import { aList, anObject, checkArgument, optional } from '../arguments.ts';
import type { Btf } from '../btf/btf.ts';
import { BtfError } from '../btf/error.ts';
import type { CoreRelo } from '../btf/ext.ts';
import type { Insn } from '../isa.ts';
import { type CoreResult, calculate } from './calculate.ts';
import { kindsCompatible } from './compat.ts';
import { Budget, CoreReloError } from './error.ts';
import { BPF_CORE_TYPE_ID_LOCAL, CORE_RELO_NAMES, type CoreReloName } from './kinds.ts';
import { matchSpec } from './match.ts';
import { patchInsn } from './patch.ts';
import { type CoreSpec, formatSpec, parseSpec } from './spec.ts';

/** What became of one relocation. */
export interface CoreReloReport {
  /** Its number among those given. */
  readonly index: number;
  /** The instruction's slot. */
  readonly insn: number;
  readonly kind: CoreReloName;
  /** The access in the object's types and in the target's, as libbpf's log prints them; undefined: none was found. */
  readonly local: string;
  readonly target: string | undefined;
  /** `poisoned` makes the verifier refuse the program where the instruction is reached. */
  readonly outcome: 'patched' | 'poisoned';
  readonly origValue: bigint;
  readonly newValue: bigint;
}

export interface CoreRelocationOptions {
  /** The program's name, for messages. */
  readonly program?: string;
  /** Where `insns` start in the section that the relocations count from. Bytes. */
  readonly sectionOffset?: number;
}

/** The target's types that a local type may be (bpf_core_find_cands), pruned as relocations settle. */
type Candidates = Map<number, number[]>;

function findCandidates(local: Btf, localId: number, target: Btf): number[] {
  // The types of a module count only where the kernel itself has none of that name.
  if (target.base !== undefined) {
    const ofBase = findCandidates(local, localId, target.base);
    if (ofBase.length > 0) return ofBase;
  }
  const kind = local.kind(localId);
  const found: number[] = [];
  for (const id of target.allByEssentialName(local.name(localId))) {
    if (id >= target.startId && kindsCompatible(kind, target.kind(id))) found.push(id);
  }
  return found;
}

function ambiguity(a: CoreSpec, resultA: CoreResult, b: CoreSpec, resultB: CoreResult): never {
  if (a.bitOffset !== b.bitOffset) {
    throw new CoreReloError(`field offset ambiguity: ${b.bitOffset} != ${a.bitOffset}`, 'EINVAL', {
      hint: `both match: ${formatSpec(a)}; ${formatSpec(b)}`,
    });
  }
  const decision = (result: CoreResult): string =>
    `${result.poison ? 'failure' : 'success'} ${result.newValue}`;
  throw new CoreReloError(`relocation decision ambiguity: ${decision(resultB)} != ${decision(resultA)}`);
}

/** Settles one relocation over all candidates (bpf_core_calc_relo_insn). */
function settle(
  spec: CoreSpec,
  target: Btf,
  candidates: Candidates,
  budget: Budget,
): { result: CoreResult; target: CoreSpec | undefined } {
  const localId = spec.rootTypeId;
  if (spec.btf.name(localId) === '') {
    throw new CoreReloError(`<${CORE_RELO_NAMES[spec.kind]}> relocation doesn't support anonymous types`);
  }
  const list = candidates.get(localId) ?? findCandidates(spec.btf, localId, target);
  candidates.set(localId, list);
  const matching: number[] = [];
  let chosen: { result: CoreResult; target: CoreSpec } | undefined;
  for (const id of list) {
    const found = matchSpec(spec, target, id, budget);
    if (found === undefined) continue;
    const result = calculate(spec, found);
    if (chosen === undefined) {
      chosen = { result, target: found };
    } else if (
      chosen.target.bitOffset !== found.bitOffset ||
      chosen.result.poison !== result.poison ||
      chosen.result.newValue !== result.newValue
    ) {
      ambiguity(chosen.target, chosen.result, found, result);
    }
    matching.push(id);
  }
  if (chosen === undefined) return { result: calculate(spec, undefined), target: undefined };
  candidates.set(localId, matching);
  return chosen;
}

/**
 * Applies a program's CO-RE relocations against the types of a target, as libbpf does (tools/lib/bpf/relo_core.c).
 * Returns patched copies of the instructions, and what became of each relocation. An instruction whose field the target
 * does not have is poisoned: it calls a helper that does not exist, so that the verifier refuses the program only where it
 * can be reached. Throws CoreReloError where libbpf fails to load the object: ambiguous candidates, instructions of
 * another form than the relocation's, offsets out of range.
 */
export function applyCoreRelocations(
  insns: readonly Insn[],
  relos: readonly CoreRelo[],
  localBtf: Btf,
  targetBtf: Btf,
  options: CoreRelocationOptions = {},
): { insns: Insn[]; report: CoreReloReport[] } {
  checkArgument('applyCoreRelocations()', 'insns', insns, insnList);
  checkArgument('applyCoreRelocations()', 'relos', relos, aList);
  checkArgument('applyCoreRelocations()', 'localBtf', localBtf, aBtf);
  checkArgument('applyCoreRelocations()', 'targetBtf', targetBtf, aBtf);
  checkArgument('applyCoreRelocations()', 'options', options, optional(anObject));
  const patched = insns.map((insn) => ({ ...insn }));
  const candidates: Candidates = new Map();
  const budget = new Budget();
  const report: CoreReloReport[] = [];
  for (const [index, relo] of relos.entries()) {
    const offset = relo.insnOff - (options.sectionOffset ?? 0);
    try {
      if (offset % 8 !== 0 || offset < 0 || offset / 8 >= insns.length) {
        throw new CoreReloError(`instruction offset ${relo.insnOff} is outside of the program`);
      }
      const kind = CORE_RELO_NAMES[relo.kind];
      if (kind === undefined)
        throw new CoreReloError(`unrecognized CO-RE relocation (${relo.kind})`, 'ENOTSUPP');
      if (!localBtf.has(relo.typeId)) throw new CoreReloError(`there is no type [${relo.typeId}]`);
      const spec = parseSpec(localBtf, relo);
      const local = formatSpec(spec);
      // Names are short, but for those that are to fill the memory.
      budget.spend(local.length >> 4);
      const id = BigInt(spec.rootTypeId);
      const settled =
        relo.kind === BPF_CORE_TYPE_ID_LOCAL
          ? {
              result: { ...calculate(spec, undefined), validate: false, origValue: id, newValue: id },
              target: undefined,
            }
          : settle(spec, targetBtf, candidates, budget);
      const { result } = settled;
      const outcome = patchInsn(patched, offset / 8, result);
      const target = settled.target === undefined ? undefined : formatSpec(settled.target);
      const { origValue, newValue } = result;
      report.push({ index, insn: offset / 8, kind, local, target, outcome, origValue, newValue });
    } catch (error) {
      if (!(error instanceof CoreReloError || error instanceof BtfError)) throw error;
      const where = `prog '${options.program ?? ''}': relo #${index} at insn #${Math.floor(offset / 8)}`;
      throw new CoreReloError(`${where}: ${error.message}`, error.errnoName, {
        ...(error.hint === undefined ? {} : { hint: error.hint }),
        cause: error,
      });
    }
  }
  return { insns: patched, report };
}
