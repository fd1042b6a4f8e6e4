import { aList, checkArgument, having, optional, someOptions } from '../arguments.ts';
import { KernelError } from '../kernel/errno.ts';
import type { FileOps, OpenFlags } from '../kernel/trace/file-operations.ts';
import type { TraceArray } from '../kernel/trace/trace-array.ts';
import type { FilesPart } from '../kernel/trace/trace-files.ts';
import type { Tracing } from '../kernel/trace/tracing.ts';
import { OpenFile } from './open-file.ts';
import { DEFAULT_PARTS } from './parts.ts';

const TRACEFS_OPTIONS = someOptions<TracefsOptions>({ parts: optional(aList) });

/** How a file is opened: as fopen() has it, or flags. */
export type OpenMode = 'r' | 'w' | 'a' | 'r+' | (Partial<OpenFlags> & { readonly create?: boolean });

export interface Stat {
  readonly isDirectory: boolean;
  /** Permission bits. */
  readonly mode: number;
  /** 0 always, as in tracefs. */
  readonly size: number;
}

export interface TracefsOptions {
  /** More files, or others in the place of the built-in ones. */
  readonly parts?: readonly FilesPart[];
}

interface Folder {
  readonly mode: number;
  readonly names: () => Iterable<string>;
  readonly child: (name: string) => Node | undefined;
}
type Node = { readonly folder: Folder } | { readonly file: FileOps };

const NAME_MAX = 255;
const MODES: Record<string, OpenFlags> = {
  r: { read: true, write: false, append: false, truncate: false, nonblock: false },
  w: { read: false, write: true, append: false, truncate: true, nonblock: false },
  a: { read: false, write: true, append: true, truncate: false, nonblock: false },
  'r+': { read: true, write: true, append: false, truncate: false, nonblock: false },
};

/**
 * The tracing folder as a tree in memory (fs/tracefs): names, modes and errors of Linux. Paths are relative to it; a leading
 * `/sys/kernel/tracing` is none of its business. Everything refuses with a KernelError.
 */
export class Tracefs {
  readonly tracing: Tracing;
  readonly #parts: readonly FilesPart[];
  readonly #root: Folder;

  constructor(tracing: Tracing, options: TracefsOptions = {}) {
    checkArgument('new Tracefs()', 'tracing', tracing, having('a Tracing', 'globalTrace', 'arch'));
    checkArgument('new Tracefs()', 'options', options, TRACEFS_OPTIONS);
    this.tracing = tracing;
    this.#parts = [...DEFAULT_PARTS, ...(options.parts ?? [])];
    this.#root = this.#instanceFolder(tracing.globalTrace, true);
  }

  /** ENOENT, ENOTDIR, EISDIR; EACCES where it would have to be created; what the file itself refuses. */
  open(path: string, mode: OpenMode = 'r'): OpenFile {
    const create = typeof mode === 'object' ? mode.create === true : false;
    const flags = typeof mode === 'string' ? MODES[mode]! : { ...MODES['r']!, read: false, ...mode };
    const names = split(path);
    const node = this.#lookup(names);
    if (node === undefined) {
      if (create && this.#lookup(names.slice(0, -1)) !== undefined)
        throw new KernelError('EACCES', `${path}: files cannot be created`);
      throw new KernelError('ENOENT', `${path}: no such file`);
    }
    if ('folder' in node) throw new KernelError('EISDIR', `${path}: is a folder`);
    const tr = this.#instanceOf(names);
    const handle = node.file.open(flags);
    tr.references++;
    return new OpenFile(handle, flags, () => tr.references--);
  }

  /** The whole content. Files that wait (trace_pipe) give what is there. */
  readFile(path: string): string {
    return new TextDecoder().decode(this.readBytes(path));
  }

  readBytes(path: string): Uint8Array {
    const file = this.open(path, { read: true, nonblock: true });
    try {
      return file.readAll();
    } finally {
      file.close();
    }
  }

  /** Opens with O_TRUNC, writes everything, closes: `echo -n TEXT > FILE`. Answers with the bytes taken. */
  writeFile(path: string, data: string | Uint8Array): number {
    return this.#put(path, data, 'w');
  }

  /** `echo -n TEXT >> FILE` */
  appendFile(path: string, data: string | Uint8Array): number {
    return this.#put(path, data, 'a');
  }

  #put(path: string, data: string | Uint8Array, mode: 'w' | 'a'): number {
    const file = this.open(path, mode);
    try {
      return file.writeAll(data);
    } finally {
      file.close();
    }
  }

  /** Names in a folder, sorted. */
  readdir(path: string): string[] {
    const node = this.#need(path);
    if (!('folder' in node)) throw new KernelError('ENOTDIR', `${path}: is no folder`);
    return [...new Set(node.folder.names())].sort();
  }

  stat(path: string): Stat {
    const node = this.#need(path);
    return 'folder' in node
      ? { isDirectory: true, mode: node.folder.mode, size: 0 }
      : { isDirectory: false, mode: node.file.mode, size: 0 };
  }

  exists(path: string): boolean {
    return this.#lookup(split(path)) !== undefined;
  }

  /** An instance. EEXIST; EPERM anywhere but in `instances`. */
  mkdir(path: string): void {
    const names = split(path);
    if (this.#lookup(names) !== undefined) throw new KernelError('EEXIST', `${path}: exists`);
    if (this.#lookup(names.slice(0, -1)) === undefined)
      throw new KernelError('ENOENT', `${path}: no such folder`);
    if (names.length !== 2 || names[0] !== 'instances')
      throw new KernelError('EPERM', `${path}: only instances can be made`);
    this.tracing.createInstance(names[1]!);
  }

  /** EBUSY: files of the instance are open, or something records to it. */
  rmdir(path: string): void {
    const names = split(path);
    const node = this.#need(path);
    if (!('folder' in node)) throw new KernelError('ENOTDIR', `${path}: is no folder`);
    if (names.length !== 2 || names[0] !== 'instances')
      throw new KernelError('EPERM', `${path}: only instances can be removed`);
    this.tracing.removeInstance(names[1]!);
  }

  /** Nothing can be removed or renamed but instances. */
  unlink(path: string): void {
    this.#need(path);
    throw new KernelError('EPERM', `${path}: cannot be removed`);
  }

  rename(from: string, _to: string): void {
    this.#need(from);
    throw new KernelError('EPERM', `${from}: cannot be renamed`);
  }

  #need(path: string): Node {
    const node = this.#lookup(split(path));
    if (node === undefined) throw new KernelError('ENOENT', `${path}: no such file`);
    return node;
  }

  #lookup(names: readonly string[]): Node | undefined {
    let node: Node = { folder: this.#root };
    for (const name of names) {
      if (name.length > NAME_MAX) throw new KernelError('ENAMETOOLONG', 'the name is too long');
      if (!('folder' in node)) throw new KernelError('ENOTDIR', `${name}: its parent is no folder`);
      const child: Node | undefined = node.folder.child(name);
      if (child === undefined) return undefined;
      node = child;
    }
    return node;
  }

  #instanceOf(names: readonly string[]): TraceArray {
    const tr = names[0] === 'instances' ? this.tracing.instances.get(names[1]!) : undefined;
    return tr ?? this.tracing.globalTrace;
  }

  #instanceFolder(tr: TraceArray, top: boolean): Folder {
    // What an instance has does not change; what is in its events does.
    let files: Map<string, FileOps> | undefined;
    const all = (): Map<string, FileOps> => {
      files ??= new Map(
        this.#parts.flatMap((part) => [
          ...Object.entries(part.instance?.(tr) ?? {}),
          ...Object.entries(top ? (part.top?.(this.tracing) ?? {}) : {}),
        ]),
      );
      return files;
    };
    const below = pathFolder(all, '', top ? 0o700 : 0o750, 0o750);
    return {
      mode: below.mode,
      names: () => [...below.names(), 'events', ...(top ? ['instances'] : [])],
      child: (name) => {
        if (name === 'events') return { folder: this.#eventsFolder(tr, all) };
        if (name === 'instances' && top) return { folder: this.#instancesFolder() };
        return below.child(name);
      },
    };
  }

  #instancesFolder(): Folder {
    const { instances } = this.tracing;
    return {
      mode: 0o750,
      names: () => instances.keys(),
      child: (name) => {
        const tr = instances.get(name);
        return tr === undefined ? undefined : { folder: this.#instanceFolder(tr, false) };
      },
    };
  }

  #eventsFolder(tr: TraceArray, all: () => Map<string, FileOps>): Folder {
    const below = pathFolder(all, 'events/', 0o755, 0o755);
    const systems = (): Set<string> => new Set(tr.files.map(({ call }) => call.system));
    return {
      mode: 0o755,
      names: () => [...below.names(), ...systems()],
      child: (name) => {
        if (tr.hasSystem(name)) return { folder: this.#systemFolder(tr, name) };
        return below.child(name);
      },
    };
  }

  #systemFolder(tr: TraceArray, system: string): Folder {
    const files = (): Map<string, FileOps> =>
      new Map(this.#parts.flatMap((part) => Object.entries(part.system?.(tr, system) ?? {})));
    const below = pathFolder(files, '', 0o755, 0o755);
    return {
      mode: 0o755,
      names: () => [
        ...below.names(),
        ...tr.files.filter(({ call }) => call.system === system).map(({ call }) => call.name),
      ],
      child: (name) => {
        const file = tr.file(system, name);
        if (file === undefined) return below.child(name);
        const event = (): Map<string, FileOps> =>
          new Map(this.#parts.flatMap((part) => Object.entries(part.event?.(file) ?? {})));
        return { folder: pathFolder(event, '', 0o755, 0o755) };
      },
    };
  }
}

/** The folder of all paths that begin with `prefix`. */
function pathFolder(
  files: () => Map<string, FileOps>,
  prefix: string,
  mode: number,
  subMode: number,
): Folder {
  return {
    mode,
    *names() {
      for (const path of files().keys())
        if (path.startsWith(prefix) && !(prefix === '' && path.startsWith('events/')))
          yield path.slice(prefix.length).split('/', 1)[0]!;
    },
    child(name) {
      const file = files().get(prefix + name);
      if (file !== undefined) return { file };
      const folder = `${prefix}${name}/`;
      for (const path of files().keys())
        if (path.startsWith(folder)) return { folder: pathFolder(files, folder, subMode, subMode) };
      return undefined;
    },
  };
}

function split(path: string): string[] {
  const names: string[] = [];
  for (const name of path.split('/')) {
    if (name === '' || name === '.') continue;
    if (name === '..') names.pop();
    else names.push(name);
  }
  return names;
}
