import { aBtf, aTypeId } from '../argument-shapes.ts';
import { checkArgument } from '../arguments.ts';
import type { Btf } from './btf.ts';
import type { BtfType } from './types.ts';

const quote = (name: string): string => `'${name === '' ? '(anon)' : name}'`;

function body(btf: Btf, type: BtfType): string {
  switch (type.kind) {
    case 'INT': {
      const encodings = (['signed', 'char', 'bool'] as const).filter((flag) => type[flag]);
      const encoding = encodings.length === 0 ? '(none)' : encodings.join(' ').toUpperCase();
      return ` size=${type.size} bits_offset=${type.bitOffset} nr_bits=${type.bits} encoding=${encoding}`;
    }
    case 'PTR':
    case 'TYPEDEF':
    case 'VOLATILE':
    case 'CONST':
    case 'RESTRICT':
    case 'TYPE_TAG':
      return ` type_id=${type.type}`;
    case 'ARRAY':
      return ` type_id=${type.type} index_type_id=${type.indexType} nr_elems=${type.nelems}`;
    case 'STRUCT':
    case 'UNION':
      return ` size=${type.size} vlen=${type.members.length}${type.members
        .map(({ name, type, bitOffset, bitSize }) => {
          const width = bitSize === 0 ? '' : ` bitfield_size=${bitSize}`;
          return `\n\t${quote(name)} type_id=${type} bits_offset=${bitOffset}${width}`;
        })
        .join('')}`;
    case 'ENUM':
    case 'ENUM64': {
      const suffix = type.kind === 'ENUM' ? '' : type.signed ? 'LL' : 'ULL';
      return ` encoding=${type.signed ? 'SIGNED' : 'UNSIGNED'} size=${type.size} vlen=${type.values.length}${type.values
        .map(({ name, value }) => `\n\t${quote(name)} val=${value}${suffix}`)
        .join('')}`;
    }
    case 'FWD':
      return ` fwd_kind=${type.union ? 'union' : 'struct'}`;
    case 'FUNC':
      return ` type_id=${type.type} linkage=${type.linkage}`;
    case 'FUNC_PROTO':
      return ` ret_type_id=${type.type} vlen=${type.params.length}${type.params
        .map(({ name, type }) => `\n\t${quote(name)} type_id=${type}`)
        .join('')}`;
    case 'VAR':
      return ` type_id=${type.type}, linkage=${type.linkage}`;
    case 'DATASEC':
      return ` size=${type.size} vlen=${type.vars.length}${type.vars
        .map(({ type, offset, size }) => {
          const of = btf.kindName(type) === 'UNKN' ? '' : ` (${btf.kindName(type)} ${quote(btf.name(type))})`;
          return `\n\ttype_id=${type} offset=${offset} size=${size}${of}`;
        })
        .join('')}`;
    case 'FLOAT':
      return ` size=${type.size}`;
    case 'DECL_TAG':
      return ` type_id=${type.type} component_idx=${type.componentIndex}`;
    case 'UNKN':
      return '';
  }
}

/** One type as `bpftool btf dump` lists it: `[4] STRUCT 'foo' size=8 vlen=1` and a line for each member. */
export function dumpRawType(btf: Btf, id: number): string {
  checkArgument('dumpRawType()', 'btf', btf, aBtf);
  checkArgument('dumpRawType()', 'id', id, aTypeId);
  const type = btf.type(id);
  return `[${id}] ${type.kind} ${quote(type.name)}${body(btf, type)}`;
}

/** Every type as `bpftool btf dump … format raw` lists them (without a base's), piece by piece. */
export function* dumpRaw(btf: Btf): Generator<string, void, undefined> {
  checkArgument('dumpRaw()', 'btf', btf, aBtf);
  for (let id = Math.max(1, btf.startId); id < btf.typeCount; id++) yield `${dumpRawType(btf, id)}\n`;
}
