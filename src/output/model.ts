/** What a script prints, before it is text or JSON. Both printers take these. */
import { having } from '../arguments.ts';
export type Value =
  | { readonly kind: 'int'; readonly value: bigint }
  /** A JavaScript number that is no integer. */
  | { readonly kind: 'number'; readonly value: number }
  | { readonly kind: 'boolean'; readonly value: boolean }
  | { readonly kind: 'null' | 'undefined' }
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'buf'; readonly bytes: Uint8Array }
  /** Innermost frame first. */
  | { readonly kind: 'stack'; readonly frames: readonly string[] }
  | { readonly kind: 'tuple'; readonly fields: readonly Value[] };

/** One bucket: `low` inclusive, `high` exclusive; undefined is unbounded. Labels are for people (`1K`). */
export interface Bucket {
  readonly low: bigint | undefined;
  readonly high: bigint | undefined;
  readonly label: string;
  readonly count: bigint;
}

export type MapValue =
  | Value
  | { readonly kind: 'hist'; readonly buckets: readonly Bucket[] }
  | {
      readonly kind: 'stats';
      readonly count: bigint;
      readonly average: bigint;
      readonly total: bigint;
    };

export interface MapEntry {
  /** Empty for a map without keys. */
  readonly key: readonly Value[];
  readonly value: MapValue;
}

/** A map as it is printed: entries in ascending order. */
export interface PrintedMap {
  readonly name: string;
  readonly type: 'map' | 'hist' | 'stats';
  readonly entries: readonly MapEntry[];
}

/** A place in the script that a warning is about. */
export interface WarningInfo {
  readonly message: string;
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** Where a printer writes: data (stdout or `-o`), and progress and losses (stderr). */
export interface Sinks {
  data(text: string): void;
  progress(text: string): void;
}

export const SINKS = having('an object with data(text) and progress(text)', 'data', 'progress');

/** A printer of the model. `text.ts` and `json.ts` are the two there are. */
export interface Printer {
  attachedProbes(count: number): void;
  printf(text: string): void;
  time(text: string): void;
  /** What a command of system() wrote. */
  syscall(text: string): void;
  value(value: Value): void;
  map(map: PrintedMap): void;
  lostEvents(count: number): void;
  warning(warning: WarningInfo): void;
  /** Before the maps that are printed at the end. */
  end(): void;
}
