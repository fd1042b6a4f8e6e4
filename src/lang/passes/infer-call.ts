/** Part of the third pass: function calls, their arguments and results. */
import { PT_REGS } from '../../kernel/trace/pt-regs.ts';
import { didYouMean } from '../../similar.ts';
import type * as ast from '../ast.ts';
import { NSECS_MODES } from '../builtins.ts';
import { parseFormat, specMismatch } from '../format.ts';
import { FUNCTIONS, REFUSED_FUNCTIONS, type ScriptFunction } from '../functions.ts';
import * as t from '../types.ts';
import { type LType, NONE, typeName, UNKNOWN } from '../types.ts';
import { inferKeyArgument, inferWholeMap, mapOf } from './infer-maps.ts';
import type { CallPlace, Inference } from './inference.ts';

const ORDINALS = ['first', 'second', 'third', 'fourth'];

export function inferCall(inference: Inference, call: ast.Call, place: CallPlace): LType {
  const { name } = call;
  const fn = Object.hasOwn(FUNCTIONS, name) ? FUNCTIONS[name]! : undefined;
  if (fn === undefined) {
    for (const arg of call.args) inference.infer(arg);
    if (Object.hasOwn(REFUSED_FUNCTIONS, name)) {
      return inference.error(
        call.nameSpan,
        `The ${name} function is not available here`,
        REFUSED_FUNCTIONS[name],
      );
    }
    return inference.error(
      call.nameSpan,
      `Unknown function: '${name}'`,
      didYouMean(name, Object.keys(FUNCTIONS)) ?? `functions are ${Object.keys(FUNCTIONS).join(' ')}`,
    );
  }
  if (!countFits(inference, call, fn)) {
    for (const arg of call.args) if (arg.kind !== 'map') inference.infer(arg);
    return UNKNOWN;
  }
  const misplaced = (fn.statement && place !== 'statement') || (fn.aggregate && place !== 'assign');
  if (!misplaced) return CHECKS[name]!(inference, call, place);
  for (const arg of call.args) if (arg.kind !== 'map') inference.infer(arg);
  return fn.aggregate
    ? inference.error(call, `${name}() should be assigned to a map`, fn.usage)
    : inference.error(
        call,
        `${name}() should not be used in an expression`,
        `it is a statement of its own: ${fn.usage}`,
      );
}

function countFits(inference: Inference, call: ast.Call, fn: ScriptFunction): boolean {
  const { length } = call.args;
  if (length >= fn.min && length <= fn.max) return true;
  const plural = (n: number): string => `${n} argument${n === 1 ? '' : 's'}`;
  const message =
    fn.min === fn.max
      ? fn.min === 0
        ? `${call.name}() requires no arguments (${length} provided)`
        : `${call.name}() requires ${plural(fn.min)} (${length} provided)`
      : length < fn.min
        ? `${call.name}() requires at least ${plural(fn.min)} (${length} provided)`
        : `${call.name}() takes up to ${plural(fn.max)} (${length} provided)`;
  inference.error(call, message, fn.usage);
  return false;
}

type Check = (inference: Inference, call: ast.Call, place: CallPlace) => LType;

/** A number that has to be written out. */
function literal(
  inference: Inference,
  call: ast.Call,
  index: number,
  min: bigint,
  max: bigint,
): bigint | undefined {
  const arg = call.args[index];
  if (arg === undefined) return undefined;
  inference.infer(arg);
  if (arg.kind !== 'int') {
    inference.error(arg, `${call.name}() expects an integer literal as its ${ORDINALS[index]} argument`);
    return undefined;
  }
  if (arg.value < min || arg.value > max) {
    inference.error(arg, `${call.name}(): the ${ORDINALS[index]} argument must be from ${min} to ${max}`);
    return undefined;
  }
  return arg.value;
}

/** A text that the script has: a literal, or str($1). */
export function literalText(expr: ast.Expr): string | undefined {
  if (expr.kind === 'call' && expr.name === 'str' && expr.args.length === 1)
    return literalText(expr.args[0]!);
  return expr.kind === 'string' ? expr.value : undefined;
}

/** Comparisons that strcontains() takes at most: each is a handful of instructions. */
const MAX_SEARCH_STEPS = 8192;

/** At how many places of a string a part is compared, by how many words of it. */
function searchSteps(part: string, size: number): number {
  const bytes = new TextEncoder().encode(part).length;
  return Math.max(0, size - bytes) * Math.ceil(bytes / 8);
}

function text(inference: Inference, call: ast.Call, index: number): string | undefined {
  const arg = call.args[index];
  if (arg === undefined) return undefined;
  inference.infer(arg);
  if (arg.kind === 'string') return arg.value;
  inference.error(arg, `${call.name}() expects a string literal as its ${ORDINALS[index]} argument`);
  return undefined;
}

/** A live value: the argument of functions that go to the object itself. */
function liveValue(inference: Inference, call: ast.Call): LType {
  const arg = call.args[0]!;
  const type = inference.infer(arg);
  if (type.kind !== 'unknown' && type.kind !== 'value') {
    const hint = type.kind === 'stored' ? 'what is kept in a map is a copy, not the value itself' : undefined;
    inference.error(arg, `${call.name}() expects a JavaScript value ('${typeName(type)}' provided)`, hint);
  }
  return type;
}

function mapArgument(inference: Inference, call: ast.Call): ast.MapAccess | undefined {
  const arg = call.args[0]!;
  if (arg.kind !== 'map') {
    inference.infer(arg);
    inference.error(arg, `${call.name}() expects a map to be provided`);
    return undefined;
  }
  if (arg.key !== undefined) {
    inference.infer(arg);
    inference.error(arg, `The map passed to ${call.name}() should not be indexed by a key`);
    return undefined;
  }
  inferWholeMap(inference, arg);
  return arg;
}

function number(inference: Inference, call: ast.Call): t.IntType {
  const type = inference.int(call.args[0]!, `${call.name}()`);
  return type.kind === 'unknown' ? t.UINT64 : t.intTypeOf(type);
}

function stack(inference: Inference, call: ast.Call): LType {
  inference.checkProbes(call, call.name);
  const args = [...call.args];
  // bpftrace's display modes: there is one here.
  if (args[0]?.kind === 'ident' && ['bpftrace', 'perf', 'raw'].includes(args[0].name)) args.shift();
  const [depth] = args;
  if (depth === undefined) return { kind: 'stack', depth: inference.config.stackDepth };
  inference.infer(depth);
  if (depth.kind !== 'int' || depth.value < 1n || depth.value > 127n || args.length > 1) {
    inference.error(
      call,
      `${call.name}() expects a number of frames from 1 to 127`,
      `such as ${call.name}(5)`,
    );
    return { kind: 'stack', depth: 1 };
  }
  return { kind: 'stack', depth: Number(depth.value) };
}

const CHECKS: Record<string, Check> = {
  count: () => ({ kind: 'agg', agg: { kind: 'count' } }),
  sum: (inference, call) => ({ kind: 'agg', agg: { kind: 'sum', signed: number(inference, call).signed } }),
  min: (inference, call) => ({ kind: 'agg', agg: { kind: 'min', signed: number(inference, call).signed } }),
  max: (inference, call) => ({ kind: 'agg', agg: { kind: 'max', signed: number(inference, call).signed } }),
  avg: (inference, call) => ({ kind: 'agg', agg: { kind: 'avg', signed: number(inference, call).signed } }),
  stats: (inference, call) => ({
    kind: 'agg',
    agg: { kind: 'stats', signed: number(inference, call).signed },
  }),
  hist(inference, call) {
    number(inference, call);
    const bits = Number(literal(inference, call, 1, 0n, 5n) ?? 0n);
    return { kind: 'agg', agg: { kind: 'hist', bits, buckets: ((64 - bits) << bits) + 1 } };
  },
  lhist(inference, call) {
    number(inference, call);
    const limit = 1n << 53n;
    const [min, max, step] = [1, 2, 3].map((i) => literal(inference, call, i, -limit, limit));
    if (min === undefined || max === undefined || step === undefined) return UNKNOWN;
    const at = call.args[3]!;
    if (step <= 0n) return inference.error(at, `lhist() step must be >= 1 (${step} provided)`);
    if (max <= min) {
      return inference.error(call, `lhist() max must be greater than min (${min} and ${max} provided)`);
    }
    if (step > max - min) {
      return inference.error(
        at,
        `lhist() step is too large for the given range (provided step ${step} for range ${max - min})`,
      );
    }
    const inner = (max - min + step - 1n) / step;
    if (inner > 1000n) {
      return inference.error(call, `lhist() too many buckets, must be <= 1000 (would need ${inner})`);
    }
    return {
      kind: 'agg',
      agg: {
        kind: 'lhist',
        min: Number(min),
        max: Number(max),
        step: Number(step),
        buckets: Number(inner) + 2,
      },
    };
  },
  str(inference, call) {
    const [arg] = call.args;
    const type = inference.infer(arg!);
    if (!['unknown', 'string', 'value', 'stored'].includes(type.kind)) {
      inference.error(arg!, `str() expects a string or a JavaScript value ('${typeName(type)}' provided)`);
    }
    const length = literal(inference, call, 1, 0n, 1n << 32n);
    const { maxStrlen } = inference.config;
    if (arg!.kind === 'string') {
      return {
        kind: 'string',
        size: Math.min(t.utf8Length(arg!.value) + 1, Number(length ?? maxStrlen) + 1),
      };
    }
    const size = length === undefined ? maxStrlen : Math.min(maxStrlen, Number(length) + 1);
    return { kind: 'string', size };
  },
  buf(inference, call) {
    liveValue(inference, call);
    const length = literal(inference, call, 1, 1n, 4096n);
    return { kind: 'buf', size: 4 + Number(length ?? BigInt(inference.config.maxStrlen)) };
  },
  len(inference, call) {
    const [arg] = call.args;
    if (arg!.kind === 'map' && arg!.key === undefined) {
      const { key } = inferWholeMap(inference, arg!);
      if (key?.length === 0) {
        inference.error(arg!, `len() expects a map with explicit keys, and @${arg!.name} has none`);
      }
      return t.UINT64;
    }
    const type = inference.infer(arg!);
    if (!['unknown', 'value', 'string'].includes(type.kind)) {
      inference.error(arg!, `len() expects a JavaScript value or a string ('${typeName(type)}' provided)`);
    }
    return t.INT64;
  },
  id(inference, call) {
    liveValue(inference, call);
    return t.UINT64;
  },
  reg(inference, call) {
    const name = text(inference, call, 0);
    if (name !== undefined && !Object.hasOwn(PT_REGS, name)) {
      inference.error(
        call.args[0]!,
        `'${name}' is not a valid register on this architecture (x86_64)`,
        didYouMean(name, Object.keys(PT_REGS)) ?? `registers are ${Object.keys(PT_REGS).join(' ')}`,
      );
    }
    return t.UINT64;
  },
  nsecs(inference, call) {
    const [mode] = call.args;
    if (mode === undefined) return t.UINT64;
    if (mode.kind !== 'ident' || !NSECS_MODES.includes(mode.name)) {
      inference.error(mode, 'Invalid timestamp mode', `modes are ${NSECS_MODES.slice(0, 2).join(' and ')}`);
    } else if (mode.name.endsWith('tai')) {
      inference.error(mode, 'The tai clock is not known here', 'strftime() turns nsecs into wall time');
    }
    return t.UINT64;
  },
  kstack: stack,
  ustack: stack,
  strncmp(inference, call) {
    for (const arg of call.args.slice(0, 2)) {
      const type = inference.infer(arg);
      if (!['unknown', 'string', 'value'].includes(type.kind)) {
        inference.error(arg, `strncmp() expects strings ('${typeName(type)}' provided)`);
      }
    }
    literal(inference, call, 2, 1n, BigInt(inference.config.maxStrlen));
    return t.BOOL;
  },
  strcontains(inference, call) {
    const type = inference.infer(call.args[0]!);
    if (!['unknown', 'string', 'value', 'stored'].includes(type.kind))
      inference.error(call.args[0]!, `strcontains() expects strings ('${typeName(type)}' provided)`);
    const literal = literalText(call.args[1]!);
    const part = literal ?? text(inference, call, 1);
    const size = type.kind === 'string' ? type.size : inference.config.maxStrlen;
    if (part !== undefined && searchSteps(part, size) > MAX_SEARCH_STEPS) {
      inference.error(
        call,
        `strcontains(): so long a part cannot be looked for in a string of ${size} bytes`,
        'str(value, length) reads less of it',
      );
    }
    return t.BOOL;
  },
  strftime(inference, call) {
    text(inference, call, 0);
    inference.int(call.args[1]!, 'strftime()');
    return { kind: 'strftime' };
  },
  printf: formatted,
  system: formatted,
  print(inference, call) {
    const [arg] = call.args;
    if (arg!.kind === 'map' && arg!.key === undefined) {
      inferWholeMap(inference, arg!);
      literal(inference, call, 1, 0n, 0xffffffffn);
      literal(inference, call, 2, 0n, 0xffffffffn);
      return NONE;
    }
    const type = inference.infer(arg!);
    if (call.args.length > 1) {
      inference.error(call, 'Only maps can be printed with top and div', FUNCTIONS['print']!.usage);
    }
    if (type.kind === 'none' || (type.kind === 'agg' && !t.isReadableAgg(type))) {
      inference.error(
        arg!,
        `'${typeName(type)}' cannot be printed alone`,
        'print the whole map: print(@map)',
      );
    }
    return NONE;
  },
  clear(inference, call) {
    mapArgument(inference, call);
    return NONE;
  },
  zero(inference, call) {
    mapArgument(inference, call);
    return NONE;
  },
  delete(inference, call) {
    const [map, key] = call.args;
    if (map!.kind !== 'map') {
      inference.infer(map!);
      inference.error(map!, 'delete() expects a map to be provided', FUNCTIONS['delete']!.usage);
      return t.BOOL;
    }
    if (key === undefined) {
      const info = mapOf(inference, map!);
      // What the key is, others say.
      if (map!.key === undefined && info.key === undefined && !inference.final) return t.BOOL;
      if (map!.key === undefined && info.key !== undefined && info.key.length > 0) {
        inference.error(
          map!,
          'delete() expects a map key to be provided',
          `clear(@${map!.name}) deletes every entry`,
        );
        return t.BOOL;
      }
      inference.infer(map!);
      return t.BOOL;
    }
    if (map!.key !== undefined) {
      inference.infer(map!);
      inference.error(
        map!,
        'The map passed to delete() should not be indexed by a key',
        FUNCTIONS['delete']!.usage,
      );
      return t.BOOL;
    }
    inferWholeMap(inference, map!);
    inferKeyArgument(inference, map!, key);
    return t.BOOL;
  },
  has_key(inference, call) {
    const map = mapArgument(inference, call);
    if (map) inferKeyArgument(inference, map, call.args[1]!);
    else inference.infer(call.args[1]!);
    return t.BOOL;
  },
  exit(inference, call) {
    if (call.args[0]) inference.int(call.args[0], 'exit()');
    return NONE;
  },
  time(inference, call) {
    text(inference, call, 0);
    return NONE;
  },
};

/** A format and what it wants. */
function formatted(inference: Inference, call: ast.Call): LType {
  const format = text(inference, call, 0);
  const args = call.args.slice(1);
  const types = args.map((arg) => inference.infer(arg));
  if (format === undefined) return NONE;
  const { specs, bad } = parseFormat(format);
  if (bad !== undefined) {
    inference.error(
      call.args[0]!,
      `${call.name}: unknown format specifier '${bad}'`,
      'such as %d %u %x %s %c %p %r; %% is a percent sign',
    );
    return NONE;
  }
  if (specs.length !== args.length) {
    const problem = args.length < specs.length ? 'Not enough' : 'Too many';
    inference.error(
      call,
      `${call.name}: ${problem} arguments for format string (${specs.length} expected, ${args.length} found)`,
    );
    return NONE;
  }
  for (const [i, spec] of specs.entries()) {
    const type = types[i]!;
    const wanted = specMismatch(spec, type);
    if (wanted !== undefined) {
      inference.error(
        args[i]!,
        `${call.name}: ${spec.text} specifier expects a value of type ${wanted} (${typeName(type)} supplied)`,
      );
    }
  }
  return NONE;
}
