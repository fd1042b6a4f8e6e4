/** A WebAssembly module as text: what the JIT emits, which is integers, one memory, one table. */
import { TraplineError } from '../../errors.ts';
import { WASM_FC, WASM_FE, WASM_OPS } from './wasm-names.ts';

const TYPES: Readonly<Record<number, string>> = {
  127: 'i32',
  126: 'i64',
  125: 'f32',
  124: 'f64',
  112: 'funcref',
};
const KINDS = ['func', 'table', 'memory', 'global'] as const;

class Reader {
  at = 0;
  readonly bytes: Uint8Array;
  readonly #view: DataView;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get done(): boolean {
    return this.at >= this.bytes.length;
  }

  byte(): number {
    const value = this.bytes[this.at++];
    if (value === undefined) throw new TraplineError('EWASM', `the module ends at byte ${this.at - 1}`);
    return value;
  }

  u32(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
  }

  signed(): bigint {
    let value = 0n;
    for (let shift = 0n; ; ) {
      const byte = this.byte();
      value |= BigInt(byte & 0x7f) << shift;
      shift += 7n;
      if (byte < 0x80) return (byte & 0x40) !== 0 ? value - (1n << shift) : value;
    }
  }

  float(bytes: 4 | 8): number {
    const at = this.at;
    this.at += bytes;
    return bytes === 4 ? this.#view.getFloat32(at, true) : this.#view.getFloat64(at, true);
  }

  name(): string {
    const length = this.u32();
    this.at += length;
    return new TextDecoder().decode(this.bytes.subarray(this.at - length, this.at));
  }

  list<T>(read: () => T): T[] {
    return Array.from({ length: this.u32() }, read);
  }

  sub(length: number): Reader {
    this.at += length;
    return new Reader(this.bytes.subarray(this.at - length, this.at));
  }
}

interface FuncType {
  readonly params: readonly string[];
  readonly results: readonly string[];
}

const type = (code: number): string => TYPES[code] ?? `0x${code.toString(16)}`;
const many = (word: string, types: readonly string[]): string =>
  types.length === 0 ? '' : ` (${word} ${types.join(' ')})`;
const signature = ({ params, results }: FuncType): string => many('param', params) + many('result', results);

function limits(reader: Reader): string {
  const flags = reader.byte();
  const min = reader.u32();
  const max = (flags & 1) !== 0 ? ` ${reader.u32()}` : '';
  return `${min}${max}${(flags & 2) !== 0 ? ' shared' : ''}`;
}

/** Throws TraplineError EWASM for a module with something in it that is not known here. */
export function printWat(wasm: Uint8Array): string {
  const printer = new Printer();
  const reader = new Reader(wasm);
  reader.at = 8;
  while (!reader.done) {
    const id = reader.byte();
    printer.section(id, reader.sub(reader.u32()));
  }
  return printer.text();
}

class Printer {
  readonly #lines: string[] = [];
  #types: FuncType[] = [];
  /** Types of all functions, the imported ones first. */
  readonly #functions: FuncType[] = [];
  readonly #names = new Map<number, string>();
  readonly #globalNames = new Map<number, string>();
  #imported = 0;
  #globals = 0;

  text(): string {
    return `(module\n${this.#lines.map((line) => `  ${line}\n`).join('')})\n`;
  }

  section(id: number, reader: Reader): void {
    switch (id) {
      case 1:
        this.#types = reader.list(() => {
          reader.byte();
          return {
            params: reader.list(() => type(reader.byte())),
            results: reader.list(() => type(reader.byte())),
          };
        });
        break;
      case 2:
        reader.list(() => this.#import(reader));
        break;
      case 3:
        for (const index of reader.list(() => reader.u32())) this.#functions.push(this.#types[index]!);
        break;
      case 4:
        reader.list(() => {
          const element = type(reader.byte());
          this.#lines.push(`(table ${limits(reader)} ${element})`);
        });
        break;
      case 6:
        reader.list(() => {
          const valueType = type(reader.byte());
          const mutable = reader.byte() === 1;
          const value = this.#constant(reader);
          this.#lines.push(
            `(global $g${this.#globals++} ${mutable ? `(mut ${valueType})` : valueType} (${value}))`,
          );
        });
        break;
      case 7:
        reader.list(() => {
          const name = reader.name();
          const kind = KINDS[reader.byte()]!;
          const index = reader.u32();
          if (kind === 'func') this.#names.set(index, `$${name}`);
          this.#lines.push(
            `(export ${JSON.stringify(name)} (${kind} ${kind === 'func' ? this.#func(index) : index}))`,
          );
        });
        break;
      case 9:
        reader.list(() => {
          const isOther = reader.u32() === 2;
          const table = isOther ? `(table ${reader.u32()}) ` : '';
          const offset = this.#constant(reader);
          if (isOther) reader.byte();
          const functions = reader.list(() => this.#func(reader.u32()));
          this.#lines.push(`(elem ${table}(${offset}) func ${functions.join(' ')})`);
        });
        break;
      case 10: {
        let index = this.#imported;
        reader.list(() => this.#body(index++, reader.sub(reader.u32())));
        break;
      }
      case 0:
        break;
      default:
        throw new TraplineError('EWASM', `section ${id} is not known`);
    }
  }

  #import(reader: Reader): void {
    const module = reader.name();
    const name = reader.name();
    const kind = KINDS[reader.byte()]!;
    const from = `(import ${JSON.stringify(module)} ${JSON.stringify(name)}`;
    if (kind === 'func') {
      const func = this.#types[reader.u32()]!;
      this.#names.set(this.#imported++, `$${module}.${name}`);
      this.#functions.push(func);
      this.#lines.push(`${from} (func $${module}.${name}${signature(func)}))`);
    } else if (kind === 'memory') this.#lines.push(`${from} (memory ${limits(reader)}))`);
    else if (kind === 'global') {
      const valueType = type(reader.byte());
      const text = reader.byte() === 1 ? `(mut ${valueType})` : valueType;
      this.#globalNames.set(this.#globals, `$${module}.${name}`);
      this.#globals++;
      this.#lines.push(`${from} (global $${module}.${name} ${text}))`);
    } else if (kind === 'table') {
      const element = type(reader.byte());
      this.#lines.push(`${from} (table ${limits(reader)} ${element}))`);
    } else throw new TraplineError('EWASM', `import of a ${kind} is not known`);
  }

  #func(index: number): string {
    return this.#names.get(index) ?? `$f${index}`;
  }

  #constant(reader: Reader): string {
    const value = this.#instruction(reader, 0);
    if (reader.byte() !== 0x0b) throw new TraplineError('EWASM', 'a constant of more than one instruction');
    return value;
  }

  #body(index: number, reader: Reader): void {
    const func = this.#functions[index]!;
    const params = func.params.map((param, n) => ` (param $${n} ${param})`).join('');
    this.#lines.push(`(func ${this.#func(index)}${params}${many('result', func.results)}`);
    let local = func.params.length;
    const locals = reader.list(() => ({ count: reader.u32(), type: type(reader.byte()) }));
    const names = locals.flatMap((run) =>
      Array.from({ length: run.count }, () => ` (local $${local++} ${run.type})`),
    );
    if (names.length > 0) this.#lines.push(` ${names.join('')}`);
    let depth = 0;
    while (!reader.done) {
      const code = reader.bytes[reader.at]!;
      const isClose = code === 0x0b || code === 0x05;
      const text = this.#instruction(reader, depth);
      if (reader.done) break;
      if (isClose) depth--;
      this.#lines.push('  '.repeat(depth + 1) + text);
      if ((code >= 0x02 && code <= 0x04) || code === 0x05) depth++;
    }
    this.#lines.push(')');
  }

  /** The text of one instruction; labels are named by the depth of their block. */
  #instruction(reader: Reader, depth: number): string {
    const code = reader.byte();
    if (code === 0xfc) return this.#extended(reader);
    if (code === 0xfe) return this.#atomic(reader);
    const op = WASM_OPS.get(code);
    if (op === undefined) throw new TraplineError('EWASM', `instruction 0x${code.toString(16)} is not known`);
    const { name, immediate } = op;
    const label = (levels: number): string => (levels >= depth ? `${levels}` : `$L${depth - levels - 1}`);
    switch (immediate) {
      case 'none':
        return name;
      case 'block': {
        const result = reader.byte();
        return `${name} $L${depth}${result === 0x40 ? '' : ` (result ${type(result)})`}`;
      }
      case 'index': {
        const index = reader.u32();
        if (name.startsWith('local.')) return `${name} $${index}`;
        if (name.startsWith('table.')) return `${name} ${index}`;
        if (name.startsWith('global.')) return `${name} ${this.#globalNames.get(index) ?? `$g${index}`}`;
        return `${name} ${name.startsWith('br') ? label(index) : this.#func(index)}`;
      }
      case 'table':
        return `${name} ${[...reader.list(() => reader.u32()), reader.u32()].map(label).join(' ')}`;
      case 'indirect': {
        const func = this.#types[reader.u32()]!;
        const table = reader.u32();
        return `${name}${table === 0 ? '' : ` ${table}`}${signature(func)}`;
      }
      case 'memarg':
        return name + this.#memarg(reader);
      case 'i32':
      case 'i64':
        return `${name} ${reader.signed()}`;
      case 'f32':
        return `${name} ${reader.float(4)}`;
      case 'f64':
        return `${name} ${reader.float(8)}`;
      case 'zero':
        reader.byte();
        return name;
    }
  }

  #memarg(reader: Reader, natural?: number): string {
    const align = 2 ** reader.u32();
    const offset = reader.u32();
    const shown = align === natural ? '' : ` align=${align}`;
    return `${offset === 0 ? '' : ` offset=${offset}`}${shown}`;
  }

  #extended(reader: Reader): string {
    const code = reader.u32();
    const op = WASM_FC.get(code);
    if (op === undefined) throw new TraplineError('EWASM', `instruction 0xfc ${code} is not known`);
    if (op.zeros < 0) return `${op.name} ${reader.u32()}`;
    reader.at += op.zeros;
    return op.name;
  }

  #atomic(reader: Reader): string {
    const code = reader.u32();
    if (code === 0x03) {
      reader.byte();
      return 'atomic.fence';
    }
    const op = WASM_FE.get(code);
    if (op === undefined) throw new TraplineError('EWASM', `instruction 0xfe ${code} is not known`);
    return op.name + this.#memarg(reader, op.bytes);
  }
}
