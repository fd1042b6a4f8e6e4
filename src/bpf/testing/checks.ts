/** What can be asked of objects, runs and maps: each check gives whether it holds, and says what it found. */

import { anObjectFile } from '../argument-shapes.ts';
import {
  aNumber,
  anObject,
  bytesOf,
  checkArgument,
  either,
  having,
  oneOf,
  optional,
  someBytes,
  stringOf,
} from '../arguments.ts';
import { BpfError } from '../errors.ts';
import { TypedMap, TypedPercpuMap } from '../gen/index.ts';
import { BpfObject, type LoadObjectOptions, openObject } from '../object/index.ts';
import { BpfFixture, type ProgramRun } from './fixture.ts';

const LOADABLE = either(
  bytesOf('the bytes of an object file, an opened object or a fixture'),
  anObjectFile,
  having('', 'object'),
);

export interface CheckResult {
  readonly pass: boolean;
  /** Says what is wrong where it should hold (or, when it holds, where it should not). */
  message(): string;
  readonly actual?: unknown;
  readonly expected?: unknown;
}

/** How values are compared; test frameworks have their own, which know asymmetric matchers. */
export type Equals = (a: unknown, b: unknown) => boolean;

export type Loadable = BpfFixture | BpfObject | Uint8Array;

export interface LoadCheckOptions extends LoadObjectOptions {
  /** This program only. */
  readonly program?: string;
}

/** Return values by name, for XDP and traffic control. */
export const VERDICTS = {
  XDP_ABORTED: 0,
  XDP_DROP: 1,
  XDP_PASS: 2,
  XDP_TX: 3,
  XDP_REDIRECT: 4,
  TC_ACT_UNSPEC: -1,
  TC_ACT_OK: 0,
  TC_ACT_RECLASSIFY: 1,
  TC_ACT_SHOT: 2,
  TC_ACT_PIPE: 3,
  TC_ACT_REDIRECT: 7,
} as const;

export type Verdict = keyof typeof VERDICTS;

export const { XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT } = VERDICTS;
export const { TC_ACT_UNSPEC, TC_ACT_OK, TC_ACT_SHOT, TC_ACT_PIPE, TC_ACT_REDIRECT } = VERDICTS;

const LOG_LINES = 20;

/** Plain equality of what BTF values are made of. */
export function sameValue(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  const isNumber = (value: unknown): value is number | bigint =>
    typeof value === 'number' || typeof value === 'bigint';
  // biome-ignore lint/suspicious/noDoubleEquals: 1 and 1n are the same to whoever writes a test
  if (isNumber(a) && isNumber(b)) return a == b;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a) !== Array.isArray(b) || a instanceof Uint8Array !== b instanceof Uint8Array)
    return false;
  const keys = Object.keys(a);
  if (keys.length !== Object.keys(b).length) return false;
  return keys.every(
    (key) => key in b && sameValue((a as Record<string, unknown>)[key], (b as Record<string, unknown>)[key]),
  );
}

const hexBytes = (bytes: Uint8Array): string =>
  [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');

/** A value as a test's reader wants to see it. */
export function show(value: unknown): string {
  if (value instanceof Uint8Array) return hexBytes(value);
  const text = JSON.stringify(value, (_key, one) => {
    if (typeof one === 'bigint') return `${one}n`;
    return one instanceof Uint8Array ? hexBytes(one) : one;
  });
  return (text ?? String(value)).replace(/"(-?\d+n)"/g, '$1');
}

function loadError(source: Loadable, { program, ...options }: LoadCheckOptions): BpfError | undefined {
  try {
    if (source instanceof BpfFixture && program === undefined && Object.keys(options).length === 0) {
      void source.loaded;
      return undefined;
    }
    const object =
      source instanceof BpfFixture
        ? source.object
        : source instanceof BpfObject
          ? source
          : openObject(source);
    object.load({ ...options, ...(program === undefined ? {} : { programs: [program] }) }).close();
    return undefined;
  } catch (error) {
    if (error instanceof BpfError) return error;
    throw error;
  }
}

function tell({ message, position, hint, log }: BpfError): string {
  const lines = [message];
  if (position !== undefined) {
    const { sourceLine, column, length } = position;
    const lead = sourceLine.slice(0, column - 1).replace(/[^\t]/g, ' ');
    lines.push(sourceLine, lead + '~'.repeat(Math.max(1, length)));
  }
  if (hint !== undefined) lines.push(`HINT: ${hint}`);
  const tail = log?.trimEnd().split('\n').slice(-LOG_LINES) ?? [];
  if (tail.length > 0) lines.push('', `the last ${tail.length} lines of the verifier's log:`, ...tail);
  return lines.join('\n');
}

/** The object, or one of its programs, loads. */
export function checkLoads(source: Loadable, options: LoadCheckOptions = {}): CheckResult {
  checkArgument('checkLoads()', 'source', source, LOADABLE);
  checkArgument('checkLoads()', 'options', options, optional(anObject));
  const error = loadError(source, options);
  const what = options.program === undefined ? 'the object' : `program ${options.program}`;
  return {
    pass: error === undefined,
    message: () => (error === undefined ? `${what} loads` : `${what} does not load: ${tell(error)}`),
  };
}

/** Loading is refused, with words like these. */
export function checkRejected(
  source: Loadable,
  expected?: string | RegExp,
  options: LoadCheckOptions = {},
): CheckResult {
  checkArgument('checkRejected()', 'source', source, LOADABLE);
  checkArgument(
    'checkRejected()',
    'expected',
    expected,
    optional(either(stringOf('a string or a regular expression'), having('', 'test'))),
  );
  checkArgument('checkRejected()', 'options', options, optional(anObject));
  const error = loadError(source, options);
  const what = options.program === undefined ? 'the object' : `program ${options.program}`;
  if (error === undefined) return { pass: false, message: () => `${what} loads`, expected };
  const texts = [error.message, error.log ?? ''];
  const pass =
    expected === undefined ||
    texts.some((text) => (typeof expected === 'string' ? text.includes(expected) : expected.test(text)));
  return {
    pass,
    message: () =>
      pass ? `${what} is refused: ${error.message}` : `${what} is refused for another reason: ${tell(error)}`,
    actual: error.message,
    expected,
  };
}

function verdictNames(value: number): string {
  const names = (Object.keys(VERDICTS) as Verdict[]).filter((name) => VERDICTS[name] >>> 0 === value);
  return names.length === 0 ? `${value}` : `${value} (${names.join(', ')})`;
}

/** The program returned this number; a name of XDP or traffic control stands for its number. */
export function checkReturns(run: Pick<ProgramRun, 'retval'>, expected: number | Verdict): CheckResult {
  checkArgument('checkReturns()', 'run', run, having('a run of a program, with its return value', 'retval'));
  checkArgument('checkReturns()', 'expected', expected, either(aNumber, oneOf(...Object.keys(VERDICTS))));
  const wanted = (typeof expected === 'string' ? VERDICTS[expected] : expected) >>> 0;
  const program = (run as Partial<ProgramRun>).program ?? 'the program';
  return {
    pass: run.retval === wanted,
    message: () =>
      `${program} returned ${verdictNames(run.retval)}${run.retval === wanted ? '' : `, not ${expected}`}`,
    actual: run.retval,
    expected: wanted,
  };
}

/** The packet as the program left it. */
export function checkPacket(run: ProgramRun, expected: Uint8Array): CheckResult {
  checkArgument('checkPacket()', 'run', run, having('a run of a program, with its packet', 'packet'));
  checkArgument('checkPacket()', 'expected', expected, someBytes);
  const actual = run.packet ?? new Uint8Array(0);
  const length = Math.max(actual.length, expected.length);
  let at = 0;
  while (at < length && actual[at] === expected[at]) at++;
  const pass = at === length;
  return {
    pass,
    message: () =>
      pass
        ? `${run.program} left this packet`
        : `${run.program} left another packet: ${actual.length} bytes, not ${expected.length}; at byte ${at} ${show(actual.subarray(at, at + 8))}, not ${show(expected.subarray(at, at + 8))}`,
    actual,
    expected,
  };
}

type AnyMap = TypedMap<unknown, unknown> | TypedPercpuMap<unknown, unknown>;

function mapOf(received: unknown): AnyMap {
  if (received instanceof TypedMap || received instanceof TypedPercpuMap) return received;
  throw new BpfError(
    'EINVAL',
    'maps are checked through fixture.map(name) or the maps of a generated module',
  );
}

const nameOf = (map: AnyMap): string => `map ${map.map.spec.name}`;

/** The map has the key; with `value`, this value. */
export function checkEntry(
  received: unknown,
  key: unknown,
  value: readonly [] | readonly [unknown],
  equals: Equals = sameValue,
): CheckResult {
  const map = mapOf(received);
  const actual = map.get(key as never);
  const pass = actual !== undefined && (value.length === 0 || equals(actual, value[0]));
  return {
    pass,
    message: () => {
      if (actual === undefined) {
        const keys = [...map].slice(0, 5).map(([one]) => show(one));
        return `${nameOf(map)} has no key ${show(key)}; it has ${map.size} entries${keys.length === 0 ? '' : `: ${keys.join(', ')}`}`;
      }
      return `${nameOf(map)} has ${show(actual)} for ${show(key)}${pass ? '' : `, not ${show(value[0])}`}`;
    },
    actual,
    expected: value[0],
  };
}

/** The map has these entries and no others, in any order. */
export function checkEntries(
  received: unknown,
  expected: readonly (readonly [unknown, unknown])[],
  equals: Equals = sameValue,
): CheckResult {
  const map = mapOf(received);
  const actual = [...map] as [unknown, unknown][];
  const left = [...actual];
  const missing = expected.filter((entry) => {
    const at = left.findIndex((one) => equals(one, entry));
    if (at >= 0) left.splice(at, 1);
    return at < 0;
  });
  const pass = missing.length === 0 && left.length === 0;
  return {
    pass,
    message: () => {
      const parts = [
        ...missing.map((entry) => `missing: ${show(entry)}`),
        ...left.map((entry) => `too much: ${show(entry)}`),
      ];
      return pass ? `${nameOf(map)} has these entries` : `${nameOf(map)}: ${parts.slice(0, 10).join('; ')}`;
    },
    actual,
    expected,
  };
}
