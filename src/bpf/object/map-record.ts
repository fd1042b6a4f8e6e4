/** Special fields of a map's value, by its type (btf_parse_fields of kernel/bpf/btf.c). */
import { type Btf, type BtfMember, resolveType, skipModifiers } from '../btf/index.ts';
import type { MapRecord, RecordField, RecordFieldKind } from '../maps/map-spec.ts';

/** Structs that are a field of their own wherever they stand. */
const SPECIAL: ReadonlyMap<string, RecordFieldKind> = new Map([
  ['bpf_spin_lock', 'spin_lock'],
  ['bpf_res_spin_lock', 'res_spin_lock'],
  ['bpf_timer', 'timer'],
  ['bpf_wq', 'wq'],
  ['bpf_task_work', 'task_work'],
  ['bpf_list_head', 'list_head'],
  ['bpf_list_node', 'list_node'],
  ['bpf_rb_root', 'rb_root'],
  ['bpf_rb_node', 'rb_node'],
  ['bpf_refcount', 'refcount'],
]);

const KPTR_TAGS: ReadonlyMap<string, RecordFieldKind> = new Map([
  ['kptr_untrusted', 'kptr_unref'],
  ['kptr', 'kptr_ref'],
  ['percpu_kptr', 'kptr_percpu'],
  ['uptr', 'uptr'],
]);

const MAX_FIELDS = 11;
const MAX_DEPTH = 4;
/** No real value has as many; types of no size can be nested to any number. */
const MAX_MEMBERS = 1_000_000;

/**
 * The record of a type, by offset; undefined where it has no special field, or one that a kernel refuses: then it takes the map
 * without its types. `budget` is how many members may be looked at, for all
 * calls that share it; a type that needs more has no record.
 */
export function recordOf(btf: Btf, typeId: number, budget = { left: MAX_MEMBERS }): MapRecord | undefined {
  const fields: RecordField[] = [];
  const to: Collecting = { btf, fields, budget, isInvalid: false };
  const id = resolveType(btf, typeId);
  if (btf.kindName(id) === 'STRUCT') collect(to, id, 0, 0);
  if (btf.kindName(id) === 'DATASEC') {
    const datasec = btf.type(id);
    if (datasec.kind === 'DATASEC') {
      for (const { type, offset } of datasec.vars) {
        if (--budget.left < 0) break;
        if (btf.kindName(type) === 'VAR') field(to, btf.word(type, 2), offset, type, -1, 0);
      }
    }
  }
  if (fields.length === 0 || fields.length > MAX_FIELDS || to.isInvalid) return undefined;
  fields.sort((a, b) => a.offset - b.offset);
  return { fields };
}

interface Collecting {
  readonly btf: Btf;
  readonly fields: RecordField[];
  readonly budget: { left: number };
  isInvalid: boolean;
}

function collect(to: Collecting, structId: number, base: number, depth: number): void {
  if (depth > MAX_DEPTH) return;
  for (const [index, member] of to.btf.members(structId).entries()) {
    if (to.fields.length > MAX_FIELDS || --to.budget.left < 0) return;
    if (member.bitSize !== 0 || member.bitOffset % 8 !== 0) continue;
    field(to, member.type, base + member.bitOffset / 8, structId, index, depth);
  }
}

/** One member or variable: special itself, an array of special ones, or a struct that holds some. */
function field(
  to: Collecting,
  typeId: number,
  offset: number,
  owner: number,
  index: number,
  depth: number,
): void {
  const { btf, fields } = to;
  let count = 1;
  let id = resolveType(btf, typeId);
  while (btf.kindName(id) === 'ARRAY' && depth <= MAX_DEPTH) {
    count *= btf.word(id, 5);
    typeId = btf.word(id, 3);
    id = resolveType(btf, typeId);
    if (++depth > MAX_DEPTH) return;
  }
  if (count > MAX_FIELDS && !isSpecial(btf, typeId, id)) {
    // Nothing special is looked for in long arrays of ordinary structs, as in the kernel.
    return;
  }
  for (let i = 0; i < Math.min(count, MAX_FIELDS + 1); i++) {
    const kind = btf.kindName(id);
    if (kind === 'PTR') {
      const pointer = kptr(btf, id, offset + i * btf.pointerSize);
      if (pointer === undefined) return;
      if (pointer === 'invalid') to.isInvalid = true;
      else fields.push(pointer);
    } else if (kind === 'STRUCT') {
      const special = SPECIAL.get(btf.name(id));
      const size = btf.word(id, 2);
      const at = offset + i * size;
      if (special === undefined) collect(to, id, at, depth + 1);
      else fields.push({ kind: special, offset: at, size, ...contained(to, special, owner, index) });
    } else {
      return;
    }
  }
}

function isSpecial(btf: Btf, typeId: number, id: number): boolean {
  const kind = btf.kindName(id);
  return (
    (kind === 'STRUCT' && SPECIAL.has(btf.name(id))) ||
    (kind === 'PTR' && kptr(btf, resolveType(btf, typeId), 0) !== undefined)
  );
}

/** A pointer with one of the kptr type tags between it and its struct; invalid where only the struct's name is known. */
function kptr(btf: Btf, pointer: number, offset: number): RecordField | 'invalid' | undefined {
  const target = btf.word(pointer, 2);
  if (btf.kindName(target) !== 'TYPE_TAG') return undefined;
  const kind = KPTR_TAGS.get(btf.name(target));
  const struct = skipModifiers(btf, target);
  if (kind === undefined) return undefined;
  if (btf.kindName(struct) !== 'STRUCT') return 'invalid';
  const inner = recordWithin(btf, struct);
  return {
    kind,
    offset,
    size: btf.pointerSize,
    typeId: struct,
    typeName: btf.name(struct),
    ...(inner === undefined ? {} : { record: inner }),
  };
}

/** Records of structs that kptrs point to; a struct may point to its like. */
function recordWithin(btf: Btf, struct: number): MapRecord | undefined {
  const fields: RecordField[] = [];
  for (const member of btf.members(struct)) {
    const id = resolveType(btf, member.type);
    const kind = btf.kindName(id) === 'STRUCT' ? SPECIAL.get(btf.name(id)) : undefined;
    if (kind !== undefined) fields.push({ kind, offset: member.bitOffset / 8, size: btf.word(id, 2) });
  }
  return fields.length === 0 ? undefined : { fields };
}

/** `__contains(struct, node)`: DECL_TAG `contains:struct:node` of a list head or tree root. */
function contained(
  { btf, budget }: Collecting,
  kind: RecordFieldKind,
  owner: number,
  index: number,
): Pick<RecordField, 'typeId' | 'typeName' | 'nodeOffset'> {
  if (kind !== 'list_head' && kind !== 'rb_root') return {};
  budget.left -= btf.typeCount;
  if (budget.left < 0) return {};
  for (let id = 1; id < btf.typeCount; id++) {
    if (btf.kindName(id) !== 'DECL_TAG' || btf.word(id, 2) !== owner) continue;
    if ((btf.word(id, 3) | 0) !== index) continue;
    const [prefix, struct, node] = btf.name(id).split(':');
    if (prefix !== 'contains' || struct === undefined || node === undefined) continue;
    const typeId = btf.byName(struct, 'STRUCT');
    if (typeId === undefined) continue;
    const member = btf.members(typeId).find(({ name }: BtfMember) => name === node);
    if (member === undefined) continue;
    return { typeId, typeName: struct, nodeOffset: member.bitOffset / 8 };
  }
  return {};
}
