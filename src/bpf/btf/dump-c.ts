import { aBtf } from '../argument-shapes.ts';
import { aBoolean, anIterable, aString, checkArgument, optional, someOptions } from '../arguments.ts';
import type { Btf } from './btf.ts';
import { CWriter } from './c-declare.ts';
import { CLayouts } from './c-layout.ts';
import { CNames } from './c-names.ts';
import { BtfError } from './error.ts';
import { isAnyEnum, isComposite } from './kinds.ts';

const DUMP_OPTIONS = someOptions<DumpCOptions>({
  roots: optional(anIterable),
  guard: optional(aString),
  preserveAccessIndex: optional(aBoolean),
});

/** How long a chain of types that need each other first may be. */
const MAX_CHAIN = 1000;

export interface DumpCOptions {
  /** Only these types and what they need; all types otherwise. */
  readonly roots?: Iterable<number>;
  /** The macro that keeps the header from being read twice; none where it is empty. `__VMLINUX_H__` unless said. */
  readonly guard?: string;
  /** Whether accesses to the structs become CO-RE relocations where clang compiles them. True unless said. */
  readonly preserveAccessIndex?: boolean;
}

/** Puts types in an order in which C can read them, and writes each once. */
class Dump {
  readonly #btf: Btf;
  readonly #names: CNames;
  readonly #writer: CWriter;
  readonly #parts: string[] = [];
  readonly #done = new Set<number>();
  readonly #forwarded = new Set<string>();
  /** Types that are being written now, outermost first. */
  readonly #stack: number[] = [];
  /** Pointers, arrays, functions and anonymous types that were looked through: id * 2, + 1 where by value. */
  readonly #seen = new Set<number>();
  #depth = 0;

  constructor(btf: Btf) {
    this.#btf = btf;
    this.#names = new CNames(btf);
    this.#writer = new CWriter(btf, this.#names, new CLayouts(btf));
  }

  get text(): string {
    return this.#parts.join('');
  }

  /** Every named type, and enums without a name that no other type refers to. */
  all(): void {
    const btf = this.#btf;
    const referenced = this.#referencedEnums();
    for (let id = 1; id < btf.typeCount; id++) {
      const kind = btf.kindName(id);
      const named = btf.word(id, 0) !== 0;
      if (
        kind === 'TYPEDEF' ||
        kind === 'FWD' ||
        (named && (isComposite(btf.kind(id)) || isAnyEnum(btf.kind(id))))
      ) {
        this.need(id, true);
      } else if (isAnyEnum(btf.kind(id)) && !referenced.has(id) && btf.vlen(id) > 0) {
        this.#parts.push(`enum ${this.#writer.enumBody(id, 0)};\n\n`);
      }
    }
  }

  #referencedEnums(): Set<number> {
    const btf = this.#btf;
    const referenced = new Set<number>();
    const mark = (id: number): void => {
      if (isAnyEnum(btf.kind(id))) referenced.add(id);
    };
    for (let id = 1; id < btf.typeCount; id++) {
      const kind = btf.kindName(id);
      if (isComposite(btf.kind(id))) {
        for (let i = 0; i < btf.vlen(id); i++) mark(btf.memberType(id, i));
      } else if (kind === 'ARRAY') {
        mark(btf.word(id, 3));
      } else if (['TYPEDEF', 'CONST', 'VOLATILE', 'TYPE_TAG'].includes(kind)) {
        mark(btf.word(id, 2));
      }
    }
    return referenced;
  }

  /**
   * Writes what must stand before a type is used: `byValue` needs a struct's members, otherwise it is enough that its
   * name is known.
   */
  need(id: number, byValue: boolean): void {
    this.#depth++;
    if (this.#depth > MAX_CHAIN) {
      throw new BtfError(`${this.#btf.label(id)}: too many types need one another`, {
        typeId: id,
        errno: 'E2BIG',
      });
    }
    this.#need(id, byValue);
    this.#depth--;
  }

  #need(id: number, byValue: boolean): void {
    const btf = this.#btf;
    const kind = btf.kindName(id);
    switch (kind) {
      case 'TYPEDEF':
        this.#typedef(id, byValue);
        return;
      case 'STRUCT':
      case 'UNION':
        if (this.#names.of(id) === '') this.#through(id, true);
        else this.#composite(id, byValue);
        return;
      case 'ENUM':
      case 'ENUM64':
        if (this.#names.of(id) === '' || this.#done.has(id)) return;
        this.#done.add(id);
        this.#parts.push(`enum ${this.#names.of(id)} ${this.#writer.enumBody(id, 0)};\n\n`);
        return;
      case 'FWD':
        this.#forward(id);
        return;
      case 'PTR':
      case 'ARRAY':
      case 'FUNC_PROTO':
      case 'CONST':
      case 'VOLATILE':
      case 'RESTRICT':
      case 'TYPE_TAG':
        this.#through(id, byValue);
        return;
      default:
        return;
    }
  }

  /** What a type without a name of its own needs. */
  #through(id: number, byValue: boolean): void {
    const btf = this.#btf;
    const key = id * 2 + (byValue ? 1 : 0);
    if (this.#seen.has(key)) return;
    this.#seen.add(key);
    switch (btf.kindName(id)) {
      case 'PTR':
        this.need(btf.word(id, 2), false);
        return;
      case 'ARRAY':
        // The elements of an array must be complete, even behind a pointer.
        this.need(btf.word(id, 3), true);
        return;
      case 'FUNC_PROTO':
        this.need(btf.word(id, 2), false);
        for (let i = 0; i < btf.vlen(id); i++) this.need(btf.word(id, 4 + 2 * i), false);
        return;
      case 'STRUCT':
      case 'UNION':
        for (let i = 0; i < btf.vlen(id); i++) this.need(btf.memberType(id, i), true);
        return;
      default:
        this.need(btf.word(id, 2), byValue);
        return;
    }
  }

  #typedef(id: number, byValue: boolean): void {
    const btf = this.#btf;
    const target = btf.word(id, 2);
    if (!this.#done.has(id)) {
      if (this.#stack.includes(id)) this.#cycle(id);
      this.#stack.push(id);
      this.need(target, false);
      this.#stack.pop();
      this.#done.add(id);
      this.#parts.push(`typedef ${this.#writer.declare(target, this.#names.of(id))};\n\n`);
    }
    if (byValue) this.need(target, true);
  }

  #composite(id: number, byValue: boolean): void {
    if (this.#done.has(id)) return;
    if (!byValue) {
      // Inside of its own braces a struct's name is known already.
      if (this.#stack.at(-1) !== id) this.#forward(id);
      return;
    }
    if (this.#stack.includes(id)) this.#cycle(id);
    const btf = this.#btf;
    this.#stack.push(id);
    for (let i = 0; i < btf.vlen(id); i++) this.need(btf.memberType(id, i), true);
    this.#stack.pop();
    this.#done.add(id);
    const word = btf.kindName(id) === 'UNION' ? 'union' : 'struct';
    this.#forwarded.add(`${word} ${this.#names.of(id)}`);
    this.#parts.push(`${word} ${this.#names.of(id)} ${this.#writer.compositeBody(id, 0)};\n\n`);
  }

  #forward(id: number): void {
    const btf = this.#btf;
    const union = btf.kindName(id) === 'FWD' ? btf.kindFlag(id) : btf.kindName(id) === 'UNION';
    const declared = `${union ? 'union' : 'struct'} ${this.#names.of(id)}`;
    if (this.#forwarded.has(declared)) return;
    this.#forwarded.add(declared);
    this.#parts.push(`${declared};\n\n`);
  }

  #cycle(id: number): never {
    throw new BtfError(`${this.#btf.label(id)} contains itself`, { typeId: id, errno: 'EEXIST' });
  }
}

/**
 * The types as a C header (as `bpftool btf dump file … format c`): each after what it needs, with forward declarations,
 * padding and packing such that a compiler puts every member where the BTF has it. Types of one name get flavours
 * (`name___2`). Throws BtfError where types contain themselves.
 */
export function dumpC(btf: Btf, options: DumpCOptions = {}): string {
  checkArgument('dumpC()', 'btf', btf, aBtf);
  checkArgument('dumpC()', 'options', options, DUMP_OPTIONS);
  const dump = new Dump(btf);
  if (options.roots === undefined) dump.all();
  else for (const id of options.roots) dump.need(id, true);
  const { guard = '__VMLINUX_H__', preserveAccessIndex = true } = options;
  const lines: string[] = [];
  if (guard !== '') lines.push(`#ifndef ${guard}\n#define ${guard}\n\n`);
  if (preserveAccessIndex) {
    lines.push('#ifndef BPF_NO_PRESERVE_ACCESS_INDEX\n');
    lines.push(
      '#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)\n#endif\n\n',
    );
  }
  lines.push(dump.text);
  if (preserveAccessIndex) {
    lines.push('#ifndef BPF_NO_PRESERVE_ACCESS_INDEX\n#pragma clang attribute pop\n#endif\n\n');
  }
  if (guard !== '') lines.push(`#endif /* ${guard} */\n`);
  return lines.join('');
}
