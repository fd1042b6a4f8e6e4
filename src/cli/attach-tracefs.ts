/** The tracing folder of a process, as a library: `const fs = await attachTracefs(pid)`. */

import { anInteger, checkArgument, having, optional, someOptions } from '../arguments.ts';
import { aPid } from '../target/attach.ts';
import { needsFunctions } from '../target/function-needs.ts';
import { openOwnTracing } from '../target/own-tracing.ts';
import {
  openProcessTracing,
  PROCESS_TRACING_OPTIONS,
  type ProcessTracing,
  type ProcessTracingOptions,
} from '../target/process-tracing.ts';
import type { DetachReport } from '../target/session.ts';
import { openTracefs } from '../tracefs/index.ts';
import type { Stat, Tracefs } from '../tracefs/tracefs.ts';

const OWN_OPTIONS = someOptions<{ readonly bufferSizeKb?: number }>({ bufferSizeKb: optional(anInteger(1)) });

/**
 * The folder with methods that wait: a write resolves when what it asked for has happened in the process, and a read shows
 * everything that was hit before. Refusals are KernelErrors of the files; a probe that could not be armed rejects with the
 * TraplineError that says why, and is in `error_log`.
 */
export class ProcessTracefs implements AsyncDisposable {
  readonly process: ProcessTracing;
  /** The folder without the waiting: functions are known once one was named through this class, or by process.loadFunctions(). */
  readonly sync: Tracefs;
  #detached: Promise<DetachReport> | undefined;

  constructor(process: ProcessTracing) {
    checkArgument(
      'new ProcessTracefs()',
      'process',
      process,
      having('tracing of a process, as openProcessTracing() gives it', 'tracing', 'session', 'arch'),
    );
    this.process = process;
    this.sync = openTracefs(process.tracing);
  }

  async readFile(path: string): Promise<string> {
    await this.#prepare(path);
    await this.process.flush();
    return this.sync.readFile(path);
  }

  async readBytes(path: string): Promise<Uint8Array> {
    await this.#prepare(path);
    await this.process.flush();
    return this.sync.readBytes(path);
  }

  /** `echo -n TEXT > FILE`: the bytes taken. Hits from before the write count as before it. */
  async writeFile(path: string, data: string | Uint8Array): Promise<number> {
    await this.#prepare(path, data);
    return await this.#change(() => this.sync.writeFile(path, data));
  }

  /** `echo -n TEXT >> FILE` */
  async appendFile(path: string, data: string | Uint8Array): Promise<number> {
    await this.#prepare(path, data);
    return await this.#change(() => this.sync.appendFile(path, data));
  }

  async mkdir(path: string): Promise<void> {
    await this.#change(() => this.sync.mkdir(path));
  }

  async rmdir(path: string): Promise<void> {
    await this.#change(() => this.sync.rmdir(path));
  }

  readdir(path: string): string[] {
    return this.sync.readdir(path);
  }

  stat(path: string): Stat {
    return this.sync.stat(path);
  }

  exists(path: string): boolean {
    return this.sync.exists(path);
  }

  /** Looks for functions of modules that were loaded since, and events: probes that waited for them are armed. */
  async refresh(): Promise<void> {
    await this.process.flush();
    await this.process.refresh();
    const [refusal] = await this.process.settled();
    if (refusal !== undefined) throw refusal;
  }

  /** What names functions needs to know them: they are listed when the first one does. */
  async #prepare(path: string, data?: string | Uint8Array): Promise<void> {
    const text = typeof data === 'object' ? Buffer.from(data).toString('latin1') : data;
    if (needsFunctions(path, text)) await this.process.loadFunctions();
  }

  async #change<T>(change: () => T): Promise<T> {
    await this.process.flush();
    const result = change();
    const [refusal] = await this.process.settled();
    if (refusal !== undefined) throw refusal;
    return result;
  }

  /** Puts everything in the process back. What was recorded can still be read through `sync`. */
  detach(): Promise<DetachReport> {
    this.#detached ??= this.process.detach();
    return this.#detached;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.detach();
  }
}

/** Begins to trace a process (the own one, by its pid, too) and opens its tracing folder. Errors: those of attach(). */
export async function attachTracefs(
  pid: number,
  options: ProcessTracingOptions = {},
): Promise<ProcessTracefs> {
  checkArgument('attachTracefs()', 'pid', pid, aPid);
  checkArgument('attachTracefs()', 'options', options, PROCESS_TRACING_OPTIONS);
  return new ProcessTracefs(await openProcessTracing(pid, { lazy: true, ...options }));
}

/** The tracing folder of the own process's tracepoints. */
export interface OwnTracefs {
  readonly fs: Tracefs;
  /** Disables its events; what was recorded stays readable. */
  close(): void;
}

/** Opens a tracing folder for what defineTracepoint() defines in this process. Nothing waits, nothing is attached. */
export function openOwnTracefs(options: { readonly bufferSizeKb?: number } = {}): OwnTracefs {
  checkArgument('openOwnTracefs()', 'options', options, OWN_OPTIONS);
  const { tracing, close } = openOwnTracing(options);
  return { fs: openTracefs(tracing), close };
}
