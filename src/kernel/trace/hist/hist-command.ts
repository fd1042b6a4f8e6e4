/** The command `hist` (event_hist_trigger_parse() and its register functions, kernel/trace/trace_events_hist.c). */

import { KernelError } from '../../errno.ts';
import { strip } from '../c-text.ts';
import type { TraceEventFile } from '../trace-event-file.ts';
import type { Tracing } from '../tracing.ts';
import {
  addTrigger,
  invalid,
  removeTrigger,
  setTriggerFilter,
  type TriggerCommand,
} from '../trigger/trigger-command.ts';
import {
  actionsMatch,
  createActions,
  destroyActions,
  onRunHist,
  parseActions,
  synthEventOf,
} from './hist-actions.ts';
import { parseHistAttrs } from './hist-attrs.ts';
import { createHistFields, HistData } from './hist-data.ts';
import { clearLastCommand, histError, setLastCommand } from './hist-errors.ts';
import type { HistField } from './hist-field.ts';
import { HistTrigger } from './hist-trigger.ts';
import { checkVarRefs, histTriggersOf, removeHistVars, saveHistVars } from './hist-vars.ts';

export { showHists } from './hist-show.ts';

/** Hists that have a name, of all instances; the latest first. */
const namedTriggers = new WeakMap<Tracing, HistTrigger[]>();

function namedOf(tracing: Tracing): HistTrigger[] {
  const list = namedTriggers.get(tracing) ?? [];
  namedTriggers.set(tracing, list);
  return list;
}

/** find_named_trigger(): the one whose table the others of the name share. */
function findNamed(tracing: Tracing, name: string | undefined): HistTrigger | undefined {
  if (name === undefined) return undefined;
  return namedOf(tracing).find((trigger) => trigger.namedData === undefined && trigger.histName === name);
}

function saveNamed(tracing: Tracing, name: string, trigger: HistTrigger): void {
  trigger.histName = name;
  namedOf(tracing).unshift(trigger);
}

function deleteNamed(tracing: Tracing, trigger: HistTrigger): void {
  const list = namedOf(tracing);
  const at = list.indexOf(trigger);
  if (at >= 0) list.splice(at, 1);
}

/** What stands in front of ` if ` and what from there on. */
function splitFilter(text: string): { param: string; filter: string | undefined } {
  const isBlank = (char: string | undefined): boolean => char === ' ' || char === '\t';
  for (let at = text.indexOf('if'); at >= 0; at = text.indexOf('if', at + 1)) {
    if (at === 0) throw invalid('a hist begins with its keys');
    if (!isBlank(text[at - 1])) continue;
    if (at >= text.length - 3) throw invalid('the filter is missing');
    if (!isBlank(text[at + 2])) continue;
    return { param: strip(text.slice(0, at - 1)), filter: strip(text.slice(at)) };
  }
  return { param: text, filter: undefined };
}

/** A command that another hist asked for has no context of its own for messages. */
function runHist(file: TraceEventFile, remove: boolean, text: string | undefined, nested: boolean): void {
  const { tr } = file;
  if (!nested) {
    clearLastCommand(tr.tracing);
    if (text !== undefined) setLastCommand(file, text);
  }
  if (text === undefined) throw invalid('a hist needs parameters');
  const { param, filter } = splitFilter(text);
  const attrs = parseHistAttrs(tr, param.replaceAll('.sym-offset', '.symXoffset'));
  const histData = new HistData(file, attrs, remove);
  parseActions(histData);
  createHistFields(histData);
  const trigger = new HistTrigger(histData, released);
  let kept = false;
  try {
    setTriggerFilter(file, filter, trigger);
    if (remove) removeHist(file, trigger);
    else if (!updateExisting(file, trigger)) {
      createActions(histData);
      if (histData.varRefs.length > 0 || histData.fields.some((field) => field.hasVars()))
        saveHistVars(histData);
      kept = register(file, trigger);
    }
  } finally {
    if (!kept) destroy(histData);
  }
  if (!nested) clearLastCommand(tr.tracing);
}

function removeHist(file: TraceEventFile, trigger: HistTrigger): void {
  const found = findMatch(file, trigger);
  if (found === undefined) return;
  if (checkVarRefs(found.histData)) throw new KernelError('EBUSY', 'another hist refers to its variables');
  removeTrigger(file, found);
  const synth = synthEventOf(file);
  if (synth !== undefined) synth.ref--;
}

/** What a hist that goes gives back. */
function destroy(histData: HistData): void {
  removeHistVars(histData);
  for (const { file, command } of histData.fieldVarHists.splice(0)) {
    try {
      runHist(file, true, command, false);
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
    }
  }
  destroyActions(histData);
}

/** event_hist_trigger_free(), and that of named hists. */
function released(trigger: HistTrigger): void {
  const { tracing } = trigger.histData.file.tr;
  const first = trigger.namedData;
  if (first !== undefined) released(first);
  if (--trigger.ref > 0) return;
  deleteNamed(tracing, trigger);
  if (first === undefined) destroy(trigger.histData);
}

/** have_hist_trigger_match() */
function findMatch(file: TraceEventFile, trigger: HistTrigger): HistTrigger | undefined {
  const named = findNamed(file.tr.tracing, trigger.histData.attrs.name);
  return histTriggersOf(file).find((test) => matches(trigger, test, named, false));
}

/** hist_trigger_match() */
function matches(
  trigger: HistTrigger,
  test: HistTrigger,
  named: HistTrigger | undefined,
  ignoreFilter: boolean,
): boolean {
  if (named !== undefined && named !== test && named !== test.namedData) return false;
  if (named === undefined && namedOf(test.histData.file.tr.tracing).includes(test)) return false;
  const [a, b] = [trigger.histData, test.histData];
  if (a.nVals !== b.nVals || a.fields.length !== b.fields.length || a.sortKeys.length !== b.sortKeys.length)
    return false;
  return (
    a.fields.every((field, i) => fieldsMatch(field, b.fields[i] as HistField)) &&
    a.sortKeys.every((key, i) => {
      const other = b.sortKeys[i];
      return key.fieldIdx === other?.fieldIdx && key.descending === other.descending;
    }) &&
    (ignoreFilter || trigger.filterText === test.filterText) &&
    actionsMatch(a, b)
  );
}

function fieldsMatch(a: HistField, b: HistField): boolean {
  const [f, g] = [a.field, b.field];
  const sameField =
    f === g ||
    (f !== undefined &&
      g !== undefined &&
      f.name === g.name &&
      f.type === g.type &&
      f.size === g.size &&
      f.isSigned === g.isSigned);
  return (
    sameField &&
    a.flags === b.flags &&
    a.offset === b.offset &&
    a.size === b.size &&
    a.isSigned === b.isSigned &&
    a.varName === b.varName
  );
}

/** existing_hist_update_only(): pause, continue and clear of a hist that is there. */
function updateExisting(file: TraceEventFile, trigger: HistTrigger): boolean {
  const { attrs } = trigger.histData;
  if (!attrs.pause && !attrs.cont && !attrs.clear) return false;
  const named = findNamed(file.tr.tracing, attrs.name);
  if (attrs.name !== undefined && (named === undefined || !matches(trigger, named, named, true)))
    return false;
  const test = histTriggersOf(file).find((one) => matches(trigger, one, named, false));
  if (test === undefined) return false;
  if (attrs.pause) test.paused = true;
  else if (attrs.cont) test.paused = false;
  else test.histData.map.clear();
  file.call.consumersChanged();
  return true;
}

/** hist_register_trigger() and hist_trigger_enable(). False where the hist shares the table of another of its name. */
function register(file: TraceEventFile, trigger: HistTrigger): boolean {
  const { tr } = file;
  const { histData } = trigger;
  const { attrs } = histData;
  const named = findNamed(tr.tracing, attrs.name);
  if (named !== undefined && !matches(trigger, named, named, true)) {
    histError(tr, 'NAMED_MISMATCH', attrs.name);
    throw invalid('the hist of this name is another one');
  }
  const exists = attrs.name === undefined || named !== undefined;
  if (exists && histTriggersOf(file).some((test) => matches(trigger, test, named, false))) {
    histError(tr, 'TRIGGER_EEXIST');
    throw new KernelError('EEXIST', 'the event has such a hist');
  }
  if (attrs.cont || attrs.clear) {
    histError(tr, 'TRIGGER_ENOENT_CLEAR');
    throw new KernelError('ENOENT', 'there is no such hist');
  }
  trigger.paused = attrs.pause;
  if (histData.enableTimestamps) setClock(file, attrs.clock);
  if (named !== undefined) {
    trigger.histData = named.histData;
    trigger.namedData = named;
    named.ref++;
  }
  trigger.ref++;
  if (attrs.name !== undefined) saveNamed(tr.tracing, attrs.name, trigger);
  try {
    addTrigger(file, trigger, true);
  } catch (error) {
    if (named !== undefined) named.ref--;
    deleteNamed(tr.tracing, trigger);
    throw error;
  }
  trigger.attached(file);
  const synth = synthEventOf(file);
  if (synth !== undefined) synth.ref++;
  return named === undefined;
}

/** Times of different hists can be compared when they are of the same clock. */
function setClock(file: TraceEventFile, clock: string): void {
  const { tr } = file;
  if (tr.clock === clock) return;
  try {
    tr.setClock(clock);
  } catch (error) {
    histError(tr, 'SET_CLOCK_FAIL', clock);
    throw error;
  }
}

onRunHist((file, text) => runHist(file, false, text, true));

export const HIST_COMMAND: TriggerCommand = {
  name: 'hist',
  parse: (file, remove, param) => runHist(file, remove, param, false),
  unregAll(file) {
    const triggers = histTriggersOf(file);
    // One variable that others need keeps all.
    if (triggers.some(({ histData }) => checkVarRefs(histData))) return;
    for (const trigger of triggers) {
      removeTrigger(file, trigger);
      const synth = synthEventOf(file);
      if (synth !== undefined) synth.ref--;
    }
  },
};
