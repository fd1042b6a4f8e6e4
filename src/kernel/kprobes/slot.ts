import type { KprobeDemands, KprobeSlot, TextSymbol } from './arch.ts';
import { type Kprobe, kprobeAggrprobe, kprobeDisabled } from './kprobe.ts';
import { type KretprobeEvent, kretprobeOf } from './kretprobe.ts';

/** A row of the probe table, with what the core remembers about its site. */
export class Slot implements KprobeSlot {
  readonly addr: bigint;
  readonly symbol: TextSymbol | undefined;
  readonly onFuncEntry: boolean;
  probe: Kprobe;
  arch: unknown = undefined;
  /** The arch holds something for it: removeKprobe() is due. */
  prepared = false;
  /** What the site was armed for; undefined while it is not. */
  armed: KprobeDemands | undefined = undefined;

  constructor(addr: bigint, symbol: TextSymbol | undefined, onFuncEntry: boolean, probe: Kprobe) {
    this.addr = addr;
    this.symbol = symbol;
    this.onFuncEntry = onFuncEntry;
    this.probe = probe;
  }

  /** The user's probes on this address. */
  get children(): readonly Kprobe[] {
    return kprobeAggrprobe(this.probe) ? this.probe.list : [this.probe];
  }

  demands(): KprobeDemands {
    let post = false;
    const returns = new Set<KretprobeEvent>();
    for (const p of this.children) {
      // A disabled probe makes no demands; enabling it arms the slot again.
      if (kprobeDisabled(p)) continue;
      if (p.postHandler !== undefined) post = true;
      const rp = kretprobeOf(p);
      if (rp !== undefined) returns.add(rp.event);
    }
    return { post, returns: [...returns].sort() };
  }
}

/** Everything that `wanted` asks for is in `given`. */
export function demandsCovered(given: KprobeDemands, wanted: KprobeDemands): boolean {
  return (given.post || !wanted.post) && wanted.returns.every((event) => given.returns.includes(event));
}
