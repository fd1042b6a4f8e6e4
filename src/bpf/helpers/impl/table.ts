/** Every implementation, once: machine, JIT and interpreter import from here, docs/helpers.md is made of it. */
import { KERNEL_KFUNCS } from '../kernel-kfuncs.ts';
import type { KfuncArg, KfuncDecl, KfuncResult } from '../kfunc.ts';
import { ARENA_KFUNCS } from './arena.ts';
import { CHECKSUM_HELPERS } from './checksum.ts';
import { CLOCK_HELPERS } from './clocks.ts';
import type { HelperContext, HelperImpl } from './context.ts';
import { DYNPTR_HELPERS, DYNPTR_KFUNCS } from './dynptr.ts';
import { ITERATOR_KFUNCS } from './iterators.ts';
import { MAP_HELPERS } from './maps.ts';
import { CPUMASK_KFUNCS, OBJECT_HELPERS, OBJECT_KFUNCS } from './objects.ts';
import { PERF_HELPERS } from './perf.ts';
import { PRINT_HELPERS } from './print.ts';
import { PROBE_HELPERS } from './probe.ts';
import { SKB_HELPERS_IMPL } from './skb.ts';
import { SOCKET_HELPERS } from './sockets.ts';
import { STRING_HELPERS } from './strings.ts';
import { SYNCOOKIE_HELPERS } from './syncookies.ts';
import { TASK_HELPERS, TASK_KFUNCS } from './task.ts';
import { TIMER_HELPERS, WORKQUEUE_KFUNCS } from './timers.ts';
import { TRACING_HELPERS } from './tracing.ts';
import { XDP_HELPERS } from './xdp.ts';

/** By file. */
const HELPER_FILES: Readonly<Record<string, Readonly<Record<string, HelperImpl>>>> = {
  clocks: CLOCK_HELPERS,
  task: TASK_HELPERS,
  probe: PROBE_HELPERS,
  strings: STRING_HELPERS,
  print: PRINT_HELPERS,
  perf: PERF_HELPERS,
  checksum: CHECKSUM_HELPERS,
  dynptr: DYNPTR_HELPERS,
  maps: MAP_HELPERS,
  timers: TIMER_HELPERS,
  objects: OBJECT_HELPERS,
  xdp: XDP_HELPERS,
  skb: SKB_HELPERS_IMPL,
  sockets: SOCKET_HELPERS,
  syncookies: SYNCOOKIE_HELPERS,
  tracing: TRACING_HELPERS,
};
const KFUNC_FILES: typeof HELPER_FILES = {
  iterators: ITERATOR_KFUNCS,
  dynptr: DYNPTR_KFUNCS,
  objects: { ...OBJECT_KFUNCS, ...CPUMASK_KFUNCS },
  timers: WORKQUEUE_KFUNCS,
  task: TASK_KFUNCS,
  arena: ARENA_KFUNCS,
};

/** Imports `helper.<name>` of a machine, but for those of `../../machine/imports.ts`. */
export const HELPER_IMPLS: Readonly<Record<string, HelperImpl>> = Object.assign(
  {},
  ...Object.values(HELPER_FILES),
);

/** Imports `kfunc.<name>`. */
export const KFUNC_IMPLS: Readonly<Record<string, HelperImpl>> = Object.assign(
  {},
  ...Object.values(KFUNC_FILES),
);

/** The file of an implementation in this folder, without `.ts`. */
export function fileOf(name: string): string | undefined {
  const files = Object.entries({ ...HELPER_FILES }).concat(Object.entries(KFUNC_FILES));
  return files.find(([, impls]) => Object.hasOwn(impls, name))?.[0];
}

/** Ids of the machine's kernel functions: far from those of a BTF. */
const FIRST_ID = 0x6b00_0000;

function resultOf(ret: string): KfuncResult {
  if (ret === 'void') return 'void';
  if (ret === 'int64') return 'slot64';
  // Addresses have no sign, and an int leaves the upper half of r0 zero, as on x86.
  return 'f64';
}

const argOf = (arg: string): KfuncArg =>
  arg === 'int' || arg === 'any64' ? 'u64' : arg === 'const' ? 'const' : 'u32';

/** What the JIT and the interpreter do themselves. */
export const EMITTED_KFUNCS: ReadonlySet<string> = new Set(['bpf_throw']);

/** The kernel functions that programs of a machine can call; `kfuncs` of ProgramInput. */
export const MACHINE_KFUNCS: readonly KfuncDecl[] = [...KERNEL_KFUNCS.values()]
  .filter(({ name }) => Object.hasOwn(KFUNC_IMPLS, name) || EMITTED_KFUNCS.has(name))
  .map((kernel, index) => ({
    id: FIRST_ID + index,
    name: kernel.name,
    args: kernel.args.map(argOf),
    result: resultOf(kernel.ret),
    kernel,
  }));

const declarations = new Map(MACHINE_KFUNCS.map((decl) => [decl.name, decl]));

type Bound = (...args: (number | bigint)[]) => number | bigint | undefined;

/** With as many parameters as the import has: V8 compiles a second adapter for a function that takes another number. */
function withContext(c: HelperContext, impl: HelperImpl): Bound {
  switch (impl.length) {
    case 1:
      return () => impl(c);
    case 2:
      return (a1) => impl(c, a1!);
    case 3:
      return (a1, a2) => impl(c, a1!, a2!);
    case 4:
      return (a1, a2, a3) => impl(c, a1!, a2!, a3!);
    case 5:
      return (a1, a2, a3, a4) => impl(c, a1!, a2!, a3!, a4!);
    case 6:
      return (a1, a2, a3, a4, a5) => impl(c, a1!, a2!, a3!, a4!, a5!);
    default:
      return (...args) => impl(c, ...args);
  }
}

/** What a program imports, for one CPU. */
export function bindHelpers(c: HelperContext, names: Iterable<string>): Record<string, Bound> {
  const bound: Record<string, Bound> = {};
  for (const used of names) {
    for (const name of [used, `${used}_dyn`]) {
      const impl = Object.hasOwn(HELPER_IMPLS, name) ? HELPER_IMPLS[name]! : undefined;
      if (impl !== undefined) bound[name] = withContext(c, impl);
    }
  }
  return bound;
}

/** A u64 argument comes as two words, low first. */
export function bindKfuncs(c: HelperContext, names: Iterable<string>): Record<string, Bound> {
  const bound: Record<string, Bound> = {};
  for (const name of names) {
    const impl = Object.hasOwn(KFUNC_IMPLS, name) ? KFUNC_IMPLS[name]! : undefined;
    const decl = declarations.get(name);
    if (impl === undefined || decl === undefined) continue;
    const isWord = decl.result === 'f64';
    bound[name] = (...words) => {
      let at = 0;
      const args = decl.args.map((kind) => {
        const low = words[at++] as number;
        if (kind !== 'u64') return low;
        return BigInt.asIntN(64, (BigInt(words[at++] as number) << 32n) | BigInt(low >>> 0));
      });
      const result = impl(c, ...args);
      return isWord ? (result as number) >>> 0 : result;
    };
  }
  return bound;
}
