/** What a hist does when a variable changes or an event matches: onmatch(), onmax(), onchange() with save(), snapshot(), trace(). */

import { KernelError } from '../../errno.ts';
import { readable } from '../byte-string.ts';
import { strip, Tokens } from '../c-text.ts';
import type { SynthEvent } from '../probe/synth-event.ts';
import type { SynthField } from '../probe/synth-field.ts';
import type { TraceArray } from '../trace-array.ts';
import type { TraceEventFile } from '../trace-event-file.ts';
import { invalid, triggersOf } from '../trigger/trigger-command.ts';
import type { ActionKind, FieldVar, HistAction } from './action-data.ts';
import { disableCondSnapshot, enableCondSnapshot } from './cond-snapshot.ts';
import type { HistData } from './hist-data.ts';
import { type HistErrorName, histError } from './hist-errors.ts';
import { FL, HistField } from './hist-field.ts';
import { exprFieldString, parseAtom } from './hist-parse.ts';
import { createVarRef, findEventVar, findFile, findVar, findVarField, histTriggersOf } from './hist-vars.ts';

const SYNTH_FIELDS_MAX = 64;

function refuse(
  tr: TraceArray,
  error: HistErrorName,
  word?: string,
  message = 'the action is wrong',
): KernelError {
  histError(tr, error, word);
  return invalid(message);
}

/** find_synth_event() */
export function synthEventOf(file: TraceEventFile): SynthEvent | undefined {
  return file.call.system === 'synthetic' ? asSynthEvent(file.call.data) : undefined;
}

function asSynthEvent(data: unknown): SynthEvent | undefined {
  return typeof data === 'object' && data !== null && 'fields' in data && 'trace' in data && 'ref' in data
    ? (data as SynthEvent)
    : undefined;
}

/** parse_actions() */
export function parseActions(histData: HistData): void {
  for (const text of histData.attrs.actions) {
    const open = text.indexOf('(') + 1;
    const handler = text.slice(0, open - 1) as HistAction['handler'];
    const rest = text.slice(open);
    histData.actions.push(
      handler === 'onmatch' ? parseMatch(histData, rest) : parseTrack(histData, handler, rest),
    );
  }
}

function parseMatch(histData: HistData, text: string): HistAction {
  const { tr } = histData.file;
  const tokens = new Tokens(text);
  const inside = tokens.next(')') ?? '';
  if (tokens.rest === undefined) throw refuse(tr, 'NO_CLOSING_PAREN', inside);
  const names = new Tokens(inside);
  const system = names.next('.') ?? '';
  const event = names.rest;
  if (event === undefined) throw refuse(tr, 'SUBSYS_NOT_FOUND', system);
  if (findFile(tr, system, event) === undefined) throw refuse(tr, 'INVALID_SUBSYS_EVENT', event);
  return parseAction(tr, tokens.rest, { handler: 'onmatch', match: { system, event }, varText: undefined });
}

function parseTrack(histData: HistData, handler: 'onmax' | 'onchange', text: string): HistAction {
  const tokens = new Tokens(text);
  const varText = tokens.next(')') ?? '';
  if (tokens.rest === undefined) throw invalid('a parenthesis is not closed');
  return parseAction(histData.file.tr, tokens.rest, { handler, match: undefined, varText });
}

/** action_parse(): `.NAME(PARAMS)`; what stands behind the parenthesis counts for nothing. */
function parseAction(
  tr: TraceArray,
  text: string,
  head: Pick<HistAction, 'handler' | 'match' | 'varText'>,
): HistAction {
  const tokens = new Tokens(text);
  tokens.next('.');
  const name = tokens.rest === undefined ? undefined : tokens.next('(');
  if (name === undefined || tokens.rest === undefined) throw refuse(tr, 'ACTION_NOT_FOUND');
  const inside = tokens.next(')') ?? '';
  let kind: ActionKind = 'trace';
  let params: readonly string[] = [];
  let traceEvent: string | undefined;
  if (name.startsWith('save')) {
    kind = 'save';
    params = parseParams(tr, inside, SYNTH_FIELDS_MAX);
  } else if (name.startsWith('snapshot')) {
    kind = 'snapshot';
    if (tokens.rest === undefined) throw refuse(tr, 'NO_CLOSING_PAREN', inside);
  } else if (name.startsWith('trace')) {
    [traceEvent, ...params] = parseParams(tr, inside, SYNTH_FIELDS_MAX + 1) as [string, ...string[]];
  } else {
    params = parseParams(tr, inside, SYNTH_FIELDS_MAX);
  }
  if (kind !== 'trace' && head.handler === 'onmatch') throw refuse(tr, 'ACTION_MISMATCH', name);
  return {
    ...head,
    kind,
    name,
    params,
    traceEvent,
    varRef: undefined,
    trackVar: undefined,
    synthEvent: undefined,
    varRefIdx: [],
  };
}

function parseParams(tr: TraceArray, text: string, max: number): string[] {
  const params: string[] = [];
  for (const part of text.split(',')) {
    if (params.length >= max) throw refuse(tr, 'TOO_MANY_PARAMS');
    const param = strip(part);
    if (param.length < 2) throw refuse(tr, 'INVALID_PARAM', param);
    params.push(param);
  }
  return params;
}

/** create_actions() */
export function createActions(histData: HistData): void {
  for (const action of histData.actions) {
    if (action.handler !== 'onmatch') trackVariable(histData, action);
    if (action.kind === 'trace') createTraceAction(histData, action);
    else if (action.kind === 'snapshot') enableCondSnapshot(histData, action);
    else createSaveAction(histData, action);
  }
}

/** destroy_actions() */
export function destroyActions(histData: HistData): void {
  for (const action of histData.actions) {
    if (action.synthEvent !== undefined) action.synthEvent.ref--;
    action.synthEvent = undefined;
    if (action.kind === 'snapshot') disableCondSnapshot(histData);
  }
}

/** track_data_create() */
function trackVariable(histData: HistData, action: HistAction): void {
  const { file } = histData;
  const text = action.varText ?? '';
  if (!text.startsWith('$')) throw refuse(file.tr, 'ONX_NOT_VAR', text);
  const variable = findVarField(histData, text.slice(1));
  if (variable === undefined) throw refuse(file.tr, 'ONX_VAR_NOT_FOUND', text.slice(1));
  action.varRef = createVarRef(histData, variable);
  if (action.varRef === undefined) throw new KernelError('ENOMEM', 'there are too many references');
  action.trackVar = createVar(histData, action.handler === 'onmax' ? '__max' : '__change', 8, 'u64');
  if (action.trackVar === undefined) throw refuse(file.tr, 'ONX_VAR_CREATE_FAIL');
}

/** create_var(): a variable that is no field of the hist; undefined where the name is taken or there are too many. */
function createVar(histData: HistData, name: string, size: number, type: string): HistField | undefined {
  if (findVar(histData, histData.file, name) !== undefined && !histData.remove) return undefined;
  const idx = histData.map.addVar();
  if (idx === undefined) return undefined;
  const variable = new HistField(histData);
  variable.flags = FL.VAR;
  variable.varIdx = idx;
  variable.varData = histData;
  variable.varName = name;
  variable.size = size;
  variable.type = type;
  return variable;
}

/** create_field_var(). Refuses with what the field's parser does, or EINVAL. */
function createFieldVar(histData: HistData, name: string): FieldVar {
  const { file } = histData;
  if (histData.fieldVars.length >= SYNTH_FIELDS_MAX) throw refuse(file.tr, 'TOO_MANY_FIELD_VARS', name);
  let value: HistField;
  try {
    value = parseAtom(histData, file, name, FL.VAR, undefined);
  } catch (error) {
    histError(file.tr, 'FIELD_VAR_PARSE_FAIL', name);
    throw error;
  }
  const variable = createVar(histData, name, value.size, value.type);
  if (variable === undefined) throw refuse(file.tr, 'VAR_CREATE_FIND_FAIL', name);
  variable.flags |= value.flags & FL.STACKTRACE;
  return { variable, value };
}

function createSaveAction(histData: HistData, action: HistAction): void {
  const { tr } = histData.file;
  if (histData.saveVars.length > 0) {
    histError(tr, 'TOO_MANY_SAVE_ACTIONS');
    throw new KernelError('EEXIST', 'the hist has a save() action');
  }
  for (const param of action.params) {
    try {
      histData.saveVars.push(createFieldVar(histData, param));
    } catch (error) {
      histError(tr, 'FIELD_VAR_CREATE_FAIL', param);
      throw error;
    }
  }
}

/** trace_action_create() */
function createTraceAction(histData: HistData, action: HistAction): void {
  const { tr } = histData.file;
  const name = action.traceEvent ?? action.name;
  const event = asSynthEvent(tr.tracing.events.byName('synthetic', readable(name))?.data);
  if (event === undefined) throw refuse(tr, 'SYNTH_EVENT_NOT_FOUND', name);
  event.ref++;
  try {
    for (const [i, param] of action.params.entries()) addParam(histData, action, event.fields[i], param);
    if (action.params.length !== event.fields.length)
      throw refuse(tr, 'SYNTH_COUNT_MISMATCH', event.name, 'the synthetic event has more fields');
  } catch (error) {
    event.ref--;
    throw error;
  }
  action.synthEvent = event;
}

function addParam(histData: HistData, action: HistAction, field: SynthField | undefined, text: string): void {
  const tokens = new Tokens(text);
  const first = tokens.next('.') ?? '';
  let param = first;
  let system: string | undefined;
  let event: string | undefined;
  if (tokens.rest !== undefined) {
    system = first;
    event = tokens.next('.');
    if (tokens.rest === undefined) throw invalid('the parameter names a subsystem, but no field');
    param = tokens.rest;
  }
  const found = param.startsWith('$')
    ? findParamVar(histData, action, system, event, param.slice(1))
    : createParamVar(histData, action, system, event, param);
  if (found === undefined) throw invalid('the parameter cannot be had');
  if (!fitsSynthField(field, found)) throw refuse(histData.file.tr, 'SYNTH_TYPE_MISMATCH', param);
  const ref = createVarRef(histData, found, system, event);
  if (ref === undefined) throw new KernelError('ENOMEM', 'there are too many references');
  action.varRefIdx.push(ref.varRefIdx);
}

/** find_target_event_var(): whether names stand for the hist's own event. */
function isOwnEvent(histData: HistData, system: string | undefined, event: string | undefined): boolean {
  const { call } = histData.file;
  return (
    system === undefined ||
    (readable(system) === call.system && event !== undefined && readable(event) === call.name)
  );
}

function findParamVar(
  histData: HistData,
  action: HistAction,
  system: string | undefined,
  event: string | undefined,
  name: string,
): HistField | undefined {
  let found = isOwnEvent(histData, system, event) ? findVarField(histData, name) : undefined;
  if (found === undefined) {
    const other = system === undefined ? action.match : undefined;
    found = findEventVar(histData, other?.system ?? system, other?.event ?? event, name);
  }
  if (found === undefined) histError(histData.file.tr, 'PARAM_NOT_FOUND', name);
  return found;
}

/** trace_action_create_field_var(): a field of the hist's own event, else of the one that onmatch() names. */
function createParamVar(
  histData: HistData,
  action: HistAction,
  system: string | undefined,
  event: string | undefined,
  name: string,
): HistField | undefined {
  if (isOwnEvent(histData, system, event)) {
    try {
      const made = createFieldVar(histData, name);
      histData.fieldVars.push(made);
      return made.variable;
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
    }
  }
  const other = system === undefined ? action.match : undefined;
  const from = { system: other?.system ?? system, event: other?.event ?? event };
  if (from.system === undefined || from.event === undefined) return undefined;
  return createFieldVarHist(histData, from.system, from.event, name);
}

/** Runs a hist command without a new context for messages; set by hist-command.ts, which imports this file. */
let runHist: (file: TraceEventFile, text: string) => void = () => {};
export function onRunHist(run: typeof runHist): void {
  runHist = run;
}

/** create_field_var_hist(): a hist on another event with the same keys and a variable for its field. */
function createFieldVarHist(
  target: HistData,
  system: string,
  event: string,
  name: string,
): HistField | undefined {
  const { tr } = target.file;
  const report = (error: HistErrorName): undefined => {
    histError(tr, error, name);
    return undefined;
  };
  if (target.fieldVarHists.length >= SYNTH_FIELDS_MAX) return report('TOO_MANY_FIELD_VARS');
  const file = findFile(tr, system, event);
  if (file === undefined) return report('EVENT_FILE_NOT_FOUND');
  const compatible = histTriggersOf(file).find((trigger) => compatibleKeys(target, trigger.histData));
  if (compatible === undefined) return report('HIST_NOT_FOUND');
  const varName = `synthetic_${name}`;
  const known = findEventVar(target, system, event, varName);
  if (known !== undefined) return known;
  const keys = compatible.histData.keys.map(exprFieldString).join(',');
  const own = triggersOf(file).find((trigger) => trigger === compatible)?.filterText;
  const command = `keys=${keys}:${varName}=${name}${own === undefined ? '' : ` if ${own}`}`;
  try {
    runHist(file, command);
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    return report('HIST_CREATE_FAIL');
  }
  target.fieldVarHists.push({ file, command });
  return findEventVar(target, system, event, varName) ?? report('SYNTH_VAR_NOT_FOUND');
}

function compatibleKeys(target: HistData, other: HistData): boolean {
  const [a, b] = [target.keys, other.keys];
  return (
    a.length === b.length &&
    a.every((key, i) => {
      const test = b[i] as HistField;
      return key.type === test.type && key.size === test.size && key.isSigned === test.isSigned;
    })
  );
}

/** check_synth_field() */
function fitsSynthField(field: SynthField | undefined, from: HistField): boolean {
  if (field === undefined) return false;
  if (from.type.includes('char[') && field.kind === 'string' && field.isDynamic) return true;
  if (from.has(FL.STACKTRACE) !== (field.kind === 'stack')) return false;
  if (field.kind === 'stack' || field.type === from.type) return true;
  return field.size === from.size && (field.kind === 'string' || field.isSigned === from.isSigned);
}

/** actions_match() */
export function actionsMatch(a: HistData, b: HistData): boolean {
  return (
    a.actions.length === b.actions.length &&
    a.actions.every((action, i) => {
      const test = b.actions[i] as HistAction;
      return (
        action.handler === test.handler &&
        action.kind === test.kind &&
        action.params.join() === test.params.join() &&
        (action.traceEvent ?? action.name) === (test.traceEvent ?? test.name) &&
        action.match?.system === test.match?.system &&
        action.match?.event === test.match?.event &&
        action.varText === test.varText
      );
    })
  );
}
