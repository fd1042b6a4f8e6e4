/** The debugger's scripts with their texts, without those that nothing runs any more. */

import type { ScriptText } from '../arch/v8/symbols-cache.ts';
import type { ScriptInfo } from '../arch/v8/types.ts';
import type { AgentConnection } from './connection.ts';
import { dropLeftovers, replacedScripts } from './leftovers.ts';
import { fileText, isListed, isOwnText, named, type TextSpace } from './text-space.ts';

/**
 * Enables the debugger. Texts that are at hand, or the file's by V8's hash, are not asked for. `onDoubt` is told of urls with a text that
 * is left out, and may be a module that was loaded again.
 */
export async function liveScripts(
  connection: AgentConnection,
  text: TextSpace,
  wanted: (info: ScriptInfo) => boolean,
  onDoubt: (url: string) => void = () => {},
): Promise<ScriptText[]> {
  const sourceOf = async (info: ScriptInfo): Promise<string | undefined> => {
    const { scriptId } = info;
    const known = text.get(scriptId)?.source ?? fileText(info);
    return known ?? (await connection.request('source', { scriptId })).source;
  };
  const all = await connection.request('scripts');
  const listed = all.map(named).filter((script) => isListed(script) && wanted(script));
  const texts: ScriptText[] = [];
  for (const [index, source] of (await Promise.all(listed.map(sourceOf))).entries()) {
    // V8 has collected it meanwhile
    if (source !== undefined) texts.push({ info: listed[index] as ScriptInfo, source });
  }
  const { live, doubtful } = dropLeftovers(
    texts.map(({ info }) => info),
    texts.map(({ source }) => source),
    replacedScripts(all),
  );
  for (const url of new Set(doubtful.map((script) => script.url))) onDoubt(url);
  return texts.filter(({ info, source }) => live.has(info) && !isOwnText(info, source));
}
