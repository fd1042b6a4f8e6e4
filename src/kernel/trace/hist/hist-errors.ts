import { readable, toByteString } from '../byte-string.ts';
import type { TraceArray } from '../trace-array.ts';
import type { TraceEventFile } from '../trace-event-file.ts';
import type { Tracing } from '../tracing.ts';

/** HIST_ERR_* with their texts (kernel/trace/trace_events_hist.c). */
const HIST_ERRORS = {
  DUPLICATE_VAR: 'Variable already defined',
  VAR_NOT_UNIQUE:
    'Variable name not unique, need to use fully qualified name (subsys.event.var) for variable',
  TOO_MANY_VARS: 'Too many variables defined',
  MALFORMED_ASSIGNMENT: 'Malformed assignment',
  NAMED_MISMATCH: "Named hist trigger doesn't match existing named trigger (includes variables)",
  TRIGGER_EEXIST: 'Hist trigger already exists',
  TRIGGER_ENOENT_CLEAR: "Can't clear or continue a nonexistent hist trigger",
  SET_CLOCK_FAIL: "Couldn't set trace_clock",
  BAD_FIELD_MODIFIER: 'Invalid field modifier',
  TOO_MANY_SUBEXPR: 'Too many subexpressions (3 max)',
  TIMESTAMP_MISMATCH: "Timestamp units in expression don't match",
  TOO_MANY_FIELD_VARS: 'Too many field variables defined',
  EVENT_FILE_NOT_FOUND: 'Event file not found',
  HIST_NOT_FOUND: 'Matching event histogram not found',
  HIST_CREATE_FAIL: "Couldn't create histogram for field",
  SYNTH_VAR_NOT_FOUND: "Couldn't find synthetic variable",
  SYNTH_EVENT_NOT_FOUND: "Couldn't find synthetic event",
  SYNTH_TYPE_MISMATCH: "Param type doesn't match synthetic event field type",
  SYNTH_COUNT_MISMATCH: "Param count doesn't match synthetic event field count",
  FIELD_VAR_PARSE_FAIL: "Couldn't parse field variable",
  VAR_CREATE_FIND_FAIL: "Couldn't create or find variable",
  ONX_NOT_VAR: 'For onmax(x) or onchange(x), x must be a variable',
  ONX_VAR_NOT_FOUND: "Couldn't find onmax or onchange variable",
  ONX_VAR_CREATE_FAIL: "Couldn't create onmax or onchange variable",
  FIELD_VAR_CREATE_FAIL: "Couldn't create field variable",
  TOO_MANY_PARAMS: 'Too many action params',
  PARAM_NOT_FOUND: "Couldn't find param",
  INVALID_PARAM: 'Invalid action param',
  ACTION_NOT_FOUND: 'No action found',
  NO_SAVE_PARAMS: 'No params found for save()',
  TOO_MANY_SAVE_ACTIONS: "Can't have more than one save() action per hist",
  ACTION_MISMATCH: "Handler doesn't support action",
  NO_CLOSING_PAREN: 'No closing paren found',
  SUBSYS_NOT_FOUND: 'Missing subsystem',
  INVALID_SUBSYS_EVENT: 'Invalid subsystem or event name',
  INVALID_REF_KEY: 'Using variable references in keys not supported',
  VAR_NOT_FOUND: "Couldn't find variable",
  FIELD_NOT_FOUND: "Couldn't find field",
  EMPTY_ASSIGNMENT: 'Empty assignment',
  INVALID_SORT_MODIFIER: 'Invalid sort modifier',
  EMPTY_SORT_FIELD: 'Empty sort field',
  TOO_MANY_SORT_FIELDS: 'Too many sort fields (Max = 2)',
  INVALID_SORT_FIELD: 'Sort field must be a key or a val',
  INVALID_STR_OPERAND: 'String type can not be an operand in expression',
  EXPECT_NUMBER: 'Expecting numeric literal',
  UNARY_MINUS_SUBEXPR: 'Unary minus not supported in sub-expressions',
  DIVISION_BY_ZERO: 'Division by zero',
  NEED_NOHC_VAL: "Non-hitcount value is required for 'nohitcount'",
} as const;

export type HistErrorName = keyof typeof HIST_ERRORS;

export const HIST_PREFIX = 'hist:';

/** The command that is being parsed, for its messages (last_cmd and last_cmd_loc): one for all instances. */
const commands = new WeakMap<Tracing, { text: string; location: string }>();

/** last_cmd_set(); `text` is a byte string. */
export function setLastCommand(file: TraceEventFile, text: string): void {
  const { system, name } = file.call;
  commands.set(file.tr.tracing, {
    text: `${HIST_PREFIX}${text}`,
    location: toByteString(`${HIST_PREFIX}${system}:${name}`).slice(0, 255),
  });
}

/** hist_err_clear() */
export function clearLastCommand(tracing: Tracing): void {
  if (commands.has(tracing)) commands.set(tracing, { text: '', location: '' });
}

/**
 * hist_err(): logs an error. The caret goes to where the command first holds `word` (errpos()), to its start without one; both are
 * byte strings.
 */
export function histError(tr: TraceArray, error: HistErrorName, word = ''): void {
  const command = commands.get(tr.tracing);
  if (command === undefined) return;
  const position = Math.max(0, command.text.indexOf(word)) & 0xffff;
  const now = tr.tracing.arch.now('local') ?? 0n;
  const location = readable(command.location);
  tr.errorLog.log(now, location, HIST_ERRORS[error], readable(command.text), position);
}
