/**
 * Symbols of a script as one array of numbers and one of strings: what threads hand over and the cache keeps. Of what depends
 * on where the script was loaded (its ID, file and address) nothing is in it.
 */
import type { ScriptSymbols } from './symbols.ts';
import { scriptPath } from './symbols-path.ts';
import type { Binding, FunctionKind, FunctionSymbol, ScriptInfo } from './types.ts';

export interface PackedSymbols {
  readonly numbers: Int32Array;
  readonly strings: readonly string[];
  readonly failure: string | undefined;
}

const KINDS: readonly FunctionKind[] = [
  'function',
  'arrow',
  'method',
  'getter',
  'setter',
  'constructor',
  'derived-constructor',
  'async',
  'async-arrow',
  'async-method',
  'generator',
  'async-generator',
];
const KIND_BITS = 4;
const [ASYNC, GENERATOR, ARROW, STATIC, SIMPLE, EXPRESSION] = [0, 1, 2, 3, 4, 5].map(
  (n) => 1 << (KIND_BITS + n),
) as [number, number, number, number, number, number];
const [VARIABLE, PROPERTY] = [1, 2];
const [CONSTANT, TOP_LEVEL] = [4, 8];
const [ON_HOLDER, PRIVATE, GETTER, SETTER] = [4, 8, 16, 32];

/** Numbers of a function without its parameters, and of each parameter. */
const FIELDS = 18;
const PARAM_FIELDS = 2;

export function packSymbols({
  symbols,
  nameOffsets,
  classOffsets,
  paramOffsets,
  failure,
}: ScriptSymbols): PackedSymbols {
  const strings: string[] = [];
  const known = new Map<string, number>();
  const text = (value: string | undefined): number => {
    if (value === undefined) return -1;
    let index = known.get(value);
    if (index === undefined) {
      index = strings.push(value) - 1;
      known.set(value, index);
    }
    return index;
  };
  const numbers = new Int32Array(symbols.length * FIELDS + paramOffsets.length * PARAM_FIELDS);
  let at = 0;
  let param = 0;
  const put = (value: number): void => {
    numbers[at++] = value;
  };
  for (const [i, symbol] of symbols.entries()) {
    const { binding } = symbol;
    put(symbol.start);
    put(symbol.end);
    put(symbol.bodyStart);
    put(symbol.bodyEnd);
    put(symbol.entry);
    put(symbol.line);
    put(symbol.column);
    put(symbol.endLine);
    put(symbol.endColumn);
    put(symbol.parent);
    put(flagsOf(symbol));
    put(text(symbol.name));
    put(nameOffsets[i]!);
    put(classOffsets[i]!);
    put(bindingFlags(binding));
    put(binding.via === 'none' ? -1 : text(binding.via === 'variable' ? binding.name : binding.key));
    put(binding.via === 'property' ? text(binding.className) : -1);
    put(symbol.params.length);
    for (const name of symbol.params) {
      put(text(name));
      put(paramOffsets[param++]!);
    }
  }
  return { numbers, strings, failure };
}

/** What scanFunctions gives. Throws a RangeError where the numbers are not what packSymbols makes. */
export function unpackSymbols(
  { numbers, strings, failure }: PackedSymbols,
  script: ScriptInfo,
  base: bigint,
): ScriptSymbols {
  const { scriptId } = script;
  const file = scriptPath(script.url);
  const symbols: FunctionSymbol[] = [];
  const nameOffsets: number[] = [];
  const classOffsets: number[] = [];
  const paramOffsets: number[] = [];
  const known = (index: number): string => {
    const value = strings[index];
    if (value === undefined) throw new RangeError('no such string');
    return value;
  };
  const optional = (index: number): string | undefined => (index === -1 ? undefined : known(index));
  for (let at = 0; at < numbers.length; ) {
    const n = (field: number): number => numbers[at + field]!;
    const flags = n(10);
    const params: (string | undefined)[] = [];
    const count = n(17);
    const next = at + FIELDS + count * PARAM_FIELDS;
    if (!(count >= 0 && next <= numbers.length)) throw new RangeError('cut off');
    for (let i = at + FIELDS; i < next; i += PARAM_FIELDS) {
      params.push(optional(numbers[i]!));
      paramOffsets.push(numbers[i + 1]!);
    }
    nameOffsets.push(n(12));
    classOffsets.push(n(13));
    symbols.push({
      scriptId,
      index: symbols.length,
      name: known(n(11)),
      file,
      line: n(5),
      column: n(6),
      endLine: n(7),
      endColumn: n(8),
      kind: KINDS[flags & ((1 << KIND_BITS) - 1)]!,
      isAsync: (flags & ASYNC) !== 0,
      isGenerator: (flags & GENERATOR) !== 0,
      isArrow: (flags & ARROW) !== 0,
      isStatic: (flags & STATIC) !== 0,
      params,
      simpleParams: (flags & SIMPLE) !== 0,
      start: n(0),
      end: n(1),
      bodyStart: n(2),
      bodyEnd: n(3),
      expressionBody: (flags & EXPRESSION) !== 0,
      entry: n(4),
      binding: bindingOf(n(14), n(15), n(16), known),
      parent: n(9),
      address: base + BigInt(n(0)),
    });
    at = next;
  }
  return { symbols, nameOffsets, classOffsets, paramOffsets, failure };
}

function flagsOf(symbol: FunctionSymbol): number {
  return (
    KINDS.indexOf(symbol.kind) |
    (symbol.isAsync ? ASYNC : 0) |
    (symbol.isGenerator ? GENERATOR : 0) |
    (symbol.isArrow ? ARROW : 0) |
    (symbol.isStatic ? STATIC : 0) |
    (symbol.simpleParams ? SIMPLE : 0) |
    (symbol.expressionBody ? EXPRESSION : 0)
  );
}

function bindingFlags(binding: Binding): number {
  if (binding.via === 'none') return 0;
  if (binding.via === 'variable')
    return VARIABLE | (binding.constant ? CONSTANT : 0) | (binding.topLevel ? TOP_LEVEL : 0);
  const { isStatic, accessor } = binding;
  const half = accessor === undefined ? 0 : accessor === 'get' ? GETTER : SETTER;
  return PROPERTY | (isStatic ? ON_HOLDER : 0) | (binding.private ? PRIVATE : 0) | half;
}

const NONE: Binding = { via: 'none' };

function bindingOf(flags: number, first: number, second: number, known: (index: number) => string): Binding {
  const via = flags & 3;
  if (via === 0) return NONE;
  if (via === VARIABLE) {
    const [constant, topLevel] = [(flags & CONSTANT) !== 0, (flags & TOP_LEVEL) !== 0];
    return { via: 'variable', name: known(first), constant, topLevel };
  }
  return {
    via: 'property',
    key: known(first),
    isStatic: (flags & ON_HOLDER) !== 0,
    className: second === -1 ? undefined : known(second),
    private: (flags & PRIVATE) !== 0,
    accessor: (flags & GETTER) !== 0 ? 'get' : (flags & SETTER) !== 0 ? 'set' : undefined,
  };
}
