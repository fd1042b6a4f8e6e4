/**
 * `node --import trapline/register app.js`: modules that are loaded from now on get sites, so that they can be traced later
 * with no pause. See README.md.
 */
import { stripNops } from '../arch/v8/instrument-nop.ts';
import { commonJsEntry } from './entry.ts';
import { canHook, hookCommonJs, hookEntry, hookModules, hookModulesFromThread } from './hooks.ts';
import { openDoor } from './knock.ts';
import { prepareFiles, takeLaunch } from './launch.ts';
import { createRegistry } from './registry.ts';
import { noteThreads } from './threads.ts';
import { patchToString } from './to-string.ts';
import { createTransform } from './transform.ts';

const SITES = Symbol.for('trapline.sites');

if (!Object.hasOwn(globalThis, SITES) && canHook()) {
  const registry = createRegistry(stripNops);
  const hidden = { value: registry, writable: false, enumerable: false, configurable: true };
  Object.defineProperty(globalThis, SITES, hidden);
  // What an attaching tracer looks for
  Object.defineProperty(globalThis, Symbol.for('trapline.register'), hidden);
  openDoor(noteThreads());
  const launch = await takeLaunch();
  const entry = commonJsEntry(process.argv, process.execArgv, process.env['NODE_OPTIONS']);
  const eager = launch?.order;
  const transform = createTransform(process.env, eager);
  patchToString();
  hookCommonJs(registry, transform);
  if (hookModules(registry, transform)) hookEntry(entry);
  else hookModulesFromThread({ eager, entry });
  if (launch !== undefined) {
    prepareFiles(registry, transform, launch.order.files);
    await launch.ready();
  }
}
