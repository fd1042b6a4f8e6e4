/** A comparison of a filter: parse_pred() of kernel/trace/trace_events_filter.c, with its order of checks. */
import { isAlnum, isDigit, isSpace } from '../c-text.ts';
import { kstrtoll, kstrtoull } from '../kstrto.ts';
import type { TraceEventCall } from '../trace-event.ts';
import type { TraceField } from '../trace-field.ts';
import type { Tracing } from '../tracing.ts';
import { parseCpuList } from './cpulist.ts';
import { type FilterErrorName, FilterParseError } from './filter-errors.ts';
import { findEventField, isStringField } from './generic-fields.ts';
import type { FilterOp, FilterPredicate } from './predicate.ts';
import { globRegex, literalRegex } from './regex.ts';

/** `<=` stands before `<`, as the first that fits is taken. */
const OPS: readonly FilterOp[] = ['~', '!=', '==', '<=', '<', '>=', '>', '&'];

/** Characters of a number at most, and of a string (MAX_FILTER_STR_VAL). */
const NUMBER_SIZE = 24;
export const MAX_FILTER_STR_VAL = 256;

const NEVER: FilterPredicate = { kind: 'never' };

/** The predicate at `at`, and how many bytes it takes. Throws FilterParseError. */
export function parsePredicate(
  tracing: Tracing,
  call: TraceEventCall,
  text: string,
  at: number,
): { predicate: FilterPredicate; length: number } {
  const parser = new PredicateParser(tracing, call, text.slice(at), at + 1);
  return { predicate: parser.parse(), length: parser.length };
}

class PredicateParser {
  readonly #tracing: Tracing;
  readonly #call: TraceEventCall;
  readonly #str: string;
  readonly #pos: number;
  #i = 0;

  constructor(tracing: Tracing, call: TraceEventCall, str: string, pos: number) {
    this.#tracing = tracing;
    this.#call = call;
    this.#str = str;
    this.#pos = pos;
  }

  get length(): number {
    return this.#i;
  }

  parse(): FilterPredicate {
    const str = this.#str;
    const start = this.#skipSpaces();
    while (isAlnum(str[this.#i]) || str[this.#i] === '_') this.#i++;
    if (this.#i === start) throw new FilterParseError('EPERM');
    const field = findEventField(this.#call, str.slice(start, this.#i));
    if (field === undefined) throw this.#error('FIELD_NOT_FOUND');
    const user = this.#take('.ustring');
    const asFunction = this.#take('.function');
    this.#skipSpaces();
    const op = OPS.find((one) => str.startsWith(one, this.#i));
    if (op === undefined) throw this.#error('INVALID_OP');
    this.#i += op.length;
    this.#skipSpaces();

    if (asFunction) return this.#function(field, op);
    if (this.#call.system === 'ftrace' && this.#call.name === 'function') return this.#functionEvent(field);
    if (str.startsWith('CPUS', this.#i)) return this.#cpus(field, op);
    const char = str[this.#i] ?? '';
    if (char === "'" || char === '"') return this.#string(field, op, user);
    if (isDigit(char) || char === '-') return this.#number(field, op);
    throw this.#error('INVALID_VALUE');
  }

  /** `FIELD.function == SYMBOL` or an address. */
  #function(field: TraceField, op: FilterOp): FilterPredicate {
    const str = this.#str;
    if (field.size !== 8) throw this.#error('ILLEGAL_FIELD_OP');
    if (op !== '==' && op !== '!=') throw this.#error('INVALID_OP');
    const start = this.#i;
    let address: bigint | undefined;
    if (isDigit(str[this.#i])) {
      while (isAlnum(str[this.#i])) this.#i++;
      if (this.#i - start >= NUMBER_SIZE) throw this.#error('OPERAND_TOO_LONG');
      const value = kstrtoull(str.slice(start, this.#i));
      if (typeof value === 'string') throw this.#error('INVALID_VALUE');
      address = value;
    } else {
      while (this.#i < str.length && !isSpace(str[this.#i])) this.#i++;
      address = this.#tracing.arch.lookupSymbol(str.slice(start, this.#i))[0]?.address;
      if (address === undefined || address === 0n) throw this.#error('NO_FUNCTION');
    }
    const symbol = this.#tracing.arch.lookupAddress(address);
    if (symbol === undefined) throw this.#error('NO_FUNCTION');
    const end = symbol.address + BigInt(symbol.size);
    return { kind: 'function', field, start: symbol.address, end, not: op === '!=' };
  }

  /** `ftrace:function`: only perf filters by its `ip`; the text is taken and nothing passes. */
  #functionEvent(field: TraceField): FilterPredicate {
    const str = this.#str;
    if (field.name !== 'ip') throw this.#error('IP_FIELD_ONLY');
    let start = this.#i;
    const char = str[this.#i] ?? '';
    const quote = char === "'" || char === '"' ? char : '';
    for (this.#i++; this.#i < str.length; this.#i++) {
      const here = str[this.#i] as string;
      if (quote !== '' ? here === quote : ')&|'.includes(here)) break;
    }
    if (quote !== '') start++;
    if (this.#i - start >= MAX_FILTER_STR_VAL) throw this.#error('OPERAND_TOO_LONG');
    return NEVER;
  }

  #cpus(field: TraceField, op: FilterOp): FilterPredicate {
    const str = this.#str;
    const { filterType } = field;
    if (filterType !== 'cpumask' && filterType !== 'cpu' && filterType !== 'other')
      throw this.#error('ILLEGAL_FIELD_OP');
    if (op !== '==' && op !== '!=' && op !== '&') throw this.#error('ILLEGAL_FIELD_OP');
    this.#i += 'CPUS'.length;
    if (str[this.#i++] !== '{') throw this.#error('MISSING_BRACE_OPEN');
    const start = this.#i;
    const end = str.indexOf('}', start);
    this.#i = end < 0 ? str.length : end;
    if (end < 0) throw this.#error('MISSING_BRACE_CLOSE');
    if (end === start) throw this.#error('INVALID_CPULIST');
    const mask = parseCpuList(str.slice(start, end), this.#tracing.arch.ncpu);
    if (mask === undefined) throw this.#error('INVALID_CPULIST');
    this.#i++;
    const cpu = singleBit(mask);
    if (filterType === 'cpumask')
      return cpu === undefined
        ? { kind: 'cpumask', field, op, mask }
        : { kind: 'cpumask_cpu', field, op, cpu };
    if (cpu === undefined)
      return filterType === 'cpu' ? { kind: 'cpu_cpus', op, mask } : { kind: 'number_cpus', field, op, mask };
    const scalarOp = op === '&' ? '==' : op;
    return filterType === 'cpu'
      ? { kind: 'cpu', op: scalarOp, value: cpu }
      : numberPredicate(field, scalarOp, cpu, false);
  }

  #string(field: TraceField, op: FilterOp, user: boolean): FilterPredicate {
    const str = this.#str;
    if (op !== '==' && op !== '!=' && op !== '~') throw this.#error('ILLEGAL_FIELD_OP');
    if (!isStringField(field)) throw this.#error('EXPECT_DIGIT');
    const start = this.#i + 1;
    const end = str.indexOf(str[this.#i] as string, start);
    this.#i = end < 0 ? str.length : end;
    if (end < 0) throw this.#error('MISSING_QUOTE');
    if (end - start >= MAX_FILTER_STR_VAL) throw this.#error('OPERAND_TOO_LONG');
    const pattern = str.slice(start, end);
    this.#i++;
    const regex = op === '~' ? globRegex(pattern) : literalRegex(pattern);
    return { kind: 'string', field, regex, not: op === '!=' || regex.not, user };
  }

  #number(field: TraceField, op: FilterOp): FilterPredicate {
    const str = this.#str;
    if (isStringField(field)) throw this.#error('EXPECT_STRING');
    if (op === '~') throw this.#error('ILLEGAL_FIELD_OP');
    const start = this.#i;
    if (str[this.#i] === '-') this.#i++;
    while (isAlnum(str[this.#i])) this.#i++;
    if (this.#i - start >= NUMBER_SIZE) throw this.#error('OPERAND_TOO_LONG');
    const digits = str.slice(start, this.#i);
    const value = field.isSigned ? kstrtoll(digits) : kstrtoull(digits);
    if (typeof value === 'string') throw new FilterParseError('EINVAL', 'ILLEGAL_INTVAL', this.#pos + start);
    if (field.filterType === 'cpu') return { kind: 'cpu', op, value: BigInt.asIntN(32, value) };
    return numberPredicate(field, op, value, field.isSigned);
  }

  #skipSpaces(): number {
    while (isSpace(this.#str[this.#i])) this.#i++;
    return this.#i;
  }

  #take(text: string): boolean {
    if (!this.#str.startsWith(text, this.#i)) return false;
    this.#i += text.length;
    return true;
  }

  #error(reason: FilterErrorName): FilterParseError {
    return new FilterParseError('EINVAL', reason, this.#pos + this.#i);
  }
}

/** select_comparison_fn(): nothing compares fields of other sizes. */
function numberPredicate(field: TraceField, op: FilterOp, value: bigint, isSigned: boolean): FilterPredicate {
  if (![1, 2, 4, 8].includes(field.size)) return NEVER;
  return { kind: 'number', field, op, value, isSigned };
}

function singleBit(mask: bigint): bigint | undefined {
  if (mask === 0n || (mask & (mask - 1n)) !== 0n) return undefined;
  return BigInt(mask.toString(2).length - 1);
}
