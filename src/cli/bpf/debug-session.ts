/**
 * An execution that can be walked forwards and backwards. A moment is the number of instructions run before it. Going back means running
 * again from the start: the memory is put back as it was, the clock and random numbers answer as they did.
 */
import { type Interpreter, type LoadedProgram, type Machine, MemoryImage } from '../../bpf/index.ts';

/** Thrown out of an execution where it is to stop within a callback: that one cannot be gone on with, only run again. */
class Interrupted extends Error {}

/** Answers of the clock and of random numbers, the same ones in each execution. */
export class ReplayedInputs {
  readonly #answers: number[] = [];
  #next = 0;

  rewind(): void {
    this.#next = 0;
  }

  /** A function that answers as `source` did when the execution was first here. */
  wrap(source: () => number): () => number {
    return () => {
      if (this.#next === this.#answers.length) this.#answers.push(source());
      return this.#answers[this.#next++]!;
    };
  }
}

export interface DebugTarget {
  readonly machine: Machine;
  readonly program: LoadedProgram;
  /** Address of the context, which is in the memory. */
  readonly ctx: number;
  readonly inputs: ReplayedInputs;
}

/** A condition on a moment, which the interpreter stands at. */
export type StopAt = (vm: Interpreter, moment: number) => boolean;

/** Executions that do not end are given up. */
const MAX_MOMENTS = 50_000_000;

export class DebugSession {
  readonly target: DebugTarget;
  readonly #image: MemoryImage;
  #vm: Interpreter;
  #stop: StopAt = () => false;
  /** The execution was interrupted in a callback. */
  #broken = false;
  #error: Error | undefined;

  /** The memory is taken as it is now. */
  constructor(target: DebugTarget) {
    this.target = target;
    this.#image = new MemoryImage(target.machine);
    this.#vm = this.#start();
  }

  get vm(): Interpreter {
    return this.#vm;
  }

  /** Instructions run so far. */
  get moment(): number {
    return this.#vm.steps;
  }

  get ended(): boolean {
    return this.#vm.exited || this.#error !== undefined;
  }

  /** What the execution failed with: the memory was accessed out of bounds, say. */
  get error(): Error | undefined {
    return this.#error;
  }

  /** Runs until a later moment that `stop` wants, or the end. True where it was found. */
  forward(stop: StopAt): boolean {
    if (this.ended) return false;
    const from = this.moment;
    if (this.#broken) this.#restart();
    return this.#run((vm, moment) => moment > from && stop(vm, moment));
  }

  /** Goes to a moment, or to the end where there are fewer. */
  goto(moment: number): void {
    if (moment === this.moment) return;
    if (moment < this.moment) {
      this.#restart();
      if (moment > 0) this.#run((_, now) => now === moment);
      return;
    }
    this.forward((_, now) => now === moment);
  }

  /** Goes back to the last moment before this one that `stop` wants; to the start where there is none, and gives false. */
  backward(stop: StopAt): boolean {
    const end = this.moment;
    let found = -1;
    this.#restart();
    this.#run((vm, moment) => {
      if (moment >= end) return true;
      if (stop(vm, moment)) found = moment;
      return false;
    });
    this.goto(Math.max(0, found));
    return found >= 0;
  }

  #start(): Interpreter {
    const { program, ctx, inputs } = this.target;
    inputs.rewind();
    this.#image.restore();
    const vm = program.interpret(ctx);
    vm.beforeCallbackStep = () => {
      if (!this.#isHere(vm)) return;
      this.#broken = true;
      throw new Interrupted();
    };
    return vm;
  }

  #restart(): void {
    this.#broken = false;
    this.#error = undefined;
    this.#vm = this.#start();
  }

  #isHere(vm: Interpreter): boolean {
    if (vm.steps >= MAX_MOMENTS) throw new Error(`${MAX_MOMENTS} instructions were run without an end`);
    return this.#stop(vm, vm.steps);
  }

  #run(stop: StopAt): boolean {
    this.#stop = stop;
    const vm = this.#vm;
    try {
      while (!vm.exited) {
        if (this.#isHere(vm)) return true;
        vm.step();
      }
    } catch (error) {
      if (error instanceof Interrupted) return true;
      this.#error = error as Error;
    } finally {
      this.#stop = () => false;
    }
    return false;
  }
}
