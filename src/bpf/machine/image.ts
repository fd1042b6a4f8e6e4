import { aMachine } from '../argument-shapes.ts';
import { checkArgument } from '../arguments.ts';
import type { Machine } from './types.ts';

/**
 * A machine's memory at a moment, to go back to: contents of maps, variables, packets. What lives outside of the memory stays as it is:
 * which maps and programs there are, and what maps of maps and program arrays hold.
 */
export class MemoryImage {
  readonly #machine: Machine;
  readonly #bytes: Uint8Array;

  constructor(machine: Machine) {
    checkArgument('new MemoryImage()', 'machine', machine, aMachine);
    this.#machine = machine;
    this.#bytes = new Uint8Array(machine.memory.buffer).slice();
  }

  /** Nothing may run in the machine meanwhile. Memory that was grown since is zero, as it was then. */
  restore(): void {
    const memory = new Uint8Array(this.#machine.memory.buffer);
    memory.set(this.#bytes);
    memory.fill(0, this.#bytes.length);
  }
}
