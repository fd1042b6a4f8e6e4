import { KernelError } from '../errno.ts';
import type { TraceArray } from './trace-array.ts';
import type { TraceRecord } from './trace-entry.ts';
import type { TraceOption } from './trace-options.ts';

/** One reading of a buffer, as a tracer prints it. */
export interface LinePrinter {
  /**
   * A record's lines, made with the record behind it, which may be part of them: it is passed over then. Undefined for those
   * that are printed as always.
   */
  print(
    record: TraceRecord,
    next: TraceRecord | undefined,
  ): { readonly text: string; readonly tookNext: boolean } | undefined;
}

/** What `current_tracer` names (`struct tracer`). */
export interface Tracer {
  readonly name: string;
  /** Its own options, with what they begin with. */
  readonly options?: Readonly<Record<string, boolean>>;
  /** Whether instances may have it too. */
  readonly allowInstances?: boolean;
  /** The snapshot is its own (`use_max_tr`), and what `trace` shows (`print_max`). */
  readonly usesSnapshot?: boolean;
  /** Starts; refuses with a KernelError. */
  init?(tr: TraceArray): void;
  reset?(tr: TraceArray): void;
  /** May refuse a change of one of its options with a KernelError. */
  setFlag?(tr: TraceArray, option: string, on: boolean): void;
  /** One of its options has changed. */
  optionChanged?(tr: TraceArray, option: string): void;
  /** An option of the instance has changed (`struct tracer`'s flag_changed()). */
  flagChanged?(tr: TraceArray, option: TraceOption): void;
  /** A reading of the buffer begins that has its own way to print. */
  open?(tr: TraceArray): LinePrinter;
  /** The head of the `trace` file, where it is not the common one. */
  printHeader?(tr: TraceArray): string;
}

/** The tracer that traces nothing (kernel/trace/trace_nop.c). */
export const NOP_TRACER: Tracer = {
  name: 'nop',
  options: { test_nop_accept: false, test_nop_refuse: false },
  allowInstances: true,
  setFlag(_tr, option) {
    if (option === 'test_nop_refuse') throw new KernelError('EINVAL', 'the option refuses to be changed');
  },
};
