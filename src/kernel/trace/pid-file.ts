import { KernelError } from '../errno.ts';
import { type FileOps, textFile } from './file-operations.ts';
import { numberFromUser } from './kstrto.ts';
import { traceGetUser } from './trace-parser.ts';

const PID_BUF_SIZE = 127;
/** Pids above have no place in a list (PID_MAX_LIMIT of the kernel's pid lists). */
const PID_LIST_MAX = 2 ** 30;

/** Whose tasks are looked at; undefined is everybody. */
export interface PidLists {
  pids: ReadonlySet<number> | undefined;
  notracePids: ReadonlySet<number> | undefined;
}

/** trace_filter_add_remove_task(): a task that a listed one has started is listed, too. */
export function followFork(lists: PidLists, parent: number, child: number): void {
  for (const list of ['pids', 'notracePids'] as const)
    if (lists[list]?.has(parent) === true) lists[list] = new Set(lists[list]).add(child);
}

/** A listed task has ended. A list stays one when nobody is left in it. */
export function forgetTask(lists: PidLists, pid: number): void {
  for (const list of ['pids', 'notracePids'] as const) {
    if (lists[list]?.has(pid) !== true) continue;
    const left = new Set(lists[list]);
    left.delete(pid);
    lists[list] = left;
  }
}

/** A list of pids (trace_pid_write()): nothing changes when one of the numbers is none. `none` is shown of an empty one. */
export function pidFile(lists: PidLists, list: keyof PidLists, none = ''): FileOps {
  return textFile({
    mode: 0o640,
    show() {
      const pids = lists[list];
      if (pids === undefined) return none;
      return [...pids]
        .sort((a, b) => a - b)
        .map((pid) => `${pid}\n`)
        .join('');
    },
    truncate() {
      lists[list] = undefined;
    },
    store(text) {
      if (text.length === 0) return 0;
      const pids = new Set(lists[list]);
      let at = 0;
      while (at < text.length) {
        const { word, read } = traceGetUser(text.slice(at), PID_BUF_SIZE);
        at += read;
        if (word === undefined) break;
        const pid = Number(BigInt.asIntN(32, numberFromUser(word, 0)));
        if (pid < 0 || pid >= PID_LIST_MAX) throw new KernelError('EPERM', `${word} is no pid`);
        pids.add(pid);
      }
      lists[list] = pids.size > 0 ? pids : undefined;
      return at;
    },
  });
}
