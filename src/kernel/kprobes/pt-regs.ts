import type { KretprobeInstance } from './kretprobe.ts';

/**
 * What a handler sees of one hit: the counterpart of `struct pt_regs`. In-process handlers get JavaScript values as they
 * are. The object belongs to the hit: a kretprobe's handler gets the one that its entry handler got, with the
 * result filled in.
 */
export class PtRegs {
  /** The probed address in the text space. */
  readonly ip: bigint;
  readonly thisValue: unknown;
  /** The arguments as passed, also beyond the declared parameters. */
  readonly args: ArrayLike<unknown>;
  /** The returned value (or the fulfilled one at `settle`); undefined until then and after a throw. */
  retval: unknown = undefined;
  /** The thrown value (or the rejected one at `settle`). It may itself be undefined: see `threw`. */
  error: unknown = undefined;
  /** The call ended by an exception (or the promise by a rejection). */
  threw = false;
  /** Return probes that wait for this call, the one hooked last at the end; the arch reads it behind the entry. */
  rethooks: KretprobeInstance[] | undefined = undefined;

  constructor(ip: bigint, thisValue: unknown, args: ArrayLike<unknown>) {
    this.ip = ip;
    this.thisValue = thisValue;
    this.args = args;
  }

  /** regs_get_kernel_argument(): argument `n`, from 0; undefined beyond the last. */
  arg(n: number): unknown {
    return n < this.args.length ? this.args[n] : undefined;
  }

  get argc(): number {
    return this.args.length;
  }
}
