/** Puts the parts together: see ../agent-main.ts for the interface. */
import { percpuBlock } from '../../kernel/trace/percpu.ts';
import type { AgentMain, AgentOptions } from '../agent-main.ts';
import { createAccessors, type Types } from './accessors.ts';
import { createAsyncId } from './async-id.ts';
import { createHelpers } from './helpers.ts';
import { createHooks } from './hooks.ts';
import { createInspect } from './inspect.ts';
import { createIntercept } from './intercept.ts';
import {
  apply,
  builtinModules,
  callFunction,
  construct,
  ProxyConstructor,
  WeakMapConstructor,
} from './intrinsics.ts';
import { createKfuncs } from './kfuncs.ts';
import { createNatives } from './natives.ts';
import { createPaths } from './paths.ts';
import { createPrograms } from './programs.ts';
import { createSettle } from './settle.ts';
import type { SiteEnv } from './site-code.ts';
import { createSiteCompiler } from './site-compiler.ts';
import { createSites } from './sites.ts';
import { createStacks } from './stacks.ts';
import { createStringWriter, MAX_ROPE } from './strings.ts';
import { createToStringPatch } from './tostring.ts';
import { createTrampolines } from './trampoline.ts';
import { createValues, FAULT } from './values.ts';

/** The application's main thread. */
const MAIN_CPU = 0;

export function createAgentMain(options: AgentOptions): AgentMain {
  const { layout, memory, prefix } = options;
  const block = percpuBlock(layout, MAIN_CPU);
  const builtin = builtinModules(options.require);
  const types = (builtin('node:util') as { types: Types }).types;
  const values = createValues(memory, layout, block);
  const strings = createStringWriter(values);
  const natives = createNatives(builtin);
  const inspect = createInspect(types, natives, MAX_ROPE);
  const accessors = createAccessors(types, builtin, values.failure);
  const paths = createPaths(types.isProxy, accessors, values.failure, inspect.names);
  const state: SiteEnv['state'] = { busy: 0, site: undefined };
  const compiledIn = (globalThis as Record<symbol, unknown>)[Symbol.for('trapline.sites')] as
    | { gateUrl?: string }
    | undefined;
  const stacks = createStacks(builtin, () => state.site?.name, compiledIn?.gateUrl);
  const asyncId = createAsyncId(builtin);
  const kfuncs = createKfuncs({
    values,
    paths,
    strings,
    inspect,
    types,
    stackId: stacks.id,
    asyncId: asyncId.current,
  });
  const helpers = createHelpers({
    strings,
    kfuncs: kfuncs.imports,
    view: new DataView(memory.buffer),
    clockBase: layout.clockBase,
    scratch: block.scratch + block.scratchSize / 2,
    print: (line) => options.print?.(line),
    stacks,
    maps: layout.maps,
    ctx: block.ctx,
  });
  const programs = createPrograms(memory, MAIN_CPU, kfuncs.imports, helpers, (name) => {
    // What these need is made now, rather than in the first hit.
    if (name === 'js_stackid' || name === 'get_stackid' || name === 'get_stack') stacks.prepare();
    if (name === 'js_value') natives.hasFewProperties({});
  });
  const sites = createSites(values);
  const settle = createSettle(types, builtin);
  const env: SiteEnv = {
    apply: apply as SiteEnv['apply'],
    call: callFunction,
    construct: construct as SiteEnv['construct'],
    makeProxy: (target, handler) => new ProxyConstructor(target as object, handler),
    state,
    handles: values.handles,
    hit: values.hit,
    ctx: block.ctx,
    i32: values.i32,
    words: values.words,
    put: values.put,
    loadRest: values.loadRest,
    release: values.release,
    runAll: sites.runAll,
    contain: sites.contain,
    followAsync: settle.followAsync,
    isPromise: types.isPromise,
    followPlain: settle.followPlain,
  };
  const compiler = createSiteCompiler(env, builtin);
  const originals = new WeakMapConstructor<object, unknown>();
  const toStringPatch = createToStringPatch(originals);
  const trampolines = createTrampolines(compiler, types, originals, toStringPatch);
  const hooks = createHooks(prefix, sites, trampolines, toStringPatch);
  const intercept = createIntercept(trampolines, values, state);

  return {
    memory,
    prefix,
    setPaths(list) {
      for (let i = 0; i < list.length; i++) accessors.prepare(list[i]!.keys);
      paths.setPaths(list);
    },
    load(images) {
      programs.load(images);
      sites.refresh(programs.get);
    },
    setSites(specs) {
      sites.set(specs, programs.get);
      if (!sites.followsPlain()) settle.stop();
    },
    prepareSites: compiler.prepare,
    enable: (ids) => sites.enable(ids, 1),
    passWrappers: (ids) => sites.enable(ids, 2),
    addMissed: (id, calls) => {
      sites.get(id).nmissed += calls;
    },
    addUnseen: (id) => {
      sites.get(id).unseen++;
    },
    disable(ids) {
      sites.enable(ids, 0);
      if (!sites.followsPlain()) settle.stop();
    },
    wrap: (site, original) => trampolines.wrap(sites.get(site), original),
    unwrap: trampolines.unwrap,
    emitter: (id) => trampolines.code(sites.get(id)).hooks.b as ReturnType<AgentMain['emitter']>,
    intercept,
    property(value, key) {
      try {
        const found = paths.getProperty(value, key);
        return found === FAULT ? undefined : found;
      } catch {
        return undefined;
      }
    },
    installHooks: hooks.install,
    removeHooks: hooks.remove,
    addGlobal: hooks.addGlobal,
    run(index) {
      const program = programs.get(index);
      if (state.busy !== 0 || program.broken) return;
      state.busy = 1;
      state.site = undefined;
      values.clear();
      try {
        program.run(block.ctx);
      } catch {
        program.broken = true;
      }
      values.release();
      state.busy = 0;
    },
    trackAsync: asyncId.track,
    siteStats: sites.stats,
    calls(id) {
      const site = sites.find(id);
      return site === undefined ? 0 : site.nhit + site.nmissed;
    },
    stacks: stacks.since,
    faults: kfuncs.faults,
    dispose() {
      sites.disableAll();
      hooks.removeAll();
      toStringPatch.restore();
      asyncId.track(false);
      settle.stop();
      stacks.dispose();
    },
  };
}
