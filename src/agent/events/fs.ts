/** Operations of node:fs, in its three forms. */

import { codeOf } from './system.ts';
import { all, type Source, type Stop, type Tools } from './tools.ts';

const { apply, getOwnPropertyDescriptor } = Reflect;

/** Operations by name; each has a form with a callback, one with `Sync`, and most one in fs.promises. */
const OPERATIONS = [
  ...['access', 'appendFile', 'chmod', 'chown', 'close', 'copyFile', 'cp', 'exists', 'fchmod', 'fchown'],
  ...['fdatasync', 'fstat', 'fsync', 'ftruncate', 'futimes', 'lchmod', 'lchown', 'link', 'lstat', 'lutimes'],
  ...['mkdir', 'mkdtemp', 'open', 'opendir', 'read', 'readdir', 'readFile', 'readlink', 'readv', 'realpath'],
  ...['rename', 'rm', 'rmdir', 'stat', 'statfs', 'symlink', 'truncate', 'unlink', 'utimes', 'write'],
  ...['writeFile', 'writev'],
];

type Api = 'callback' | 'sync' | 'promise';

interface Operation {
  readonly holder: object;
  readonly key: string;
  readonly op: string;
  readonly api: Api;
}

function operations(fs: Record<string, unknown>): Operation[] {
  const found: Operation[] = [];
  const add = (holder: object, key: string, op: string, api: Api): void => {
    const value: unknown = getOwnPropertyDescriptor(holder, key)?.value;
    if (typeof value === 'function') found.push({ holder, key, op, api });
  };
  const promises = fs['promises'] as object;
  for (const op of OPERATIONS) {
    add(fs, op, op, 'callback');
    add(fs, `${op}Sync`, op, 'sync');
    add(promises, op, op, 'promise');
  }
  return found;
}

type Told = (op: string, api: Api, path: string, fd: number, error: unknown, since: number) => void;

/** Calls of all operations; `begin` and `end` are told of each, `end` with what went wrong. */
function follow(tools: Tools, begin: Told | undefined, end: Told | undefined): Stop {
  const fs = tools.require('fs') as Record<string, unknown>;
  const { syncBuiltinESMExports } = tools.require('module') as { syncBuiltinESMExports(): void };
  const stops: Stop[] = [];
  const stop = all(
    (): void => syncBuiltinESMExports(),
    () => all(...stops)(),
  );
  try {
    for (const { holder, key, op, api } of operations(fs))
      stops.push(tools.calls(holder, key, observer(tools, op, api, begin, end), api === 'promise'));
    syncBuiltinESMExports();
  } catch (error) {
    stop();
    throw error;
  }
  return stop;
}

/** Paths are strings, or URLs and Buffers, of which only those that are texts are shown. */
function target(tools: Tools, [first]: readonly unknown[]): readonly [string, number] {
  if (typeof first === 'string') return [first, -1];
  if (typeof first === 'number') return ['', first];
  if (typeof first === 'object' && first !== null) return [tools.text(first, 'pathname'), -1];
  return ['', -1];
}

function observer(
  tools: Tools,
  op: string,
  api: Api,
  begin: Told | undefined,
  end: Told | undefined,
): Parameters<Tools['calls']>[2] {
  const began = begin && ((args: unknown[]): void => begin(op, api, ...target(tools, args), undefined, 0));
  if (end === undefined) return { entry: (_, args) => began?.(args) };
  if (api === 'callback') {
    return {
      entry: (_, args) => {
        const since = tools.now();
        const [path, fd] = target(tools, args);
        const at = args.length - 1;
        const callback = args[at];
        if (typeof callback !== 'function') return;
        args[at] = function (this: unknown, ...given: unknown[]): unknown {
          try {
            // exists() has no error to give
            end(op, api, path, fd, op === 'exists' ? undefined : (given[0] ?? undefined), since);
          } catch {
            // nothing of ours may reach the application
          }
          return apply(callback as (...all: unknown[]) => unknown, this, given);
        };
      },
    };
  }
  // calls of one kind that are under way at once: synchronous ones nest, promises are told apart by their arguments
  if (api === 'sync') {
    const since: number[] = [];
    return {
      entry: () => void since.push(tools.now()),
      exit: (_, args, _value, error) => {
        const from = since.pop() ?? tools.now();
        end(op, api, ...target(tools, args), error, from);
      },
    };
  }
  const begun = new Map<unknown, number>();
  return {
    entry: (_, args) => void begun.set(args, tools.now()),
    settle: (_, args, _value, error) => {
      const from = begun.get(args) ?? tools.now();
      begun.delete(args);
      end(op, api, ...target(tools, args), error, from);
    },
  };
}

export const opStart: Source = (emit, tools) =>
  follow(tools, (op, api, path, fd) => emit(undefined, op, api, path, fd), undefined);

export const opEnd: Source = (emit, tools) =>
  follow(tools, undefined, (op, api, path, fd, error, since) =>
    emit(undefined, op, api, path, fd, codeOf(tools, error), tools.now() - since),
  );
