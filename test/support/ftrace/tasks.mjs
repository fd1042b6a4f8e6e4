// The tasks of the machine, as far as /proc tells: what happened since it was last looked at. In a pid namespace of its own every
// new pid is a fork of the tests. They share one CPU: what runs is who was seen last, and in between the idle task.

import { readFileSync, readlinkSync } from 'node:fs';
import path from 'node:path';

/** How often the tasks are looked at, beside every request of theirs. */
const LOOK_MS = 3;
/** New pids that are looked at one by one. */
const MAX_NEW = 1000;

function read(file) {
  try {
    return readFileSync(file, 'latin1');
  } catch {
    return undefined;
  }
}

/** `/proc/PID/stat`: comm and parent; undefined where the task is gone, or has ended and is not waited for yet. */
export function taskStat(pid) {
  const stat = read(`/proc/${pid}/stat`);
  if (stat === undefined) return undefined;
  const end = stat.lastIndexOf(')');
  const [state, parent] = stat.slice(end + 2).split(' ');
  if (state === 'Z' || state === 'X') return undefined;
  return { pid, comm: stat.slice(stat.indexOf('(') + 1, end), parent: Number(parent) };
}

/** Threads have numbers of their own. */
function isThread(pid) {
  const group = /^Tgid:\t(\d+)$/m.exec(read(`/proc/${pid}/status`) ?? '')?.[1];
  return group !== undefined && Number(group) !== pid;
}

/** What execve(2) was given: of a script, the script. */
function executable(pid, comm) {
  let exe;
  try {
    exe = readlinkSync(`/proc/${pid}/exe`);
  } catch {
    return comm;
  }
  const args = (read(`/proc/${pid}/cmdline`) ?? '').split('\0').slice(0, 3);
  return [exe, ...args].find((arg) => path.basename(arg).slice(0, 15) === comm) ?? exe;
}

const IDLE = { pid: 0, comm: 'swapper/0' };

export class Tasks {
  #last = this.#newestPid();
  /** Those that live, by their pids. */
  #alive = new Map();
  #current = IDLE;
  #tell;
  #timer;

  /** `tell(kind, values)`: fork, exec, exit, switch, timer, wakeup. */
  constructor(tell) {
    this.#tell = tell;
  }

  start() {
    this.#timer = setInterval(() => this.look(), LOOK_MS);
  }

  stop() {
    clearInterval(this.#timer);
  }

  #newestPid() {
    return Number(read('/proc/loadavg')?.trim().split(' ').at(-1) ?? 0);
  }

  /** `pid` makes a request: what happened until then is told in order, and it is what runs now. */
  observe(pid) {
    this.look(pid);
    const task = taskStat(pid) ?? this.#alive.get(pid) ?? { pid, comm: '<...>', parent: 0 };
    this.#alive.set(pid, task);
    this.#run(task);
    return task;
  }

  /** Tells of forks, execs and exits since the last time; forks of tasks that nothing is known of are `requester`'s. */
  look(requester) {
    const newest = this.#newestPid();
    // Somebody has chosen another number to go on with.
    if (newest - this.#last > MAX_NEW) this.#last = newest - 1;
    for (let child = this.#last + 1; child <= newest; child++) this.#forked(child, requester);
    this.#last = newest;
    for (const [pid, known] of [...this.#alive]) {
      const now = taskStat(pid);
      if (now === undefined) this.#exited(known);
      else if (now.comm !== known.comm) this.#exec(now);
    }
  }

  #forked(pid, requester) {
    if (this.#alive.has(pid) || isThread(pid)) return;
    const child = taskStat(pid);
    const known = this.#alive.get(child?.parent ?? requester);
    const parent = known ?? (this.#current === IDLE ? taskStat(requester ?? 0) : this.#current);
    if (parent === undefined) return;
    this.#alive.set(parent.pid, parent);
    this.#run(parent);
    // Forked tasks begin with their parent's name.
    const task = { pid, comm: parent.comm, parent: parent.pid };
    this.#alive.set(pid, task);
    this.#tell('fork', { parent, child: task });
    this.#run(task);
    if (child === undefined) {
      this.#exec(task);
      this.#exited(task);
    } else if (child.comm !== parent.comm) this.#exec(child);
  }

  #exec(task) {
    this.#alive.set(task.pid, task);
    this.#run(task);
    this.#tell('exec', { ...task, file: executable(task.pid, task.comm) });
  }

  #exited(task) {
    this.#run(task);
    this.#alive.delete(task.pid);
    this.#tell('exit', task);
    this.#leave();
    // Who waited for it runs.
    const parent = this.#alive.get(task.parent);
    if (parent !== undefined) this.#run(parent);
  }

  #leave() {
    if (this.#current === IDLE) return;
    this.#tell('switch', { from: this.#current, to: IDLE });
    this.#current = IDLE;
    this.#tell('timer', IDLE);
  }

  #run(task) {
    if (this.#current.pid === task.pid) {
      this.#current = task;
      return;
    }
    this.#leave();
    this.#tell('wakeup', { from: IDLE, to: task });
    this.#tell('switch', { from: IDLE, to: task });
    this.#current = task;
  }
}
