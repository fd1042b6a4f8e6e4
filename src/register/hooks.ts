/** How module texts are reached: Module.prototype._compile for CommonJS, customization hooks for ES modules. */
import Module, { createRequire } from 'node:module';
import { extname } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Entry, entryResolver } from './entry.ts';
import type { OwnRegistry } from './registry.ts';
import type { EagerFiles, Transform } from './transform.ts';

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
  stripTypeScriptTypes?(code: string): string;
}

/** CommonJS: require() on every Node, and import of CommonJS. */
export function hookCommonJs(registry: OwnRegistry, transform: Transform): void {
  const prototype = (Module as unknown as { prototype: { _compile: Compile } }).prototype;
  const next = prototype._compile;
  prototype._compile = function _compile(content, filename, ...rest) {
    let text = content;
    // The last argument is the format: `module` where require() loads an ES module
    if (typeof content === 'string' && typeof filename === 'string' && rest[0] !== 'module') {
      const made = transform(filename, content, false);
      if (made !== undefined) {
        registry.add(made.script);
        text = made.source;
      }
    }
    return Reflect.apply(next, this, [text, filename, ...rest]);
  };
}

/** ES modules where hooks run in this thread: Node 22.15, 23.5 and later. False on older ones. */
export function hookModules(registry: OwnRegistry, transform: Transform): boolean {
  const { registerHooks, stripTypeScriptTypes } = Module as SyncHooks;
  if (registerHooks === undefined) return false;
  registerHooks({
    load(url, context, next) {
      const result = next(url, context);
      const typed = result.format === 'module-typescript';
      if (result.format !== 'module' && !(typed && stripTypeScriptTypes !== undefined)) return result;
      let text = moduleText(result);
      if (text === undefined) return result;
      if (typed) {
        try {
          text = stripTypeScriptTypes!(text);
        } catch {
          return result;
        }
      }
      const made = transform(url, text, true);
      if (made === undefined) return result;
      registry.add(made.script);
      return { ...result, format: 'module', source: made.source };
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
