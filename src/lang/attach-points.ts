import { didYouMean } from '../similar.ts';
import type { AttachPointNode, Script } from './ast.ts';
import { Diagnostics } from './diagnostics.ts';
import type { AttachPoint, ProbeType } from './script.ts';

/** What may be written in front of the colon, and the probe type it stands for. */
const PROVIDERS: Record<string, ProbeType> = {
  kprobe: 'kprobe',
  k: 'kprobe',
  kretprobe: 'kretprobe',
  kr: 'kretprobe',
  throw: 'throw',
  settle: 'settle',
  BEGIN: 'BEGIN',
  begin: 'BEGIN',
  END: 'END',
  end: 'END',
  interval: 'interval',
  i: 'interval',
  profile: 'profile',
  p: 'profile',
  tracepoint: 'tracepoint',
  t: 'tracepoint',
  rawtracepoint: 'rawtracepoint',
  rt: 'rawtracepoint',
};

/** bpftrace's other probe types, and what to use for them. */
const ELSEWHERE: Record<string, string> = {
  uprobe: 'JavaScript functions are kprobes: kprobe:FILE:FUNCTION',
  u: 'JavaScript functions are kprobes: kprobe:FILE:FUNCTION',
  uretprobe: 'JavaScript functions are kprobes: kretprobe:FILE:FUNCTION',
  ur: 'JavaScript functions are kprobes: kretprobe:FILE:FUNCTION',
  fentry: 'use kprobe:FILE:FUNCTION with args.NAME',
  kfunc: 'use kprobe:FILE:FUNCTION with args.NAME',
  fexit: 'use kretprobe:FILE:FUNCTION',
  kretfunc: 'use kretprobe:FILE:FUNCTION',
  usdt: 'static probes are tracepoint:SYSTEM:EVENT; functions are kprobe:FILE:FUNCTION',
  software: 'there are no perf events; use profile:hz:99',
  hardware: 'there are no perf events; use profile:hz:99',
};

const UNIT_NS: Record<string, bigint> = { us: 1_000n, ms: 1_000_000n, s: 1_000_000_000n, ns: 1n };
const MORE_UNITS: Record<string, bigint> = { ...UNIT_NS, m: 60_000_000_000n, h: 3_600_000_000_000n };

/** The attach points of a parsed script, in source order. Throws ScriptError for unknown types and bad periods. */
export function attachPoints(script: Script, params: readonly string[] = []): AttachPoint[] {
  const diagnostics = new Diagnostics(script.source);
  const points = script.probes.flatMap((probe) =>
    probe.attachPoints.flatMap((node) => toAttachPoint(node, params, diagnostics) ?? []),
  );
  diagnostics.throwIfAny();
  return points;
}

/** `server.js:handle`, as lists may be asked for it, wants a type in front in a script. */
function withType({ provider, target }: AttachPointNode): string | undefined {
  if (target === undefined || !/[./]/.test(provider)) return undefined;
  return `did you mean kprobe:${provider}:${target}?`;
}

/** Checks one attach point; undefined when it is wrong, with the error in `diagnostics`. */
export function toAttachPoint(
  node: AttachPointNode,
  params: readonly string[],
  diagnostics: Diagnostics,
): AttachPoint | undefined {
  const type = Object.hasOwn(PROVIDERS, node.provider) ? PROVIDERS[node.provider] : undefined;
  if (type === undefined) {
    const known = Object.keys(PROVIDERS).filter((name) => name.length > 2);
    const hint = Object.hasOwn(ELSEWHERE, node.provider)
      ? ELSEWHERE[node.provider]
      : (didYouMean(node.provider, known) ?? withType(node) ?? `probe types are ${known.join(' ')}`);
    diagnostics.error(node.providerSpan, `Invalid probe type: ${node.provider}`, hint);
    return undefined;
  }
  const position = diagnostics.source.scriptPosition(node);
  const target = node.target?.replace(/\$([1-9][0-9]*)/g, (_, n: string) => params[Number(n) - 1] ?? '');
  switch (type) {
    case 'BEGIN':
    case 'END':
      if (target !== undefined) {
        diagnostics.error(node, `${node.provider} probes should not have a target`);
        return undefined;
      }
      return { type, target: '', position };
    case 'interval':
    case 'profile': {
      const periodNs = period(type, target ?? '');
      if (periodNs === undefined) {
        const units = 'us, ms, s or hz';
        const example = type === 'interval' ? 'interval:s:1' : 'profile:hz:99';
        diagnostics.error(
          node,
          `${type} probe needs a unit (${units}) and a positive number`,
          `such as ${example}`,
        );
        return undefined;
      }
      if (type === 'profile' && periodNs < LEAST_SAMPLE_NS) {
        diagnostics.error(node, 'profile takes at most 1000 samples a second', 'such as profile:hz:999');
        return undefined;
      }
      if (periodNs > MOST_PERIOD_NS) {
        diagnostics.error(node, `${type}: a period is at most ${Math.floor(MOST_PERIOD_NS / 1e9)} seconds`);
        return undefined;
      }
      return { type, target: target!, periodNs, position };
    }
    case 'tracepoint':
    case 'rawtracepoint':
      if (target === undefined || target === '' || (type === 'tracepoint' && !/^[^:]+:[^:]+$/.test(target))) {
        const isRaw = type === 'rawtracepoint';
        diagnostics.error(
          node,
          `${type} probe type requires ${isRaw ? 'a channel' : 'a category and a name'}`,
          `such as ${type}:${isRaw ? 'http.server.request.start' : 'http:server_request_start'}`,
        );
        return undefined;
      }
      return { type, target, position };
    default:
      if (target === undefined || target === '') {
        diagnostics.error(node, `${type} probe type requires a function`, `such as ${type}:server.js:handle`);
        return undefined;
      }
      return { type, target, position };
  }
}

/** The agent's timers count whole milliseconds, and 31 bits of them: Node takes longer ones for 1 ms. */
const LEAST_SAMPLE_NS = 1e6;
const MOST_PERIOD_NS = 2 ** 31 * 1e6 - 1e6;

/** Nanoseconds of `s:1`, `hz:99` or `100ms`. */
function period(type: 'interval' | 'profile', target: string): number | undefined {
  const parts = /^([a-z]+):([0-9]+)$/.exec(target);
  if (parts) {
    const count = BigInt(parts[2]!);
    if (count <= 0n) return undefined;
    if (parts[1] === 'hz') return Math.max(1, Math.round(1e9 / Number(count)));
    const unit = Object.hasOwn(UNIT_NS, parts[1]!) ? UNIT_NS[parts[1]!] : undefined;
    return unit === undefined ? undefined : Number(unit * count);
  }
  const literal = /^([0-9]+)([a-z]+)$/.exec(target);
  if (literal && BigInt(literal[1]!) > 0n) {
    if (literal[2] === 'hz' && type === 'profile') return Math.round(1e9 / Number(literal[1]));
    const unit = Object.hasOwn(MORE_UNITS, literal[2]!) ? MORE_UNITS[literal[2]!] : undefined;
    if (unit !== undefined) return Number(unit * BigInt(literal[1]!));
  }
  return undefined;
}
