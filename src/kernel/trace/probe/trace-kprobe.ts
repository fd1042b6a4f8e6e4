/** kprobe events: the commands `p` and `r` (kernel/trace/trace_kprobe.c). */

import type { ErrnoCode } from '../../errno.ts';
import { KernelError } from '../../errno.ts';
import { readable, utf8String } from '../byte-string.ts';
import { argvSplit, isDigit } from '../c-text.ts';
import { kstrtouint, kstrtoul } from '../kstrto.ts';
import type { TraceArch } from '../trace-arch.ts';
import { TRACE_EVENT_FL_KPROBE } from '../trace-event.ts';
import type { DynEventOps, DynEvents } from './dynevent.ts';
import { MAX_EVENT_NAME_LEN, parseEventName, sanitizeEventName } from './event-name.ts';
import { FunctionProbe, type FunctionProbeOptions, type ProbePlace } from './function-probe.ts';
import { checkKprobe, countSymbols, isNotrace, kprobeSite } from './kprobe-site.ts';
import { expandDentryArgs, expandMetaArgs } from './meta-args.ts';
import { type ProbeArg, parseProbeArg } from './parse-arg.ts';
import { funcProto, type ParseContext, type ProbeSite, parseContext } from './parse-context.ts';
import { ProbeLog } from './probe-log.ts';
import { lookupName, showArgs, splitSymbolOffset, updateArgs } from './trace-probe.ts';

const KPROBE_EVENT_SYSTEM = 'kprobes';
const KRETPROBE_MAXACTIVE_MAX = 4096;
export const MAX_TRACE_ARGS = 128;
const UINT_MAX = 0xffff_ffffn;

/** Where a kprobe shall be: a symbol and an offset, or an address. */
type Target =
  | { readonly symbol: string; readonly offset: bigint }
  | { readonly symbol: undefined; readonly address: bigint };

export class TraceKprobe extends FunctionProbe {
  readonly target: Target;
  maxactive: number;

  constructor(options: FunctionProbeOptions & { readonly target: Target; readonly maxactive: number }) {
    super(options);
    this.target = options.target;
    this.maxactive = options.maxactive;
  }

  get location(): string {
    const { target } = this;
    if (target.symbol === undefined) return pointerText(target.address);
    return target.offset === 0n ? target.symbol : `${target.symbol}+${target.offset}`;
  }

  /** Two addresses are not told apart, as in the kernel. */
  protected get identity(): string {
    return this.target.symbol === undefined ? 'unknown' : this.location;
  }

  get module(): string | undefined {
    const colon = this.target.symbol?.indexOf(':') ?? -1;
    return colon < 0 ? undefined : this.target.symbol?.slice(0, colon);
  }

  show(): string {
    const kind = this.ret ? `r${this.maxactive || ''}` : 'p';
    return `${kind}:${this.call.system}/${this.call.name} ${this.location}${showArgs(this.args)}\n`;
  }

  sameKind(other: FunctionProbe): boolean {
    return other.ret === this.ret;
  }

  /** trace_kprobe_module_callback() */
  moduleChanged(module: string): void {
    if (this.module === utf8String(module)) this.reattach();
  }

  /** __register_trace_kprobe(). A module that is not there yet may come. */
  protected findPlaces(): readonly ProbePlace[] | ErrnoCode {
    const { arch } = this.tracing;
    const { address } = targetAddress(arch, this.target);
    // A name that became ambiguous with its module.
    if (this.module !== undefined && countOf(arch, this.target) > 1) return 'EADDRNOTAVAIL';
    if (isNotrace(arch, address)) return 'EINVAL';
    const site = updateArgs(this.args, arch) ?? checkKprobe(arch, address, this.ret);
    if (typeof site === 'string') return site === 'ENOENT' && !this.#moduleExists() ? [] : site;
    if (this.ret && this.maxactive <= 0) this.maxactive = Math.max(10, 2 * arch.ncpu);
    const at = {
      address: site.address,
      ret: this.ret,
      maxactive: this.maxactive,
      entryArgs: this.entryArgs,
      code: this.code,
      consumers: this.consumers(site.address),
    };
    return [{ address: site.address, arm: (hit) => arch.armProbe(at, hit) }];
  }

  #moduleExists(): boolean {
    if (this.target.symbol === undefined) return false;
    return this.module === undefined || this.tracing.arch.hasModule(readable(this.module));
  }
}

function targetAddress(arch: TraceArch, target: Target): { readonly address: bigint | undefined } {
  if (target.symbol === undefined) return { address: target.address };
  const address = lookupName(arch, target.symbol);
  return { address: address === undefined ? undefined : BigInt.asUintN(64, address + target.offset) };
}

function countOf(arch: TraceArch, { symbol = '' }: Target): number {
  const colon = symbol.indexOf(':');
  return countSymbols(arch, symbol.slice(colon + 1), symbol.slice(0, colon));
}

/** `0x%p` */
function pointerText(address: bigint): string {
  return `0x${address.toString(16).padStart(16, '0')}`;
}

/** The commands `p` and `r` of `kprobe_events` and `dynamic_events`. */
export function kprobeOps(dynEvents: DynEvents): DynEventOps {
  const ops: DynEventOps = { create: (command) => createKprobe(dynEvents, ops, argvSplit(command)) };
  return ops;
}

/** __trace_kprobe_create(): `p|r[MAXACTIVE][:[GRP/][EVENT]] [MOD:]SYM[+OFFS][%return]|ADDR [FETCHARGS]` */
function createKprobe(dynEvents: DynEvents, ops: DynEventOps, argv: readonly string[]): boolean {
  const [head, place, ...words] = argv;
  if (head === undefined) return true;
  if ((head[0] !== 'r' && head[0] !== 'p') || place === undefined) return false;
  const { arch } = dynEvents.tracing;
  const log: ProbeLog = new ProbeLog(dynEvents.tracing, 'trace_kprobe', argv);
  const colon = head.indexOf(':', 1);
  const maxactive = parseMaxactive(head, colon, KRETPROBE_MAXACTIVE_MAX, head[0] === 'r', log);
  const parsed = parseTarget(arch, place, head[0] === 'r', log);
  if (parsed === undefined) return false;
  const { target, ret, site } = parsed;

  log.index = 0;
  const named = colon < 0 ? undefined : parseEventName(head.slice(colon + 1), colon + 1, log);
  const letter = ret ? 'r' : 'p';
  const name =
    named?.event ??
    madeName(
      target.symbol === undefined
        ? `${letter}_${pointerText(target.address)}`
        : `${letter}_${target.symbol}_${target.offset}`,
    );
  const ctx = parseContext({
    arch,
    log,
    site,
    proto: target.symbol === undefined ? undefined : funcProto(arch.lookupSymbol(readable(target.symbol))[0]),
    event: undefined,
  });
  const { args, size } = parseArgs(words, ctx);
  new TraceKprobe({
    dynEvents,
    ops,
    group: named?.group ?? KPROBE_EVENT_SYSTEM,
    name,
    ret,
    args,
    size,
    entryArgs: ctx.entryArgs,
    flags: TRACE_EVENT_FL_KPROBE,
    target,
    maxactive,
  }).register(log);
  return true;
}

/** A name that is made of others. */
export function madeName(text: string): string {
  return sanitizeEventName(text.slice(0, MAX_EVENT_NAME_LEN - 1));
}

/** `r[MAXACTIVE]`: 0 where it is not given. */
export function parseMaxactive(
  head: string,
  colon: number,
  max: number,
  allowed: boolean,
  log: ProbeLog,
): number {
  if (!isDigit(head, 1)) return 0;
  if (!allowed) log.reject(1, 'BAD_MAXACT_TYPE');
  const digits = head.slice(1, colon < 0 ? undefined : colon);
  const value = digits.length > MAX_EVENT_NAME_LEN - 1 ? undefined : kstrtouint(digits);
  // The kernel keeps it in an int.
  if (value === undefined || value === 0) log.reject(1, 'BAD_MAXACT');
  if ((value | 0) > max) log.reject(1, 'MAXACT_TOO_BIG');
  return value | 0;
}

/** The place, and whether the probe is one of a return; undefined where it is a uprobe's. */
function parseTarget(
  arch: TraceArch,
  place: string,
  isReturn: boolean,
  log: ProbeLog,
): { readonly target: Target; readonly ret: boolean; readonly site: ProbeSite } | undefined {
  const address = kstrtoul(place);
  if (address !== undefined) {
    return { target: { symbol: undefined, address }, ret: isReturn, site: { kind: 'kprobe', at: 'body' } };
  }
  log.index = 1;
  if (place.includes('/') && place.includes(':')) return undefined;
  const percent = place.indexOf('%');
  if (percent >= 0 && place.slice(percent) !== '%return') log.reject(percent, 'BAD_ADDR_SUFFIX');
  const ret = isReturn || percent >= 0;
  const { symbol, offset } = splitSymbolOffset(percent < 0 ? place : place.slice(0, percent));
  if (offset === undefined || offset < 0n || offset > UINT_MAX) log.reject(0, 'BAD_PROBE_ADDR');
  validateSymbol(arch, symbol, log);
  const { address: at } = targetAddress(arch, { symbol, offset });
  const entry = at === undefined ? undefined : kprobeSite(arch, at)?.entry;
  if (ret && entry === false) log.reject(0, 'BAD_RETPROBE');
  const where = ret ? 'return' : entry === true ? 'entry' : 'body';
  return { target: { symbol, offset }, ret, site: { kind: 'kprobe', at: where } };
}

/** validate_probe_symbol(): one symbol has the name, or its module is not there. */
function validateSymbol(arch: TraceArch, symbol: string, log: ProbeLog): void {
  const colon = symbol.indexOf(':');
  const module = colon < 0 ? undefined : symbol.slice(0, colon);
  if (module !== undefined && !arch.hasModule(readable(module))) return;
  const count = countSymbols(arch, symbol.slice(colon + 1), module);
  if (count > 1) log.reject(0, 'NON_UNIQ_SYMBOL');
  if (count === 0) log.reject(0, 'BAD_PROBE_ADDR');
}

/** The fetch arguments of a function's probe, with what `$arg*` and `%pd` stand for. */
export function parseArgs(
  words: readonly string[],
  ctx: ParseContext,
): { readonly args: readonly ProbeArg[]; readonly size: number } {
  const meta = expandMetaArgs(words, ctx);
  const expanded = meta ?? words;
  if (expanded.length > MAX_TRACE_ARGS) {
    throw new KernelError('E2BIG', `a probe has at most ${MAX_TRACE_ARGS} arguments`);
  }
  const dentries = expandDentryArgs(expanded);
  // The kernel changes the words that its messages are made of, unless others have taken their place.
  if (meta === undefined) ctx.log.setArgs(dentries);
  const args: ProbeArg[] = [];
  let size = 0;
  for (const [i, word] of dentries.entries()) {
    ctx.log.index = i + 2;
    const arg = parseProbeArg(word, args, size, ctx);
    args.push(arg);
    size = arg.offset + arg.type.size * (arg.count || 1);
  }
  return { args, size };
}
