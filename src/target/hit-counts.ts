/**
 * What programs of probe events count in the process: hits that made no record, and hists. Counters are u64 in one map; a hist has a
 * hash map of its own. What was counted since the last time is added to the tracer's tables by sync().
 */
import { BpfError, type MapSpec } from '../bpf/index.ts';
import { TraplineError } from '../errors.ts';
import type { CountedHist } from '../kernel/trace/hit-plan.ts';
import { histKey, keyBytes, type StagedHist } from '../kernel/trace/probe/hit-stage.ts';
import type { EventTrigger } from '../kernel/trace/trace-event-file.ts';
import type { TraceSession } from './session.ts';

const COUNTERS = 1024;

export const COUNTERS_MAP: MapSpec = {
  name: 'counters',
  type: 'array',
  keySize: 4,
  valueSize: 8 * COUNTERS,
  maxEntries: 1,
};

/** So often, in ms, hists are fetched unasked: a process that ends takes its maps along. */
const FETCH_MS = 500;

export interface HitCountsOptions {
  readonly session: TraceSession;
  /** The session's maps; those of hists come behind them. */
  readonly maps: MapSpec[];
  /** Index of COUNTERS_MAP among them. */
  readonly counters: number;
  /** Bytes of a string in a record. */
  readonly maxString: number;
}

/** A hist's map in the process. */
interface Table extends StagedHist {
  readonly shape: string;
  /** What its entries were when they were fetched: hits and sums, by their keys. */
  readonly seen: Map<string, readonly bigint[]>;
  seenHits: bigint;
  seenDrops: bigint;
  generation: number;
}

export class HitCounts {
  readonly #options: HitCountsOptions;
  readonly #tables = new Map<EventTrigger, Table>();
  /** Maps that no hist uses any more, empty. */
  readonly #spare = new Map<string, number[]>();
  /** As they were fetched last, and from what on they count. */
  #values = new BigUint64Array(COUNTERS);
  readonly #bases = new BigUint64Array(COUNTERS);
  readonly #free = Array.from({ length: COUNTERS }, (_, n) => 8 * (COUNTERS - 1 - n));
  #retired: number[] = [];
  #inUse = 0;
  #work: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;

  constructor(options: HitCountsOptions) {
    this.#options = options;
  }

  /** Programs count something. */
  get used(): boolean {
    return this.#inUse > 0;
  }

  /** Offset of a counter that is 0; undefined where there is none left. */
  counter(): number | undefined {
    const offset = this.#free.pop();
    if (offset === undefined) return undefined;
    this.#inUse++;
    this.#bases[offset >> 3] = this.#values[offset >> 3] as bigint;
    return offset;
  }

  /** What a counter was when it was fetched last. */
  value(offset: number | undefined): number {
    return offset === undefined ? 0 : Number(this.#count(offset));
  }

  #count(offset: number): bigint {
    return BigInt.asUintN(64, (this.#values[offset >> 3] as bigint) - (this.#bases[offset >> 3] as bigint));
  }

  /** No program counts there any more. */
  retire(offset: number | undefined): void {
    if (offset === undefined) return;
    this.#inUse--;
    // It is known with the next fetch what it is at.
    this.#retired.push(offset);
  }

  /** Where a hist is counted, its map made where it has none; undefined where there is no room. */
  async hist(hist: CountedHist): Promise<StagedHist | undefined> {
    const known = this.#tables.get(hist.trigger);
    if (known !== undefined) {
      if (known.generation !== hist.generation()) await this.sync();
      return known;
    }
    const bytes = keyBytes(hist.keys, this.#options.maxString);
    const valueSize = 8 + 8 * hist.values.length;
    if (bytes === undefined) return undefined;
    const shape = `${bytes} ${valueSize} ${hist.maxEntries}`;
    const hits = this.counter();
    const drops = this.counter();
    const spec: MapSpec = {
      name: 'hist',
      type: 'hash',
      keySize: bytes,
      valueSize,
      maxEntries: hist.maxEntries,
    };
    const map =
      hits === undefined || drops === undefined
        ? undefined
        : (this.#spare.get(shape)?.pop() ?? (await this.#addMap(spec)));
    if (map === undefined || hits === undefined || drops === undefined) {
      this.retire(hits);
      this.retire(drops);
      return undefined;
    }
    const table: Table = {
      hist,
      map,
      hits,
      drops,
      shape,
      seen: new Map(),
      seenHits: 0n,
      seenDrops: 0n,
      generation: hist.generation(),
    };
    this.#tables.set(hist.trigger, table);
    // A process that has gone is told elsewhere.
    this.#timer ??= setInterval(() => void this.sync().catch(() => undefined), FETCH_MS).unref();
    return table;
  }

  async #addMap(spec: MapSpec): Promise<number | undefined> {
    const { session, maps } = this.#options;
    try {
      const index = await session.addMaps?.([spec]);
      if (index !== undefined) maps[index] = spec;
      return index;
    } catch (error) {
      if (error instanceof BpfError && error.code === 'ENOMEM') return undefined;
      throw error;
    }
  }

  /** Gives back the maps of hists that are no more and that no program counts. */
  async release(isCounted: (trigger: EventTrigger) => boolean): Promise<void> {
    for (const [trigger, table] of this.#tables) {
      if (table.hist.isGone() && !isCounted(trigger)) await this.#run(() => this.#drop(trigger, table));
    }
  }

  async #drop(trigger: EventTrigger, { map, shape, hits, drops }: Table): Promise<void> {
    this.#tables.delete(trigger);
    if (this.#tables.size === 0) this.close();
    this.retire(hits);
    this.retire(drops);
    await this.#options.session.clearMap(map);
    const spare = this.#spare.get(shape) ?? [];
    this.#spare.set(shape, spare);
    spare.push(map);
  }

  /** Fetches what was counted. Rejects with the session's errors; what was not fetched is with the next call. */
  sync(): Promise<void> {
    if (this.#inUse === 0 && this.#retired.length === 0) return Promise.resolve();
    return this.#run(() => this.#fetch());
  }

  /** One after the other. */
  #run(work: () => Promise<void>): Promise<void> {
    const done = this.#work.then(work);
    this.#work = done.catch(() => undefined);
    return done;
  }

  async #fetch(): Promise<void> {
    const { session, counters } = this.#options;
    const retired = this.#retired;
    this.#retired = [];
    const [entry] = await session.readMap(counters);
    const value = entry?.values[0];
    if (value === undefined) throw new TraplineError('EINVAL', 'the counters are gone');
    this.#values = new BigUint64Array(value.slice().buffer);
    this.#free.push(...retired);
    for (const table of [...this.#tables.values()]) await this.#fetchTable(table);
  }

  async #fetchTable(table: Table): Promise<void> {
    const { session } = this.#options;
    const { hist, map } = table;
    const hits = this.#count(table.hits);
    const drops = this.#count(table.drops);
    if (table.generation !== hist.generation()) {
      // It was emptied: hits up to here were before that.
      table.generation = hist.generation();
      await session.clearMap(map);
      table.seen.clear();
      table.seenDrops = drops;
      table.seenHits = hits;
      return;
    }
    if (hits === table.seenHits) return;
    table.seenHits = hits;
    for (const { key, values } of await session.readMap(map))
      this.#addEntry(table, key, values[0] as Uint8Array);
    if (drops !== table.seenDrops) hist.drop(Number(drops - table.seenDrops));
    table.seenDrops = drops;
  }

  #addEntry({ hist, seen }: Table, key: Uint8Array, value: Uint8Array): void {
    const text = String.fromCharCode(...key);
    const before = seen.get(text);
    const now = [...new BigUint64Array(value.slice().buffer)];
    const [hits = 0n, ...sums] = now.map((n, i) => BigInt.asUintN(64, n - (before?.[i] ?? 0n)));
    if (hits === 0n && sums.every((sum) => sum === 0n)) return;
    seen.set(text, now);
    hist.add(histKey(hist.keys, this.#options.maxString, key), Number(hits), sums);
  }

  /** Fetches no more by itself. */
  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
