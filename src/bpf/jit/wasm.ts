/**
 * A small WebAssembly encoder: function bodies by `Code`, modules by `WasmModule`. It writes what it is told; validity
 * is the caller's part (and is checked by WebAssembly.validate in the tests).
 */

import { Bytes, ModuleBytes } from './bytes.ts';
import { I32, OP, type ValType, VOID } from './opcodes.ts';

export { ATOMIC, F64, I32, I64, OP, type ValType } from './opcodes.ts';

/** A branch target: what `block`, `loop` or `if` returned. */
export interface Label {
  readonly depth: number;
}

/** The body of one function. Locals are numbered after the parameters. Methods return the body where that reads well. */
export class Code {
  readonly #out = new Bytes();
  readonly #locals: ValType[] = [];
  readonly #params: number;
  /** Functions that are called, by where the call belongs: what is imported is known once all bodies are. */
  readonly #calls: { readonly at: number; readonly func: Func; readonly tail: boolean }[] = [];
  #depth = 0;

  constructor(params: number) {
    this.#params = params;
  }

  get byteLength(): number {
    return this.#out.length;
  }

  local(type: ValType): number {
    this.#locals.push(type);
    return this.#params + this.#locals.length - 1;
  }

  op(...opcodes: number[]): this {
    for (let at = 0; at < opcodes.length; at++) this.#out.byte(opcodes[at]!);
    return this;
  }
  i32(value: number): this {
    this.#out.byte(OP.i32Const);
    this.#out.s32(value);
    return this;
  }
  i64(value: bigint | number): this {
    this.#out.byte(OP.i64Const);
    if (typeof value === 'number' && value >= -0x80000000 && value <= 0x7fffffff) this.#out.s32(value);
    else this.#out.s64(BigInt(value));
    return this;
  }
  get(local: number): this {
    this.#out.byte(OP.localGet);
    this.#out.u32(local);
    return this;
  }
  set(local: number): this {
    this.#out.byte(OP.localSet);
    this.#out.u32(local);
    return this;
  }
  tee(local: number): this {
    this.#out.byte(OP.localTee);
    this.#out.u32(local);
    return this;
  }
  global(index: number): this {
    this.#out.byte(OP.globalGet);
    this.#out.u32(index);
    return this;
  }
  setGlobal(index: number): this {
    this.#out.byte(OP.globalSet);
    this.#out.u32(index);
    return this;
  }
  call(func: Func): this {
    this.#calls.push({ at: this.#out.length, func, tail: false });
    return this;
  }
  /** A call in tail position, which takes no stack. */
  returnCall(func: Func): this {
    this.#calls.push({ at: this.#out.length, func, tail: true });
    return this;
  }
  callIndirect(type: number, { tail = false, table = 0 } = {}): this {
    this.#out.byte(tail ? OP.returnCallIndirect : OP.callIndirect);
    this.#out.u32(type);
    this.#out.u32(table);
    return this;
  }
  /** Pushes how many entries a table has. */
  tableSize(table: number): this {
    return this.op(0xfc, 16, table);
  }
  /** Pops an index, pushes whether the table has nothing there. */
  tableIsNull(table: number): this {
    this.#out.byte(OP.tableGet);
    this.#out.u32(table);
    this.#out.byte(OP.refIsNull);
    return this;
  }
  /** A load or store; the alignment hint is 0, which every engine on x64 and arm64 treats alike. */
  mem(opcode: number, offset: number): this {
    this.#out.byte(opcode);
    this.#out.u32(0);
    this.#out.u32(offset);
    return this;
  }
  /** An atomic access of `bytes` bytes, which has to be aligned. */
  atomic(opcode: number, bytes: 4 | 8, offset: number): this {
    this.#out.byte(0xfe);
    this.#out.u32(opcode);
    this.#out.u32(bytes === 4 ? 2 : 3);
    this.#out.u32(offset);
    return this;
  }
  /** i64.trunc_sat_f64_u or _s */
  truncSat(signed: boolean): this {
    return this.op(0xfc, signed ? 6 : 7);
  }
  /** Pages of 64 KiB. */
  memorySize(): this {
    return this.op(0x3f, 0);
  }
  memoryCopy(): this {
    return this.op(0xfc, 10, 0, 0);
  }
  memoryFill(): this {
    return this.op(0xfc, 11, 0);
  }

  block(type: number = VOID): Label {
    return this.#open(OP.block, type);
  }
  loop(type: number = VOID): Label {
    return this.#open(OP.loop, type);
  }
  if(type: number = VOID): Label {
    return this.#open(OP.if, type);
  }
  try(type: number = VOID): Label {
    return this.#open(OP.try, type);
  }
  /** Within a try: what is done with an exception, whose values are on the stack. */
  catch(tag: number): this {
    return this.op(OP.catch, tag);
  }
  throw(tag: number): this {
    return this.op(OP.throw, tag);
  }
  else(): this {
    return this.op(OP.else);
  }
  end(): this {
    this.#depth--;
    return this.op(OP.end);
  }
  br(label: Label): this {
    this.#out.byte(OP.br);
    this.#out.u32(this.#depth - label.depth);
    return this;
  }
  brIf(label: Label): this {
    this.#out.byte(OP.brIf);
    this.#out.u32(this.#depth - label.depth);
    return this;
  }
  brTable(labels: readonly Label[], otherwise: Label): this {
    this.#out.byte(OP.brTable);
    this.#out.u32(labels.length);
    for (const label of labels) this.#out.u32(this.#depth - label.depth);
    this.#out.u32(this.#depth - otherwise.depth);
    return this;
  }

  /** Writes the finished body: locals, instructions, end. The body is gone then. `table` is where functions from outside are. */
  write(out: ModuleBytes, table = 0): void {
    if (this.#depth !== 0) throw new Error(`${this.#depth} blocks are still open`);
    const locals = this.#locals;
    let runs = 0;
    for (let i = 0; i < locals.length; i++) if (locals[i] !== locals[i - 1]) runs++;
    out.u32(runs);
    for (let i = 0; i < locals.length; ) {
      const type = locals[i]!;
      const start = i;
      while (locals[i] === type) i++;
      out.u32(i - start);
      out.byte(type);
    }
    const { data } = this.#out;
    let from = 0;
    for (const { at, func, tail } of this.#calls) {
      out.bytes(data.subarray(from, at));
      if (func.slot === undefined) {
        out.byte(tail ? OP.returnCall : OP.call);
        out.u32(func.index);
      } else {
        out.byte(OP.i32Const);
        out.s32(func.slot);
        out.byte(tail ? OP.returnCallIndirect : OP.callIndirect);
        out.u32(func.type);
        out.u32(table);
      }
      from = at;
    }
    out.bytes(data.subarray(from));
    out.byte(OP.end);
    this.#out.release();
  }

  #open(opcode: number, type: number): Label {
    this.#out.byte(opcode);
    this.#out.byte(type);
    this.#depth++;
    return { depth: this.#depth };
  }
}

/** A function by reference: its index is known when the module is encoded, imports before all others. */
export interface Func {
  index: number;
  readonly type: number;
  /** Where it is in the table of functions from outside, if it is called through that. */
  readonly slot?: number;
}

/** A function that a module calls through its exported table `outside`, at its place in the list of them. */
export interface OutsideFunction extends WasmImport {
  readonly params: readonly ValType[];
  readonly results: readonly ValType[];
}

export interface MemoryImport {
  readonly min: number;
  readonly max: number;
  readonly shared: boolean;
}

export interface WasmImport {
  readonly module: string;
  readonly name: string;
}

/** One module. Memory is always the import env.memory; an optional table holds functions for indirect calls. */
export class WasmModule {
  readonly #types: { readonly key: string; readonly lists: readonly (readonly ValType[])[] }[] = [];
  readonly #imports: { module: string; name: string; kind: number; payload: (out: ModuleBytes) => void }[] =
    [];
  readonly #importedFuncs: Func[] = [];
  readonly #functions: { readonly func: Func; code: Code | undefined }[] = [];
  readonly #globals: { type: ValType; mutable: boolean; value: bigint | number }[] = [];
  readonly #exports: { name: string; func: Func }[] = [];
  #table: readonly (Func | undefined)[] | undefined;
  readonly #tags: number[] = [];
  #importedGlobals = 0;
  #importedTables = 0;
  /** Functions from outside that are called through a table of the module's own; undefined where they are imported. */
  readonly outside: OutsideFunction[] | undefined;

  constructor({ outside = false }: { outside?: boolean } = {}) {
    this.outside = outside ? [] : undefined;
  }

  /** Index of a function type. */
  type(params: readonly ValType[], results: readonly ValType[]): number {
    const key = `${params.join(',')}>${results.join(',')}`;
    const known = this.#types.findIndex((type) => type.key === key);
    return known >= 0 ? known : this.#types.push({ key, lists: [params, results] }) - 1;
  }

  importMemory(limits: MemoryImport): void {
    this.#imports.push({
      module: 'env',
      name: 'memory',
      kind: 2,
      payload: (out) => {
        out.byte(limits.shared ? 3 : 1);
        out.u32(limits.min);
        out.u32(limits.max);
      },
    });
  }

  importGlobal(module: string, name: string, type: ValType): number {
    this.#imports.push({
      module,
      name,
      kind: 3,
      payload: (out) => {
        out.byte(type);
        out.byte(0);
      },
    });
    return this.#importedGlobals++;
  }

  importFunc(module: string, name: string, params: readonly ValType[], results: readonly ValType[]): Func {
    const type = this.type(params, results);
    if (this.outside !== undefined) {
      return { index: -1, type, slot: this.outside.push({ module, name, params, results }) - 1 };
    }
    this.#imports.push({ module, name, kind: 0, payload: (out) => out.u32(type) });
    const func = { index: -1, type };
    this.#importedFuncs.push(func);
    return func;
  }

  /** A table of functions, of any size; its index. */
  importTable(module: string, name: string): number {
    this.#imports.push({
      module,
      name,
      kind: 1,
      payload: (out) => {
        out.byte(0x70);
        out.byte(0);
        out.u32(0);
      },
    });
    return this.#importedTables++;
  }

  /** Index of the module's own table. */
  get ownTable(): number {
    return this.#importedTables;
  }

  /** A mutable global of the module. Declare imported ones first. */
  addGlobal(type: ValType, value: bigint | number): number {
    this.#globals.push({ type, mutable: true, value });
    return this.#importedGlobals + this.#globals.length - 1;
  }

  /** An exception with these values; its index. */
  addTag(params: readonly ValType[]): number {
    return this.#tags.push(this.type(params, [])) - 1;
  }

  /** Declares a function, so that others can call it; its body is given by `define`. */
  declare(params: readonly ValType[], results: readonly ValType[]): Func {
    const type = this.type(params, results);
    const func = { index: -1, type };
    this.#functions.push({ func, code: undefined });
    return func;
  }

  define(func: Func, code: Code): void {
    this.#functions.findLast((one) => one.func === func)!.code = code;
  }

  export(name: string, func: Func): void {
    this.#exports.push({ name, func });
  }

  /** Functions for indirect calls; undefined entries trap. */
  table(entries: readonly (Func | undefined)[]): void {
    this.#table = entries;
  }

  get imports(): WasmImport[] {
    return this.#imports.map(({ module, name }) => ({ module, name }));
  }

  encode(): Uint8Array {
    let functions = 0;
    for (const func of this.#importedFuncs) func.index = functions++;
    for (const { func } of this.#functions) func.index = functions++;
    const out = new ModuleBytes();
    out.bytes([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
    const section = (id: number, count: number, write: (body: ModuleBytes) => void): void => {
      if (count === 0) return;
      out.byte(id);
      out.sized(() => {
        out.u32(count);
        write(out);
      });
    };
    section(1, this.#types.length, (body) => {
      for (const { lists } of this.#types) {
        body.byte(0x60);
        for (const list of lists) {
          body.u32(list.length);
          for (const type of list) body.byte(type);
        }
      }
    });
    section(2, this.#imports.length, (body) => {
      for (const { module, name, kind, payload } of this.#imports) {
        body.name(module);
        body.name(name);
        body.byte(kind);
        payload(body);
      }
    });
    section(3, this.#functions.length, (body) => {
      for (const { func } of this.#functions) body.u32(func.type);
    });
    const table = this.#table;
    const outside = this.outside?.length ?? 0;
    const tables = [
      ...(table === undefined ? [] : [{ name: 'table', length: table.length }]),
      ...(outside === 0 ? [] : [{ name: 'outside', length: outside }]),
    ];
    section(4, tables.length, (body) => {
      for (const { length } of tables) {
        body.byte(0x70);
        body.byte(1);
        body.u32(length);
        body.u32(length);
      }
    });
    section(13, this.#tags.length, (body) => {
      for (const type of this.#tags) {
        body.byte(0);
        body.u32(type);
      }
    });
    section(6, this.#globals.length, (body) => {
      for (const { type, mutable, value } of this.#globals) {
        body.byte(type);
        body.byte(mutable ? 1 : 0);
        if (type === I32) {
          body.byte(OP.i32Const);
          body.s32(Number(value));
        } else {
          body.byte(OP.i64Const);
          body.s64(BigInt(value));
        }
        body.byte(OP.end);
      }
    });
    section(7, this.#exports.length + tables.length, (body) => {
      for (const [index, { name }] of tables.entries()) {
        body.name(name);
        body.byte(1);
        body.u32(this.ownTable + index);
      }
      for (const { name, func } of this.#exports) {
        body.name(name);
        body.byte(0);
        body.u32(func.index);
      }
    });
    if (table !== undefined) {
      const filled = [...table.entries()].filter((entry) => entry[1] !== undefined);
      section(9, filled.length, (body) => {
        for (const [index, func] of filled) {
          if (this.ownTable === 0) body.byte(0);
          else {
            body.byte(2);
            body.u32(this.ownTable);
          }
          body.byte(OP.i32Const);
          body.s32(index);
          body.byte(OP.end);
          if (this.ownTable !== 0) body.byte(0);
          body.u32(1);
          body.u32(func!.index);
        }
      });
    }
    section(10, this.#functions.length, (body) => {
      for (const { code } of this.#functions) {
        if (code === undefined) throw new Error('a declared function has no body');
        body.sized(() => code.write(body, this.ownTable + tables.length - 1));
      }
    });
    return out.finish();
  }
}
