/** The functions a script may call: how many arguments, and what they may be. Their types are found in passes/infer-call.ts. */
export interface ScriptFunction {
  readonly min: number;
  readonly max: number;
  /** Only as a statement of its own. */
  readonly statement?: true;
  /** Only as what is assigned to a map. */
  readonly aggregate?: true;
  /** Does something to the machine: only where the user has allowed it (`--unsafe`). */
  readonly unsafe?: true;
  /** For the hint of a wrong call. */
  readonly usage: string;
}

export const FUNCTIONS: Record<string, ScriptFunction> = {
  avg: { min: 1, max: 1, aggregate: true, usage: '@x = avg(value)' },
  buf: { min: 1, max: 2, usage: 'buf(value[, bytes])' },
  clear: { min: 1, max: 1, statement: true, usage: 'clear(@map)' },
  count: { min: 0, max: 0, aggregate: true, usage: '@x = count()' },
  delete: { min: 1, max: 2, usage: 'delete(@map[key]) or delete(@map, key)' },
  exit: { min: 0, max: 1, statement: true, usage: 'exit([code])' },
  has_key: { min: 2, max: 2, usage: 'has_key(@map, key)' },
  hist: { min: 1, max: 2, aggregate: true, usage: '@x = hist(value[, bits])' },
  id: { min: 1, max: 1, usage: 'id(object)' },
  kstack: { min: 0, max: 2, usage: 'kstack([depth])' },
  len: { min: 1, max: 1, usage: 'len(value) or len(@map)' },
  lhist: { min: 4, max: 4, aggregate: true, usage: '@x = lhist(value, min, max, step)' },
  max: { min: 1, max: 1, aggregate: true, usage: '@x = max(value)' },
  min: { min: 1, max: 1, aggregate: true, usage: '@x = min(value)' },
  nsecs: { min: 0, max: 1, usage: 'nsecs(monotonic)' },
  print: { min: 1, max: 3, statement: true, usage: 'print(value) or print(@map[, top[, div]])' },
  printf: { min: 1, max: 64, statement: true, usage: 'printf("format", …)' },
  reg: { min: 1, max: 1, usage: 'reg("di")' },
  stats: { min: 1, max: 1, aggregate: true, usage: '@x = stats(value)' },
  str: { min: 1, max: 2, usage: 'str(value[, length])' },
  strcontains: { min: 2, max: 2, usage: 'strcontains(text, "part")' },
  strftime: { min: 2, max: 2, usage: 'strftime("%H:%M:%S", nsecs)' },
  strncmp: { min: 3, max: 3, usage: 'strncmp(a, b, length)' },
  sum: { min: 1, max: 1, aggregate: true, usage: '@x = sum(value)' },
  system: { min: 1, max: 64, statement: true, unsafe: true, usage: 'system("command", …)' },
  time: { min: 0, max: 1, statement: true, usage: 'time(["%H:%M:%S\\n"])' },
  ustack: { min: 0, max: 2, usage: 'ustack([depth])' },
  zero: { min: 1, max: 1, statement: true, usage: 'zero(@map)' },
};

/** bpftrace's functions that are not here, and why. */
export const REFUSED_FUNCTIONS: Record<string, string> = {
  join: 'there are no char ** arrays; print(arg0) shows an array',
  ksym: 'func is the probed function; kstack shows callers',
  usym: 'func is the probed function; ustack shows callers',
  kaddr: 'there are no kernel addresses',
  uaddr: 'there are no C symbols',
  kptr: 'JavaScript has no pointers',
  uptr: 'JavaScript has no pointers',
  cat: 'files are not read from probes',
  signal: 'a probe does not send signals',
  override: 'a probe does not change what a function returns',
  ntop: 'there are no socket addresses; addresses are strings already',
  pton: 'there are no socket addresses; addresses are strings already',
  macaddr: 'there are no hardware addresses',
  cgroupid: 'cgroups are not known inside the process',
  cgroup_path: 'cgroups are not known inside the process',
  path: 'there are no struct path values',
  kstr: 'use str(value)',
  ustr: 'use str(value)',
  bswap: 'numbers are in one byte order',
  skboutput: 'packets do not pass here',
  unwatch: 'there are no watchpoints',
  nsecs_ts: 'use nsecs',
  offsetof: 'JavaScript objects have no layout',
  strstr: 'strcontains(text, "part") says whether there is a part',
  strcap: 'str(value, length) cuts a text',
  strerror: 'errors are values: print(error), str(error.code)',
  errorf: 'use printf()',
  warnf: 'use printf()',
  debugf: 'use printf()',
  fail: 'use printf() and exit(1)',
  static_assert: 'nothing is known of a process before it is traced',
  ppid: 'the parent process is not known inside the process',
  percpu_kaddr: 'there are no kernel addresses',
  tseries: 'print(@x) and clear(@x) in an interval show how a value goes on',
  socket_cookie: 'there are no sockets; asyncid identifies what a request causes',
  assert: 'use if (…) { printf(…); exit(1) }',
};
