// The tasks of the machine, as far as /proc tells: what happened since it was last looked at. In a pid namespace of its own every
// new pid is a fork of the tests.

import { readFileSync, readlinkSync } from 'node:fs';

function read(path) {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return undefined;
  }
}

/** `/proc/PID/stat`: comm and parent; undefined where the task is gone. */
export function taskStat(pid) {
  const stat = read(`/proc/${pid}/stat`);
  if (stat === undefined) return undefined;
  const end = stat.lastIndexOf(')');
  const rest = stat.slice(end + 2).split(' ');
  return { pid, comm: stat.slice(stat.indexOf('(') + 1, end), parent: Number(rest[1]) };
}

export class Tasks {
  #last = this.#newestPid();
  #comms = new Map();
  #current;
  #tell;

  /** `tell(kind, values)`: fork, exec, exit, switch. */
  constructor(tell) {
    this.#tell = tell;
  }

  #newestPid() {
    return Number(read('/proc/loadavg')?.trim().split(' ').at(-1) ?? 0);
  }

  /** `pid` makes a request: what happened until then is told in order, and it is what runs now. */
  observe(pid) {
    const now = taskStat(pid) ?? { pid, comm: this.#comms.get(pid) ?? '<...>', parent: 0 };
    const newest = this.#newestPid();
    for (let child = this.#last + 1; child <= newest; child++) this.#forked(child, now);
    this.#last = newest;
    const known = this.#comms.get(pid);
    if (known !== undefined && known !== now.comm) this.#tell('exec', { ...now, file: executable(pid) });
    this.#comms.set(pid, now.comm);
    if (this.#current !== undefined && this.#current.pid !== pid)
      this.#tell('switch', { from: this.#current, to: now });
    this.#current = now;
    return now;
  }

  #forked(pid, requester) {
    const child = taskStat(pid);
    // One that is gone already was started by the one that asks now, or by who asked before.
    const parent = (child === undefined ? undefined : taskStat(child.parent)) ?? this.#current ?? requester;
    // Forked tasks begin with their parent's name.
    this.#comms.set(pid, parent.comm);
    const task = { pid, comm: parent.comm };
    this.#tell('fork', { parent, child: task });
    if (child !== undefined && child.comm === parent.comm) return;
    const gone = child === undefined;
    this.#tell('exec', { ...(child ?? task), file: executable(pid) });
    this.#tell('switch', { from: parent, to: child ?? task });
    if (gone) this.#tell('exit', task);
    this.#tell('switch', { from: child ?? task, to: parent });
  }
}

function executable(pid) {
  try {
    return readlinkSync(`/proc/${pid}/exe`);
  } catch {
    return '/bin/true';
  }
}
