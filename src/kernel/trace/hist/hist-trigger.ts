/** A hist on an event: event_hist_trigger() of kernel/trace/trace_events_hist.c. */
import { readable, toByteString } from '../byte-string.ts';
import { locationOf } from '../filter/evaluate.ts';
import { MAX_FILTER_STR_VAL } from '../filter/parse-predicate.ts';
import { entryPid, type TraceRecord } from '../trace-entry.ts';
import type { TraceEventCall } from '../trace-event.ts';
import type { TraceEventFile } from '../trace-event-file.ts';
import type { TraceField } from '../trace-field.ts';
import { TriggerData } from '../trigger/trigger-data.ts';
import { actionsText, type FieldVar, type HistAction } from './action-data.ts';
import { condSnapshot } from './cond-snapshot.ts';
import type { HistData } from './hist-data.ts';
import { HIST_PREFIX } from './hist-errors.ts';
import {
  FL,
  HIST_STACKTRACE_DEPTH,
  type HistContext,
  type HistField,
  smallField,
  smallValue,
} from './hist-field.ts';
import { addNumberToSum, addToSum, type HistValue, type TracingMapElt } from './tracing-map.ts';

export class HistTrigger extends TriggerData {
  readonly name = 'hist';
  readonly type = 'event_hist';
  readonly needsRecord = true;
  readonly post = false;
  /** That of the first one where several have a name. */
  histData: HistData;
  /** `name=NAME`; undefined until it is registered. */
  histName: string | undefined;
  /** The first one of the same name. */
  namedData: HistTrigger | undefined;
  /** Itself and those that share its table. */
  ref = 0;
  /** Chosen at the first record, when everything is known. */
  #hit: ((record: TraceRecord) => void) | undefined;
  #detach: () => void = () => undefined;
  readonly #released: (trigger: HistTrigger) => void;

  constructor(histData: HistData, released: (trigger: HistTrigger) => void) {
    super();
    this.histData = histData;
    this.#released = released;
  }

  get wantsStack(): boolean {
    const { fields, attrs } = this.histData;
    return (
      fields.some((field) => field.has(FL.STACKTRACE) && field.field === undefined) ||
      attrs.actions.some((text) => text.includes('stacktrace'))
    );
  }

  /** The synthetic events of its actions. */
  get feeds(): readonly TraceEventCall[] {
    return this.histData.actions.flatMap(({ synthEvent }) => synthEvent?.call ?? []);
  }

  /** It is on an event now, whose hits are taken with a stack while somebody wants that of what it feeds. */
  attached({ call }: TraceEventFile): void {
    const changed = (): void => call.consumersChanged();
    const { feeds } = this;
    for (const fed of feeds) fed.watchers.add(changed);
    this.#detach = () => {
      for (const fed of feeds) fed.watchers.delete(changed);
    };
  }

  override release(): void {
    this.#detach();
    this.#released(this);
  }

  protected fire(record: TraceRecord | undefined, file: TraceEventFile): void {
    if (record === undefined) return;
    this.#hit ??= plainHit(this.histData, file) ?? ((one) => hit(this.histData, one, file));
    this.#hit(record);
    file.tr.wakeHists();
  }

  /** event_hist_trigger_print() */
  print(): string {
    const { histData } = this;
    const { attrs, nVals, nVars } = histData;
    const keys = histData.keys.map((field) => {
      if (!field.has(FL.STACKTRACE)) return fieldText(field);
      return field.field === undefined ? 'common_stacktrace' : `${field.field.name}.stacktrace`;
    });
    const values = histData.fields.slice(0, nVals);
    const shown = values
      .filter((field, i) => !field.has(FL.VAR) && !(i === 0 && attrs.noHitcount))
      .map((field) => (field === values[0] ? 'hitcount' : fieldText(field)));
    const vars = values.filter((field) => field.has(FL.VAR)).map(fieldText);
    const sort = histData.sortKeys.map(({ fieldIdx, descending }) => {
      const idx = fieldIdx >= nVals - nVars ? fieldIdx + nVars : fieldIdx;
      const name = fieldIdx === 0 ? 'hitcount' : fieldText(histData.fields[idx] as HistField);
      return `${name}${descending ? '.descending' : ''}`;
    });
    let text = HIST_PREFIX;
    if (this.histName !== undefined) text += `${readable(this.histName)}:`;
    text += `keys=${keys.join(',')}:vals=${shown.join(',')}`;
    if (vars.length > 0) text += `:${vars.join(',')}`;
    text += `:sort=${sort.join(',')}:size=${1 << histData.map.mapBits}`;
    if (histData.enableTimestamps) text += `:clock=${readable(attrs.clock)}`;
    if (attrs.noHitcount) text += ':nohitcount';
    text += readable(actionsText(histData));
    if (this.filterText !== undefined) text += ` if ${this.filterText}`;
    return `${text} [${this.paused ? 'paused' : 'active'}]`;
  }
}

/** hist_field_print() */
function fieldText(field: HistField): string {
  let text = field.varName === undefined ? '' : `${readable(field.varName)}=`;
  if (field.has(FL.CPU)) text += 'common_cpu';
  else if (field.has(FL.CONST)) text += `${field.constant}`;
  else {
    const dollar = field.has(FL.VAR_REF | FL.ALIAS) && field.system === undefined;
    text += `${dollar ? '$' : ''}${readable(field.displayName())}`;
  }
  if (!field.has(FL.VAR_REF | FL.EXPR | FL.STACKTRACE)) {
    const modifier = field.modifier();
    if (modifier !== undefined) text += `.${modifier}`;
  }
  return field.buckets === 0n ? text : `${text}=${BigInt.asIntN(64, field.buckets)}`;
}

/**
 * A hist with one key of at most 32 bits and no variables: no key has to be written out for a record whose entry is there.
 * Undefined for others.
 */
function plainHit(histData: HistData, file: TraceEventFile): ((record: TraceRecord) => void) | undefined {
  const { map, keys, varRefs, actions, fieldVars } = histData;
  const values = histData.fields.slice(1, histData.nVals);
  const key = keys.length === 1 ? smallField(keys[0] as HistField) : undefined;
  if (
    key === undefined ||
    values.some(({ fn }) => fn !== 'number' && fn !== 'const') ||
    histData.nVars + varRefs.length + actions.length + fieldVars.length > 0
  )
    return undefined;
  const fields = values.map(smallField);
  return (record) => {
    const { data } = record;
    const elt = map.insertNumber(
      smallValue(data, key),
      () => keyOf(histData, plainContext(record, undefined)),
      () => commOf(file, record),
    );
    if (elt === undefined) return;
    elt.hitcount++;
    for (let i = 0; i < fields.length; i++) {
      const field = fields[i];
      if (field !== undefined) addNumberToSum(elt, i + 1, smallValue(data, field));
      else addToSum(elt, i + 1, (values[i] as HistField).number(plainContext(record, elt)));
    }
  };
}

function plainContext(record: TraceRecord, elt: TracingMapElt | undefined): HistContext {
  return { record, ts: 0n, varRefVals: [], stack: () => [], elt };
}

function hit(histData: HistData, record: TraceRecord, file: TraceEventFile): void {
  const { tr } = histData.file;
  const { arch } = tr.tracing;
  const varRefVals: HistValue[] = [];
  let stack: readonly bigint[] | undefined;
  const context: Omit<HistContext, 'elt'> = {
    record,
    ts: tr.timeAt(record.ts),
    varRefVals,
    stack: () => {
      stack ??= (record.stack ?? arch.stackTrace?.(record) ?? []).slice(0, HIST_STACKTRACE_DEPTH);
      return stack;
    },
  };
  const key = keyOf(histData, { ...context, elt: undefined });
  if (histData.varRefs.length > 0 && !resolveVarRefs(histData, key, varRefVals, false)) return;
  const elt = histData.map.insert(key, () => commOf(file, record));
  if (elt === undefined) return;
  const inElt: HistContext = { ...context, elt };
  update(histData, elt, inElt);
  if (!resolveVarRefs(histData, key, varRefVals, true)) return;
  for (const action of histData.actions) runAction(histData, action, elt, inElt);
}

/** save_comm() */
function commOf(file: TraceEventFile, record: TraceRecord): string {
  return entryPid(record.data) === 0 ? '<idle>' : commOfCurrent(file);
}

/** The current task's name as an entry keeps it. */
export function commOfCurrent(file: TraceEventFile): string {
  return toByteString(file.tr.tracing.arch.current().comm).slice(0, 15);
}

/** The key's bytes: each field at its offset, filled up to eight bytes. They are there until the hist's next record. */
function keyOf(histData: HistData, context: HistContext): Uint8Array {
  const { bytes: key, view } = histData.keyBuffer();
  key.fill(0);
  for (const field of histData.keys) {
    if (field.has(FL.STACKTRACE)) {
      const addresses = field.field === undefined ? context.stack() : field.value(context);
      for (const [i, address] of (addresses as readonly bigint[]).slice(0, field.size / 8).entries())
        view.setBigUint64(field.offset + 8 * i, address, true);
      continue;
    }
    if (field.has(FL.STRING)) {
      copyString(context.record.data, field, key);
      continue;
    }
    view.setBigUint64(field.offset, BigInt.asUintN(64, field.number(context)), true);
  }
  return key;
}

/** A string's bytes in front of its NUL, or of its end, into the key; the last byte of its place stays 0. */
function copyString(data: Uint8Array, { field, offset, size }: HistField, key: Uint8Array): void {
  const { filterType, offset: at, size: fixed } = field as TraceField;
  const location = filterType === 'static_string' ? undefined : locationOf(data, field as TraceField);
  const start = location?.offset ?? at;
  const length = Math.min(location?.length ?? fixed, size - 1, data.length - start);
  for (let i = 0; i < length && data[start + i] !== 0; i++) key[offset + i] = data[start + i] as number;
}

/** resolve_var_refs(): values of the variables of other hists, then of this one. False where one is not set. */
function resolveVarRefs(histData: HistData, key: Uint8Array, values: HistValue[], self: boolean): boolean {
  for (const [i, ref] of histData.varRefs.entries()) {
    const { varData } = ref;
    if (varData === undefined) return false;
    if (self !== (varData === histData)) continue;
    const elt = varData.map.lookup(key);
    if (elt === undefined || !elt.varSet[ref.varIdx]) return false;
    if (!self && ref.readOnce) elt.varSet[ref.varIdx] = false;
    values[i] = elt.vars[ref.varIdx] ?? 0n;
  }
  return true;
}

function setVar(elt: TracingMapElt, idx: number, value: HistValue): void {
  elt.vars[idx] = value;
  elt.varSet[idx] = true;
}

/** hist_trigger_elt_update() */
function update(histData: HistData, elt: TracingMapElt, context: HistContext): void {
  for (let i = 0; i < histData.nVals; i++) {
    const field = histData.fields[i] as HistField;
    if (field.has(FL.VAR)) setVar(elt, field.varIdx, variableValue(field, context));
    else if (i === 0) elt.hitcount++;
    else addToSum(elt, i, field.number(context));
  }
  updateFieldVars(elt, context, histData.fieldVars);
}

/** What a variable keeps: strings are cut, and a stack is the one at the hit. */
function variableValue(field: HistField, context: HistContext): HistValue {
  if (field.has(FL.ALIAS)) return field.value(context);
  if (field.has(FL.STACKTRACE)) return context.stack();
  const value = field.value(context);
  if (!(value instanceof Uint8Array)) return value;
  return value.slice(0, Math.min(field.size, MAX_FILTER_STR_VAL) - 1);
}

function updateFieldVars(elt: TracingMapElt, context: HistContext, fieldVars: readonly FieldVar[]): void {
  for (const { variable, value } of fieldVars) setVar(elt, variable.varIdx, variableValue(value, context));
}

const stands = {
  onmax: (tracked: bigint, value: bigint): boolean => value > tracked,
  onchange: (tracked: bigint, value: bigint): boolean => value !== tracked,
};

function runAction(histData: HistData, action: HistAction, elt: TracingMapElt, context: HistContext): void {
  const { handler, kind } = action;
  if (handler !== 'onmatch') {
    const value = context.varRefVals[action.varRef?.varRefIdx ?? 0] ?? 0n;
    const number = typeof value === 'bigint' ? value : 1n;
    const idx = action.trackVar?.varIdx ?? 0;
    const tracked = elt.vars[idx];
    if (!stands[handler](typeof tracked === 'bigint' ? tracked : 0n, number)) return;
    setVar(elt, idx, number);
    if (kind === 'save') updateFieldVars(elt, context, histData.saveVars);
    else if (kind === 'snapshot') condSnapshot(histData.file.tr, elt, number, stands[handler]);
  }
  if (kind !== 'trace') return;
  const values = action.varRefIdx.map((idx) => context.varRefVals[idx] ?? 0n);
  const { record } = context;
  action.synthEvent?.trace(values, { ...record, pid: entryPid(record.data) });
}
