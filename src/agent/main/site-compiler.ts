/** Makes the functions of siteCode() anew for each site. */
import { type AnyFunction, apply, type BuiltinModules, functionToString } from './intrinsics.ts';
import { type SiteCode, type SiteEnv, type SiteState, siteCode, siteCodeOf } from './site-code.ts';

/** Starts the script name of everything the agent compiles: stacks leave such frames out. */
export const SCRIPT_PREFIX = 'trapline:';

/** So many sites get code of their own; the others share one copy each mode, at some 10 ns more a hit. */
const OWN_CODE = 512;

export interface SiteCompiler {
  /** `sloppy` code is for originals in sloppy mode: its functions look the same from outside. */
  compile(site: SiteState, sloppy: boolean): SiteCode;
  /** V8 compiles the text now: each site makes its functions of that. */
  prepare(sloppy: boolean): void;
}

export function createSiteCompiler(env: SiteEnv, builtin: BuiltinModules): SiteCompiler {
  const { Script } = builtin('node:vm') as typeof import('node:vm');
  const { runInThisContext } = Script.prototype as { runInThisContext: AnyFunction };
  const text = functionToString(siteCode);
  const shared: { [mode: string]: typeof siteCode | undefined } = { __proto__: null as never };
  const scripts: { [mode: string]: import('node:vm').Script | undefined } = { __proto__: null as never };
  let own = 0;

  function script(sloppy: boolean): import('node:vm').Script {
    const mode = sloppy ? 'sloppy' : 'strict';
    scripts[mode] ??= new Script(`${sloppy ? '' : "'use strict';"}(${text})`, {
      filename: `${SCRIPT_PREFIX}site`,
    });
    return scripts[mode];
  }

  /** Each run makes functions that V8 keeps feedback of their own for. */
  function make(sloppy: boolean): typeof siteCode {
    return apply(runInThisContext, script(sloppy), []) as typeof siteCode;
  }

  return {
    compile(site, sloppy) {
      // those of interceptors are many, and never run programs
      if (own < OWN_CODE && site.id >= 0) {
        own++;
        return siteCodeOf(make(sloppy), env, site);
      }
      const mode = `${sloppy ? 'sloppy' : 'strict'}${site.id < 0 ? ' intercepted' : ''}`;
      shared[mode] ??= make(sloppy);
      return siteCodeOf(shared[mode], env, site);
    },
    prepare(sloppy) {
      script(sloppy);
    },
  };
}
