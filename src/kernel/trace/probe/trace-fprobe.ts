/** fprobe and tracepoint probe events: the commands `f` and `t` (kernel/trace/trace_fprobe.c). */

import type { ErrnoCode } from '../../errno.ts';
import { readable } from '../byte-string.ts';
import { argvSplit, isAlnum, isDigit } from '../c-text.ts';
import { matchFunctions } from '../function-match.ts';
import type { KallsymsSymbol, ProbeTracepoint, TraceArch } from '../trace-arch.ts';
import { TRACE_EVENT_FL_FPROBE } from '../trace-event.ts';
import type { DynEventOps, DynEvents } from './dynevent.ts';
import { parseEventName } from './event-name.ts';
import { FunctionProbe, type FunctionProbeOptions, type ProbePlace } from './function-probe.ts';
import { type FuncProto, funcProto, parseContext } from './parse-context.ts';
import { ProbeLog } from './probe-log.ts';
import { madeName, parseArgs, parseMaxactive } from './trace-kprobe.ts';
import { showArgs, updateArgs } from './trace-probe.ts';

const FPROBE_EVENT_SYSTEM = 'fprobes';
const TRACEPOINT_EVENT_SYSTEM = 'tracepoints';
const RETHOOK_MAXACTIVE_MAX = 4096;

interface Target {
  readonly symbol: string;
  readonly ret: boolean;
  readonly isTracepoint: boolean;
}

export class TraceFprobe extends FunctionProbe {
  readonly target: Target;
  readonly maxactive: number;

  constructor(options: FunctionProbeOptions & { readonly target: Target; readonly maxactive: number }) {
    super(options);
    this.target = options.target;
    this.maxactive = options.maxactive;
  }

  get location(): string {
    return this.target.symbol;
  }

  protected get identity(): string {
    return this.target.symbol;
  }

  show(): string {
    const { ret, isTracepoint, symbol } = this.target;
    const kind = isTracepoint ? 't' : `f${(ret && this.maxactive) || ''}`;
    const where = `${symbol}${ret ? '%return' : ''}`;
    return `${kind}:${this.call.system}/${this.call.name} ${where}${showArgs(this.args)}\n`;
  }

  sameKind(other: FunctionProbe): boolean {
    return (
      other instanceof TraceFprobe &&
      other.ret === this.ret &&
      other.target.isTracepoint === this.target.isTracepoint
    );
  }

  /** __tracepoint_probe_module_cb() */
  moduleChanged(): void {
    if (this.target.isTracepoint) this.reattach();
  }

  /** __register_trace_fprobe(). A tracepoint that is not there yet may come with its module. */
  protected findPlaces(): readonly ProbePlace[] | ErrnoCode {
    const { arch } = this.tracing;
    const errno = updateArgs(this.args, arch);
    if (errno !== undefined) return errno;
    if (this.target.isTracepoint) {
      const tracepoint = arch.lookupTracepoint?.(readable(this.target.symbol));
      if (tracepoint === undefined) return [];
      if (tracepoint.exclusive && isTaken(this)) return 'EEXIST';
      const { address } = tracepoint;
      const at = { code: this.code, consumers: this.consumers(address) };
      return [{ address, arm: (hit) => tracepoint.arm(hit, at) }];
    }
    const functions = functionsOf(arch, this.target.symbol);
    if (functions.length === 0) return 'EINVAL';
    return functions.map(({ address }) => {
      const at = {
        address,
        ret: this.ret,
        maxactive: this.maxactive,
        entryArgs: this.entryArgs,
        code: this.code,
        consumers: this.consumers(address),
      };
      return { address, arm: (hit) => arch.armProbe(at, hit) };
    });
  }
}

/** ftrace_set_filter(). A name needs no look at all functions. */
function functionsOf(arch: TraceArch, pattern: string): readonly KallsymsSymbol[] {
  const text = readable(pattern);
  if (/[*?[\\]|^\d/.test(text)) return matchFunctions(arch, text, ({ entry }) => entry !== false);
  return arch.lookupSymbol(text).filter(({ entry }) => entry !== false);
}

/** The commands `f` and `t` of `dynamic_events`. */
export function fprobeOps(dynEvents: DynEvents): DynEventOps {
  const ops: DynEventOps = { create: (command) => createFprobe(dynEvents, ops, argvSplit(command)) };
  return ops;
}

/** __trace_fprobe_create(): `f[N][:[GRP/][EVENT]] SYM[%return] [FETCHARGS]`, `t[:[GRP/][EVENT]] TRACEPOINT [FETCHARGS]` */
function createFprobe(dynEvents: DynEvents, ops: DynEventOps, argv: readonly string[]): boolean {
  const [head, place, ...words] = argv;
  if (head === undefined) return true;
  if ((head[0] !== 'f' && head[0] !== 't') || place === undefined) return false;
  const { arch } = dynEvents.tracing;
  const log: ProbeLog = new ProbeLog(dynEvents.tracing, 'trace_fprobe', argv);
  const colon = head.indexOf(':', 1);
  const maxactive = parseMaxactive(head, colon, RETHOOK_MAXACTIVE_MAX, true, log);
  log.index = 1;
  const target = parseTarget(arch, place, words, head[0] === 't', log);
  log.index = 0;
  if (!target.ret && maxactive !== 0) log.reject(1, 'BAD_MAXACT_TYPE');
  const named = colon < 0 ? undefined : parseEventName(head.slice(colon + 1), colon + 1, log);
  const ctx = parseContext({
    arch,
    log,
    site: { kind: target.isTracepoint ? 'tprobe' : 'fprobe', at: target.ret ? 'return' : 'entry' },
    proto: targetProto(arch, target),
    event: undefined,
  });
  const { args, size } = parseArgs(words, ctx);
  new TraceFprobe({
    dynEvents,
    ops,
    group: named?.group ?? (target.isTracepoint ? TRACEPOINT_EVENT_SYSTEM : FPROBE_EVENT_SYSTEM),
    name: named?.event ?? targetName(target),
    ret: target.ret,
    args,
    size,
    entryArgs: ctx.entryArgs,
    flags: TRACE_EVENT_FL_FPROBE,
    target,
    maxactive,
  }).register(log);
  return true;
}

function targetName({ symbol, ret, isTracepoint }: Target): string {
  if (isTracepoint) return madeName(`${isDigit(symbol) ? '_' : ''}${symbol}`);
  return madeName(`${symbol}__${ret ? 'exit' : 'entry'}`);
}

function targetProto(arch: TraceArch, { symbol, isTracepoint }: Target): FuncProto | undefined {
  const ofFunction = funcProto(arch.lookupSymbol(readable(symbol))[0]);
  if (!isTracepoint) return ofFunction;
  const tracepoint: ProbeTracepoint | undefined = arch.lookupTracepoint?.(readable(symbol));
  if (tracepoint !== undefined) {
    return tracepoint.params === undefined
      ? undefined
      : funcProto({ params: tracepoint.params, returnType: 'void' });
  }
  // One that may come: a function of its name tells the types, its first parameter taken for the data pointer.
  return ofFunction === undefined ? undefined : { ...ofFunction, params: ofFunction.params.slice(1) };
}

/** parse_symbol_and_return() */
function parseTarget(
  arch: TraceArch,
  place: string,
  words: readonly string[],
  isTracepoint: boolean,
  log: ProbeLog,
): Target {
  const percent = place.indexOf('%');
  if (percent >= 0) {
    if (isTracepoint || place.slice(percent) !== '%return') log.reject(percent, 'BAD_ADDR_SUFFIX');
    return { symbol: place.slice(0, percent), ret: true, isTracepoint };
  }
  if (isTracepoint && arch.isTracepointName?.(readable(place)) !== true) {
    for (let i = 0; i < place.length; i++) {
      if (!isAlnum(place, i) && place[i] !== '_') log.reject(i, 'BAD_TP_NAME');
    }
  }
  // $retval makes it a probe of the return.
  for (const [i, word] of words.entries()) {
    const at = word.indexOf('$retval');
    if (at < 0 || isAlnum(word, at + 7) || word[at + 7] === '_') continue;
    if (!isTracepoint) return { symbol: place, ret: true, isTracepoint };
    log.index = i + 2;
    log.reject(at, 'RETVAL_ON_PROBE');
  }
  return { symbol: place, ret: false, isTracepoint };
}

/** Whether another probe sits on its tracepoint. */
function isTaken(probe: TraceFprobe): boolean {
  const { isTracepoint, symbol } = probe.target;
  return probe.dynEvents.list.some(
    (each) =>
      each !== probe &&
      each instanceof TraceFprobe &&
      each.target.isTracepoint === isTracepoint &&
      each.target.symbol === symbol,
  );
}
