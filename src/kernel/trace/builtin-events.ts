import { TRACE_EVENT_FL_IGNORE_ENABLE, TraceEventCall } from './trace-event.ts';
import { filterTypeOf, type TraceField } from './trace-field.ts';

/** Ids of the records that tracers and trace_printk() make (enum trace_type, kernel/trace/trace.h). */
export const TRACE_FN = 1;
export const TRACE_CTX = 2;
export const TRACE_WAKE = 3;
export const TRACE_STACK = 4;
export const TRACE_PRINT = 5;
export const TRACE_BPRINT = 6;
export const TRACE_GRAPH_RET = 10;
export const TRACE_GRAPH_ENT = 11;
export const TRACE_USER_STACK = 12;
export const TRACE_BPUTS = 14;
export const TRACE_RAW_DATA = 18;
export const TRACE_FUNC_REPEATS = 19;

type FieldSpec = readonly [type: string, name: string, offset: number, size: number, signed: boolean];

const STACK_FMT =
  '"\\t=> %ps\\n\\t=> %ps\\n\\t=> %ps\\n" "\\t=> %ps\\n\\t=> %ps\\n\\t=> %ps\\n" "\\t=> %ps\\n\\t=> %ps\\n", ' +
  [0, 1, 2, 3, 4, 5, 6, 7].map((n) => `(void *)REC->caller[${n}]`).join(', ');
const SWITCH_FIELDS: readonly FieldSpec[] = [
  ['unsigned int', 'prev_pid', 8, 4, false],
  ['unsigned int', 'next_pid', 12, 4, false],
  ['unsigned int', 'next_cpu', 16, 4, false],
  ['unsigned char', 'prev_prio', 20, 1, false],
  ['unsigned char', 'prev_state', 21, 1, false],
  ['unsigned char', 'next_prio', 22, 1, false],
  ['unsigned char', 'next_state', 23, 1, false],
];
const SWITCH_ARGS =
  'REC->prev_pid, REC->prev_prio, REC->prev_state, REC->next_pid, REC->next_prio, REC->next_state, REC->next_cpu';

/** kernel/trace/trace_entries.h, of what is recorded here. */
const EVENTS: readonly (readonly [
  id: number,
  name: string,
  printFmt: string,
  fields: readonly FieldSpec[],
])[] = [
  [
    TRACE_FN,
    'function',
    '" %ps <-- %ps", (void *)REC->ip, (void *)REC->parent_ip',
    [
      ['unsigned long', 'ip', 8, 8, false],
      ['unsigned long', 'parent_ip', 16, 8, false],
    ],
  ],
  [
    TRACE_GRAPH_ENT,
    'funcgraph_entry',
    '"--> %ps (%d)", (void *)REC->func, REC->depth',
    [
      ['unsigned long', 'func', 8, 8, false],
      ['int', 'depth', 16, 4, true],
    ],
  ],
  [
    TRACE_GRAPH_RET,
    'funcgraph_exit',
    '"<-- %ps (%d) (start: %llx  end: %llx) over: %d", (void *)REC->func, REC->depth, REC->calltime, ' +
      'REC->rettime, REC->depth',
    [
      ['unsigned long', 'func', 8, 8, false],
      ['int', 'depth', 16, 4, true],
      ['unsigned int', 'overrun', 20, 4, false],
      ['unsigned long long', 'calltime', 24, 8, false],
      ['unsigned long long', 'rettime', 32, 8, false],
    ],
  ],
  [TRACE_CTX, 'context_switch', `"%u:%u:%u  ==> %u:%u:%u [%03u]", ${SWITCH_ARGS}`, SWITCH_FIELDS],
  [TRACE_WAKE, 'wakeup', `"%u:%u:%u  ==+ %u:%u:%u [%03u]", ${SWITCH_ARGS}`, SWITCH_FIELDS],
  [
    TRACE_STACK,
    'kernel_stack',
    STACK_FMT,
    [
      ['int', 'size', 8, 4, true],
      ['unsigned long[8]', 'caller', 16, 64, false],
    ],
  ],
  [
    TRACE_USER_STACK,
    'user_stack',
    STACK_FMT,
    [
      ['unsigned int', 'tgid', 8, 4, false],
      ['unsigned long[8]', 'caller', 16, 64, false],
    ],
  ],
  [
    TRACE_BPRINT,
    'bprint',
    '"%ps: %s", (void *)REC->ip, REC->fmt',
    [
      ['unsigned long', 'ip', 8, 8, false],
      ['const char *', 'fmt', 16, 8, false],
      ['u32[]', 'buf', 24, 0, false],
    ],
  ],
  [
    TRACE_PRINT,
    'print',
    '"%ps: %s", (void *)REC->ip, REC->buf',
    [
      ['unsigned long', 'ip', 8, 8, false],
      ['char[]', 'buf', 16, 0, false],
    ],
  ],
  [
    TRACE_RAW_DATA,
    'raw_data',
    '"id:%04x %08x", REC->id, (int)REC->buf[0]',
    [
      ['unsigned int', 'id', 8, 4, false],
      ['char[]', 'buf', 12, 0, false],
    ],
  ],
  [
    TRACE_BPUTS,
    'bputs',
    '"%ps: %s", (void *)REC->ip, REC->str',
    [
      ['unsigned long', 'ip', 8, 8, false],
      ['const char *', 'str', 16, 8, false],
    ],
  ],
  [
    TRACE_FUNC_REPEATS,
    'func_repeats',
    '" %ps <-%ps\\t(repeats:%u  delta: -%llu)", (void *)REC->ip, (void *)REC->parent_ip, REC->count, ' +
      '(((u64)(REC)->top_delta_ts << 32) | (REC)->bottom_delta_ts)',
    [
      ['unsigned long', 'ip', 8, 8, false],
      ['unsigned long', 'parent_ip', 16, 8, false],
      ['u16', 'count', 24, 2, false],
      ['u16', 'top_delta_ts', 26, 2, false],
      ['u32', 'bottom_delta_ts', 28, 4, false],
    ],
  ],
];

/** `funcgraph_exit` of a system that tells what functions return (CONFIG_FUNCTION_GRAPH_RETVAL). */
const EXIT_RETVAL: (typeof EVENTS)[number] = [
  TRACE_GRAPH_RET,
  'funcgraph_exit',
  '"<-- %ps (%d) (start: %llx  end: %llx) over: %d retval: %lx", (void *)REC->func, REC->depth, REC->calltime, ' +
    'REC->rettime, REC->depth, REC->retval',
  [
    ['unsigned long', 'func', 8, 8, false],
    ['unsigned long', 'retval', 16, 8, false],
    ['int', 'depth', 24, 4, true],
    ['unsigned int', 'overrun', 28, 4, false],
    ['unsigned long long', 'calltime', 32, 8, false],
    ['unsigned long long', 'rettime', 40, 8, false],
  ],
];

/** The events of the system `ftrace`: they have formats, and cannot be enabled. With `retval` the end of a call tells what it returned. */
export function builtinEvents(retval: boolean): TraceEventCall[] {
  return EVENTS.map((event) => {
    const [id, name, printFmt, fields] = retval && event[0] === TRACE_GRAPH_RET ? EXIT_RETVAL : event;
    const call = new TraceEventCall({
      class: { system: 'ftrace' },
      name,
      flags: TRACE_EVENT_FL_IGNORE_ENABLE,
      printFmt,
      fields: fields.map(
        ([type, field, offset, size, isSigned]): TraceField => ({
          name: field,
          type,
          offset,
          size,
          isSigned,
          filterType: type.includes('char[') ? 'static_string' : filterTypeOf(type),
        }),
      ),
    });
    call.id = id;
    return call;
  });
}
