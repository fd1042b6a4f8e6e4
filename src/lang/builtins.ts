/** The names a script may use without a sigil: what they are, and in which probes. */
import type { ProbeType } from './script.ts';
import { type LType, UINT64, VALUE } from './types.ts';

export interface Builtin {
  readonly type: LType;
  /** Probe types that have it; all when absent. */
  readonly probes?: readonly ProbeType[];
  /** The same during one hit: computed once. */
  readonly constant?: boolean;
}

const CALLS: readonly ProbeType[] = ['kprobe', 'kretprobe', 'throw', 'settle'];
/** Probes that run on the application's thread. */
const MAIN_THREAD: readonly ProbeType[] = [...CALLS, 'profile', 'tracepoint', 'rawtracepoint'];

export const BUILTINS: Record<string, Builtin> = {
  this: { type: VALUE, probes: CALLS },
  args: { type: VALUE, probes: [...CALLS, 'tracepoint'] },
  retval: { type: VALUE, probes: ['kretprobe', 'settle'] },
  error: { type: VALUE, probes: ['kretprobe', 'throw', 'settle'] },
  func: { type: { kind: 'func' }, probes: CALLS },
  probe: { type: { kind: 'probe' } },
  asyncid: { type: UINT64, probes: MAIN_THREAD, constant: true },
  nsecs: { type: UINT64 },
  elapsed: { type: UINT64 },
  pid: { type: UINT64, constant: true },
  tid: { type: UINT64, constant: true },
  uid: { type: UINT64, constant: true },
  gid: { type: UINT64, constant: true },
  cpu: { type: UINT64, constant: true },
  rand: { type: UINT64 },
  comm: { type: { kind: 'string', size: 16 } },
  ustack: { type: { kind: 'stack', depth: 0 }, probes: MAIN_THREAD },
  kstack: { type: { kind: 'stack', depth: 0 }, probes: MAIN_THREAD },
};

/** argN; its number, or undefined for any other name. */
export function argNumber(name: string): number | undefined {
  const match = /^arg(0|[1-9][0-9]*)$/.exec(name);
  return match ? Number(match[1]) : undefined;
}

/** The builtin of a name, argN included. */
export function builtin(name: string): Builtin | undefined {
  if (argNumber(name) !== undefined) return { type: VALUE, probes: [...CALLS, 'rawtracepoint'] };
  return Object.hasOwn(BUILTINS, name) ? BUILTINS[name] : undefined;
}

/** bpftrace's builtins that have no meaning in a JavaScript process. */
export const REFUSED_BUILTINS: Record<string, string> = {
  ctx: 'the context is read by name: arg0, args.NAME, this, retval, error',
  curtask: 'there is no task struct here; asyncid identifies what a request causes',
  cgroup: 'cgroups are not known inside the process',
  username: 'user names are not known inside the process; uid is the number',
  numaid: 'NUMA nodes are not known inside the process',
  jiffies: 'there are no jiffies; nsecs is the time in nanoseconds',
  usermode: 'there is one mode only',
  ncpus: 'the number of CPUs is not known inside the process',
  pcomm: 'the parent process is not known inside the process',
  ppid: 'the parent process is not known inside the process',
  cpid: 'pid is the process that is traced, also with -c',
};

export const NSECS_MODES = ['monotonic', 'boot', 'tai', 'sw_tai'];
