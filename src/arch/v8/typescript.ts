/**
 * TypeScript as Node runs it: what `module.stripTypeScriptTypes` makes of a text is what V8 gets. `strip` leaves blanks where types were,
 * so lines and columns are those of the file; `transform` (--experimental-transform-types, Node 22 to 24) writes it anew, with a source map.
 */
import Module from 'node:module';

export type TypesMode = 'strip' | 'transform';

type Strip = (code: string, options: { mode: TypesMode; sourceMap?: boolean; sourceUrl?: string }) => string;

/** How this process runs TypeScript itself; undefined where it does not, or cannot say what it makes of it. */
export function typesMode(): TypesMode | undefined {
  const { typescript } = process.features as { readonly typescript?: TypesMode | false };
  return stripper() !== undefined && typescript !== false ? typescript : undefined;
}

/**
 * The JavaScript that Node makes of a file's text, without the comment that names the file. Undefined where it refuses to: files
 * in node_modules, syntax that it does not have. `path` is absolute.
 */
export function stripTypes(text: string, path: string, mode: TypesMode): string | undefined {
  const strip = stripper();
  if (strip === undefined || /[/\\]node_modules[/\\]/i.test(path)) return undefined;
  const { emitWarning } = process;
  // that it is experimental is no news of the application's
  process.emitWarning = () => {};
  try {
    return strip(text, mode === 'strip' ? { mode } : { mode, sourceMap: true, sourceUrl: path });
  } catch {
    return undefined;
  } finally {
    process.emitWarning = emitWarning;
  }
}

function stripper(): Strip | undefined {
  return (Module as unknown as { readonly stripTypeScriptTypes?: Strip }).stripTypeScriptTypes;
}
