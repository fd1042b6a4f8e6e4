import { evaluate } from './print-fmt-eval.ts';
import { type PrintFmt, parsePrintFmt } from './print-fmt-parser.ts';
import { printk } from './printk-format.ts';
import type { TraceArray } from './trace-array.ts';
import type { TraceRecord } from './trace-entry.ts';
import type { TraceEventCall } from './trace-event.ts';

const parsed = new WeakMap<TraceEventCall, PrintFmt | undefined>();

/** A record by the event's `print fmt`, as libtraceevent evaluates it. A print fmt beyond it shows its own text. */
export function printFmt(call: TraceEventCall, record: TraceRecord, tr: TraceArray): string {
  if (!parsed.has(call)) parsed.set(call, parsePrintFmt(call.printFmt));
  const fmt = parsed.get(call);
  if (fmt === undefined) return call.printFmt;
  return printk(
    tr,
    fmt.format,
    fmt.args.map((arg) => evaluate(arg, { call, record })),
  );
}
