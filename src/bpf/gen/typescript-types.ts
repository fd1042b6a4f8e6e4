/** TypeScript types of C types, as ../object/values.ts reads and writes their values. */
import { type Btf, BtfError, btfKinds, resolveType } from '../btf/index.ts';

const MAX_DEPTH = 32;
/** Longer modules are no use to anybody: only types made for it have them. */
const MAX_LENGTH = 16 * 1024 * 1024;

/** `task_info` is TaskInfo. */
export function pascalCase(name: string): string {
  const text = name
    .split(/\W+|_+/)
    .filter((part) => part !== '')
    .map((part) => part[0]!.toUpperCase() + part.slice(1))
    .join('');
  return /^[A-Za-z]/.test(text) ? text : `T${text}`;
}

/** A property's name, quoted where it must be. */
export function propertyName(name: string): string {
  return /^[A-Za-z_$][\w$]*$/.test(name) ? name : JSON.stringify(name);
}

/** Collects the interfaces that the types of maps and variables need. */
export class TypeScriptTypes {
  readonly #btf: Btf;
  readonly #names = new Map<number, string>();
  readonly #taken: Set<string>;
  readonly #declarations: string[] = [];
  #length = 0;

  /** `reserved`: names that the module uses otherwise. */
  constructor(btf: Btf, reserved: Iterable<string>) {
    this.#btf = btf;
    this.#taken = new Set(reserved);
  }

  /** The declarations, each after those that it uses. */
  get declarations(): readonly string[] {
    return this.#declarations;
  }

  #take(name: string): string {
    let free = name;
    for (let n = 2; this.#taken.has(free); n++) free = `${name}${n}`;
    this.#taken.add(free);
    return free;
  }

  #spend(text: string): string {
    this.#length += text.length;
    if (this.#length > MAX_LENGTH)
      throw new BtfError('the types are too many to write down', { errno: 'E2BIG' });
    return text;
  }

  /** The TypeScript type of a C type. */
  of(typeId: number, depth = 0): string {
    const btf = this.#btf;
    const id = resolveType(btf, typeId);
    if (depth > MAX_DEPTH)
      throw new BtfError(`${btf.label(id)} is nested too deeply`, { typeId: id, errno: 'E2BIG' });
    const type = btf.type(id);
    switch (type.kind) {
      case 'INT':
        return type.bool ? 'boolean' : type.size <= 4 ? 'number' : 'bigint';
      case 'ENUM':
      case 'ENUM64':
        this.#enumConstant(id);
        return type.size <= 4 ? 'number' : 'bigint';
      case 'PTR':
        return 'bigint';
      case 'FLOAT':
        return 'number';
      case 'ARRAY': {
        const element = btf.type(resolveType(btf, type.type));
        if (element.kind === 'INT' && element.size === 1 && (element.char || element.name === 'char'))
          return 'string';
        return this.#spend(`readonly ${this.#group(this.of(type.type, depth + 1))}[]`);
      }
      case 'STRUCT':
      case 'UNION':
        return this.#composite(typeId, id, depth);
      default:
        return 'never';
    }
  }

  #group(type: string): string {
    return type.startsWith('readonly ') ? `(${type})` : type;
  }

  /** A named struct or union becomes an interface; an anonymous one takes the name of its typedef, or stands where it is. */
  #composite(typeId: number, id: number, depth: number): string {
    const btf = this.#btf;
    const known = this.#names.get(id);
    if (known !== undefined) return known;
    let name = btf.name(id);
    for (let at = typeId; name === '' && at !== id; at = btf.word(at, 2)) {
      if (btf.kindName(at) === 'TYPEDEF') name = btf.name(at);
    }
    if (name === '') return this.#spend(`{ ${this.#members(id, false, depth + 1).join('; ')} }`);
    const taken = this.#take(pascalCase(name));
    this.#names.set(id, taken);
    const members = this.#members(id, false, depth + 1);
    const word = `${btf.kindName(id).toLowerCase()} ${name}`.replaceAll('*/', '');
    const body = members.length === 0 ? '{}' : `{\n${members.map((one) => `  ${one};\n`).join('')}}`;
    this.#declarations.push(
      this.#spend(
        `/** ${word}, ${btf.word(id, 2)} byte${btf.word(id, 2) === 1 ? '' : 's'}. */\nexport interface ${taken} ${body}\n`,
      ),
    );
    return taken;
  }

  /** Of a union any member may be missing. */
  #members(id: number, optional: boolean, depth: number): string[] {
    const btf = this.#btf;
    if (depth > MAX_DEPTH)
      throw new BtfError(`${btf.label(id)} is nested too deeply`, { typeId: id, errno: 'E2BIG' });
    const either = optional || btf.kindName(id) === 'UNION';
    return btf.members(id).flatMap(({ name, type }) => {
      const at = resolveType(btf, type);
      if (name !== '') {
        return [
          this.#spend(`readonly ${propertyName(name)}${either ? '?' : ''}: ${this.of(type, depth + 1)}`),
        ];
      }
      return btfKinds.isComposite(btf.kind(at)) ? this.#members(at, either, depth + 1) : [];
    });
  }

  /** The enumerators, as a constant of the enum's name. */
  #enumConstant(id: number): void {
    const btf = this.#btf;
    const type = btf.type(id);
    if (this.#names.has(id) || (type.kind !== 'ENUM' && type.kind !== 'ENUM64') || type.name === '') return;
    const taken = this.#take(pascalCase(type.name));
    this.#names.set(id, taken);
    const suffix = type.size <= 4 ? '' : 'n';
    const values = type.values.map(({ name, value }) => `  ${propertyName(name)}: ${value}${suffix},\n`);
    const word = `enum ${type.name}`.replaceAll('*/', '');
    this.#declarations.push(
      this.#spend(`/** ${word} */\nexport const ${taken} = {\n${values.join('')}} as const;\n`),
    );
  }
}
