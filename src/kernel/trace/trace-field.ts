/** How a filter compares a field (FILTER_* of include/linux/trace_events.h). */
import { aString, checkArgument } from '../../arguments.ts';
export type FilterType =
  | 'other'
  | 'static_string'
  | 'dyn_string'
  | 'rdyn_string'
  | 'ptr_string'
  | 'trace_fn'
  | 'cpumask'
  | 'comm'
  | 'cpu'
  | 'stacktrace';

/** `struct ftrace_event_field` (kernel/trace/trace.h): one field of a record. */
export interface TraceField {
  readonly name: string;
  /** The C type as declared, `char[16]` for an array, `__data_loc char[]` for a dynamic one. */
  readonly type: string;
  /** Bytes from the record's start. */
  readonly offset: number;
  readonly size: number;
  readonly isSigned: boolean;
  readonly filterType: FilterType;
  /** Elements of an array. 0 where the event was defined at run time: `format` then shows `[]` alone. */
  readonly len?: number;
}

/** filter_assign_type() (kernel/trace/trace_events_filter.c). */
export function filterTypeOf(type: string): FilterType {
  checkArgument('filterTypeOf()', 'type', type, aString);
  if (type.includes('__data_loc')) {
    if (type.includes('char')) return 'dyn_string';
    if (type.includes('cpumask_t')) return 'cpumask';
  }
  if (type.includes('__rel_loc') && type.includes('char')) return 'rdyn_string';
  if (type.includes('char') && type.includes('[')) return 'static_string';
  if (type === 'char *' || type === 'const char *') return 'ptr_string';
  return 'other';
}

/** The fields that every record begins with (trace_define_common_fields()). */
export const COMMON_FIELDS: readonly TraceField[] = [
  { name: 'common_type', type: 'unsigned short', offset: 0, size: 2, isSigned: false, filterType: 'other' },
  { name: 'common_flags', type: 'unsigned char', offset: 2, size: 1, isSigned: false, filterType: 'other' },
  {
    name: 'common_preempt_count',
    type: 'unsigned char',
    offset: 3,
    size: 1,
    isSigned: false,
    filterType: 'other',
  },
  { name: 'common_pid', type: 'int', offset: 4, size: 4, isSigned: true, filterType: 'other' },
];

/** One line of a `format` file, without the newline (f_show() of kernel/trace/trace_events.c). */
export function formatField(field: TraceField): string {
  const bracket = field.type.startsWith('__data_loc') ? -1 : field.type.indexOf('[');
  const declared =
    bracket < 0
      ? `${field.type} ${field.name}`
      : `${field.type.slice(0, bracket)} ${field.name}${field.len === 0 ? '[]' : field.type.slice(bracket)}`;
  return `\tfield:${declared};\toffset:${field.offset};\tsize:${field.size};\tsigned:${field.isSigned ? 1 : 0};`;
}
