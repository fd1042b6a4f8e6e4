/**
 * A process that a tracer started (`trapline -c`): it waits in front of its main module until the tracer has attached and
 * armed, and once more when it exits, until the tracer has read what was counted. Only the first Node process of the command
 * does; what it starts finds an environment without any of this.
 */
import { existsSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import {
  EXITING_FILE,
  LAUNCH_SOCKET,
  LAUNCH_VARIABLE,
  type LaunchHello,
  type LaunchOrder,
  OPTIONS_VARIABLE,
} from '../agent/launch-protocol.ts';
import { typesMode } from '../arch/v8/typescript.ts';
import type { OwnRegistry } from './registry.ts';
import type { Transform } from './transform.ts';

/** So long the tracer may read at the exit. */
const EXIT_MS = 10_000;

/** A tracer that waits for this process. */
export interface Launch {
  readonly order: LaunchOrder;
  /** Says that the files are prepared; resolves when the program may begin. */
  ready(): Promise<void>;
}

/** Undefined when no tracer started this process, or it has gone. */
export async function takeLaunch(): Promise<Launch | undefined> {
  const folder = process.env[LAUNCH_VARIABLE];
  if (folder === undefined) return undefined;
  const options = process.env[OPTIONS_VARIABLE];
  delete process.env[LAUNCH_VARIABLE];
  delete process.env[OPTIONS_VARIABLE];
  if (options === undefined) delete process.env['NODE_OPTIONS'];
  else process.env['NODE_OPTIONS'] = options;
  const socket = await open(path.join(folder, LAUNCH_SOCKET));
  if (socket === undefined) return undefined;
  const lines = createInterface({ input: socket })[Symbol.asyncIterator]();
  const send = (value: object): void => void socket.write(`${JSON.stringify(value)}\n`);
  const hello: LaunchHello = {
    pid: process.pid,
    cwd: process.cwd(),
    main: process.argv[1],
    runsTypes: runsTypes(options),
  };
  send(hello);
  const next = async (): Promise<unknown> => {
    try {
      const { done, value } = await lines.next();
      return done === true ? undefined : JSON.parse(value);
    } catch {
      return undefined;
    }
  };
  const order = (await next()) as LaunchOrder | undefined;
  if (order === undefined) {
    socket.destroy();
    return undefined;
  }
  return {
    order,
    ready: async () => {
      send({});
      // a line, or the end: the tracer has gone
      await next();
      socket.destroy();
      waitAtExit(folder, order.tracer);
    },
  };
}

/** Whether TypeScript is what Node makes of it: other modules that are preloaded may have hooks that compile it. */
function runsTypes(nodeOptions = ''): boolean {
  const options = [...process.execArgv, ...nodeOptions.split(/\s+/)];
  const preloads = /^(?:-r|--require|--import|--loader|--experimental-loader)(?:=|$)/;
  return typesMode() !== undefined && !options.some((option) => preloads.test(option));
}

function open(file: string): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const socket = connect(file);
    socket.once('connect', () => resolve(socket));
    socket.on('error', () => resolve(undefined));
  });
}

/** Makes sites of files known that are not loaded yet: they are armed by then, and count from the first call. */
export function prepareFiles(registry: OwnRegistry, transform: Transform, files: readonly string[]): void {
  for (const file of files) {
    try {
      const real = realpathSync(file);
      const text = readFileSync(real, 'utf8');
      const types = /\.[cm]?ts$/.test(real) ? typesMode() : undefined;
      const isModule = isModuleFile(real);
      let made = isModule === true ? undefined : transform(real, text, false, types);
      if (isModule !== false) made ??= transform(pathToFileURL(real).href, text, true, types);
      if (made !== undefined) registry.prepare(made.script);
    } catch {
      // it cannot be read: then it will not be loaded either
    }
  }
}

/** As Node decides: by the extension or the nearest package.json; undefined where the text says it. */
function isModuleFile(file: string): boolean | undefined {
  const [, letter] = /\.([cm])[jt]s$/.exec(file) ?? [];
  if (letter !== undefined) return letter === 'm';
  for (let folder = path.dirname(file); ; folder = path.dirname(folder)) {
    const found = path.join(folder, 'package.json');
    if (existsSync(found)) {
      const { type } = JSON.parse(readFileSync(found, 'utf8')) as { type?: unknown };
      if (type === 'module' || type === 'commonjs') return type === 'module';
      break;
    }
    if (path.dirname(folder) === folder) break;
  }
  return undefined;
}

/**
 * Behind the last listener of `exit`, or where one of them calls process.exit(), the main thread stays until the tracer has read
 * everything. Its loop lets V8 handle the interrupts by which the agent's worker asks for things.
 */
function waitAtExit(folder: string, tracer: number): void {
  const { emit, reallyExit } = process as NodeJS.Process & { readonly reallyExit: (code?: number) => never };
  let waited = false;
  const file = path.join(folder, EXITING_FILE);
  const cell = new Int32Array(new SharedArrayBuffer(4));
  const { now } = performance;
  const wait = (): void => {
    waited = true;
    try {
      writeFileSync(file, '');
    } catch {
      // the tracer has left
      return;
    }
    const until = now.call(performance) + EXIT_MS;
    while (existsSync(file) && isAlive(tracer) && now.call(performance) < until) Atomics.wait(cell, 0, 0, 1);
  };
  const hidden = { writable: true, enumerable: false, configurable: true };
  Object.defineProperty(process, 'emit', {
    value(this: NodeJS.Process, ...args: unknown[]): unknown {
      const result: unknown = Reflect.apply(emit, this, args);
      if (args[0] === 'exit' && !waited) wait();
      return result;
    },
    ...hidden,
  });
  // process.exit() calls it last
  Object.defineProperty(process, 'reallyExit', {
    value(this: NodeJS.Process, ...args: unknown[]): unknown {
      if (!waited) wait();
      return Reflect.apply(reallyExit, this, args);
    },
    ...hidden,
    enumerable: Object.prototype.propertyIsEnumerable.call(process, 'reallyExit'),
  });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
