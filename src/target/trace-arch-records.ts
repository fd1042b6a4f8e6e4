/** Records of a process's ring as hits of probes and calls of functions, in their order. */

import type { FunctionCalls } from './function-calls.ts';
import type { TraceSession } from './session.ts';
import type { StackSymbols } from './stack-symbols.ts';
import { type Probe, type ProbePrograms, STACK_FRAMES } from './trace-arch-programs.ts';

export interface HitRecordsOptions {
  readonly session: TraceSession;
  readonly comm: string;
  readonly programs: ProbePrograms;
  readonly calls: FunctionCalls;
  readonly stacks: StackSymbols;
}

export class HitRecords {
  readonly #options: HitRecordsOptions;
  #held: DataView[] = [];
  #release: Promise<void> = Promise.resolve();
  #stacksGone = false;
  #received = 0;

  constructor(options: HitRecordsOptions) {
    this.#options = options;
  }

  /** Records that came. */
  get received(): number {
    return this.#received;
  }

  /** A record of the ring. What comes behind one whose stack has to be fetched waits with it. */
  onRecord(record: DataView): void {
    if (this.#held.length === 0 && (this.#stacksGone || !this.#needsStack(record))) {
      this.#take(record);
      return;
    }
    const bytes = new Uint8Array(record.buffer, record.byteOffset, record.byteLength).slice();
    if (this.#held.push(new DataView(bytes.buffer)) === 1) this.#release = this.#fetchStacks();
  }

  /** Whether a record names a stack that is not here yet. */
  #needsStack(record: DataView): boolean {
    if (this.#options.calls.needsStack(record)) return true;
    const stack = this.#options.programs.of(record)?.program.stack(record) ?? 0;
    return stack !== 0 && !this.#options.stacks.knows(stack);
  }

  async #fetchStacks(): Promise<void> {
    try {
      await this.#options.session.flush();
    } catch {
      this.#stacksGone = true;
    }
    for (const record of this.#held.splice(0)) this.onRecord(record);
  }

  /** Every record that came is taken. */
  async released(): Promise<void> {
    while (this.#held.length > 0) await this.#release;
  }

  #take(record: DataView): void {
    if (this.#options.calls.onRecord(record, this.#options.session.info.pid)) {
      this.#received++;
      return;
    }
    const version = this.#options.programs.of(record);
    if (version === undefined || !version.probe.active) return;
    this.#received++;
    const { comm } = this.#options;
    const { program, probe, counted } = version;
    const id = program.stack(record);
    const values = program.context(record, comm);
    const context = id === 0 ? values : { ...values, stack: this.#stackOf(probe, id) };
    const { pid } = this.#options.session.info;
    probe.hit(context, record.getUint32(4, true), record.getBigUint64(8, true), pid, counted);
  }

  /** A function's own frame may lack its position, or be one of a wrapper. */
  #stackOf({ address }: Probe, id: number): readonly bigint[] {
    if (address === undefined) return this.#options.stacks.addresses(id);
    return [address, ...this.#options.stacks.callers(id, STACK_FRAMES)];
  }
}
