import type { KprobeSlot } from './arch.ts';
import { KPROBE_FLAG_DISABLED } from './flags.ts';
import { type Kprobe, kprobeAggrprobe, kprobeDisabled } from './kprobe.ts';
import { type KretprobeEvent, type KretprobeInstance, kretprobeOf } from './kretprobe.ts';
import type { PtRegs } from './pt-regs.ts';

/**
 * What happens at a hit (kernel/kprobes.c: aggr_pre_handler, aggr_post_handler, pre_handler_kretprobe; the arch's
 * kprobe_handler, and kernel/trace/rethook.c). Everything here is synchronous, and nothing of it throws.
 */
export class KprobeHandlers {
  /** current_kprobe: the probe whose handler is running on this thread. */
  #current: Kprobe | undefined = undefined;
  readonly #onFaultLimit: (p: Kprobe) => void;

  /** `onFaultLimit` is told about a probe that has just been disabled because its handlers threw. */
  constructor(onFaultLimit: (p: Kprobe) => void) {
    this.#onFaultLimit = onFaultLimit;
  }

  /** kprobe_running() */
  get running(): boolean {
    return this.#current !== undefined;
  }

  /**
   * kprobe_handler(): the arch calls it in front of the probed statement. True: call kprobePostHandler() behind it.
   * Where `regs.rethooks` is defined afterwards, the arch calls kretprobeTrampoline() when the call has ended.
   */
  kprobeHandler(slot: KprobeSlot, regs: PtRegs): boolean {
    const p = slot.probe;
    if (kprobeDisabled(p)) return false;
    if (this.#current !== undefined) {
      incNmissedCount(p);
      return false;
    }
    this.#current = p;
    try {
      const stop = kprobeAggrprobe(p) ? this.#aggrPreHandler(p, regs) : this.#preHandler(p, regs);
      return !stop && p.postHandler !== undefined;
    } catch {
      // The application is at the end of its stack: there was no room to call the handlers.
      p.nmissed++;
      return false;
    } finally {
      this.#current = undefined;
    }
  }

  /** Behind the probed statement, for a hit of which kprobeHandler() returned true. */
  kprobePostHandler(slot: KprobeSlot, regs: PtRegs): void {
    const p = slot.probe;
    if (kprobeDisabled(p) || p.postHandler === undefined || this.#current !== undefined) return;
    this.#current = p;
    try {
      if (kprobeAggrprobe(p)) {
        for (const kp of p.list) if (!kprobeDisabled(kp)) this.#postHandler(kp, regs);
      } else {
        this.#postHandler(p, regs);
      }
    } catch {
      p.nmissed++;
    } finally {
      this.#current = undefined;
    }
  }

  /**
   * rethook_trampoline_handler(): `event` has come for the call, and `regs` has its result. The probe hooked last comes
   * first. What waits for the other event stays in `regs.rethooks`; undefined: nothing waits any more. A call that
   * returned no promise is settled when it has returned: the arch then reports both events.
   */
  kretprobeTrampoline(regs: PtRegs, event: CallEnd): void {
    const { rethooks } = regs;
    if (rethooks === undefined) return;
    const waiting = rethooks.filter((ri) => endOf(ri) !== event);
    regs.rethooks = waiting.length > 0 ? waiting : undefined;
    for (let i = rethooks.length - 1; i >= 0; i--) {
      const ri = rethooks[i]!;
      if (endOf(ri) !== event) continue;
      if (ri.pool.event === 'throw' && !regs.threw) ri.pool.recycle(ri);
      else this.#retHandler(ri, regs);
    }
  }

  /** The arch cannot tell when `event` comes for this call: what waits for it is counted as missed and given back. */
  missRethooks(regs: PtRegs, event: CallEnd): void {
    const { rethooks } = regs;
    if (rethooks === undefined) return;
    const waiting = rethooks.filter((ri) => endOf(ri) !== event);
    regs.rethooks = waiting.length > 0 ? waiting : undefined;
    for (const ri of rethooks) {
      if (endOf(ri) !== event || ri.pool.dead) continue;
      ri.rp.nmissed++;
      ri.pool.recycle(ri);
    }
  }

  #retHandler(ri: KretprobeInstance, regs: PtRegs): void {
    const { rp, pool } = ri;
    if (pool.dead) return;
    const outer = this.#current;
    this.#current = rp.kp;
    try {
      if (rp.handler !== undefined) this.#contain(rp.kp, rp.handler(ri, regs));
    } catch (error) {
      this.#fault(rp.kp, error);
    } finally {
      this.#current = outer;
      pool.recycle(ri);
    }
  }

  #aggrPreHandler(p: Kprobe, regs: PtRegs): boolean {
    for (const kp of p.list) if (!kprobeDisabled(kp) && this.#preHandler(kp, regs)) return true;
    return false;
  }

  #preHandler(p: Kprobe, regs: PtRegs): boolean {
    const { preHandler } = p;
    if (preHandler === undefined) return false;
    try {
      const result = preHandler(p, regs);
      if (result === undefined || result === 0) return false;
      this.#contain(p, result);
      return typeof result === 'number' || result === true;
    } catch (error) {
      this.#fault(p, error);
      return false;
    }
  }

  #postHandler(p: Kprobe, regs: PtRegs): void {
    const { postHandler } = p;
    if (postHandler === undefined) return;
    try {
      this.#contain(p, postHandler(p, regs, 0));
    } catch (error) {
      this.#fault(p, error);
    }
  }

  /** pre_handler_kretprobe() */
  readonly preHandlerKretprobe = (p: Kprobe, regs: PtRegs): number => {
    const rp = kretprobeOf(p);
    const pool = rp?.pool;
    if (rp === undefined || pool === undefined) return 0;
    const ri = pool.tryGet();
    if (ri === undefined) {
      rp.nmissed++;
      return 0;
    }
    let unwanted = false;
    if (rp.entryHandler !== undefined) {
      try {
        const result = rp.entryHandler(ri, regs);
        this.#contain(p, result);
        unwanted = result === true || (typeof result === 'number' && result !== 0);
      } catch (error) {
        unwanted = true;
        this.#fault(p, error);
      }
    }
    if (unwanted) pool.recycle(ri);
    else if (regs.rethooks === undefined) regs.rethooks = [ri];
    else regs.rethooks.push(ri);
    return 0;
  };

  /** An asynchronous handler's rejection must not become the application's unhandled rejection. */
  #contain(p: Kprobe, result: unknown): void {
    if (typeof result !== 'object' || result === null || !(result instanceof Promise)) return;
    result.then(undefined, (error: unknown) => this.#fault(p, error));
  }

  #fault(p: Kprobe, error: unknown): void {
    p.nfault++;
    p.lastFault = error;
    if (p.nfault < p.faultLimit || kprobeDisabled(p)) return;
    p.flags |= KPROBE_FLAG_DISABLED;
    this.#onFaultLimit(p);
  }
}

/** What the arch tells of a call: a throw is one of its returns. */
type CallEnd = Exclude<KretprobeEvent, 'throw'>;

const endOf = ({ pool: { event } }: KretprobeInstance): CallEnd => (event === 'throw' ? 'return' : event);

/** kprobes_inc_nmissed_count() */
function incNmissedCount(p: Kprobe): void {
  if (!kprobeAggrprobe(p)) p.nmissed++;
  else for (const kp of p.list) kp.nmissed++;
}
