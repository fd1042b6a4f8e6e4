/**
 * Arguments by the names of parameters, and members behind them (parse_btf_arg(), parse_btf_field(),
 * kernel/trace/trace_probe.c). Where a value is a JavaScript one, its members are properties.
 */
import { readable } from '../byte-string.ts';
import {
  type CType,
  fetchTypeOfCType,
  findMember,
  isCharArray,
  isCharPointer,
  resolveCType,
} from './c-type.ts';
import type { FetchCode } from './fetch-insn.ts';
import { type FetchType, findFetchType } from './fetch-type.ts';
import type { ParseContext } from './parse-context.ts';
import type { ProbeLog } from './probe-log.ts';

interface Split {
  readonly name: string;
  readonly arrow: boolean;
  /** What follows the operator; undefined where there is none. */
  readonly rest: string | undefined;
  /** Bytes from the start to `rest`. */
  readonly skip: number;
}

/** split_next_field(): up to the next `->` or `.`. */
function splitField(text: string, ctx: ParseContext): Split {
  const at = text.search(/[.-]/);
  if (at < 0) return { name: text, arrow: false, rest: undefined, skip: 0 };
  const arrow = text[at] === '-';
  if (arrow && text[at + 1] !== '>') ctx.log.reject(ctx.offset + at, 'BAD_HYPHEN');
  const skip = at + (arrow ? 2 : 1);
  return { name: text.slice(0, at), arrow, rest: text.slice(skip), skip };
}

/** `VARIABLE[->FIELD[.FIELD...]]` into a load and dereferences. */
export function parseBtfArg(text: string, code: FetchCode, ctx: ParseContext): void {
  const { proto, arch } = ctx;
  const log: ProbeLog = ctx.log;
  const { name, arrow, rest, skip } = splitField(text, ctx);
  const index = proto?.params.findIndex((param) => param.name === name) ?? -1;
  const js = index >= 0 && resolveCType(arch, proto!.params[index]!.type).kind === 'js';
  if (!arrow && rest !== undefined && !js) log.reject(ctx.offset + skip, 'NOSUP_DAT_ARG', 'EOPNOTSUPP');

  if (ctx.site.at === 'return' && name === '$retval') {
    code.current.op = 'retval';
    if (proto?.returnType !== undefined) {
      const type = resolveCType(arch, proto.returnType);
      if (type.kind === 'void') log.reject(ctx.offset, 'NO_RETVAL', 'ENOENT');
      follow(type, -1);
    } else if (rest !== undefined) log.reject(ctx.offset + skip, 'NO_BTF_ENTRY', 'ENOENT');
    return;
  }
  if (proto === undefined || proto.params.length === 0) log.reject(ctx.offset, 'NO_BTF_ENTRY', 'ENOENT');
  if (index < 0) log.reject(ctx.offset, 'NO_BTFARG', 'ENOENT');
  loadArgument(index, code, ctx);
  const { type: declared, fetchType } = proto.params[index]!;
  const type = resolveCType(arch, declared);
  follow(type.kind === 'js' && fetchType !== undefined ? { kind: 'js', fetchType } : type, index);

  function follow(type: CType, argument: number): void {
    ctx.lastType = type;
    ctx.lastBitOffset = 0;
    ctx.lastBitSize = 0;
    if (rest === undefined) {
      if (type.kind === 'js' && argument < 0) code.current.op = 'prop';
      if (argument < 0) code.current.param = argument;
      return;
    }
    ctx.offset += skip;
    if (type.kind === 'js') loadProperty(argument, rest, code, ctx);
    else parseBtfField(rest, type, code, ctx);
  }
}

/** Loads argument `index` (from 0) where the probe is: at return, from what was kept at entry. */
export function loadArgument(index: number, code: FetchCode, ctx: ParseContext): void {
  const insn = code.current;
  if (ctx.site.at === 'return') {
    insn.op = 'edata';
    insn.param = index;
    if (!ctx.entryArgs.includes(index)) ctx.entryArgs.push(index);
    return;
  }
  const param = ctx.proto?.params[index];
  const js = param !== undefined && resolveCType(ctx.arch, param.type).kind === 'js';
  insn.op = js ? 'prop' : 'arg';
  insn.param = param?.arg ?? index;
  if (param?.path !== undefined) insn.path = param.path;
}

/** A path of properties: `headers.host`, `headers->host`. Property names are of letters, digits, `_` and `$`. */
export function loadProperty(argument: number, text: string, code: FetchCode, ctx: ParseContext): void {
  const path = text.split(/->|\./);
  let at = 0;
  for (const name of path) {
    if (!/^[\w$\x80-\xff]+$/.test(name)) ctx.log.reject(ctx.offset + at, 'NO_BTF_FIELD', 'ENOENT');
    at += name.length + (text.startsWith('->', at + name.length) ? 2 : 1);
  }
  const insn = code.current;
  const param = ctx.proto?.params[argument];
  insn.op = 'prop';
  insn.param = param?.arg ?? argument;
  insn.path = [...(param?.path ?? []), ...path.map(readable)];
  ctx.lastType = { kind: 'js' };
}

function parseBtfField(text: string, pointer: CType, code: FetchCode, ctx: ParseContext): void {
  const { arch } = ctx;
  const log: ProbeLog = ctx.log;
  let field: string | undefined = text;
  let type = pointer;
  do {
    if (type.kind !== 'ptr') log.reject(ctx.offset, 'NO_PTR_STRCT');
    type = resolveCType(arch, type.target);
    let bitOffset = 0;
    let arrow = false;
    do {
      const split: Split = splitField(field, ctx);
      // A number or a pointer has no members; of a type that is not declared nothing is known.
      if (type.kind !== 'struct' && type.kind !== 'unknown') log.reject(ctx.offset, 'BAD_BTF_TID');
      const found: ReturnType<typeof findMember> =
        type.kind === 'struct' ? findMember(type.members, split.name) : undefined;
      if (found === undefined) log.reject(ctx.offset, 'NO_BTF_FIELD', 'ENOENT');
      bitOffset += found.bitOffset;
      ctx.lastBitSize = found.member.bitSize ?? 0;
      type = memberType(found.member.type, found.member.members);
      arrow = split.arrow;
      ctx.offset += split.skip;
      field = split.rest;
    } while (!arrow && field !== undefined);
    if (!code.next()) log.reject(ctx.offset, 'TOO_MANY_OPS');
    code.current.op = 'deref';
    code.current.offset = BigInt(bitOffset >> 3);
    ctx.lastBitOffset = bitOffset & 7;
    ctx.lastType = type;
  } while (field !== undefined);

  function memberType(declared: string, members: Parameters<typeof findMember>[0] | undefined): CType {
    return members === undefined ? resolveCType(arch, declared) : { kind: 'struct', members };
  }
}

/** find_fetch_type_from_btf_type(): the type of an argument that names none. */
export function fetchTypeFromBtf(ctx: ParseContext): FetchType | undefined {
  return findFetchType(ctx.lastType === undefined ? undefined : fetchTypeOfCType(ctx.lastType));
}

/** check_prepare_btf_string_fetch(): a string type needs a `char *`, which is followed, or a `char []`. */
export function prepareStringFetch(typeName: string, code: FetchCode, ctx: ParseContext): void {
  const { lastType: type, arch } = ctx;
  const log: ProbeLog = ctx.log;
  if (type === undefined || type.kind === 'js' || isCharArray(arch, type)) return;
  if (!isCharPointer(arch, type)) log.reject(ctx.offset, 'BAD_TYPE4STR');
  if (!code.next()) log.reject(ctx.offset, 'TOO_MANY_OPS', 'E2BIG');
  code.current.op = typeName[0] === 'u' ? 'uderef' : 'deref';
  code.current.offset = 0n;
}

/** parse_btf_bitfield() */
export function prepareBitField(code: FetchCode, ctx: ParseContext): void {
  if (ctx.lastBitSize % 8 === 0 && ctx.lastBitOffset === 0) return;
  if (!code.next()) ctx.log.reject(ctx.offset, 'TOO_MANY_OPS');
  const insn = code.current;
  insn.op = 'mod_bf';
  insn.lshift = 64 - (ctx.lastBitSize + ctx.lastBitOffset);
  insn.rshift = 64 - ctx.lastBitSize;
  insn.size = 8;
}
