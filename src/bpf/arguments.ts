/**
 * What public functions ask of their arguments, for callers in JavaScript: each argument has a shape, and one that does not fit is a
 * coded error that names it and says what was expected, before anything is done.
 */
import { BpfError } from './errors.ts';
import { didYouMean } from './similar.ts';

/** What does not fit: behind the argument's name, `path` (`.maxEntries`, `[2]`) leads to it. */
export interface Misfit {
  readonly path: string;
  /** `is undefined`, `is no option`. */
  readonly problem: string;
  readonly hint: string;
}

/** Undefined where the value fits. */
export type Shape = (value: unknown) => Misfit | undefined;

type Complain = (message: string, hint: string) => Error;

/** A check that throws what `complain` makes: `where` is the function, as the user calls it. */
export function argumentCheck(
  complain: Complain,
): (where: string, name: string, value: unknown, shape: Shape) => void {
  return (where, name, value, shape) => {
    const misfit = shape(value);
    if (misfit === undefined) return;
    throw complain(`${where}: ${name}${misfit.path} ${misfit.problem}`, misfit.hint);
  };
}

/** Throws BpfError EINVAL where `value` does not fit. */
export const checkArgument = argumentCheck((message, hint) => new BpfError('EINVAL', message, { hint }));

/** A value in a message: short, and nothing of it is run. */
function shown(value: unknown): string {
  if (value === null || value === undefined) return `${value}`;
  switch (typeof value) {
    case 'string':
      return value.length > 40 ? 'a string' : JSON.stringify(value);
    case 'number':
    case 'boolean':
      return `${value}`;
    case 'bigint':
      return value < 1n << 64n && value > -(1n << 64n) ? `${value}n` : 'a bigint';
    case 'object':
      if (ArrayBuffer.isView(value)) return `an array of ${value.byteLength} bytes`;
      return Array.isArray(value) ? 'an array' : 'an object';
    default:
      return `a ${typeof value}`;
  }
}

const misfit = (value: unknown, expected: string): Misfit => ({
  path: '',
  problem: `is ${shown(value)}`,
  hint: `expected ${expected}`,
});

/** Values for which `fits` holds; `expected` says which, in a hint. */
export const shape =
  (expected: string, fits: (value: unknown) => boolean): Shape =>
  (value) =>
    fits(value) ? undefined : misfit(value, expected);

const BYTES = '[object Uint8Array]';

const isObject = (value: unknown): value is object =>
  (typeof value === 'object' && value !== null) || typeof value === 'function';

/** What is checked later, by what it is for. */
export const anything: Shape = () => undefined;
export const stringOf = (what: string): Shape => shape(what, (value) => typeof value === 'string');
export const aString: Shape = stringOf('a string');
export const aFunction: Shape = shape('a function', (value) => typeof value === 'function');
export const aBoolean: Shape = shape('true or false', (value) => typeof value === 'boolean');
export const aNumber: Shape = shape('a number', (value) => typeof value === 'number');
export const aBigint: Shape = shape('a bigint', (value) => typeof value === 'bigint');
export const anObject: Shape = shape('an object', isObject);
/** Of any realm, as test runners have several; a multiple of `unit` bytes. */
export const bytesOf = (what: string, unit = 1): Shape =>
  shape(what, (value) => {
    if (!ArrayBuffer.isView(value) || Object.prototype.toString.call(value) !== BYTES) return false;
    return value.byteLength % unit === 0;
  });
export const someBytes: Shape = bytesOf('a Uint8Array');
export const anIterable: Shape = shape(
  'an iterable',
  (value) => isObject(value) && typeof (value as Iterable<unknown>)[Symbol.iterator] === 'function',
);
export const aList: Shape = shape('an array', Array.isArray);

/** A whole number from `least` to `most`. */
export const anInteger = (least = 0, most: number = Number.MAX_SAFE_INTEGER): Shape => {
  const range = most === Number.MAX_SAFE_INTEGER ? `${least} or more` : `from ${least} to ${most}`;
  return shape(`a whole number, ${range}`, (value) => {
    return Number.isInteger(value) && (value as number) >= least && (value as number) <= most;
  });
};

/** A number that may be a fraction, from `least` on. */
export const atLeast = (least: number): Shape =>
  shape(`a number, ${least} or more`, (value) => typeof value === 'number' && value >= least);

export const oneOf = (...values: readonly unknown[]): Shape =>
  shape(`one of ${values.map(shown).join(', ')}`, (value) => values.includes(value));

/** An object of a kind that is told by members that each of them has; nothing of it is called. */
export const having = (what: string, ...members: readonly string[]): Shape =>
  shape(what, (value) => isObject(value) && members.every((member) => member in value));

export const optional =
  (inner: Shape): Shape =>
  (value) =>
    value === undefined ? undefined : inner(value);

/** The first shape's complaint is told. */
export const either =
  (first: Shape, ...others: readonly Shape[]): Shape =>
  (value) => {
    const wrong = first(value);
    return wrong === undefined || others.some((other) => other(value) === undefined) ? undefined : wrong;
  };

export const listOf =
  (inner: Shape): Shape =>
  (value) => {
    if (!Array.isArray(value)) return misfit(value, 'an array');
    for (let index = 0; index < value.length; index++) {
      const wrong = inner(value[index]);
      if (wrong !== undefined) return { ...wrong, path: `[${index}]${wrong.path}` };
    }
    return undefined;
  };

/** A shape for each property of `T`, so that the compiler tells of one that is missing here. */
export type Properties<T> = { readonly [K in keyof Required<T>]: Shape };

/** The property of an object that does not fit. */
function wrongProperty(value: object, entries: readonly (readonly [string, Shape])[]): Misfit | undefined {
  for (const [name, inner] of entries) {
    const wrong = inner((value as Readonly<Record<string, unknown>>)[name]);
    if (wrong !== undefined) return { ...wrong, path: `.${name}${wrong.path}` };
  }
  return undefined;
}

/** Data with the properties of `T`. Others may be there, but for misspelt names of those. */
export function aRecord<T extends object>(properties: Properties<T>, what = 'an object'): Shape {
  const entries = Object.entries<Shape>(properties);
  const isAbsent = (value: object) => (name: string) => !(name in value);
  return (value) => {
    if (!isObject(value) || Array.isArray(value)) return misfit(value, what);
    const absent = Object.keys(properties).filter(isAbsent(value));
    for (const name of Object.keys(value)) {
      const hint = Object.hasOwn(properties, name) ? undefined : didYouMean(name, absent);
      if (hint !== undefined) return { path: `.${name}`, problem: 'is unknown', hint };
    }
    return wrongProperty(value, entries);
  };
}

/** An object of options, all of them of `T`; undefined is none. */
export function someOptions<T extends object>(properties: Properties<T>): Shape {
  const names = Object.keys(properties);
  const entries = Object.entries<Shape>(properties);
  return (value) => {
    if (value === undefined) return undefined;
    if (!isObject(value) || Array.isArray(value)) return misfit(value, 'an object of options');
    const unknown = Object.keys(value).find((name) => !Object.hasOwn(properties, name));
    if (unknown === undefined) return wrongProperty(value, entries);
    const hint = didYouMean(unknown, names) ?? `options are ${names.join(', ')}`;
    return { path: `.${unknown}`, problem: 'is no option', hint };
  };
}
