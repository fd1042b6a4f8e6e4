import { readFileSync } from 'node:fs';

/** The task behind a thread that makes a request; `<...>` where it is gone or cannot be named (another pid namespace). */
export function taskOf(tid: number): { readonly pid: number; readonly tgid: number; readonly comm: string } {
  try {
    const status = readFileSync(`/proc/${tid}/status`, 'latin1');
    const comm = /^Name:\t(.*)$/m.exec(status)?.[1] ?? '<...>';
    return { pid: tid, tgid: Number(/^Tgid:\t(\d+)$/m.exec(status)?.[1] ?? tid), comm };
  } catch {
    return { pid: tid, tgid: tid, comm: '<...>' };
  }
}
