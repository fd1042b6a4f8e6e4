/** BTF, the type format of eBPF: see README.md. */
export { Btf } from './btf.ts';
export { BtfBuilder, type EnumeratorInput, type MemberInput } from './builder.ts';
export { type DedupResult, dedupBtf } from './dedup.ts';
export { type DumpCOptions, dumpC } from './dump-c.ts';
export { dumpRaw, dumpRawType } from './dump-raw.ts';
export { BtfError } from './error.ts';
export { type BtfExt, type CoreRelo, type FuncInfo, type LineInfo, parseBtfExt } from './ext.ts';
export type { KindName } from './kinds.ts';
export * as btfKinds from './kinds.ts';
export { alignOf, resolveType, sizeOf, skipModifiers } from './layout.ts';
export { parseBtf } from './parse.ts';
export { type PrintedEntry, type PrintOptions, printMapEntries, printValue } from './print-value.ts';
export { type ShowOptions, showValue } from './show.ts';
export type {
  BtfArray,
  BtfComposite,
  BtfDatasec,
  BtfDeclTag,
  BtfEnum,
  BtfEnumerator,
  BtfFloat,
  BtfFunc,
  BtfFuncProto,
  BtfFwd,
  BtfInt,
  BtfLinkage,
  BtfMember,
  BtfParam,
  BtfRef,
  BtfSecVar,
  BtfType,
  BtfTypeTag,
  BtfVar,
  BtfVoid,
} from './types.ts';
export { validateBtf } from './validate.ts';
export { writeBtf } from './write.ts';
