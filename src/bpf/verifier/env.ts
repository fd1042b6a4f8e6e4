/** Everything that one run of the verifier keeps (`struct bpf_verifier_env`). */

import type { KfuncDecl } from '../helpers/kfunc.ts';
import type { Insn } from '../isa.ts';
import type { MapRecord, MapSpec } from '../maps/map-spec.ts';
import { recordOf } from '../object/map-record.ts';
import type { ContextAccess } from '../prog-types/index.ts';
import { programContext } from './btf-ctx.ts';
import { reject } from './error.ts';
import { Explored } from './explored.ts';
import type { Reg } from './reg.ts';
import type { StructRef } from './reg-type.ts';
import { type Frame, type HistoryNode, VerifierState } from './state.ts';
import type { GlobalFunc, Subprog } from './subprog.ts';
import type { ProgramInput } from './types.ts';

/** Instructions looked at before a program counts as too complex (BPF_COMPLEXITY_LIMIT_INSNS). */
export const COMPLEXITY_LIMIT_INSNS = 1_000_000;
/** Branches that wait to be followed (BPF_COMPLEXITY_LIMIT_JMP_SEQ). */
export const COMPLEXITY_LIMIT_JMP_SEQ = 8192;

/** Declarations by id: programs of one machine are given the same list. */
const kfuncMaps = new WeakMap<readonly KfuncDecl[], ReadonlyMap<number, KfuncDecl>>();

function byId(kfuncs: readonly KfuncDecl[]): ReadonlyMap<number, KfuncDecl> {
  let map = kfuncMaps.get(kfuncs);
  if (map === undefined || map.size !== kfuncs.length) {
    map = new Map(kfuncs.map((decl) => [decl.id, decl]));
    kfuncMaps.set(kfuncs, map);
  }
  return map;
}

/** What a load of a symbol of the kernel gives. */
export interface KernelSymbol {
  readonly reg: Reg;
  /** In the machine's memory. */
  readonly address: bigint;
}

export class Env {
  readonly input: ProgramInput;
  readonly insns: readonly Insn[];
  /** The program's maps; behind them what their inner maps look like. */
  readonly maps: MapSpec[];
  readonly kfuncs: ReadonlyMap<number, KfuncDecl>;
  readonly allowUninitStack: boolean;
  readonly strictAlignment: boolean;
  readonly maxInsns: number;
  readonly logLevel: number;
  /** What CAP_PERFMON and CAP_BPF allow: leaking addresses, no precautions against speculation, bounded loops and functions. */
  readonly allowPtrLeaks: boolean;
  readonly bypassSpecV1: boolean;
  readonly isBpfCapable: boolean;
  readonly ctx: ContextAccess;
  readonly isSleepable: boolean;
  readonly targetBtf: StructRef | undefined;
  readonly localBtf: StructRef | undefined;
  /** By instruction: how a pointer's sum is masked against speculation (`struct bpf_insn_aux_data`). */
  readonly aluState = new Map<number, { state: number; limit: number }>();
  /** Registers that the instruction read or wrote, for the log (`scratched_regs`). */
  scratched = 0;
  /** Registers as a call found them. */
  savedArgs: readonly Reg[] = [];
  /** Global functions by number; those that were called. */
  readonly globals = new Map<number, GlobalFunc>();
  readonly calledGlobals = new Set<number>();
  readonly callbackSubprogs = new Set<number>();
  readonly asyncSubprogs = new Set<number>();
  exceptionCallback = -1;
  /** By instruction: spills and fills of bpf_fastcall patterns; how many pairs a call has. Empty where there are none. */
  readonly fastcallPattern = new Set<number>();
  readonly fastcallPairs = new Map<number, number>();
  /** The program's arena, as an index into the maps, once a reference to one was met; -1 before. */
  arena = -1;
  /** Instructions of 64 bits that have 32, because they calculate with a pointer to the arena. */
  readonly arena32 = new Set<number>();
  exploreAluLimits = false;
  seenDirectWrite = false;
  /** By instruction: the map or "many" that a call used, for tail calls and inlining. */
  readonly mapOfInsn = new Map<number, number>();

  subprogs: Subprog[] = [];
  /** By instruction: PRUNE_POINT and FORCE_CHECKPOINT of cfg.ts. */
  points: Uint8Array = new Uint8Array(0);
  /** By instruction. */
  readonly ksyms = new Map<number, KernelSymbol>();
  readonly seen: Uint8Array;
  /** By instruction: what kind of pointer a load or store used, where that has to be one kind only. */
  readonly pointerKind: Uint8Array;

  state = new VerifierState();
  insn = 0;
  pending: { readonly state: VerifierState; readonly insn: number }[] = [];
  readonly explored: Explored;
  idGen = 0;

  insnProcessed = 0;
  prevInsnProcessed = 0;
  jmpsProcessed = 0;
  prevJmpsProcessed = 0;
  totalStates = 0;
  peakStates = 0;
  maxStatesPerInsn = 0;

  readonly ctxReads = new Set<number>();
  readonly helpersUsed = new Set<string>();
  readonly kfuncsUsed = new Set<KfuncDecl>();
  /** Lines of log of the path being followed, and whether to write any. */
  readonly logLines: string[] = [];

  constructor(input: ProgramInput, logLevel: number) {
    this.input = input;
    this.insns = input.insns;
    this.maps = input.maps.slice();
    this.kfuncs = byId(input.kfuncs ?? []);
    this.allowUninitStack = input.unprivileged !== true && (input.allowUninitStack ?? false);
    this.strictAlignment = input.strictAlignment ?? false;
    this.maxInsns = input.maxInsns ?? COMPLEXITY_LIMIT_INSNS;
    this.logLevel = logLevel;
    const isPrivileged = input.unprivileged !== true;
    this.allowPtrLeaks = isPrivileged;
    this.bypassSpecV1 = isPrivileged;
    this.isBpfCapable = isPrivileged;
    this.isSleepable = input.sleepable ?? input.type === 'syscall';
    this.targetBtf = input.targetBtf === undefined ? undefined : { btf: input.targetBtf, isLocal: false };
    this.localBtf = input.btf === undefined ? undefined : { btf: input.btf, isLocal: true };
    this.ctx = input.ctx ?? programContext(input, isPrivileged);
    this.explored = new Explored(input.insns.length);
    this.seen = new Uint8Array(input.insns.length);
    this.pointerKind = new Uint8Array(input.insns.length);
  }

  get frame(): Frame {
    return this.state.frame;
  }

  /** The history entry of the instruction being looked at. */
  get node(): HistoryNode {
    return this.state.history!;
  }

  /** push_insn_history: one that the kernel keeps an entry for. */
  keepNode(): HistoryNode {
    const { node } = this;
    if (!node.isKept) {
      node.isKept = true;
      node.kept++;
    }
    return node;
  }

  log(line: string): void {
    if (this.logLevel > 0) this.logLines.push(line);
  }

  newId(): number {
    return ++this.idGen;
  }

  /** Index of the inner map of a map of maps. */
  innerMap(index: number): number {
    const spec = this.maps[index]!;
    const known = this.innerMaps.get(index);
    if (known !== undefined) return known;
    const at = this.maps.length;
    this.maps.push(spec.innerMap ?? { name: '', type: 'array', keySize: 4, valueSize: 4, maxEntries: 1 });
    this.innerMaps.set(index, at);
    return at;
  }
  private readonly innerMaps = new Map<number, number>();

  subprogAt(start: number): number {
    return this.subprogs.findIndex((one) => one.start === start);
  }

  /** Functions after which packet pointers are stale, their callees' included. */
  movesPacket(subprog: number): boolean {
    return this.packetMovers.has(subprog);
  }
  packetMovers: ReadonlySet<number> = new Set();

  /** Special fields of a type of the program (btf_find_struct_meta). */
  localRecord(typeId: number): MapRecord | undefined {
    if (this.localBtf === undefined) return undefined;
    const known = this.records.get(typeId);
    if (known !== undefined || this.records.has(typeId)) return known;
    const record = recordOf(this.localBtf.btf, typeId);
    this.records.set(typeId, record);
    return record;
  }
  private readonly records = new Map<number, MapRecord | undefined>();

  mapName(index: number): string {
    return this.maps[index]?.name ?? '';
  }
}

/** push_stack: the current state, to be followed later from `insn`; the copy may be changed. */
export function pushState(env: Env, insn: number, speculative = false): VerifierState {
  const copy = env.state.copy();
  if (speculative) copy.speculative = true;
  env.pending.push({ state: copy, insn });
  if (copy.parent !== undefined) copy.parent.branches++;
  if (env.pending.length > COMPLEXITY_LIMIT_JMP_SEQ) {
    reject('E2BIG', `The sequence of ${env.pending.length} jumps is too complex.`);
  }
  return copy;
}
