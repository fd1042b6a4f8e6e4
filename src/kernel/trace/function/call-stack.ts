import type { FunctionCall } from '../trace-arch.ts';

/** A call that has not ended (`struct ftrace_ret_stack`). */
export interface Frame<T> {
  readonly address: bigint;
  readonly calltime: bigint;
  readonly data: T;
  /** Nanoseconds in calls that it made. */
  inner: bigint;
}

export interface EndedCall<T> {
  readonly frame: Frame<T>;
  readonly depth: number;
  /** Calls within it whose end was not seen. */
  readonly overrun: number;
}

/** The calls of one CPU, put together from their beginnings and ends; either may have been lost. */
export class CallStack<T> {
  readonly #frames: Frame<T>[] = [];

  get depth(): number {
    return this.#frames.length;
  }

  /** The function of the innermost call under way. */
  get top(): bigint | undefined {
    return this.#frames.at(-1)?.address;
  }

  begin({ address, ts }: FunctionCall, data: T): void {
    this.#frames.push({ address, calltime: ts, data, inner: 0n });
  }

  /** Undefined where the beginning was not seen. */
  end({ address, ts }: FunctionCall): EndedCall<T> | undefined {
    const frames = this.#frames;
    let depth = frames.length - 1;
    while (depth >= 0 && frames[depth]?.address !== address) depth--;
    const frame = frames[depth];
    if (frame === undefined) return undefined;
    const overrun = frames.length - 1 - depth;
    frames.length = depth;
    const outer = frames[depth - 1];
    if (outer !== undefined) outer.inner += ts - frame.calltime;
    return { frame, depth, overrun };
  }
}
