/** State of the program that is being generated, and the small emitters that everything else uses. */
import { ProgramBuilder, R0, R1, R2, R3, R6, R7, R8, R9, type Reg } from '../../bpf/builder.ts';
import { MAX_BPF_STACK } from '../../bpf/isa.ts';
import { INLINE_KFUNCS, JS_KFUNCS, type JsKfuncName } from '../../kernel/trace/js-kfuncs.ts';
import * as ast from '../ast.ts';
import type { ProbeGroup, VarInfo } from '../passes/semantics.ts';
import type { LType } from '../types.ts';
import * as t from '../types.ts';
import { Available } from './available.ts';
import type { LoopBudget } from './budget.ts';
import { Frame, type Place } from './frame.ts';
import type { Module } from './module.ts';

/** Frames take whole steps of this many bytes. */
const FRAME_ALIGN = 32;

/** Holds the context all the time. */
export const CTX = R6;

/** A number kept across calls, in a callee-saved register or on the stack. */
export interface Held {
  /** The register, if it is in one. */
  readonly reg: Reg | undefined;
  load(into: Reg): void;
  free(): void;
}

export interface LoopLabels {
  readonly breakTo: string;
  readonly continueTo: string;
}

export class Gen {
  readonly module: Module;
  readonly group: ProbeGroup;
  /** The program's number in the script. */
  readonly index: number;
  readonly vars = new Map<VarInfo, Place>();
  // Of the function that is being emitted: the program, or a callback.
  b = new ProgramBuilder();
  frame: Frame;
  exitLabel: string;
  loops: LoopLabels[] = [];
  available: Available;
  /** Variables that a loop changes, see Frame.allocOpaque. */
  readonly loopVars: ReadonlySet<VarInfo>;
  /** For programs with loops. */
  budget: LoopBudget | undefined;
  usesAsyncId = false;
  usesStack = false;
  /** Source spans of the instructions, for listings: pairs of first instruction and span start. */
  notes: { at: number; text: string }[] = [];
  readonly #free: Reg[];
  readonly #callbacks: { b: ProgramBuilder; notes: { at: number; text: string }[] }[] = [];
  #counter: string | undefined;

  constructor(module: Module, group: ProbeGroup, probe: ast.Probe, index: number, hasScratch: boolean) {
    this.module = module;
    this.group = group;
    this.index = index;
    this.frame = new Frame(hasScratch, stackBytes(probe));
    this.exitLabel = this.b.newLabel('exit');
    this.available = new Available(probe);
    this.loopVars = changedInLoops(probe, module);
    this.#free = hasScratch ? [R8, R7] : [R9, R8, R7];
  }

  type(expr: ast.Expr): LType {
    return this.module.semantics.types.get(expr)!;
  }

  sizeOf(type: LType): number {
    return t.storageSize(type, this.module.config);
  }

  label(prefix?: string): string {
    return this.b.newLabel(prefix);
  }

  note(text: string): void {
    this.notes.push({ at: this.b.length, text });
  }

  // Functions.

  /** Emits a callback, to be put behind the program by finish(); gives the label of its first instruction. */
  callback(emit: () => void): string {
    const { b, frame, exitLabel, loops, available, notes } = this;
    const label = this.label('callback');
    this.b = b.child();
    this.frame = frame.nested();
    this.loops = [];
    this.available = available.fresh();
    this.notes = [];
    this.b.label(label);
    emit();
    this.#callbacks.push({ b: this.b, notes: this.notes });
    Object.assign(this, { b, frame, exitLabel, loops, available, notes });
    return label;
  }

  /** A callback that does nothing: the helper then only counts. */
  counter(): string {
    this.#counter ??= this.callback(() => void this.b.mov(R0, 0).exit());
    return this.#counter;
  }

  finish(): void {
    for (const { b, notes } of this.#callbacks.splice(0)) {
      for (const note of notes) this.notes.push({ ...note, at: note.at + this.b.length });
      this.b.append(b);
    }
  }

  // Registers.

  /** A callee-saved register, if one is left. */
  takeReg(): Reg | undefined {
    return this.#free.pop();
  }
  giveReg(reg: Reg): void {
    this.#free.push(reg);
  }

  /** Keeps R0 across calls. */
  hold(): Held {
    const reg = this.takeReg();
    if (reg !== undefined) {
      this.b.mov(reg, R0);
      return {
        reg,
        load: (into) => void this.b.mov(into, reg),
        free: () => this.giveReg(reg),
      };
    }
    const place = this.frame.alloc(8);
    this.b.stx(8, place.reg, place.off, R0);
    return {
      reg: undefined,
      load: (into) => void this.b.ldx(8, into, place.reg, place.off),
      free: () => this.frame.free(place, 8),
    };
  }

  // Constants and memory.

  imm(reg: Reg, value: bigint): void {
    if (fitsImm(value)) this.b.mov(reg, Number(BigInt.asIntN(64, value)));
    else this.b.lddw(reg, value);
  }

  /** reg = address of a place. */
  addr(reg: Reg, place: Place): void {
    this.b.mov(reg, place.reg);
    if (place.off !== 0) this.b.add(reg, place.off);
  }

  /** Stores a 64-bit constant; `scratch` is overwritten when it is wide. */
  storeImm(place: Place, value: bigint, scratch: Reg = R1): void {
    if (fitsImm(value)) {
      this.b.st(8, place.reg, place.off, Number(BigInt.asIntN(64, value)));
    } else {
      this.b.lddw(scratch, value);
      this.b.stx(8, place.reg, place.off, scratch);
    }
  }

  zero(place: Place, size: number): void {
    for (let i = 0; i < size; i += 8) this.b.st(8, place.reg, place.off + i, 0);
  }

  /** Copies whole words by way of R1. */
  copy(from: Place, to: Place, size: number): void {
    for (let i = 0; i < size; i += 8) {
      this.b.ldx(8, R1, from.reg, from.off + i);
      this.b.stx(8, to.reg, to.off + i, R1);
    }
  }

  /** Runs with temporary memory. */
  temp<T>(size: number, use: (place: Place) => T): T {
    const place = this.frame.alloc(size);
    const result = use(place);
    this.frame.free(place, size);
    return result;
  }

  // Calls.

  kcall(name: JsKfuncName | keyof typeof INLINE_KFUNCS): void {
    this.b.kcall({ ...JS_KFUNCS, ...INLINE_KFUNCS }[name].id);
  }

  /** R0 = address of the value of a key, or 0. */
  lookup(map: number, key: Place): void {
    this.b.ldMap(R1, map);
    this.addr(R2, key);
    this.b.call(1);
  }

  /** R0 = 0 or -errno. */
  update(map: number, key: Place, value: Place, flags: number): void {
    this.b.ldMap(R1, map);
    this.addr(R2, key);
    this.addr(R3, value);
    this.b.mov({ reg: 4 }, flags);
    this.b.call(2);
  }
}

export function fitsImm(value: bigint): boolean {
  const signed = BigInt.asIntN(64, value);
  return signed >= -0x8000_0000n && signed <= 0x7fff_ffffn;
}

export function offset(place: Place, by: number): Place {
  return { reg: place.reg, off: place.off + by };
}

/** Bytes of stack that each function may have: the program and the callbacks that are active at a time share 512. */
function stackBytes(probe: ast.Probe): number {
  let depth = 0;
  const nesting = (statement: ast.Statement, around: number): void => {
    const here = around + (statement.kind === 'for-map' ? 1 : 0);
    depth = Math.max(depth, here);
    for (const inner of ast.childrenOf(statement).statements) nesting(inner, here);
  };
  nesting(probe.body, 0);
  let counts = false;
  ast.walkProbe(probe, (expr) => {
    if (expr.kind === 'call' && expr.name === 'len' && expr.args[0]?.kind === 'map') counts = true;
  });
  const room = MAX_BPF_STACK - (counts ? FRAME_ALIGN : 0);
  return Math.floor(room / (depth + 1) / FRAME_ALIGN) * FRAME_ALIGN;
}

/** Variables that are assigned anywhere inside a loop, and those that a callback shares with what is around it. */
function changedInLoops(probe: ast.Probe, module: Module): Set<VarInfo> {
  const changed = new Set<VarInfo>();
  const add = (variable: ast.Expr): void => {
    const info = variable.kind === 'var' ? module.semantics.vars.get(variable) : undefined;
    if (info) changed.add(info);
  };
  ast.walkStatement(
    probe.body,
    () => undefined,
    (loop) => {
      if (loop.kind === 'for-map') {
        add(loop.variable);
        ast.walkStatement(loop.body, add);
        return;
      }
      if (loop.kind !== 'while' && loop.kind !== 'for-range') return;
      ast.walkStatement(
        loop,
        (expr) => {
          if (expr.kind === 'incdec') add(expr.target);
        },
        (statement) => {
          if (statement.kind === 'assign') add(statement.target);
        },
      );
    },
  );
  return changed;
}
