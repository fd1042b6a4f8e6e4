/** A hist as it was asked for (`struct hist_trigger_data`): create_hist_data() of kernel/trace/trace_events_hist.c. */

import { KernelError } from '../../errno.ts';
import { readable } from '../byte-string.ts';
import { Tokens } from '../c-text.ts';
import { isStringField } from '../filter/generic-fields.ts';
import { MAX_FILTER_STR_VAL } from '../filter/parse-predicate.ts';
import { clockInNs } from '../trace-clock.ts';
import type { TraceEventFile } from '../trace-event-file.ts';
import { invalid } from '../trigger/trigger-command.ts';
import type { FieldVar, HistAction } from './action-data.ts';
import type { HistAttrs } from './hist-attrs.ts';
import { histError } from './hist-errors.ts';
import { createHistField, FL, HIST_STACKTRACE_SIZE, type HistField } from './hist-field.ts';
import { leftmostOperand, parseExpr } from './hist-parse.ts';
import { findVar } from './hist-vars.ts';
import {
  compareBytes,
  compareNumbers,
  type SortKey,
  TRACING_MAP_BITS_DEFAULT,
  TRACING_MAP_KEYS_MAX,
  TRACING_MAP_SORT_KEYS_MAX,
  TRACING_MAP_VALS_MAX,
  TRACING_MAP_VARS_MAX,
  TracingMap,
} from './tracing-map.ts';

const HIST_KEY_SIZE_MAX = MAX_FILTER_STR_VAL + HIST_STACKTRACE_SIZE;

/** A variable of the command: `NAME=EXPR`. */
interface VarDef {
  readonly name: string;
  expr: string;
}

export class HistData {
  readonly file: TraceEventFile;
  readonly attrs: HistAttrs;
  /** The command removes a hist: its variables may exist. */
  readonly remove: boolean;
  /** Hitcount and values, then variables, then keys. */
  readonly fields: HistField[] = [];
  /** Fields that are no keys. */
  nVals = 0;
  nVars = 0;
  keySize = 0;
  sortKeys: SortKey[] = [{ fieldIdx: 0, descending: false }];
  enableTimestamps = false;
  readonly varRefs: HistField[] = [];
  readonly actions: HistAction[] = [];
  /** Variables made of fields for actions' parameters, and those of save(). */
  readonly fieldVars: FieldVar[] = [];
  readonly saveVars: FieldVar[] = [];
  /** Hists on other events, made for parameters that are their fields. */
  readonly fieldVarHists: { readonly file: TraceEventFile; readonly command: string }[] = [];
  /** While the command is parsed. */
  varDefs: VarDef[] = [];
  map: TracingMap;

  constructor(file: TraceEventFile, attrs: HistAttrs, remove: boolean) {
    this.file = file;
    this.attrs = attrs;
    this.remove = remove;
    this.map = new TracingMap(attrs.mapBits ?? TRACING_MAP_BITS_DEFAULT, 0);
  }

  #keys: readonly HistField[] | undefined;

  /** To be asked for when all fields are there. */
  get keys(): readonly HistField[] {
    this.#keys ??= this.fields.slice(this.nVals);
    return this.#keys;
  }

  #keyBuffer: { readonly bytes: Uint8Array; readonly view: DataView } | undefined;

  /** Where the key of a record is put together. */
  keyBuffer(): { readonly bytes: Uint8Array; readonly view: DataView } {
    if (this.#keyBuffer === undefined) {
      const bytes = new Uint8Array(this.keySize);
      this.#keyBuffer = { bytes, view: new DataView(bytes.buffer) };
    }
    return this.#keyBuffer;
  }

  /** hist_field_timestamp() */
  timestamp(ts: bigint): bigint {
    return this.attrs.tsInUsecs && clockInNs(this.file.tr.clock) ? ts / 1000n : ts;
  }
}

/** create_hist_fields(), create_sort_keys(), create_tracing_map_fields(): everything but the actions. */
export function createHistFields(histData: HistData): void {
  parseVarDefs(histData);
  try {
    createValFields(histData);
    createVarFields(histData);
    createKeyFields(histData);
  } finally {
    histData.varDefs = [];
  }
  createSortKeys(histData);
  histData.map = new TracingMap(histData.attrs.mapBits ?? TRACING_MAP_BITS_DEFAULT, histData.keySize);
  createMapFields(histData);
}

function parseVarDefs(histData: HistData): void {
  const { tr } = histData.file;
  for (const assignment of histData.attrs.assignments) {
    for (const text of assignment.split(',').slice(0, TRACING_MAP_VARS_MAX)) {
      const tokens = new Tokens(text);
      const name = tokens.next('=') ?? '';
      if (tokens.rest === undefined) {
        histError(tr, 'MALFORMED_ASSIGNMENT', name);
        throw invalid('an assignment needs a value');
      }
      if (histData.varDefs.length === TRACING_MAP_VARS_MAX) {
        histError(tr, 'TOO_MANY_VARS', name);
        throw invalid('there are too many variables');
      }
      histData.varDefs.push({ name, expr: tokens.rest });
    }
  }
}

function createValFields(histData: HistData): void {
  const { file, attrs } = histData;
  addVal(histData, createHistField(histData, undefined, FL.HITCOUNT) as HistField);
  let vals = 1;
  let failed = false;
  try {
    const tokens = new Tokens(attrs.vals);
    let hitcounts = 0;
    for (
      let i = 0;
      attrs.vals !== undefined && i < TRACING_MAP_VALS_MAX && vals < TRACING_MAP_VALS_MAX;
      i++
    ) {
      const text = tokens.next(',');
      if (text === undefined) break;
      if (text === 'hitcount' && hitcounts++ === 0) continue;
      vals++;
      createValField(histData, file, undefined, text, 0);
    }
    if (tokens.rest !== undefined && tokens.rest !== 'hitcount') throw invalid('there are too many values');
  } catch (error) {
    failed = true;
    if (vals === 1 && attrs.noHitcount) throw needsValue(histData);
    throw error;
  }
  if (!failed && vals === 1 && attrs.noHitcount) throw needsValue(histData);
}

function needsValue(histData: HistData): KernelError {
  histError(histData.file.tr, 'NEED_NOHC_VAL');
  return new KernelError('ENOENT', 'without the hitcount there is no value');
}

function addVal(histData: HistData, field: HistField): void {
  histData.fields.push(field);
  histData.nVals++;
}

/** __create_val_field() */
function createValField(
  histData: HistData,
  file: TraceEventFile,
  varName: string | undefined,
  text: string,
  flags: number,
): HistField {
  const field = parseExpr(histData, file, text, flags, varName, { count: 0 });
  const bad = field.has(FL.VAR)
    ? FL.GRAPH | FL.PERCENT | FL.BUCKET | FL.LOG2
    : FL.BUCKET | FL.LOG2 | FL.SYM | FL.SYM_OFFSET | FL.SYSCALL | FL.STACKTRACE;
  if (field.has(bad)) {
    histError(file.tr, 'BAD_FIELD_MODIFIER', text);
    throw invalid('the modifier is for keys');
  }
  addVal(histData, field);
  return field;
}

function createVarFields(histData: HistData): void {
  const { file } = histData;
  for (const def of histData.varDefs) {
    const { name, expr } = def;
    // The kernel splits an expression where it stands: what looks the variable up from here on finds the leftmost operand.
    def.expr = leftmostOperand(expr);
    if (findVar(histData, file, name) !== undefined && !histData.remove) {
      histError(file.tr, 'DUPLICATE_VAR', name);
      throw invalid(`the variable ${readable(name)} exists`);
    }
    histData.nVars++;
    const field = createValField(histData, file, name, expr, FL.VAR);
    if (!field.has(FL.EXECNAME)) continue;
    // A variable of common_pid.execname is the name, not the number.
    field.flags = FL.STRING | FL.VAR | FL.EXECNAME;
    field.size = MAX_FILTER_STR_VAL;
    field.isSigned = false;
    field.type = 'char[]';
    field.fn = 'execname';
  }
}

function createKeyFields(histData: HistData): void {
  const texts = histData.attrs.keys.split(',');
  for (const text of texts.slice(0, TRACING_MAP_KEYS_MAX)) createKeyField(histData, text);
  if (texts.length > TRACING_MAP_KEYS_MAX) throw invalid('there are too many keys');
}

function createKeyField(histData: HistData, text: string): void {
  const { file } = histData;
  let field: HistField;
  if (text === 'stacktrace') {
    field = createHistField(histData, undefined, FL.KEY | FL.STACKTRACE) as HistField;
  } else {
    field = parseExpr(histData, file, text, FL.KEY, undefined, { count: 0 });
    if (field.hasVars()) {
      histError(file.tr, 'INVALID_REF_KEY', text);
      throw invalid('a variable is no key');
    }
  }
  field.size = (field.size + 7) & ~7;
  field.offset = histData.keySize;
  histData.keySize += field.size;
  if (histData.keySize > HIST_KEY_SIZE_MAX) throw invalid('the key is too large');
  histData.fields.push(field);
}

/** is_descending() */
function isDescending(histData: HistData, text: string | undefined): boolean {
  if (text === undefined || text === 'ascending') return false;
  if (text === 'descending') return true;
  histError(histData.file.tr, 'INVALID_SORT_MODIFIER', text);
  throw invalid('the order is ascending or descending');
}

function createSortKeys(histData: HistData): void {
  const { tr } = histData.file;
  const { sort } = histData.attrs;
  if (sort === undefined) return;
  const keys: SortKey[] = [];
  const tokens = new Tokens(sort);
  for (let i = 0; i < TRACING_MAP_SORT_KEYS_MAX; i++) {
    const text = tokens.next(',');
    if (text === undefined) break;
    const parts = new Tokens(text);
    if (text !== '' && i === TRACING_MAP_SORT_KEYS_MAX - 1 && tokens.rest !== undefined) {
      histError(tr, 'TOO_MANY_SORT_FIELDS', 'sort=');
      throw invalid('there are too many sort keys');
    }
    const name = parts.next('.');
    if (name === undefined || name === '') {
      histError(tr, 'EMPTY_SORT_FIELD', 'sort=');
      throw invalid('a sort key is empty');
    }
    const fieldIdx = name === 'hitcount' ? 0 : sortFieldIdx(histData, name);
    keys.push({ fieldIdx, descending: isDescending(histData, parts.rest) });
  }
  histData.sortKeys = keys;
}

function sortFieldIdx(histData: HistData, name: string): number {
  const shown = histData.fields.filter((field) => !field.has(FL.VAR));
  const idx = shown.findIndex((field, i) => i > 0 && field.displayName() === readable(name));
  if (idx > 0) return idx;
  histError(histData.file.tr, 'INVALID_SORT_FIELD', name);
  throw invalid('a sort key is a key or a value');
}

/** create_tracing_map_fields() */
function createMapFields(histData: HistData): void {
  const { map } = histData;
  for (const field of histData.fields) {
    if (field.has(FL.KEY)) map.fields.push({ kind: 'key', compare: keyComparison(field) });
    else if (!field.has(FL.VAR)) map.fields.push({ kind: 'sum' });
    if (!field.has(FL.VAR)) continue;
    const idx = map.addVar();
    if (idx === undefined) throw invalid('there are too many variables');
    field.varIdx = idx;
    field.varData = histData;
  }
}

function keyComparison(key: HistField): (a: Uint8Array, b: Uint8Array) => number {
  const { offset, field } = key;
  if (key.has(FL.STACKTRACE)) return () => 0;
  if (field !== undefined && !key.has(FL.CPU) && isStringField(field))
    return (a, b) => compareStrings(a, b, offset, key.size);
  const size = field === undefined || key.has(FL.CPU) ? key.size : field.size;
  const signed = field === undefined || key.has(FL.CPU) ? key.isSigned : field.isSigned;
  if (![1, 2, 4, 8].includes(size)) return () => 0;
  const read = (bytes: Uint8Array): bigint => {
    const value = keyNumber(bytes, offset);
    return signed ? BigInt.asIntN(8 * size, value) : BigInt.asUintN(8 * size, value);
  };
  return (a, b) => compareNumbers(read(a), read(b));
}

function compareStrings(a: Uint8Array, b: Uint8Array, offset: number, size: number): number {
  return compareBytes(a.subarray(offset, offset + size), b.subarray(offset, offset + size));
}

export function keyNumber(key: Uint8Array, offset: number): bigint {
  return new DataView(key.buffer, key.byteOffset, key.byteLength).getBigUint64(offset, true);
}
