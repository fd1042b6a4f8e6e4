/** What helpers of one machine share: the current task, clocks, the trace buffer, what programs asked for, timers and objects. */
import type { MapRecord } from '../../maps/map-spec.ts';
import { TimerQueue } from './timer-queue.ts';

/** Who runs the programs: what bpf_get_current_* give. */
export interface TaskOptions {
  /** Thread. Default: the process. */
  readonly pid?: number;
  /** Process. Default: that of Node, 1 elsewhere. */
  readonly tgid?: number;
  readonly ppid?: number;
  /** Cut to 15 characters. Default `node` or `browser`. */
  readonly comm?: string;
  /** Default: those of the process, 0 elsewhere. */
  readonly uid?: number;
  readonly gid?: number;
  /** The namespace that bpf_get_ns_current_pid_tgid knows. */
  readonly pidNamespace?: { readonly dev: bigint; readonly ino: bigint };
}

/** Something that a program asked for and that has no place here: it is told, and nothing else happens. */
export type HelperEffect =
  | { readonly kind: 'signal'; readonly signal: number; readonly thread: boolean }
  | { readonly kind: 'redirect'; readonly ifindex: number; readonly flags: bigint }
  /** bpf_redirect_neigh: `nextHop` is `struct bpf_redir_neigh`, where one was given. */
  | { readonly kind: 'redirect_neigh'; readonly ifindex: number; readonly nextHop: Uint8Array | undefined }
  | { readonly kind: 'redirect_peer'; readonly ifindex: number }
  | { readonly kind: 'redirect_map'; readonly map: number; readonly key: number; readonly flags: bigint }
  | { readonly kind: 'clone_redirect'; readonly ifindex: number; readonly packet: Uint8Array }
  /** bpf_seq_write, bpf_seq_printf: the output of an iterator. */
  | { readonly kind: 'seq'; readonly bytes: Uint8Array }
  | { readonly kind: 'override_return'; readonly value: bigint };

export interface HelperOptions {
  readonly task?: TaskOptions;
  /** Gets each line of bpf_trace_printk. They are kept in `traceBuffer` too. */
  readonly tracePrintk?: (line: string) => void;
  readonly effect?: (effect: HelperEffect) => void;
  /** Nanoseconds of CLOCK_REALTIME. */
  readonly realClock?: () => bigint;
  /** Frames for bpf_get_stackid and bpf_get_stack, innermost first. Default: there are none. */
  readonly stack?: (user: boolean) => readonly bigint[];
  /**
   * What runs bpf_timer and bpf_wq: `real` is setTimeout on the thread that started them, `virtual` is `advance()` alone. Default real.
   */
  readonly timers?: 'real' | 'virtual';
}

const MAX_KEPT = 4096;

interface ProcessLike {
  readonly pid?: number;
  readonly ppid?: number;
  readonly title?: string;
  getuid?(): number;
  getgid?(): number;
}

/** Allocated objects by their address (bpf_obj_new, cpumasks, tasks). */
export interface AllocatedObject {
  readonly kind: 'object' | 'percpu' | 'cpumask' | 'task';
  readonly address: number;
  readonly block: number;
  readonly size: number;
  readonly record?: MapRecord | undefined;
  /** Bytes between the copies of the CPUs. */
  readonly stride: number;
  /** Of a task: its thread. */
  readonly cpu?: number;
  refs: number;
}

export class HelperRuntime {
  readonly pid: number;
  readonly tgid: number;
  readonly ppid: number;
  readonly comm: string;
  readonly uid: number;
  readonly gid: number;
  readonly options: HelperOptions;
  readonly timers: TimerQueue;
  /** The last lines of bpf_trace_printk. */
  readonly traceBuffer: string[] = [];
  /** The last effects. */
  readonly effects: HelperEffect[] = [];
  readonly objects = new Map<number, AllocatedObject>();
  /** bpf_get_attach_cookie, by program. */
  readonly cookies = new Map<number, bigint>();
  /** bpf_get_func_ip of tracing programs, by program. */
  readonly functionAddresses = new Map<number, bigint>();
  /** bpf_set_retval, by CPU. */
  readonly retvals = new Map<number, number>();
  /** Of SYN cookies: known to nobody. */
  readonly cookieSecret = Array.from({ length: 4 }, () => (Math.random() * 2 ** 32) | 0);
  /** task_struct by CPU and types. */
  readonly tasks = new Map<unknown, number[]>();
  readonly #clock: () => number;

  /** `clock`: nanoseconds of CLOCK_MONOTONIC. */
  constructor(options: HelperOptions, clock: () => number) {
    const { process } = globalThis as { process?: ProcessLike };
    const task = options.task ?? {};
    this.options = options;
    this.tgid = task.tgid ?? process?.pid ?? 1;
    this.pid = task.pid ?? this.tgid;
    this.ppid = task.ppid ?? process?.ppid ?? 0;
    this.comm = (task.comm ?? (process?.pid === undefined ? 'browser' : 'node')).slice(0, 15);
    this.uid = task.uid ?? process?.getuid?.() ?? 0;
    this.gid = task.gid ?? process?.getgid?.() ?? 0;
    this.#clock = clock;
    this.timers = new TimerQueue(() => this.monotonic(), options.timers ?? 'real');
  }

  /** Nanoseconds. */
  monotonic(): bigint {
    return BigInt(Math.trunc(this.#clock()));
  }

  /** Nanoseconds since 1970. */
  real(): bigint {
    return (
      this.options.realClock?.() ?? BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e6))
    );
  }

  print(line: string): void {
    this.traceBuffer.push(line);
    if (this.traceBuffer.length > MAX_KEPT) this.traceBuffer.shift();
    this.options.tracePrintk?.(line);
  }

  tell(effect: HelperEffect): void {
    this.effects.push(effect);
    if (this.effects.length > MAX_KEPT) this.effects.shift();
    this.options.effect?.(effect);
  }
}
