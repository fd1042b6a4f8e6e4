/** The contents of .BTF.ext: which function, line and CO-RE relocation belongs to which instruction. */
import { type BtfBuilder, type BtfExt, btfKinds } from '../btf/index.ts';
import { ObjectError } from '../elf/index.ts';
import type { InputObject } from './input.ts';
import type { Sections } from './sections.ts';

const HEADER_SIZE = 32;
const RECORD_SIZES = { funcInfo: 8, lineInfo: 16, coreRelos: 16 } as const;
const WORD = 4;

/** Records as words, by section. */
type Table = Map<string, number[]>;

/** The section's bytes, undefined where nothing is to be said. `newId` gives a type's id in the result. */
export function writeBtfExt(
  inputs: readonly InputObject[],
  sections: Sections,
  builder: BtfBuilder,
  newId: (input: InputObject, id: number) => number,
): Uint8Array | undefined {
  const funcs: Table = new Map();
  const lines: Table = new Map();
  const relos: Table = new Map();
  for (const input of inputs) {
    const { ext } = input;
    if (ext === undefined) continue;
    collect(input, sections, funcs, ext.funcInfo, (one) => [newId(input, one.typeId)]);
    collect(input, sections, lines, ext.lineInfo, (one) => [
      builder.string(one.fileName),
      builder.string(one.text),
      ((one.line << 10) | one.column) >>> 0,
    ]);
    collect(input, sections, relos, ext.coreRelos, (one) => [
      newId(input, one.typeId),
      builder.string(one.accessString),
      one.kind,
    ]);
  }
  const tables = [
    { table: funcs, record: RECORD_SIZES.funcInfo },
    { table: lines, record: RECORD_SIZES.lineInfo },
    { table: relos, record: RECORD_SIZES.coreRelos },
  ].map(({ table, record }) => words(table, record, builder));
  const length = tables.reduce((sum, table) => sum + table.length * WORD, 0);
  if (length === 0) return undefined;
  const bytes = new Uint8Array(HEADER_SIZE + length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, btfKinds.BTF_MAGIC, true);
  view.setUint8(2, btfKinds.BTF_VERSION);
  view.setUint32(4, HEADER_SIZE, true);
  let offset = 0;
  for (const [index, table] of tables.entries()) {
    view.setUint32(8 + index * 8, offset, true);
    view.setUint32(12 + index * 8, table.length * WORD, true);
    for (const [at, word] of table.entries()) view.setUint32(HEADER_SIZE + offset + at * WORD, word, true);
    offset += table.length * WORD;
  }
  return bytes;
}

function collect<
  T extends BtfExt[keyof BtfExt] extends ReadonlyMap<string, readonly (infer R)[]> ? R : never,
>(
  input: InputObject,
  sections: Sections,
  table: Table,
  records: ReadonlyMap<string, readonly T[]>,
  rest: (record: T) => number[],
): void {
  for (const [name, list] of records) {
    const index = input.sections.find((section) => section.name === name)?.index;
    const placed = index === undefined ? undefined : sections.placed(input, index);
    if (placed === undefined) {
      throw new ObjectError('OBJ_BAD_BTF', `${input.name}: there is no section ${name}`, {
        section: '.BTF.ext',
      });
    }
    let out = table.get(name);
    if (out === undefined) {
      out = [];
      table.set(name, out);
    }
    for (const record of list) out.push(record.insnOff + placed.offset, ...rest(record));
  }
}

function words(table: Table, record: number, builder: BtfBuilder): number[] {
  if (table.size === 0) return [];
  const out = [record];
  for (const [name, records] of table) {
    out.push(builder.string(name), (records.length * WORD) / record);
    for (const word of records) out.push(word);
  }
  return out;
}
