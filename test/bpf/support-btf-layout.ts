import { type Btf, btfKinds, resolveType, sizeOf } from '../../src/bpf/btf/index.ts';

/** Where a struct's fields are: `name: bit offset, width in bits`, those of anonymous members as its own. Padding is none. */
export function layout(btf: Btf, id: number, base = 0): string[] {
  const lines: string[] = [];
  for (const member of btf.members(id)) {
    const at = base + member.bitOffset;
    const type = resolveType(btf, member.type);
    if (member.name === '' && btfKinds.isComposite(btf.kind(type))) {
      lines.push(...layout(btf, type, at));
    } else if (!member.name.startsWith('__trapline_pad_')) {
      lines.push(`${member.name}: ${at}, ${member.bitSize || sizeOf(btf, member.type) * 8}`);
    }
  }
  return lines;
}

/** Every named struct and union of `expected`, compared with the one of that name in `actual`. Returns the differences. */
export function layoutDifferences(expected: Btf, actual: Btf): { compared: number; differences: string[] } {
  const differences: string[] = [];
  const nth = new Map<string, number>();
  let compared = 0;
  for (let id = 1; id < expected.typeCount; id++) {
    const kind = expected.kindName(id);
    const name = expected.name(id);
    if (!['STRUCT', 'UNION', 'ENUM', 'ENUM64'].includes(kind) || name === '') continue;
    const n = (nth.get(name) ?? 0) + 1;
    nth.set(name, n);
    if (kind === 'ENUM' || kind === 'ENUM64') continue; // of one name space with structs
    const flavour = n === 1 ? name : `${name}___${n}`;
    const other = actual.byName(flavour, kind);
    if (other === undefined) {
      differences.push(`${kind} ${flavour} is missing`);
      continue;
    }
    compared++;
    const say = (btf: Btf, at: number): string => [`size ${btf.word(at, 2)}`, ...layout(btf, at)].join('; ');
    if (say(expected, id) !== say(actual, other)) {
      differences.push(`${kind} ${flavour}:\n  ${say(expected, id)}\n  ${say(actual, other)}`);
    }
  }
  return { compared, differences };
}

/** C that makes the compiler describe every struct of a header: a variable of each. */
export function variablesOfAll(header: string): string {
  const names = [...header.matchAll(/^(struct|union) (\w+) \{/gm)];
  return names.map(([, word, name], i) => `${word} ${name} __variable_${i};`).join('\n');
}
