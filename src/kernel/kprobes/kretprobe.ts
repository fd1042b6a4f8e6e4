import {
  aFunction,
  aNumber,
  anObject,
  aRecord,
  checkArgument,
  having,
  oneOf,
  optional,
} from '../../arguments.ts';
import { KernelError } from '../errno.ts';
import { KRETPROBE_DEFAULT_MAXACTIVE, KRETPROBE_MAX_DATA_SIZE } from './flags.ts';
import { Kprobe, type KprobeInit } from './kprobe.ts';
import type { PtRegs } from './pt-regs.ts';

const KRETPROBE_INIT = aRecord<KretprobeInit<unknown>>(
  {
    kp: anObject,
    handler: optional(aFunction),
    entryHandler: optional(aFunction),
    maxactive: optional(aNumber),
    dataSize: optional(aNumber),
    event: optional(oneOf('return', 'throw', 'settle')),
  },
  'an object with kp: { symbolName }',
);
export const aKretprobe = having(
  'a probe: new Kretprobe({ kp: { symbolName }, handler })',
  'kp',
  'maxactive',
  'dataSize',
);

/** When a return probe's handler runs. */
export type KretprobeEvent =
  /** The call ends: by return or by throw; an async function's when its caller gets the promise. */
  | 'return'
  /** The call ends by throw. Calls of async functions never do: their promises are rejected. */
  | 'throw'
  /** The promise that the call returned is fulfilled or rejected. */
  | 'settle';

/** Runs at the entry of a call; a number other than 0, or true, gives the instance back: the handler is not called. */
export type KretprobeEntryHandler<D> = (ri: KretprobeInstance<D>, regs: PtRegs) => unknown;
export type KretprobeHandler<D> = (ri: KretprobeInstance<D>, regs: PtRegs) => unknown;

export interface KretprobeInit<D> {
  readonly kp: KprobeInit;
  readonly handler?: KretprobeHandler<D> | undefined;
  readonly entryHandler?: KretprobeEntryHandler<D> | undefined;
  /** Calls that may be under way at once; further ones are counted in `nmissed`. 0 or less: 4096. */
  readonly maxactive?: number | undefined;
  /** Bytes of `KretprobeInstance.data`, at most 4096. 0: `data` holds any one value. */
  readonly dataSize?: number | undefined;
  readonly event?: KretprobeEvent | undefined;
}

/** `struct kretprobe` (include/linux/kprobes.h). `D` is the type of an instance's `data`. */
export class Kretprobe<D = unknown> {
  readonly kp: Kprobe;
  handler: KretprobeHandler<D> | undefined;
  entryHandler: KretprobeEntryHandler<D> | undefined;
  maxactive: number;
  dataSize: number;
  event: KretprobeEvent;
  /** Calls that found no free instance. Hits lost to a running handler are in `kp.nmissed`. */
  nmissed = 0;
  /** Instances; undefined while not registered. */
  pool: KretprobePool<D> | undefined = undefined;

  constructor(init: KretprobeInit<D>) {
    checkArgument('new Kretprobe()', 'init', init, KRETPROBE_INIT);
    this.kp = new Kprobe(init.kp);
    this.handler = init.handler;
    this.entryHandler = init.entryHandler;
    this.maxactive = init.maxactive ?? 0;
    this.dataSize = init.dataSize ?? 0;
    this.event = init.event ?? 'return';
    KRETPROBES.set(this.kp, this as Kretprobe);
  }
}

/** A return probe whatever its data. */
// biome-ignore lint/suspicious/noExplicitAny: `data` is the user's own; the core never looks at it
export type AnyKretprobe = Kretprobe<any>;

/** container_of(kp, struct kretprobe, kp) */
const KRETPROBES = new WeakMap<Kprobe, Kretprobe>();

export function kretprobeOf(p: Kprobe): Kretprobe | undefined {
  return KRETPROBES.get(p);
}

/** `struct kretprobe_instance`: one call under way. */
export class KretprobeInstance<D = unknown> {
  /** get_kretprobe() */
  readonly rp: Kretprobe<D>;
  /**
   * The user's, from the entry handler to the handler of the same call: a Uint8Array of `dataSize` bytes (not cleared
   * between calls, as the kernel's), or with `dataSize` 0 any value, undefined at the start of each call.
   */
  data: D;
  /** Pool it came from; an instance of an earlier registration is not put back. */
  readonly pool: KretprobePool<D>;

  constructor(rp: Kretprobe<D>, pool: KretprobePool<D>) {
    checkArgument('new KretprobeInstance()', 'rp', rp, aKretprobe);
    this.rp = rp;
    this.pool = pool;
    this.data = (rp.dataSize > 0 ? new Uint8Array(rp.dataSize) : undefined) as D;
  }
}

/**
 * The instances of one registration (the kernel's rethook and its object pool). They are made when first needed and
 * kept, so that a probe on a busy function allocates nothing.
 */
export class KretprobePool<D = unknown> {
  readonly maxactive: number;
  readonly event: KretprobeEvent;
  readonly #rp: Kretprobe<D>;
  readonly #free: KretprobeInstance<D>[] = [];
  #made = 0;
  #dead = false;

  constructor(rp: Kretprobe<D>) {
    if (!Number.isInteger(rp.dataSize) || rp.dataSize < 0)
      throw new KernelError('EINVAL', `dataSize ${rp.dataSize} is not a number of bytes`);
    if (rp.dataSize > KRETPROBE_MAX_DATA_SIZE)
      throw new KernelError('E2BIG', `dataSize ${rp.dataSize} is above ${KRETPROBE_MAX_DATA_SIZE} bytes`);
    if (!Number.isInteger(rp.maxactive))
      throw new KernelError('EINVAL', `maxactive ${rp.maxactive} is not an integer`);
    if (rp.maxactive <= 0) rp.maxactive = KRETPROBE_DEFAULT_MAXACTIVE;
    this.#rp = rp;
    this.maxactive = rp.maxactive;
    this.event = rp.event;
  }

  /** Instances in use. */
  get active(): number {
    return this.#made - this.#free.length;
  }

  /** rethook_try_get(): undefined when all are in use. */
  tryGet(): KretprobeInstance<D> | undefined {
    if (this.#dead) return undefined;
    const ri = this.#free.pop();
    if (ri !== undefined) return ri;
    if (this.#made >= this.maxactive) return undefined;
    this.#made++;
    return new KretprobeInstance(this.#rp, this);
  }

  /** rethook_recycle() */
  recycle(ri: KretprobeInstance<D>): void {
    if (this.#rp.dataSize === 0) ri.data = undefined as D;
    this.#free.push(ri);
  }

  /** rethook_free(): calls still under way return without calling the handler. */
  kill(): void {
    this.#dead = true;
  }

  get dead(): boolean {
    return this.#dead;
  }
}
