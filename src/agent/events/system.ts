/** Sockets, names, modules, threads, processes and exceptions. */

import { Notes, type Source, type Tools } from './tools.ts';

export const serverConnection: Source = (emit, tools) =>
  tools.channel<{ socket: object }>('net.server.socket', ({ socket }) =>
    emit(undefined, tools.id(socket), socket),
  );

export const clientConnect: Source = (emit, tools) =>
  tools.entries('net', ({ duration, detail }) => {
    emit(undefined, tools.text(detail, 'host'), tools.agent.property(detail, 'port'), duration * 1e6);
  });

export const dnsLookup: Source = (emit, tools) =>
  tools.entries('dns', ({ name, duration, detail }) => {
    const hostname = tools.text(detail, 'hostname') || tools.text(detail, 'host');
    emit(undefined, name, hostname, duration * 1e6);
  });

/** What require() and its like ask for, in any version of Node: they all come by `Module._load`. */
export const moduleLoad: Source = (emit, tools) => {
  const Module = tools.require('module') as object;
  const begun: number[] = [];
  return tools.calls(Module, '_load', {
    entry: () => void begun.push(tools.now()),
    exit: (_, args, _value, error) => {
      const since = begun.pop();
      const ns = since === undefined ? 0 : tools.now() - since;
      emit(undefined, args[0], tools.text(args[1], 'filename'), codeOf(tools, error), ns);
    },
  });
};

export const moduleImport: Source = (emit, tools) =>
  tools.channel<object>('tracing:module.import:start', (message) =>
    emit(undefined, tools.text(message, 'url'), tools.text(message, 'parentURL')),
  );

export const uncaughtException: Source = (emit, tools) =>
  tools.emits(process, 'uncaughtExceptionMonitor', (_, args) => emit(undefined, args[1], args[2]));

export const warning: Source = (emit, tools) =>
  tools.emits(process, 'warning', (_, args) => emit(undefined, args[1]));

/**
 * As Node decides about a rejection: it is told to listeners of the application, or thrown. No listener is added, which would count
 * as handling it.
 */
export const unhandledRejection: Source = (emit, tools) =>
  tools.emits(process, 'unhandledRejection', (_, args) =>
    emit(undefined, args[1], tools.id(args[2] as object)),
  );

export const workerStart: Source = (emit, tools) => {
  const thread = threadOf(tools);
  return tools.emits(workers(tools.require), 'online', (self) => emit(undefined, thread(self)));
};

export const workerExit: Source = (emit, tools) => {
  const threads = new Notes<number>();
  const threadId = threadOf(tools);
  return tools.calls(workers(tools.require), 'emit', {
    entry: (self, args) => {
      const thread = threadId(self);
      // at its exit it is -1 already
      if (thread > 0) threads.set(self as object, thread);
      if (args[0] === 'exit') emit(undefined, threads.get(self as object) ?? 0, args[1]);
    },
  });
};

const workers = (require: (id: string) => unknown): object =>
  (require('node:worker_threads') as { Worker: { prototype: object } }).Worker.prototype;

/** Node's own accessor: nothing of the application runs. */
function threadOf({ require }: Tools): (worker: unknown) => number {
  const get = Reflect.getOwnPropertyDescriptor(workers(require), 'threadId')?.get;
  return (worker) => (get === undefined ? 0 : Number(Reflect.apply(get, worker, [])));
}

const children = (require: (id: string) => unknown): object =>
  (require('node:child_process') as { ChildProcess: { prototype: object } }).ChildProcess.prototype;

/** spawn(), exec(), fork() and their like; of the synchronous ones there is no child to see. */
export const childSpawn: Source = (emit, tools) =>
  tools.calls(children(tools.require), 'spawn', {
    exit: (child, _, value) =>
      emit(
        undefined,
        tools.number(child, 'pid'),
        tools.text(child, 'spawnfile'),
        typeof value === 'number' ? value : 0,
      ),
  });

export const childExit: Source = (emit, tools) =>
  tools.emits(children(tools.require), 'exit', (child, args) =>
    emit(undefined, tools.number(child, 'pid'), args[1] ?? -1, args[2] ?? ''),
  );

/** `ENOENT` of an error; '' of none. */
export function codeOf(tools: { text(value: unknown, key: string): string }, error: unknown): string {
  if (error === undefined) return '';
  return tools.text(error, 'code') || tools.text(error, 'name') || 'Error';
}
