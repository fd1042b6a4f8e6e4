/** Variables of hists: who has them, and who refers to them (find_*var*() of kernel/trace/trace_events_hist.c). */
import { readable } from '../byte-string.ts';
import { canEnable } from '../event-control-files.ts';
import type { TraceArray } from '../trace-array.ts';
import type { TraceEventFile } from '../trace-event-file.ts';
import { triggersOf } from '../trigger/trigger-command.ts';
import type { HistData } from './hist-data.ts';
import { histError } from './hist-errors.ts';
import { createHistField, FL, type HistField } from './hist-field.ts';
import { HistTrigger } from './hist-trigger.ts';
import { TRACING_MAP_VARS_MAX } from './tracing-map.ts';

/** Hists with variables, or references to them; the latest first (tr->hist_vars). They keep their instance. */
const histVars = new WeakMap<TraceArray, HistData[]>();

export function histTriggersOf(file: TraceEventFile): HistTrigger[] {
  return triggersOf(file).filter((trigger) => trigger instanceof HistTrigger);
}

/** save_hist_vars() */
export function saveHistVars(histData: HistData): void {
  const { tr } = histData.file;
  const list = histVars.get(tr) ?? [];
  histVars.set(tr, list);
  if (list.includes(histData)) return;
  list.unshift(histData);
  tr.references++;
}

/** remove_hist_vars() */
export function removeHistVars(histData: HistData): void {
  const { tr } = histData.file;
  const list = histVars.get(tr) ?? [];
  const at = list.indexOf(histData);
  if (at < 0 || checkVarRefs(histData)) return;
  list.splice(at, 1);
  tr.references--;
}

/** check_var_refs(): whether another hist refers to a variable of this one. */
export function checkVarRefs(histData: HistData): boolean {
  const others = (histVars.get(histData.file.tr) ?? []).filter((other) => other !== histData);
  return histData.fields.some(
    (field) =>
      field.has(FL.VAR) &&
      others.some(({ varRefs }) =>
        varRefs.some((ref) => ref.varIdx === field.varIdx && ref.varData === histData),
      ),
  );
}

/** find_var_field() */
export function findVarField(histData: HistData, name: string): HistField | undefined {
  return histData.fields.find((field) => field.has(FL.VAR) && field.varName === name);
}

/** find_file_var() */
export function findFileVar(file: TraceEventFile, name: string): HistField | undefined {
  for (const { histData } of histTriggersOf(file)) {
    const field = findVarField(histData, name);
    if (field !== undefined) return field;
  }
  return undefined;
}

/** find_var(): in the hist itself, then in all of an event. */
export function findVar(histData: HistData, file: TraceEventFile, name: string): HistField | undefined {
  return findVarField(histData, name) ?? findFileVar(file, name);
}

/** __find_event_file() */
export function findFile(tr: TraceArray, system: string, event: string): TraceEventFile | undefined {
  return tr.file(readable(system), readable(event));
}

/** find_var_file(): the event that has the variable; undefined, and logged, where several have. */
function findVarFile(
  tr: TraceArray,
  system: string | undefined,
  event: string | undefined,
  name: string,
): TraceEventFile | undefined {
  if (system !== undefined) {
    const file = findFile(tr, system, event ?? '');
    return file !== undefined && canEnable(file.call) ? file : undefined;
  }
  let found: TraceEventFile | undefined;
  for (const histData of histVars.get(tr) ?? []) {
    if (histData.file === found || findVarField(histData, name) === undefined) continue;
    if (found !== undefined) {
      histError(tr, 'VAR_NOT_UNIQUE', name);
      return undefined;
    }
    found = histData.file;
  }
  return found;
}

/** find_match_var(): on the events that the hist's onmatch() actions name. `ambiguous` is logged. */
function findMatchVar(histData: HistData, name: string): HistField | 'ambiguous' | undefined {
  const { tr } = histData.file;
  let found: HistField | undefined;
  for (const { match } of histData.actions) {
    if (match === undefined) continue;
    const file = findVarFile(tr, match.system, match.event, name);
    const field = file === undefined ? undefined : findFileVar(file, name);
    if (field === undefined) continue;
    if (found !== undefined) {
      histError(tr, 'VAR_NOT_UNIQUE', name);
      return 'ambiguous';
    }
    found = field;
  }
  return found;
}

/** find_event_var() */
export function findEventVar(
  histData: HistData,
  system: string | undefined,
  event: string | undefined,
  name: string,
): HistField | undefined {
  if (system === undefined || event === undefined) {
    const field = findMatchVar(histData, name);
    if (field === 'ambiguous') return undefined;
    if (field !== undefined) return field;
  }
  const file = findVarFile(histData.file.tr, system, event, name);
  return file === undefined ? undefined : findFileVar(file, name);
}

/** init_var_ref() */
export function initVarRef(
  ref: HistField,
  variable: HistField,
  system: string | undefined,
  event: string | undefined,
): void {
  ref.varIdx = variable.varIdx;
  ref.varData = variable.histData;
  ref.size = variable.size;
  ref.isSigned = variable.isSigned;
  ref.flags |= variable.flags & (FL.TIMESTAMP | FL.TIMESTAMP_USECS | FL.STACKTRACE);
  ref.system = system;
  ref.eventName = event;
  ref.name = variable.varName ?? variable.name;
  ref.type = variable.type;
}

/** create_var_ref(): one reference a variable; undefined when there are too many. */
export function createVarRef(
  histData: HistData,
  variable: HistField,
  system?: string,
  event?: string,
): HistField | undefined {
  const known = histData.varRefs.find(
    (ref) => ref.varIdx === variable.varIdx && ref.varData === variable.histData,
  );
  if (known !== undefined) return known;
  if (histData.varRefs.length >= TRACING_MAP_VARS_MAX) return undefined;
  const ref = createHistField(variable.histData, undefined, FL.VAR_REF);
  if (ref === undefined) return undefined;
  initVarRef(ref, variable, system, event);
  ref.varRefIdx = histData.varRefs.length;
  histData.varRefs.push(ref);
  return ref;
}
