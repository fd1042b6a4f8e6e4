import type { TraceEventCall } from '../trace-event.ts';
import type { FilterType, TraceField } from '../trace-field.ts';

const generic = (type: string, name: string, filterType: FilterType): TraceField => ({
  name,
  type,
  offset: 0,
  size: 0,
  isSigned: type === 'int',
  filterType,
});

/** What filters and hists know of every event besides its fields (trace_define_generic_fields()). */
const GENERIC_FIELDS: readonly TraceField[] = [
  generic('int', 'CPU', 'cpu'),
  generic('int', 'cpu', 'cpu'),
  generic('int', 'common_cpu', 'cpu'),
  generic('char *', 'COMM', 'comm'),
  generic('char *', 'comm', 'comm'),
  generic('char *', 'stacktrace', 'stacktrace'),
  generic('char *', 'STACKTRACE', 'stacktrace'),
];

/** trace_find_event_field(): an own field, a generic one, a common one. */
export function findEventField(call: TraceEventCall, name: string): TraceField | undefined {
  return (
    call.fields.find((field) => field.name === name) ??
    GENERIC_FIELDS.find((field) => field.name === name) ??
    call.field(name)
  );
}

/** is_string_field() */
export function isStringField(field: TraceField): boolean {
  switch (field.filterType) {
    case 'dyn_string':
    case 'rdyn_string':
    case 'static_string':
    case 'ptr_string':
    case 'comm':
      return true;
    default:
      return false;
  }
}
