/** Everything that one run of the verifier keeps (`struct bpf_verifier_env`). */
import type { KfuncDecl } from '../helpers/kfunc.ts';
import type { Insn } from '../isa.ts';
import type { MapSpec } from '../maps/map-layout.ts';
import { reject } from './error.ts';
import { NOT_INIT, type Reg, UNKNOWN } from './reg.ts';
import type { Frame, HistoryNode } from './state.ts';
import { VerifierState } from './state.ts';
import type { ProgramInput } from './types.ts';

/** Instructions looked at before a program counts as too complex (BPF_COMPLEXITY_LIMIT_INSNS). */
export const COMPLEXITY_LIMIT_INSNS = 1_000_000;
/** Branches that wait to be followed (BPF_COMPLEXITY_LIMIT_JMP_SEQ). */
export const COMPLEXITY_LIMIT_JMP_SEQ = 8192;

export interface Subprog {
  /** First instruction, and the one behind the last. */
  readonly start: number;
  readonly end: number;
  /** Bytes of stack used so far. */
  stackDepth: number;
}

export class Env {
  readonly input: ProgramInput;
  readonly insns: readonly Insn[];
  readonly maps: readonly MapSpec[];
  readonly kfuncs: ReadonlyMap<number, KfuncDecl>;
  readonly allowUninitStack: boolean;
  readonly strictAlignment: boolean;
  readonly maxInsns: number;
  readonly logLevel: number;

  subprogs: Subprog[] = [];
  /** By instruction: PRUNE_POINT and FORCE_CHECKPOINT of cfg.ts. */
  points: Uint8Array = new Uint8Array(0);
  readonly seen: Uint8Array;
  /** By instruction: what kind of pointer a load or store used, where that has to be one kind only. */
  readonly pointerKind: Uint8Array;

  state = new VerifierState();
  insn = 0;
  pending: { readonly state: VerifierState; readonly insn: number }[] = [];
  readonly explored = new Map<number, VerifierState[]>();
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
    this.maps = input.maps;
    this.kfuncs = new Map((input.kfuncs ?? []).map((decl) => [decl.id, decl]));
    this.allowUninitStack = input.allowUninitStack ?? false;
    this.strictAlignment = input.strictAlignment ?? false;
    this.maxInsns = input.maxInsns ?? COMPLEXITY_LIMIT_INSNS;
    this.logLevel = logLevel;
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

  log(line: string): void {
    if (this.logLevel > 0) this.logLines.push(line);
  }

  newId(): number {
    return ++this.idGen;
  }

  mapName(index: number): string {
    return this.maps[index]?.name ?? '';
  }
}

/** A register of the current frame, which is written (and not read) by this instruction. */
export function setReg(env: Env, regno: number, reg: Reg): void {
  const { frame } = env;
  frame.regs[regno] = reg;
  frame.writtenRegs |= 1 << regno;
}

/** Replaces what is known about a register without its value being written. */
export function updateReg(env: Env, regno: number, reg: Reg): void {
  env.frame.regs[regno] = reg;
}

/** check_reg_arg(SRC_OP): the register, which has to be initialised. */
export function readReg(env: Env, regno: number): Reg {
  if (regno > 10) reject('EINVAL', `R${regno} is invalid`);
  const reg = env.frame.regs[regno]!;
  if (reg === NOT_INIT || reg.type === 'not_init') reject('EACCES', `R${regno} !read_ok`);
  if (regno !== 10) markRegRead(env.state, env.state.curframe, regno);
  return reg;
}

/** check_reg_arg(DST_OP): the register becomes an unknown scalar. */
export function writeReg(env: Env, regno: number, reg: Reg = UNKNOWN): void {
  checkWritable(regno);
  setReg(env, regno, reg);
}

export function checkWritable(regno: number): void {
  if (regno > 10) reject('EINVAL', `R${regno} is invalid`);
  if (regno === 10) reject('EACCES', 'frame pointer is read only');
}

/**
 * mark_reg_read: the value that `state` has in a register is needed, so every earlier state down to the one that wrote it needs it.
 */
export function markRegRead(state: VerifierState, frameno: number, regno: number): void {
  const bit = 1 << regno;
  let at = frameno;
  let current = state;
  for (let parent = state.parent; parent !== undefined; parent = current.parent) {
    if ((current.frames[at]!.writtenRegs & bit) !== 0) return;
    // A function that was entered since: its arguments are its caller's registers.
    while (parent.frames[at] === undefined) {
      if (regno === 0 || regno > 5 || at === 0) return;
      at--;
    }
    const frame = parent.frames[at]!;
    if ((frame.readRegs & bit) !== 0) return;
    frame.readRegs |= bit;
    current = parent;
  }
}

/** The same for a stack slot. */
export function markSlotRead(state: VerifierState, frameno: number, spi: number): void {
  const bit = 1n << BigInt(spi);
  let current = state;
  for (let parent = state.parent; parent !== undefined; parent = current.parent) {
    if ((current.frames[frameno]!.writtenSlots & bit) !== 0n) return;
    const frame = parent.frames[frameno];
    if (frame === undefined || (frame.readSlots & bit) !== 0n) return;
    frame.readSlots |= bit;
    current = parent;
  }
}

/** push_stack: the current state, to be followed later from `insn`; the copy may be changed. */
export function pushState(env: Env, insn: number): VerifierState {
  const copy = env.state.copy();
  env.pending.push({ state: copy, insn });
  if (copy.parent !== undefined) copy.parent.branches++;
  if (env.pending.length > COMPLEXITY_LIMIT_JMP_SEQ) {
    reject('E2BIG', `The sequence of ${env.pending.length} jumps is too complex.`);
  }
  return copy;
}

/** assign_scalar_id_before_mov: gives a scalar that is about to be copied an id; returns it. */
export function withScalarId(env: Env, reg: Reg): Reg {
  if (reg.type !== 'scalar' || reg.isConst) return reg;
  if (reg.id !== 0 && !reg.addConst) return reg;
  const copy = reg.copy();
  copy.addConst = false;
  copy.off = 0;
  copy.id = env.newId();
  return copy;
}
