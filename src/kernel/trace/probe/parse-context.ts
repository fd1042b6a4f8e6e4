import { utf8String } from '../byte-string.ts';
import type { ProbeParam, TraceArch } from '../trace-arch.ts';
import type { TraceEventCall } from '../trace-event.ts';
import type { CType } from './c-type.ts';
import type { ProbeLog } from './probe-log.ts';

/** Where a probe sits, which says what its arguments may be (TPARG_FL_*, kernel/trace/trace_probe.h). */
export interface ProbeSite {
  readonly kind: 'kprobe' | 'fprobe' | 'tprobe' | 'eprobe';
  /** At the function's entry, at its return, or (a kprobe) somewhere else. */
  readonly at: 'entry' | 'return' | 'body';
}

/** struct traceprobe_parse_context */
export interface ParseContext {
  readonly arch: TraceArch;
  readonly log: ProbeLog;
  readonly site: ProbeSite;
  /** Parameters and return type of the probed function, where known; undefined is a function without type information. */
  readonly proto: FuncProto | undefined;
  /** The event that an eprobe is attached to. */
  readonly event: TraceEventCall | undefined;
  /** Arguments (from 0) that a return probe keeps at entry; the parser adds to them. */
  readonly entryArgs: number[];
  /** Bytes from the start of the word to what is being parsed. */
  offset: number;
  lastType: CType | undefined;
  lastBitOffset: number;
  lastBitSize: number;
}

/** Names are byte strings, as those of a command. */
export interface FuncProto {
  readonly params: readonly ProbeParam[];
  readonly returnType: string | undefined;
}

/** btf_find_func_proto(), of a function by its name. */
export function funcProto(
  symbol: { readonly params?: readonly ProbeParam[]; readonly returnType?: string } | undefined,
): FuncProto | undefined {
  if (symbol?.params === undefined) return undefined;
  const params = symbol.params.map((param) => ({ ...param, name: utf8String(param.name) }));
  return { params, returnType: symbol.returnType };
}

export function parseContext(
  options: Pick<ParseContext, 'arch' | 'log' | 'site' | 'proto' | 'event'>,
): ParseContext {
  return {
    ...options,
    entryArgs: [],
    offset: 0,
    lastType: undefined,
    lastBitOffset: 0,
    lastBitSize: 0,
  };
}
