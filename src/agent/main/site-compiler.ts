/** Compiles the text of siteCode() anew for each site. */
import { type AnyFunction, apply, type BuiltinModules, functionToString } from './intrinsics.ts';
import { type SiteCode, type SiteEnv, type SiteState, siteCode } from './site-code.ts';

/** Starts the script name of everything the agent compiles: stacks leave such frames out. */
export const SCRIPT_PREFIX = 'trapline:';

/** So many sites get code of their own; the others share one copy each mode, at some 10 ns more a hit. */
const OWN_CODE = 512;

export interface SiteCompiler {
  /** `sloppy` code is for originals in sloppy mode: its functions look the same from outside. */
  compile(site: SiteState, sloppy: boolean): SiteCode;
}

export function createSiteCompiler(env: SiteEnv, builtin: BuiltinModules): SiteCompiler {
  const { Script } = builtin('node:vm') as typeof import('node:vm');
  const { runInThisContext } = Script.prototype as { runInThisContext: AnyFunction };
  const text = functionToString(siteCode);
  const shared: { [mode: string]: typeof siteCode | undefined } = { __proto__: null as never };
  let own = 0;

  function make(sloppy: boolean): typeof siteCode {
    const script = new Script(`${sloppy ? '' : "'use strict';"}(${text})`, {
      filename: `${SCRIPT_PREFIX}site`,
    });
    return apply(runInThisContext, script, []) as typeof siteCode;
  }

  return {
    compile(site, sloppy) {
      if (own < OWN_CODE) {
        own++;
        return make(sloppy)(env, site);
      }
      const mode = sloppy ? 'sloppy' : 'strict';
      shared[mode] ??= make(sloppy);
      return shared[mode](env, site);
    },
  };
}
