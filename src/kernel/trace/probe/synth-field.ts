/** Fields of synthetic events (kernel/trace/trace_events_synth.c). */
import { kstrtouint } from '../kstrto.ts';
import { isGoodName } from './event-name.ts';

/** Bytes that a string of fixed size takes in a record, whatever its size (MAX_FILTER_STR_VAL). */
export const STR_VAR_LEN_MAX = 256;

export interface SynthField {
  readonly name: string;
  /** As `format` shows it: with `__data_loc` in front where it is dynamic. */
  readonly type: string;
  readonly size: number;
  readonly isSigned: boolean;
  readonly kind: 'number' | 'string' | 'stack';
  readonly isDynamic: boolean;
}

/** What is wrong with a field, and the word that the caret points to. */
export interface SynthFieldError {
  readonly error: 'INCOMPLETE_TYPE' | 'INVALID_FIELD' | 'BAD_NAME' | 'INVALID_ARRAY_SPEC' | 'INVALID_TYPE';
  readonly word: string;
}

const SIZES: Readonly<Record<string, number>> = {
  s64: 8,
  u64: 8,
  s32: 4,
  u32: 4,
  s16: 2,
  u16: 2,
  s8: 1,
  u8: 1,
  char: 1,
  'unsigned char': 1,
  int: 4,
  'unsigned int': 4,
  long: 8,
  'unsigned long': 8,
  bool: 1,
  pid_t: 4,
  gfp_t: 4,
};

const FORMATS: Readonly<Record<string, string>> = {
  s64: '%lld',
  s32: '%d',
  u32: '%u',
  s16: '%d',
  u16: '%u',
  s8: '%d',
  u8: '%u',
  char: '%d',
  'unsigned char': '%u',
  int: '%d',
  'unsigned int': '%u',
  long: '%ld',
  'unsigned long': '%lu',
  bool: '%d',
  pid_t: '%d',
  gfp_t: '%x',
};

function own<T>(table: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(table, key) ? table[key] : undefined;
}

/** synth_field_size(): 0 where the type is unknown, or its size is; undefined where the array is wrong. */
function fieldSize(type: string): number | undefined {
  const size = own(SIZES, type);
  if (size !== undefined) return size;
  return type.includes('char[') ? stringSize(type) : 0;
}

function stringSize(type: string): number | undefined {
  const start = type.indexOf('char[') + 'char['.length;
  const end = type.indexOf(']');
  if (end < start || end + 1 < type.length) return undefined;
  if (end - start > 3) return undefined;
  if (end === start) return 0;
  const size = kstrtouint(type.slice(start, end));
  return size === undefined || size > STR_VAR_LEN_MAX ? undefined : size;
}

/** synth_field_fmt() */
export function synthFieldFmt(type: string): string {
  const known = own(FORMATS, type);
  if (known !== undefined) return known;
  return type.includes('char[') || type.includes('long[') ? '%s' : '%llu';
}

/** parse_synth_field(): `[unsigned] TYPE NAME[ARRAY]` at the start of `words`, and how many of them it takes. */
export function parseSynthField(
  words: readonly string[],
): { readonly field: SynthField; readonly consumed: number } | SynthFieldError {
  const prefixed = words[0] === 'unsigned';
  if (prefixed && words.length < 3) return { error: 'INCOMPLETE_TYPE', word: 'unsigned' };
  const [base = '', declared] = prefixed ? words.slice(1) : words;
  if (declared === undefined) return { error: 'INVALID_FIELD', word: base };
  const bracket = declared.indexOf('[');
  const array = bracket < 0 ? '' : declared.slice(bracket);
  const name = bracket < 0 ? declared : declared.slice(0, bracket);
  if (!isGoodName(name)) return { error: 'BAD_NAME', word: declared };
  const type = `${prefixed ? 'unsigned ' : ''}${base}${array}`;
  const size = fieldSize(type);
  if (size === undefined) {
    return array === ''
      ? { error: 'INVALID_TYPE', word: base }
      : { error: 'INVALID_ARRAY_SPEC', word: declared };
  }
  const isString = type.includes('char[');
  const isStack = !isString && type.includes('long[');
  const isDynamic = size === 0;
  if (isDynamic && !isString && !isStack) return { error: 'INVALID_TYPE', word: base };
  const shown = isDynamic ? `__data_loc ${type}` : type;
  const field: SynthField = {
    name,
    type: shown,
    size: isDynamic ? 8 : size,
    isSigned: !shown.startsWith('u') && shown !== 'gfp_t',
    kind: isString ? 'string' : isStack ? 'stack' : 'number',
    isDynamic,
  };
  return { field, consumed: prefixed ? 3 : 2 };
}
