/** A module's text to the same text with sites, or to itself where that cannot or must not be done. */
import { blacklistReason } from '../arch/v8/blacklist.ts';
import { compileNops, type NopEnds, type NopScript } from '../arch/v8/instrument-nop.ts';
import { scriptPath } from '../arch/v8/symbols-path.ts';
import { stripTypes, type TypesMode } from '../arch/v8/typescript.ts';
import { hashOf, openCache } from './cache.ts';
import { pathFilter } from './filter.ts';
import type { NewScript } from './registry.ts';

export interface Transformed {
  readonly source: string;
  readonly script: NewScript;
}

/** `types`: the source is TypeScript, which Node runs in this way. */
export type Transform = (
  url: string,
  source: string,
  isModule: boolean,
  types?: TypesMode,
) => Transformed | undefined;

/** Functions shorter than this keep no site: measured on the TypeScript compiler (bench/compiled-in.mjs). */
const MIN_LENGTH = 100;

/** Files in which every function is to get a site, whatever the environment says of the others. */
export interface EagerFiles {
  readonly files: readonly string[];
  /** And one that tells the ends of calls, with no frame of ours below them. */
  readonly ends: boolean;
}

/**
 * Reads TRAPLINE_INCLUDE, TRAPLINE_EXCLUDE (globs for path ends, comma-separated), TRAPLINE_MIN_LENGTH, TRAPLINE_ENDS (`all`, `body`)
 * and TRAPLINE_CACHE. The function it returns never throws.
 */
export function createTransform(env: NodeJS.ProcessEnv, eager?: EagerFiles): Transform {
  const wanted = pathFilter(env['TRAPLINE_INCLUDE'], env['TRAPLINE_EXCLUDE']);
  const usualLength = Number(env['TRAPLINE_MIN_LENGTH'] ?? MIN_LENGTH) || 0;
  const asked = env['TRAPLINE_ENDS'];
  const usualEnds: NopEnds = asked === 'all' || asked === 'body' ? asked : 'named';
  const cache = openCache(env['TRAPLINE_CACHE']);
  const eagerFiles = new Set(eager?.files);
  return (url, source, isModule, types) => {
    const path = scriptPath(url);
    const isEager = eagerFiles.has(path);
    if (blacklistReason(path) !== undefined || (!isEager && !wanted(path))) return undefined;
    const minLength = isEager ? 0 : usualLength;
    const ends: NopEnds = isEager && eager?.ends === true ? 'body' : usualEnds;
    try {
      const version = types === undefined ? [] : [types, process.version];
      const key = hashOf(url, source, String(isModule), String(minLength), ends, ...version);
      const gate = `$tl${key.slice(0, 12)}`;
      let made: NopScript | undefined = cache.get(key, source.length);
      if (made === undefined) {
        const text = types === undefined ? source : stripTypes(source, path, types);
        if (text !== undefined) made = compileNops(text, isModule, { gate, minLength, ends });
        if (made === undefined) return undefined;
        cache.put(key, source.length, made);
      }
      const { forms, selves } = made;
      const content = isEager ? hashOf(source) : undefined;
      return { source: made.source, script: { url, gate, forms, selves, content, types } };
    } catch {
      // What cannot be parsed here may be fine for V8, or will be reported by it in its own words
      return undefined;
    }
  };
}
