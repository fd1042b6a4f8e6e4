/** How module texts are reached: Module.prototype._compile for CommonJS, customization hooks for ES modules. */
import Module, { createRequire } from 'node:module';
import { extname } from 'node:path';
import { pathToFileURL } from 'node:url';
import { scriptPath } from '../arch/v8/symbols-path.ts';
import { typesMode } from '../arch/v8/typescript.ts';
import { type Entry, entryResolver } from './entry.ts';
import type { OwnRegistry } from './registry.ts';
import type { EagerFiles, Transform, Transformed } from './transform.ts';

type Compile = (this: unknown, content: unknown, filename: unknown, ...rest: unknown[]) => unknown;

interface LoadResult {
  format?: string | null;
  source?: string | ArrayBuffer | NodeJS.TypedArray | null;
}

interface ResolveContext {
  readonly parentURL?: string | undefined;
}

interface Resolved {
  readonly url: string;
  readonly format?: string | null;
}

export interface SyncHooks {
  registerHooks?(hooks: {
    load?(url: string, context: object, next: (url: string, context: object) => LoadResult): LoadResult;
    resolve?(
      specifier: string,
      context: ResolveContext,
      next: (specifier: string, context: ResolveContext) => Resolved,
    ): Resolved;
  }): { deregister(): void };
}

/** How Node calls what a text is; undefined where it finds out when it has compiled it. */
type Format = 'module' | 'commonjs' | undefined;

/** `module-typescript`, `commonjs-typescript`, and `typescript` where Node finds out. */
const TYPED = /^(?:(module|commonjs)-)?typescript$/;

interface Rewritten {
  readonly made: Transformed;
  /** What Node is to take the text for. */
  readonly format: Format;
}

/** As transformed for what it is, and as Node would ask for it. `name` is a path or a file's URL. */
function rewriter(
  transform: Transform,
): (name: string, text: string, format: unknown) => Rewritten | undefined {
  const types = typesMode();
  return (name, text, format) => {
    const typed = TYPED.exec(String(format));
    if (typed !== null && types === undefined) return undefined;
    const known = (typed === null ? format : typed[1]) as Format;
    const path = scriptPath(name);
    const url = name === path ? pathToFileURL(path).href : name;
    const mode = typed === null ? undefined : types;
    let made = known === 'module' ? undefined : transform(path, text, false, mode);
    if (known !== 'commonjs') made ??= transform(url, text, true, mode);
    if (made === undefined) return undefined;
    // as Node does it: the file that errors and debuggers are to name
    const end = mode === 'strip' ? `\n\n//# sourceURL=${url}` : '';
    return { made: { ...made, source: made.source + end }, format: known };
  };
}

/** CommonJS: require() on every Node, and import of CommonJS. */
export function hookCommonJs(registry: OwnRegistry, transform: Transform): void {
  const prototype = (Module as unknown as { prototype: { _compile: Compile } }).prototype;
  const next = prototype._compile;
  const rewrite = rewriter(transform);
  prototype._compile = function _compile(content, filename, ...rest) {
    const [format] = rest;
    // an ES module that is required has been through the hooks of modules
    if (typeof content === 'string' && typeof filename === 'string' && format !== 'module') {
      const rewritten = rewrite(filename, content, format);
      if (rewritten !== undefined) {
        registry.add(rewritten.made.script);
        const formats = rest.length === 0 ? [] : [rewritten.format, ...rest.slice(1)];
        return Reflect.apply(next, this, [rewritten.made.source, filename, ...formats]);
      }
    }
    return Reflect.apply(next, this, [content, filename, ...rest]);
  };
}

/** ES modules where hooks run in this thread: Node 22.15, 23.5 and later. False on older ones. */
export function hookModules(registry: OwnRegistry, transform: Transform): boolean {
  const { registerHooks } = Module as SyncHooks;
  if (registerHooks === undefined) return false;
  const rewrite = rewriter(transform);
  registerHooks({
    load(url, context, next) {
      const result = next(url, context);
      const { format } = result;
      // CommonJS comes to _compile; typed on Node 22 only where it is required
      if (format !== 'module' && format !== 'module-typescript' && format !== 'commonjs-typescript')
        return result;
      const text = moduleText(result);
      const rewritten = text === undefined ? undefined : rewrite(url, text, format);
      if (rewritten === undefined) return result;
      registry.add(rewritten.made.script);
      return { ...result, format: rewritten.format, source: rewritten.made.source } as LoadResult;
    },
  });
  return true;
}

/** A CommonJS entry is loaded the shorter way. Resolving is left to Node again as soon as that is done. */
export function hookEntry(entry: Entry | undefined): void {
  const { registerHooks } = Module as SyncHooks;
  if (registerHooks === undefined || entry === undefined) return;
  const resolveEntry = entryResolver(entry);
  const hook = registerHooks({
    resolve(specifier, context, next) {
      const result = next(specifier, context);
      const url = resolveEntry(result.url, context.parentURL);
      if (url === result.url) return result;
      queueMicrotask(() => hook.deregister());
      return { url, format: 'module', shortCircuit: true } as Resolved;
    },
  });
}

/** What the loader thread is told. */
export interface LoaderData {
  readonly eager: EagerFiles | undefined;
  readonly entry: Entry | undefined;
}

/** ES modules on Node 20: hooks in a thread of their own (loader.ts). */
export function hookModulesFromThread(data: LoaderData): void {
  const loader = new URL(`./loader${extname(new URL(import.meta.url).pathname)}`, import.meta.url);
  Module.register(loader, { parentURL: pathToFileURL('./'), data });
}

export function moduleText({ source }: LoadResult): string | undefined {
  if (typeof source === 'string') return source;
  if (source === null || source === undefined) return undefined;
  return new TextDecoder().decode(source as Uint8Array);
}

/** The parts of Node's API that this file needs are there. */
export function canHook(): boolean {
  const prototype = (Module as unknown as { prototype?: { _compile?: unknown } }).prototype;
  return typeof prototype?._compile === 'function' && typeof createRequire === 'function';
}
