import { KernelError } from '../errno.ts';

/** The kernel's PID_MAX_DEFAULT: so many places a pid can have. */
const PID_MAX_DEFAULT = 0x8000;
const COMM_LEN = 16;
const PAGE = 4096;
/** Bytes of `struct saved_cmdlines_buffer` in front of the names, and of each name with its pid. */
const BUFFER_HEAD = 131096;
const PER_ENTRY = COMM_LEN + 4;
const DEFAULT_SIZE = 128;

/** Names of the tasks that were recorded (kernel/trace/trace_sched_switch.c): a ring in which new ones push out old ones. */
export class SavedCmdlines {
  #size = roundedSize(DEFAULT_SIZE);
  #names: { pid: number; comm: string }[] = [];
  readonly #slots = new Map<number, number>();
  #next = 0;
  readonly #tgids = new Map<number, number>();

  /** trace_save_cmdline(): pid 0 is the idle task and needs no name. */
  save(pid: number, comm: string): void {
    if (pid === 0) return;
    const low = pid & (PID_MAX_DEFAULT - 1);
    const slot = this.#slots.get(low);
    if (slot !== undefined) {
      const known = this.#names[slot];
      if (known?.pid === pid && known.comm === comm) return;
      this.#names[slot] = { pid, comm };
      return;
    }
    const old = this.#names[this.#next];
    if (old !== undefined) this.#slots.delete(old.pid & (PID_MAX_DEFAULT - 1));
    this.#names[this.#next] = { pid, comm };
    this.#slots.set(low, this.#next);
    this.#next = (this.#next + 1) % this.#size;
  }

  saveTgid(pid: number, tgid: number): void {
    if (pid !== 0 && this.#tgids.get(pid) !== tgid) this.#tgids.set(pid, tgid);
  }

  /** trace_find_cmdline() */
  find(pid: number): string {
    if (pid === 0) return '<idle>';
    if (pid < 0) return '<XXX>';
    const slot = this.#slots.get(pid & (PID_MAX_DEFAULT - 1));
    const saved = slot === undefined ? undefined : this.#names[slot];
    return saved?.pid === pid ? saved.comm : '<...>';
  }

  has(pid: number): boolean {
    const slot = this.#slots.get(pid & (PID_MAX_DEFAULT - 1));
    return slot !== undefined && this.#names[slot]?.pid === pid;
  }

  /** trace_find_tgid(): 0 where it is not known. */
  findTgid(pid: number): number {
    return this.#tgids.get(pid) ?? 0;
  }

  get size(): number {
    return this.#size;
  }

  /** EINVAL unless 1 to 32768. What a power of two of pages has room for is what it becomes. */
  resize(size: number): void {
    if (size < 1 || size > PID_MAX_DEFAULT)
      throw new KernelError('EINVAL', 'saved_cmdlines_size is from 1 to 32768');
    this.#size = roundedSize(size);
    this.#names = [];
    this.#slots.clear();
    this.#next = 0;
  }

  showCmdlines(): string {
    return this.#names.map(({ pid, comm }) => `${pid} ${comm}\n`).join('');
  }

  showTgids(): string {
    return [...this.#tgids]
      .sort(([a], [b]) => a - b)
      .map(([pid, tgid]) => `${pid} ${tgid}\n`)
      .join('');
  }
}

function roundedSize(wanted: number): number {
  const pages = Math.ceil((BUFFER_HEAD + wanted * PER_ENTRY) / PAGE);
  const bytes = PAGE * 2 ** Math.ceil(Math.log2(pages));
  return Math.floor((bytes - BUFFER_HEAD) / PER_ENTRY);
}
