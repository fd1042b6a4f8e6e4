import { BpfError } from '../errors.ts';
import type { Program } from './program.ts';
import type { RunOptions } from './types.ts';

/**
 * A program attached to something (struct bpf_link). In user space nothing happens by itself: whoever has the link says when what it
 * stands for happens, by run().
 */
export class Link {
  readonly id: number;
  readonly type: string;
  /** The tracepoint's name. */
  readonly name: string | undefined;
  readonly attachType: string | number | undefined;
  #program: Program | undefined;

  constructor(
    id: number,
    program: Program | undefined,
    what: { type: string; name?: string; attachType?: string | number },
  ) {
    this.id = id;
    this.#program = program;
    this.type = what.type;
    this.name = what.name;
    this.attachType = what.attachType;
  }

  /** Undefined once it is detached. */
  get program(): Program | undefined {
    return this.#program;
  }

  /** r0 of the program on a context in the memory. Throws BpfError ENOLINK once it is detached. */
  run(ctx: number, options?: RunOptions): bigint {
    if (this.#program === undefined) throw new BpfError('ENOLINK', `link ${this.id} is detached`);
    return this.#program.run(ctx, options);
  }

  replace(program: Program): void {
    this.#program = program;
  }

  /** The program that it had. */
  detach(): Program | undefined {
    const program = this.#program;
    this.#program = undefined;
    return program;
  }
}
