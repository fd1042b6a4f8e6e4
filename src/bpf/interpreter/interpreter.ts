/**
 * The reference interpreter (___bpf_prog_run of kernel/bpf/core.c). Registers are pairs of
 * 32-bit words, so that nothing is allocated; addresses are offsets into the memory, as in compiled programs.
 */
import { aBigint, checkArgument, having } from '../arguments.ts';
import { BpfError } from '../errors.ts';
import type { Insn } from '../isa.ts';
import { Execution } from './execution.ts';
import { execute } from './loop.ts';
import type { InterpreterOptions } from './options.ts';

const INTERPRETER_OPTIONS = having('options with insns, memory and stack', 'insns', 'memory', 'stack');

/**
 * One execution. `step()` runs one instruction; `pc` and `regs` may be read and changed in between. Errors are BpfError:
 * EINVAL for an instruction that does not exist, EFAULT for memory outside of the memory, and what the environment throws.
 * Instructions must not be changed while a program runs.
 */
export class Interpreter {
  /** r0 to r10, unsigned. */
  readonly regs: BigUint64Array;
  readonly #execution: Execution;

  constructor(options: InterpreterOptions, r1: bigint = 0n, r2: bigint = 0n) {
    checkArgument('new Interpreter()', 'options', options, INTERPRETER_OPTIONS);
    checkArgument('new Interpreter()', 'r1', r1, aBigint);
    checkArgument('new Interpreter()', 'r2', r2, aBigint);
    this.#execution = new Execution(options);
    this.regs = this.#execution.regs;
    this.reset(r1, r2);
  }

  /** Slot of the next instruction. */
  get pc(): number {
    return this.#execution.pc;
  }

  set pc(slot: number) {
    this.#execution.pc = slot;
  }

  /** Instructions run so far. */
  get steps(): number {
    return this.#execution.steps;
  }

  get exited(): boolean {
    return this.#execution.exited;
  }

  /** Called before each instruction of a callback, which runs within the step of its helper. May throw, which ends the execution. */
  set beforeCallbackStep(action: (() => void) | undefined) {
    this.#execution.beforeCallbackStep = action;
  }

  /** Back to the start, for another execution. */
  reset(r1: bigint = 0n, r2: bigint = 0n): void {
    this.#execution.reset(r1, r2);
  }

  /** Depth of calls between BPF functions. */
  get depth(): number {
    return this.#execution.frames.length;
  }

  /** Slots that the callers go on at, the program's own first. */
  get returnSlots(): number[] {
    return this.#execution.frames.map(({ returnTo }) => returnTo);
  }

  /** The instruction that step() would run. */
  get insn(): Insn | undefined {
    return this.#execution.insns[this.pc];
  }

  /** Runs until exit and returns r0; throws BpfError ELOOP after `limit` instructions. */
  run(limit = Number.POSITIVE_INFINITY): bigint {
    const execution = this.#execution;
    execution.limit = limit;
    if (!execution.exited) execute(execution, limit, -1);
    if (!execution.exited) throw new BpfError('ELOOP', `${limit} instructions were run without an exit`);
    return this.regs[0]!;
  }

  /** One instruction; false once the program has ended. */
  step(): boolean {
    const execution = this.#execution;
    if (execution.exited) return false;
    execute(execution, execution.steps + 1, -1);
    return !execution.exited;
  }

  /**
   * bpf_throw: for a kfunc to call. All frames end, and the program's result is `cookie`, or that of its function at `callback`, which
   * gets the cookie.
   */
  throw(cookie: bigint, callback?: number): void {
    this.#execution.throw(cookie, callback);
  }

  /** Runs a BPF function of this program as a helper's callback, to its end, and returns its r0. Registers are kept. */
  callback(entry: number, args: readonly bigint[]): bigint {
    return this.#execution.callback(entry, args);
  }
}
