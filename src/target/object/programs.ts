/** What an object's programs need in a process: helpers that it has, and programs that make their contexts. */

import {
  type CompiledObject,
  jitProgram,
  layoutMemory,
  type MapSpec,
  verifyProgram,
} from '../../bpf/index.ts';
import { TraplineError } from '../../errors.ts';
import { kprobeProgram } from '../../kernel/trace/bpf-trace.ts';
import { JS_KFUNCS, type PropertyPath } from '../../kernel/trace/js-kfuncs.ts';
import { argsProgram, type ContextProgram, recordProgram } from '../../kernel/tracepoint/record-program.ts';
import type { LoadedProgram, TraceSession } from '../session.ts';
import { NCPU } from './maps.ts';
import type { Place, Plan } from './places.ts';

/** Bytes of a text in a record, its NUL among them. */
const MAX_STRING = 256;
/** What the agent's thread gives programs, beside what is inside of them. */
const HELPERS: ReadonlySet<string> = new Set([
  'ktime_get_ns',
  'get_prandom_u32',
  'get_current_pid_tgid',
  'get_current_uid_gid',
  'get_current_comm',
  'probe_read',
  'probe_read_kernel',
  'probe_read_user',
  'probe_read_str',
  'probe_read_kernel_str',
  'probe_read_user_str',
  'trace_printk',
  'get_stackid',
  'get_stack',
  'get_func_ip',
  'get_attach_cookie',
  'tail_call',
]);

/** ENOTSUP for a helper or kernel function that the agent does not have. */
export function checkPrograms({ programs }: CompiledObject, maps: readonly MapSpec[]): void {
  const layout = layoutMemory(maps, { ncpu: NCPU });
  const kfuncs = new Set<string>(Object.keys(JS_KFUNCS));
  for (const { spec, verified } of programs) {
    const module = new WebAssembly.Module(jitProgram(verified, layout).wasm as Uint8Array<ArrayBuffer>);
    for (const { module: space, name } of WebAssembly.Module.imports(module)) {
      const known = space === 'helper' ? HELPERS.has(name) : space === 'kfunc' ? kfuncs.has(name) : true;
      if (known) continue;
      throw new TraplineError(
        'ENOTSUP',
        `program ${spec.name} calls bpf_${name}(), which a process does not have`,
        {
          hint: 'docs/objects.md lists what there is',
        },
      );
    }
  }
}

/** The programs that make contexts, in front of those that have one; the number of each plan's program. */
export function contexts(
  session: TraceSession,
  plans: readonly Plan[],
  places: readonly (readonly Place[])[],
  maps: readonly MapSpec[],
): {
  readonly maps: readonly MapSpec[];
  readonly programs: readonly LoadedProgram[];
  readonly paths: readonly PropertyPath[];
  readonly numbers: readonly number[];
} {
  const all = [...maps];
  const programs: LoadedProgram[] = [];
  const paths: PropertyPath[] = [{ keys: [], position: 0 }];
  const path = (keys: readonly string[]): number => {
    const known = paths.findIndex((one) => JSON.stringify(one.keys) === JSON.stringify(keys));
    return known >= 0 ? known : paths.push({ keys, position: 0 }) - 1;
  };
  const numbers = plans.map((plan, i) => {
    if (plan.kind === 'function' || plan.kind === 'called') return programs.push(plan.verified) - 1;
    const { fields } = places[i]![0]!;
    const map = all.length;
    const options = { fields, map, maxString: MAX_STRING, path, pid: session.info.pid };
    const context = plan.kind === 'tracepoint' ? recordProgram(options) : argsProgram(options);
    all.push({ name: 'context', type: 'array', keySize: 4, valueSize: context.size, maxEntries: 1 });
    checkReads(plan, plans, context);
    const by = programs.push(verifyProgram(kprobeProgram('context', context.insns, all))) - 1;
    return programs.push({ ...plan.verified, context: { by, map } }) - 1;
  });
  return { maps: all, programs, paths, numbers };
}

/** EACCES, as perf_event_attach_bpf_prog() answers to a program that reads behind the event's fields. */
function checkReads(
  { verified: first, spec: { name }, target }: Plan & { readonly target: string },
  plans: readonly Plan[],
  { fixedSize }: ContextProgram,
): void {
  // What it calls has its context, too.
  const called = first.helpersUsed.includes('tail_call')
    ? plans.filter(({ kind, verified }) => kind === 'called' && verified.type === first.type)
    : [];
  const readers = [{ name, reads: first.ctxReads }].concat(
    called.map(({ spec, verified }) => ({ name: spec.name, reads: verified.ctxReads })),
  );
  const last = (reads: ReadonlySet<number>): number => Math.max(-1, ...reads);
  const bad = readers.find(({ reads }) => last(reads) >= fixedSize);
  if (bad === undefined) return;
  throw new TraplineError(
    'EACCES',
    `program ${bad.name} reads offset ${last(bad.reads)} of its context; ${target} has ${fixedSize} bytes`,
    { hint: `its format is in events/${target.replace(':', '/')}/format of trapline tracefs` },
  );
}
