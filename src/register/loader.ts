/**
 * The loader thread's side on Node 20. A module's gate has to exist before any of its functions can run, and functions of a
 * module in a cycle run before its first statement: so it is defined by a module that it imports first.
 */
import { entryResolver } from './entry.ts';
import { type LoaderData, moduleText } from './hooks.ts';
import { createTransform } from './transform.ts';

interface LoadResult {
  format?: string | null;
  source?: string | ArrayBuffer | NodeJS.TypedArray | null;
}

let transform = createTransform(process.env);
let resolveEntry = entryResolver(undefined);

/** `data` is what index.ts hands over. */
export function initialize({ eager, entry }: LoaderData): void {
  transform = createTransform(process.env, eager);
  resolveEntry = entryResolver(entry);
}

interface Resolved {
  readonly url: string;
  readonly format?: string | null;
}

export async function resolve(
  specifier: string,
  context: { readonly parentURL?: string },
  next: (specifier: string, context: object) => Promise<Resolved>,
): Promise<Resolved & { readonly shortCircuit?: boolean }> {
  const result = await next(specifier, context);
  const url = resolveEntry(result.url, context.parentURL);
  return url === result.url ? result : { url, format: 'module', shortCircuit: true };
}

export async function load(
  url: string,
  context: object,
  next: (url: string, context: object) => Promise<LoadResult>,
): Promise<LoadResult> {
  const result = await next(url, context);
  if (result.format !== 'module') return result;
  const text = moduleText(result);
  const made = text === undefined ? undefined : transform(url, text, true);
  if (made === undefined) return result;
  const define = `globalThis[Symbol.for('trapline.sites')]?.add(${JSON.stringify(made.script)})`;
  const first = `/*{tl*/import${JSON.stringify(`data:text/javascript,${encodeURIComponent(define)}`)};/*tl}*/`;
  const { source } = made;
  const end = source.startsWith('#!') ? source.indexOf('\n') + 1 : 0;
  return { ...result, source: source.slice(0, end) + first + source.slice(end) };
}
