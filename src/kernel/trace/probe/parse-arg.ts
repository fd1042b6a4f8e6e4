/** Fetch arguments (parse_probe_arg() and what it calls, kernel/trace/trace_probe.c). */

import type { ErrnoCode } from '../../errno.ts';
import { isAlpha, isDigit } from '../c-text.ts';
import { kstrtoErrno, kstrtol, kstrtouint, kstrtoul, simpleStrtoul } from '../kstrto.ts';
import { PT_REGS } from '../pt-regs.ts';
import { resolveCType } from './c-type.ts';
import { isGoodName } from './event-name.ts';
import { FetchCode, type FetchInsn } from './fetch-insn.ts';
import { type FetchType, findFetchType } from './fetch-type.ts';
import {
  fetchTypeFromBtf,
  loadArgument,
  loadProperty,
  parseBtfArg,
  prepareBitField,
  prepareStringFetch,
} from './parse-btf.ts';
import type { ParseContext } from './parse-context.ts';
import type { ProbeLog } from './probe-log.ts';

export const MAX_ARGSTR_LEN = 63;
const MAX_ARRAY_LEN = 64;
const MAX_ARG_NAME_LEN = 32;
export const MAX_PROBE_EVENT_SIZE = 3072;
/** THREAD_SIZE / sizeof(unsigned long), x86-64. */
const PARAM_MAX_STACK = 2048n;

/** `struct probe_arg`: one argument of a probe. */
export interface ProbeArg {
  readonly name: string;
  /** As it was written, behind the name and `=`. */
  readonly comm: string;
  readonly type: FetchType;
  readonly code: readonly FetchInsn[];
  /** Bytes from the first argument. */
  readonly offset: number;
  /** Elements of an array; 0 where it is none. */
  readonly count: number;
  /** Its data stands behind the fixed part of the record. */
  readonly dynamic: boolean;
}

const RESERVED_NAMES: ReadonlySet<string> = new Set([
  'common_type',
  'common_flags',
  'common_preempt_count',
  'common_pid',
  'common_tgid',
  '__probe_ip',
  '__probe_ret_ip',
  '__probe_func',
]);

/** traceprobe_parse_probe_arg(): `[NAME=]FETCHARG[:TYPE]`, the one behind `args`, whose data begins at `size`. */
export function parseProbeArg(
  text: string,
  args: readonly ProbeArg[],
  size: number,
  ctx: ParseContext,
): ProbeArg {
  const log: ProbeLog = ctx.log;
  const equals = text.indexOf('=');
  if (equals > MAX_ARG_NAME_LEN) log.reject(0, 'ARG_NAME_TOO_LONG');
  if (equals === 0) log.reject(0, 'NO_ARG_NAME');
  const name = equals > 0 ? text.slice(0, equals) : generateName(text, args.length);
  if (!isGoodName(name)) log.reject(0, 'BAD_ARG_NAME');
  if (RESERVED_NAMES.has(name) || args.some((arg) => arg.name === name)) log.reject(0, 'USED_ARG_NAME');
  ctx.offset = equals + 1;
  return { name, ...parseBody(text.slice(equals + 1), size, ctx) };
}

/** generate_probe_arg_name(): a variable's name, or its number. */
function generateName(text: string, index: number): string {
  const name = text.split(':', 1)[0] as string;
  return isGoodName(name) ? name : `arg${index + 1}`;
}

/** traceprobe_parse_probe_arg_body() */
function parseBody(comm: string, offset: number, ctx: ParseContext): Omit<ProbeArg, 'name'> {
  const log: ProbeLog = ctx.log;
  if (comm.length > MAX_ARGSTR_LEN) log.reject(ctx.offset, 'ARG_TOO_LONG', 'E2BIG');
  if (comm.length === 0) log.reject(ctx.offset, 'NO_ARG_BODY');
  const parsed = parseType(comm, ctx);
  let { type } = parsed;
  const code = new FetchCode();
  ctx.lastType = undefined;
  parseFetch(parsed.arg, code, ctx);
  if (ctx.lastType !== undefined) {
    if (parsed.typeName === undefined) type = fetchTypeFromBtf(ctx) ?? type;
    else if (parsed.typeName.includes('string')) prepareStringFetch(parsed.typeName, code, ctx);
  }
  if (offset + type.size * (parsed.count || 1) > MAX_PROBE_EVENT_SIZE) {
    log.reject(ctx.offset, 'EVENT_TOO_BIG', 'E2BIG');
  }
  finalize(code, type, parsed, ctx);
  return { comm, type, code: code.finish(), offset, count: parsed.count, dynamic: type.isString };
}

interface TypePart {
  readonly arg: string;
  readonly type: FetchType;
  /** Without the array; undefined where none is written. */
  readonly typeName: string | undefined;
  readonly typeOffset: number;
  readonly count: number;
}

/** parse_probe_arg_type(): splits `:TYPE[N]` off. */
function parseType(text: string, ctx: ParseContext): TypePart {
  const log: ProbeLog = ctx.log;
  const colon = text.indexOf(':');
  const arg = colon < 0 ? text : text.slice(0, colon);
  const typeOffset = colon + 1;
  let typeName = colon < 0 ? undefined : text.slice(typeOffset);
  let count = 0;
  const bracket = typeName?.indexOf('[') ?? -1;
  if (typeName !== undefined && bracket >= 0) {
    const at = typeOffset + bracket + 1;
    const close = text.indexOf(']', at);
    if (close < 0) log.reject(ctx.offset + text.length, 'ARRAY_NO_CLOSE');
    if (close + 1 < text.length) log.reject(ctx.offset + close + 1, 'BAD_ARRAY_SUFFIX');
    count = kstrtouint(text.slice(at, close)) ?? 0;
    if (count === 0) log.reject(ctx.offset + at, 'BAD_ARRAY_NUM');
    if (count > MAX_ARRAY_LEN) log.reject(ctx.offset + at, 'ARRAY_TOO_BIG');
    typeName = typeName.slice(0, bracket);
  }
  let type = findFetchType(typeName);
  if (ctx.site.kind !== 'eprobe' && (isComm(arg.slice(1), arg) || arg.startsWith('\\"'))) {
    if (count > 0 || (typeName !== undefined && typeName !== 'string')) {
      log.reject(ctx.offset + typeOffset, 'NEED_STRING_TYPE');
    }
    type = findFetchType('string');
  }
  if (type === undefined) log.reject(ctx.offset + typeOffset, 'BAD_TYPE');
  return { arg, type, typeName, typeOffset, count };
}

function isComm(variable: string, word = '$'): boolean {
  return word[0] === '$' && (variable === 'comm' || variable === 'COMM');
}

/** parse_probe_arg(): fills `code` with a load and dereferences. */
function parseFetch(text: string, code: FetchCode, ctx: ParseContext): void {
  const log: ProbeLog = ctx.log;
  const first = code.current;
  switch (text[0]) {
    case '$':
      parseVariable(text, code, ctx);
      break;
    case '%':
      if (ctx.site.kind !== 'kprobe') {
        log.err(ctx.offset, 'BAD_VAR');
        break;
      }
      if (!Object.hasOwn(PT_REGS, text.slice(1))) log.reject(ctx.offset, 'BAD_REG_NAME');
      first.op = 'reg';
      first.name = text.slice(1);
      break;
    case '@':
      parseMemory(text, code, ctx);
      break;
    case '+':
    case '-':
      parseDeref(text, code, ctx);
      break;
    case '\\':
      parseImmediate(text, code, ctx);
      break;
    default:
      if (isAlpha(text) || text[0] === '_') {
        if (ctx.site.kind === 'eprobe' || ctx.site.at === 'body') log.reject(ctx.offset, 'NOSUP_BTFARG');
        parseBtfArg(text, code, ctx);
      }
  }
  if (first.op === 'nop') log.reject(ctx.offset, 'BAD_FETCH_ARG');
}

/** `@ADDR` and `@SYM[+-OFFS]`: memory at an address. */
function parseMemory(text: string, code: FetchCode, ctx: ParseContext): void {
  const log: ProbeLog = ctx.log;
  const insn = code.current;
  if (isDigit(text, 1)) {
    const address = kstrtoul(text.slice(1));
    if (address === undefined) log.reject(ctx.offset, 'BAD_MEM_ADDR', kstrtoErrno(text.slice(1)));
    insn.op = 'imm';
    insn.immediate = address;
  } else {
    if (text[1] === '+') log.reject(ctx.offset, 'FILE_ON_KPROBE');
    insn.op = 'symbol';
    insn.data = text.slice(1);
    if (!code.next()) log.reject(ctx.offset, 'TOO_MANY_OPS');
    code.current.op = 'imm';
  }
  if (!code.next()) log.reject(ctx.offset, 'TOO_MANY_OPS');
  code.current.op = 'deref';
}

/** `+[u]OFFS(FETCHARG)`, `-[u]OFFS(FETCHARG)` */
function parseDeref(text: string, code: FetchCode, ctx: ParseContext): void {
  const log: ProbeLog = ctx.log;
  const user = text[1] === 'u';
  const sign = text[0] === '-' ? '-' : '';
  const digits = text.slice(user ? 2 : 1);
  const open = digits.indexOf('(');
  if (open < 0) log.reject(ctx.offset, 'DEREF_NEED_BRACE');
  const number = sign + digits.slice(0, open);
  const offset = kstrtol(number);
  if (offset === undefined) log.reject(ctx.offset, 'BAD_DEREF_OFFS', kstrtoErrno(number));
  // As the kernel counts: neither the `u` nor a `+` in front of `-`.
  ctx.offset += open + (digits[0] === '-' ? 1 : 2);
  const inner = digits.slice(open + 1);
  const close = inner.lastIndexOf(')');
  if (close < 0) log.reject(ctx.offset + inner.length, 'DEREF_OPEN_BRACE');
  const here = ctx.offset;
  parseFetch(inner.slice(0, close), code, ctx);
  ctx.offset = here;
  const loaded = code.current.op;
  if (loaded === 'comm' || loaded === 'data') log.reject(ctx.offset, 'COMM_CANT_DEREF');
  if (!code.next()) log.reject(ctx.offset, 'TOO_MANY_OPS');
  code.current.op = user ? 'uderef' : 'deref';
  code.current.offset = offset;
  ctx.lastType = undefined;
}

/** `\IMM` and `\"STRING"` */
function parseImmediate(text: string, code: FetchCode, ctx: ParseContext): void {
  const log: ProbeLog = ctx.log;
  const insn = code.current;
  if (text[1] === '"') {
    const string = text.slice(2);
    if (!string.endsWith('"')) log.reject(ctx.offset + 2 + string.length, 'IMMSTR_NO_CLOSE');
    insn.op = 'data';
    insn.data = string.slice(0, -1);
    return;
  }
  const digits = text.slice(1);
  let value: bigint | undefined;
  if (isDigit(digits)) value = kstrtoul(digits);
  else if (digits[0] === '-') value = kstrtol(digits);
  else if (digits[0] === '+') value = kstrtol(digits.slice(1));
  if (value === undefined) log.reject(ctx.offset + 1, 'BAD_IMM', immediateErrno(digits));
  insn.op = 'imm';
  insn.immediate = BigInt.asUintN(64, value);
}

/** What str_to_immediate() says of a text that is no number. */
function immediateErrno(digits: string): ErrnoCode {
  return /^[-\d]|^\+[^+]/.test(digits) ? kstrtoErrno(digits) : 'EINVAL';
}

/** parse_probe_vars(): `$retval`, `$stack`, `$stackN`, `$comm`, `$argN`, and an eprobe's fields. */
function parseVariable(text: string, code: FetchCode, ctx: ParseContext): void {
  const log: ProbeLog = ctx.log;
  const insn = code.current;
  const name = text.slice(1);
  if (ctx.site.kind === 'eprobe') {
    const field = ctx.event?.fields.find((each) => each.name === name);
    if (field !== undefined) {
      insn.op = 'tp_arg';
      insn.field = field;
    } else if (isComm(name)) insn.op = 'comm';
    else log.reject(ctx.offset, 'BAD_VAR');
    return;
  }
  if (name.startsWith('retval')) {
    if (ctx.site.at !== 'return') log.reject(ctx.offset, 'RETVAL_ON_PROBE');
    parseBtfArg(text, code, ctx);
  } else if (name.startsWith('stack')) {
    const rest = name.slice(5);
    insn.op = 'stackp';
    if (rest === '') return;
    const index = isDigit(rest) ? kstrtoul(rest, 10) : undefined;
    if (index === undefined) log.reject(ctx.offset, 'BAD_VAR');
    if (index > PARAM_MAX_STACK) log.reject(ctx.offset, 'BAD_STACK_NUM');
    insn.op = 'stack';
    insn.param = Number(index);
  } else if (isComm(name)) insn.op = 'comm';
  else if (name.startsWith('arg')) parseNumberedArg(name.slice(3), code, ctx);
  else log.reject(ctx.offset, 'BAD_VAR');
}

/** `$argN`; where the argument is a JavaScript value, also `$argN->PROPERTY`. */
function parseNumberedArg(text: string, code: FetchCode, ctx: ParseContext): void {
  const log: ProbeLog = ctx.log;
  const [, digits = text, operator = '', path = ''] = /^(\d+)(->|\.)(.*)$/s.exec(text) ?? [];
  const number = kstrtoul(digits, 10);
  if (number === undefined) log.reject(ctx.offset, 'BAD_VAR');
  if (number === 0n || number > PARAM_MAX_STACK) log.reject(ctx.offset, 'BAD_ARG_NUM');
  if (ctx.site.at === 'body') log.reject(ctx.offset, 'NOFENTRY_ARGS');
  const index = Number(number) - 1;
  const type = ctx.proto?.params[index]?.type;
  if (operator !== '') {
    if (type === undefined || resolveCType(ctx.arch, type).kind !== 'js') log.reject(ctx.offset, 'BAD_VAR');
    ctx.offset += '$arg'.length + digits.length + operator.length;
    loadProperty(index, path, code, ctx);
    return;
  }
  loadArgument(index, code, ctx);
}

/** finalize_fetch_insn(): the store, then what modifies and repeats it. */
function finalize(code: FetchCode, type: FetchType, parsed: TypePart, ctx: ParseContext): void {
  const log: ProbeLog = ctx.log;
  const { typeName, typeOffset, count } = parsed;
  storeInsn(code, type, count, typeOffset, ctx);
  const store = code.current.op;
  if (typeName !== undefined) {
    if (typeName[0] === 'b' && !parseBitField(typeName, type, code))
      log.reject(ctx.offset + typeOffset, 'BAD_BITFIELD');
  } else if (ctx.lastType !== undefined) prepareBitField(code, ctx);
  if (count > 0) {
    if (store !== 'st_mem' && store !== 'st_string' && store !== 'st_ustring') {
      log.reject(ctx.offset + typeOffset, 'BAD_STRING');
    }
    if (!code.next()) log.reject(ctx.offset, 'TOO_MANY_OPS', 'E2BIG');
    code.current.op = 'lp_array';
    code.current.param = count;
  }
}

const SYMSTR_SOURCES: ReadonlySet<string> = new Set(['reg', 'stack', 'retval', 'arg', 'deref', 'tp_arg']);
const STRING_SOURCES: ReadonlySet<string> = new Set([
  'deref',
  'uderef',
  'imm',
  'comm',
  'data',
  'tp_arg',
  'prop',
]);
const STRING_ADDRESSES: ReadonlySet<string> = new Set(['imm', 'comm', 'data', 'tp_arg', 'prop']);

function storeInsn(
  code: FetchCode,
  type: FetchType,
  count: number,
  typeOffset: number,
  ctx: ParseContext,
): void {
  const log: ProbeLog = ctx.log;
  const { op } = code.current;
  if (type.isString) {
    const symstr = type.name === 'symstr';
    if (symstr && !SYMSTR_SOURCES.has(op)) log.reject(ctx.offset + typeOffset, 'BAD_SYMSTRING');
    if (!symstr && !STRING_SOURCES.has(op)) log.reject(ctx.offset + typeOffset, 'BAD_STRING');
    // These keep the value itself; any other's last dereference becomes the store.
    if (symstr || STRING_ADDRESSES.has(op) || count > 0) {
      if (!code.next()) log.reject(ctx.offset, 'TOO_MANY_OPS');
    }
    if (type.name === 'ustring' || code.current.op === 'uderef') code.current.op = 'st_ustring';
    else code.current.op = symstr ? 'st_symstr' : 'st_string';
  } else if (op === 'deref') code.current.op = 'st_mem';
  else if (op === 'uderef') code.current.op = 'st_umem';
  else {
    if (!code.next()) log.reject(ctx.offset, 'TOO_MANY_OPS', 'E2BIG');
    code.current.op = 'st_raw';
  }
  code.current.size = type.size;
}

/** __parse_bitfield_probe_arg(): `b<width>@<offset>/<size>`; false where it is none. */
function parseBitField(text: string, type: FetchType, code: FetchCode): boolean {
  const width = simpleStrtoul(text.slice(1));
  if (width.value === 0n || width.tail[0] !== '@') return false;
  const shift = simpleStrtoul(width.tail.slice(1));
  if (shift.tail.length === width.tail.length - 1 || shift.tail[0] !== '/') return false;
  if (!code.next()) return false;
  const bits = BigInt(type.size * 8);
  // The kernel's sum is one of unsigned longs.
  if (bits < BigInt.asUintN(64, width.value + shift.value)) return false;
  const insn = code.current;
  insn.op = 'mod_bf';
  insn.size = type.size;
  insn.lshift = Number(BigInt.asUintN(8, bits - (width.value + shift.value)));
  insn.rshift = Number(BigInt.asUintN(8, bits - width.value));
  return true;
}
