// Static events of the simulated system: names, fields and print formats as `format` shows them on x86-64.

const STATES = '{ 0x00000001, "S" }, { 0x00000002, "D" }, { 0x00000004, "T" }, { 0x00000008, "t" }';

const comm = (name) => ({ name, type: 'char[16]', size: 16, align: 1 });
const int = (name) => ({ name, type: 'int', size: 4, isSigned: true });
const pid = (name) => ({ name, type: 'pid_t', size: 4, isSigned: true });
const long = (name) => ({ name, type: 'long', size: 8, isSigned: true });
const word = (name, type = 'unsigned long') => ({ name, type, size: 8 });
const text = (name) => ({ name, type: '__data_loc char[]', size: 4 });

const WAKEUP = [
  [comm('comm'), pid('pid'), int('prio'), int('target_cpu')],
  '"comm=%s pid=%d prio=%d target_cpu=%03d", REC->comm, REC->pid, REC->prio, REC->target_cpu',
];

const EVENTS = {
  'sched:sched_switch': [
    [
      comm('prev_comm'),
      pid('prev_pid'),
      int('prev_prio'),
      long('prev_state'),
      comm('next_comm'),
      pid('next_pid'),
      int('next_prio'),
    ],
    '"prev_comm=%s prev_pid=%d prev_prio=%d prev_state=%s ==> next_comm=%s next_pid=%d next_prio=%d", ' +
      `REC->prev_comm, REC->prev_pid, REC->prev_prio, REC->prev_state ? __print_flags(REC->prev_state, "|", ${STATES}) : "R", ` +
      'REC->next_comm, REC->next_pid, REC->next_prio',
  ],
  'sched:sched_waking': WAKEUP,
  'sched:sched_wakeup': WAKEUP,
  'sched:sched_wakeup_new': WAKEUP,
  'sched:sched_process_fork': [
    [comm('parent_comm'), pid('parent_pid'), comm('child_comm'), pid('child_pid')],
    '"comm=%s pid=%d child_comm=%s child_pid=%d", REC->parent_comm, REC->parent_pid, REC->child_comm, REC->child_pid',
  ],
  'sched:sched_process_exec': [
    [text('filename'), pid('pid'), pid('old_pid')],
    '"filename=%s pid=%d old_pid=%d", __get_str(filename), REC->pid, REC->old_pid',
  ],
  'sched:sched_process_exit': [
    [comm('comm'), pid('pid'), int('prio')],
    '"comm=%s pid=%d prio=%d", REC->comm, REC->pid, REC->prio',
  ],
  'kmem:kmalloc': [
    [
      word('call_site'),
      word('ptr', 'const void *'),
      word('bytes_req', 'size_t'),
      word('bytes_alloc', 'size_t'),
      word('gfp_flags'),
      int('node'),
    ],
    '"call_site=%pS ptr=%p bytes_req=%zu bytes_alloc=%zu gfp_flags=%lx node=%d", (void *)REC->call_site, REC->ptr, ' +
      'REC->bytes_req, REC->bytes_alloc, REC->gfp_flags, REC->node',
  ],
  'kmem:kfree': [
    [word('call_site'), word('ptr', 'const void *')],
    '"call_site=%pS ptr=%p", (void *)REC->call_site, REC->ptr',
  ],
  'kmem:kmem_cache_free': [
    [word('call_site'), word('ptr', 'const void *'), text('name')],
    '"call_site=%pS ptr=%p name=%s", (void *)REC->call_site, REC->ptr, __get_str(name)',
  ],
  'signal:signal_generate': [
    [int('sig'), int('errno'), int('code'), comm('comm'), pid('pid'), int('group'), int('result')],
    '"sig=%d errno=%d code=%d comm=%s pid=%d grp=%d res=%d", REC->sig, REC->errno, REC->code, REC->comm, REC->pid, ' +
      'REC->group, REC->result',
  ],
  'signal:signal_deliver': [
    [int('sig'), int('errno'), int('code'), word('sa_handler'), word('sa_flags')],
    '"sig=%d errno=%d code=%d sa_handler=%lx sa_flags=%lx", REC->sig, REC->errno, REC->code, REC->sa_handler, REC->sa_flags',
  ],
  'raw_syscalls:sys_enter': [
    [long('id'), { name: 'args', type: 'unsigned long[6]', size: 48, align: 8 }],
    '"NR %ld", REC->id',
  ],
  'raw_syscalls:sys_exit': [[long('id'), long('ret')], '"NR %ld = %ld", REC->id, REC->ret'],
  'syscalls:sys_enter_openat': [
    [
      int('__syscall_nr'),
      word('dfd', 'int'),
      word('filename', 'const char *'),
      word('flags', 'int'),
      word('mode', 'umode_t'),
    ],
    '"dfd: 0x%08lx, filename: 0x%08lx, flags: 0x%08lx, mode: 0x%08lx", ((unsigned long)(REC->dfd)), ' +
      '((unsigned long)(REC->filename)), ((unsigned long)(REC->flags)), ((unsigned long)(REC->mode))',
  ],
  'syscalls:sys_enter_chdir': [
    [int('__syscall_nr'), word('filename', 'const char *')],
    '"filename: 0x%08lx", ((unsigned long)(REC->filename))',
  ],
  'syscalls:sys_exit_openat': [[int('__syscall_nr'), long('ret')], '"0x%lx", REC->ret'],
  'timer:timer_cancel': [[word('timer', 'void *')], '"timer=%p", REC->timer'],
};

/** Bytes of the common fields in front. */
const COMMON = 8;

/** `[{ system, name, fields, printFmt }]`, the fields at the offsets that a C compiler gives them. */
export function staticEvents(filterTypeOf) {
  return Object.entries(EVENTS).map(([key, [declared, printFmt]]) => {
    let offset = COMMON;
    const fields = declared.map(({ name, type, size, isSigned = false, align = size }) => {
      offset = Math.ceil(offset / align) * align;
      const field = { name, type, offset, size, isSigned, filterType: filterTypeOf(type) };
      offset += size;
      return field;
    });
    const [system, name] = key.split(':');
    return { system, name, fields, printFmt, size: offset };
  });
}
