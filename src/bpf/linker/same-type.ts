/**
 * Whether two objects mean the same by a name: the types of a function, a variable or a map in the types of either object. Behind
 * pointers, a struct has to have the same name only, and may be a mere declaration.
 */
import { type Btf, type BtfMember, type BtfType, resolveType } from '../btf/index.ts';
import { type MapDraft, parseMapDefinition } from '../object/map-definitions.ts';

/** A type and whose it is. */
export interface TypeIn {
  readonly btf: Btf;
  readonly id: number;
}

/** Comparisons of two types, at most: files can make them endless. */
const MAX_STEPS = 100_000;
const MAX_DEPTH = 64;

/** Why two types are not the same, or undefined. Throws BtfError where a type goes round in circles. */
export function typeDifference(a: TypeIn, b: TypeIn): string | undefined {
  return new Comparison().compare(a, b, true, 0);
}

class Comparison {
  #steps = 0;

  /** `exact`: members of structs count, too. */
  compare(left: TypeIn, right: TypeIn, exact: boolean, depth: number): string | undefined {
    if (++this.#steps > MAX_STEPS || depth > MAX_DEPTH) return 'they are too large to be compared';
    const a = left.btf.type(resolveType(left.btf, left.id));
    const b = right.btf.type(resolveType(right.btf, right.id));
    const goOn = (x: number, y: number, exactly = exact): string | undefined =>
      this.compare({ btf: left.btf, id: x }, { btf: right.btf, id: y }, exactly, depth + 1);
    if (!exact && (a.kind === 'FWD') !== (b.kind === 'FWD')) return declares(a, b);
    if (a.kind !== b.kind) return `${describe(a)} and ${describe(b)}`;
    switch (a.kind) {
      case 'UNKN':
        return undefined;
      case 'INT':
      case 'FLOAT':
        return sizeDifference(a, b as typeof a);
      case 'ENUM':
      case 'ENUM64':
        return nameDifference(a, b) ?? sizeDifference(a, b as typeof a);
      case 'FWD':
        return nameDifference(a, b);
      case 'PTR':
        return goOn(a.type, (b as typeof a).type, false);
      case 'ARRAY':
        // `extern int list[]` leaves the length open.
        return goOn(a.type, (b as typeof a).type);
      case 'FUNC':
      case 'VAR': {
        const other = b as typeof a;
        if ((a.linkage === 'static') !== (other.linkage === 'static')) return 'one is static';
        return nameDifference(a, b) ?? goOn(a.type, other.type);
      }
      case 'FUNC_PROTO': {
        const other = b as typeof a;
        if (a.params.length !== other.params.length)
          return `${a.params.length} and ${other.params.length} parameters`;
        for (const [index, param] of a.params.entries()) {
          const difference = goOn(param.type, other.params[index]!.type);
          if (difference !== undefined) return `parameter ${index + 1}: ${difference}`;
        }
        const difference = goOn(a.type, other.type);
        return difference === undefined ? undefined : `result: ${difference}`;
      }
      case 'STRUCT':
      case 'UNION': {
        const difference = nameDifference(a, b);
        if (difference !== undefined || !exact) return difference;
        return membersDifference(describe(a), a.members, (b as typeof a).members, goOn);
      }
      default:
        return `${describe(a)} is no type of a symbol`;
    }
  }
}

function describe({ kind, name }: BtfType): string {
  return name === '' ? kind.toLowerCase() : `${kind.toLowerCase()} ${name}`;
}

function nameDifference(a: BtfType, b: BtfType): string | undefined {
  return a.name === b.name ? undefined : `${describe(a)} and ${describe(b)}`;
}

function sizeDifference(
  a: BtfType & { readonly size: number },
  b: BtfType & { readonly size: number },
): string | undefined {
  return a.size === b.size ? undefined : `${describe(a)} of ${a.size} bytes and ${describe(b)} of ${b.size}`;
}

/** A declaration without members, and what it may stand for. */
function declares(a: BtfType, b: BtfType): string | undefined {
  const [forward, whole] = a.kind === 'FWD' ? [a, b] : [b, a];
  const kind = forward.kind === 'FWD' && forward.union ? 'UNION' : 'STRUCT';
  return whole.kind === kind && whole.name === forward.name
    ? undefined
    : `${describe(forward)} and ${describe(whole)}`;
}

function membersDifference(
  what: string,
  a: readonly BtfMember[],
  b: readonly BtfMember[],
  compare: (x: number, y: number) => string | undefined,
): string | undefined {
  if (a.length !== b.length) return `${what} with ${a.length} members and with ${b.length}`;
  for (const [index, member] of a.entries()) {
    const other = b[index]!;
    if (member.name !== other.name) return `members ${member.name} and ${other.name} of ${what}`;
    if (member.bitOffset !== other.bitOffset || member.bitSize !== other.bitSize)
      return `places of member ${member.name} of ${what}`;
    const difference = compare(member.type, other.type);
    if (difference !== undefined) return `member ${member.name} of ${what}: ${difference}`;
  }
  return undefined;
}

/** As `typeDifference()`, for the variables of two definitions of a map. Throws ObjectError where one is no definition. */
export function mapDifference(name: string, a: TypeIn, b: TypeIn): string | undefined {
  const definition = ({ btf, id }: TypeIn): MapDraft => parseMapDefinition(btf, name, btf.word(id, 2));
  return draftDifference(a.btf, definition(a), b.btf, definition(b));
}

const FIELDS = ['type', 'keySize', 'valueSize', 'maxEntries', 'flags', 'numaNode', 'pinning'] as const;

type Draft = Pick<MapDraft, (typeof FIELDS)[number] | 'keyTypeId' | 'valueTypeId'>;

function draftDifference(
  btfA: Btf,
  a: Draft & { innerMap?: unknown },
  btfB: Btf,
  b: Draft & { innerMap?: unknown },
): string | undefined {
  const field = FIELDS.find((name) => a[name] !== b[name]);
  if (field !== undefined) return `${field} ${a[field]} and ${b[field]}`;
  for (const side of ['keyTypeId', 'valueTypeId'] as const) {
    if ((a[side] === 0) !== (b[side] === 0)) return `${side.slice(0, -6)} with a type and without`;
    if (a[side] === 0) continue;
    const difference = typeDifference({ btf: btfA, id: a[side] }, { btf: btfB, id: b[side] });
    if (difference !== undefined) return `type of its ${side.slice(0, -6)}: ${difference}`;
  }
  if ((a.innerMap === undefined) !== (b.innerMap === undefined)) return 'inner map';
  if (a.innerMap === undefined) return undefined;
  const difference = draftDifference(btfA, a.innerMap as Draft, btfB, b.innerMap as Draft);
  return difference === undefined ? undefined : `inner map: ${difference}`;
}
