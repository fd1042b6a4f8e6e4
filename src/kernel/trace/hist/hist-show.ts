/** The `hist` file (hist_show(), kernel/trace/trace_events_hist.c). */
import { readable, stringAt, stringToBytes } from '../byte-string.ts';
import { symbolText } from '../symbols.ts';
import type { TraceEventFile } from '../trace-event-file.ts';
import { condSnapshotOf } from './cond-snapshot.ts';
import { type HistData, keyNumber } from './hist-data.ts';
import { FL, HIST_STACKTRACE_DEPTH, type HistField } from './hist-field.ts';
import type { HistTrigger } from './hist-trigger.ts';
import { histTriggersOf } from './hist-vars.ts';
import { sumOf, type TracingMapElt } from './tracing-map.ts';

const encoder = new TextEncoder();

/** `%-Ns` */
function padEnd(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - encoder.encode(text).length));
}

const ten = (value: bigint): string => String(value).padStart(10);

export function showHists(file: TraceEventFile): string {
  return histTriggersOf(file).map(showHist).join('\n\n');
}

/** get_hist_hit_count(): hits of all hists of an event, those that found no room among them. */
export function histHits(file: TraceEventFile): number {
  return histTriggersOf(file).reduce((sum, { histData: { map } }) => sum + map.hits + map.drops, 0);
}

/** hist_trigger_show() */
function showHist(trigger: HistTrigger): string {
  const { histData } = trigger;
  const { map } = histData;
  const entries = map.sorted(histData.sortKeys);
  const stats = statsOf(histData, entries);
  let text = `# event histogram\n#\n# trigger info: ${trigger.print()}\n#\n\n`;
  for (const elt of entries) text += entryText(histData, elt, stats);
  text += snapshotText(histData);
  return `${text}\nTotals:\n    Hits: ${map.hits}\n    Entries: ${entries.length}\n    Dropped: ${map.drops}\n`;
}

interface Stat {
  max: bigint;
  total: bigint;
}

/** Largest value and sum, of the values shown as parts of all. */
function statsOf(histData: HistData, entries: readonly TracingMapElt[]): Stat[] {
  return histData.fields.slice(0, histData.nVals).map((field, i) => {
    const stat: Stat = { max: 0n, total: 0n };
    if (!field.has(FL.PERCENT | FL.GRAPH)) return stat;
    for (const elt of entries) {
      const value = sumOf(elt, i);
      stat.total = BigInt.asUintN(64, stat.total + value);
      if (stat.max < value) stat.max = value;
    }
    return stat;
  });
}

/** hist_trigger_entry_print() */
function entryText(histData: HistData, elt: TracingMapElt, stats: readonly Stat[]): string {
  let text = keyText(histData, elt);
  if (!histData.attrs.noHitcount) text += ` hitcount: ${ten(sumOf(elt, 0))}`;
  for (let i = 1; i < histData.nVals; i++) {
    const field = histData.fields[i] as HistField;
    if (!field.has(FL.VAR | FL.EXPR)) text += ` ${valueText(field, sumOf(elt, i), stats[i] as Stat)}`;
  }
  for (const action of histData.actions) {
    if (action.kind === 'snapshot' || action.handler === 'onmatch') continue;
    text += trackText(histData, elt, action.handler, action.trackVar?.varIdx ?? 0);
  }
  return `${text}\n`;
}

/** track_data_print() */
function trackText(
  histData: HistData,
  elt: TracingMapElt,
  handler: 'onmax' | 'onchange',
  idx: number,
): string {
  const number = (i: number): bigint => {
    const value = elt.vars[i];
    return typeof value === 'bigint' ? value : 0n;
  };
  let text = `\n\t${handler === 'onmax' ? 'max' : 'changed'}: ${ten(number(idx))}`;
  for (const { variable, value } of histData.saveVars) {
    const saved = elt.vars[variable.varIdx];
    const name = readable(variable.varName ?? '');
    if (value.has(FL.STRING)) {
      const string = saved instanceof Uint8Array ? new TextDecoder().decode(saved) : '(null)';
      text += `  ${name}: ${padEnd(string, 32)}`;
    } else text += `  ${name}: ${ten(number(variable.varIdx))}`;
  }
  return text;
}

const ERROR = -1n;

/** __get_percentage(): hundredths of a per cent. */
function percentage(value: bigint, total: bigint): bigint {
  if (total === 0n) return value > 0n ? ERROR : 0n;
  if (value < ((1n << 64n) - 1n) / 10000n) return BigInt.asUintN(32, (value * 10000n) / total);
  const part = total / 10000n;
  return part === 0n ? ERROR : BigInt.asUintN(32, value / part);
}

const BAR_SIZE = 20n;

/** hist_trigger_print_val() */
function valueText(field: HistField, value: bigint, { max, total }: Stat): string {
  const name = field.displayName();
  if (field.has(FL.PERCENT)) {
    const percent = percentage(value, total);
    if (percent === ERROR) return ` ${name} (%):[ERROR]`;
    return ` ${name} (%): ${String(percent / 100n).padStart(3)}.${String(percent % 100n).padStart(2, '0')}`;
  }
  if (field.has(FL.GRAPH)) {
    const part = percentage(value, max);
    if (part === ERROR) return ` ${name}: ${'[ERROR]'.padStart(Number(BAR_SIZE))}`;
    const length = Number((part * BAR_SIZE) / 10000n);
    return ` ${name}: ${'#'.repeat(Math.min(length, Number(BAR_SIZE))).padEnd(Number(BAR_SIZE))}`;
  }
  if (field.has(FL.HEX)) return ` ${name}: ${value.toString(16).padStart(10)}`;
  return ` ${name}: ${ten(value)}`;
}

/** hist_trigger_print_key() */
function keyText(histData: HistData, elt: TracingMapElt): string {
  let multiline = false;
  const parts = histData.keys.map((field) => {
    if (field.has(FL.STACKTRACE)) multiline = true;
    return keyFieldText(histData, field, elt);
  });
  return `{ ${parts.join(', ')}${multiline ? '' : ' '}}`;
}

function keyFieldText(histData: HistData, field: HistField, { key, comm }: TracingMapElt): string {
  const { tracing } = histData.file.tr;
  const name = field.displayName();
  // A string, or a stack, of which the first word is taken for a number.
  const value = keyNumber(key, field.offset);
  if (field.has(FL.HEX)) return `${name}: ${value.toString(16)}`;
  if (field.has(FL.SYM))
    return `${name}: [${value.toString(16)}] ${padEnd(symbolText(tracing, value, false), 45)}`;
  if (field.has(FL.SYM_OFFSET))
    return `${name}: [${value.toString(16)}] ${padEnd(symbolText(tracing, value, true), 55)}`;
  if (field.has(FL.EXECNAME)) return `${name}: ${padEnd(readable(comm), 16)}[${ten(value)}]`;
  if (field.has(FL.SYSCALL)) {
    const syscall = tracing.arch.syscallName?.(Number(BigInt.asIntN(32, value))) ?? 'unknown_syscall';
    return `${name}: ${padEnd(syscall, 30)}[${String(value).padStart(3)}]`;
  }
  if (field.has(FL.STACKTRACE)) {
    let text = field.field === undefined ? 'common_stacktrace:\n' : `${field.field.name}.stacktrace`;
    for (let i = 0; i < HIST_STACKTRACE_DEPTH && field.offset + 8 * i < key.length; i++) {
      const address = keyNumber(key, field.offset + 8 * i);
      if (address === 0n) break;
      text += `         ${symbolText(tracing, address, true)}\n`;
    }
    return text;
  }
  if (field.has(FL.LOG2)) return `${name}: ~ 2^${String(value).padEnd(2)}`;
  if (field.has(FL.BUCKET)) return `${name}: ~ ${value}-${BigInt.asUintN(64, value + field.buckets - 1n)}`;
  if (field.has(FL.STRING)) {
    const string = new TextDecoder().decode(stringToBytes(stringAt(key, field.offset, field.size)));
    return `${name}: ${padEnd(string, 50)}`;
  }
  return `${name}: ${ten(value)}`;
}

/** track_data_snapshot_print() */
function snapshotText(histData: HistData): string {
  const snapshot = condSnapshotOf(histData.file.tr);
  const action = histData.actions.find(({ kind }) => kind === 'snapshot');
  if (snapshot?.elt === undefined || !snapshot.updated || action === undefined) return '';
  return (
    `\nSnapshot taken (see tracing/snapshot).  Details:\n\ttriggering value { ${action.handler}(${action.varText}) }: ` +
    `${ten(snapshot.value)}\ttriggered by event with key: ${keyText(histData, snapshot.elt)}\n`
  );
}
