/**
 * Static linking: the main function of a program, then each function it reaches at its first use, depth first, with calls and
 * function addresses patched (bpf_object__reloc_code of libbpf), and references to data turned into what a loader understands.
 *
 * Unlike libbpf, functions may also stand outside of `.text`: static ones, and programs that others call.
 */
import { type Btf, type BtfExt, btfKinds, type LineInfo } from '../btf/index.ts';
import {
  type ElfFile,
  type ElfRelocation,
  ObjectError,
  SHN_LORESERVE,
  STT_SECTION,
  symbolName,
} from '../elf/index.ts';
import {
  BPF_CALL,
  BPF_JMP,
  BPF_PSEUDO_CALL,
  BPF_PSEUDO_FUNC,
  BPF_PSEUDO_KFUNC_CALL,
  BPF_PSEUDO_MAP_IDX,
  BPF_PSEUDO_MAP_IDX_VALUE,
  type Insn,
  isLdImm64,
} from '../isa.ts';
import { type Externs, isExtern } from './externs.ts';
import { type CodeSection, functionAt, type ObjectFunction } from './functions.ts';
import type { ObjectMapSpec, ProgCoreRelo, ProgFuncInfo, ProgLineInfo, Relocation } from './spec.ts';

/** The kernel takes no longer program (BPF_COMPLEXITY_LIMIT_INSNS). */
export const MAX_PROG_INSNS = 1_000_000;
/** All programs of an object together: a function that many programs use is linked into each. */
export const MAX_OBJECT_INSNS = 2_000_000;

export interface LinkContext {
  readonly elf: ElfFile;
  readonly code: ReadonlyMap<number, CodeSection>;
  readonly externs: Externs;
  /** In order: instructions name a map by its position. */
  readonly maps: readonly ObjectMapSpec[];
  /** Position in `maps` of the map at an offset of a section of definitions, or of a section of variables. */
  mapAt(section: number, offset: number): { index: number; data: boolean } | undefined;
  readonly btf: Btf | undefined;
  readonly btfExt: BtfExt | undefined;
  /** Name of the function that a program calls on exceptions, by program (`__exception_cb`). */
  readonly exceptionCallbacks: ReadonlyMap<string, string>;
}

export interface LinkedProgram {
  readonly insns: Insn[];
  readonly relocations: Relocation[];
  readonly functions: ProgFuncInfo[];
  readonly lineInfo: ProgLineInfo[];
  readonly coreRelos: ProgCoreRelo[];
}

const isCall = (insn: Insn): boolean => insn.code === (BPF_JMP | BPF_CALL);

/** What an instruction must become, known without the rest of the program. */
type Target =
  | { kind: 'map' | 'data'; map: number; offset: number }
  | { kind: 'extern'; extern: number }
  | { kind: 'call' | 'func'; func: ObjectFunction };

export class Linker {
  private readonly context: LinkContext;
  private readonly infos = new Map<number, SectionInfos>();
  private readonly globals = new Map<string, ObjectFunction>();
  private readonly kconfigMap: number;
  private total = 0;

  constructor(context: LinkContext) {
    this.context = context;
    this.kconfigMap = context.maps.findIndex(({ origin }) => origin === 'kconfig');
    for (const { functions } of context.code.values()) {
      for (const func of functions) if (func.global) this.globals.set(func.name, func);
    }
  }

  /** Throws ObjectError. */
  link(main: ObjectFunction): LinkedProgram {
    const out: LinkedProgram = { insns: [], relocations: [], functions: [], lineInfo: [], coreRelos: [] };
    const placed = new Map<ObjectFunction, number>();
    this.append(out, placed, main, main);
    const callback = this.context.exceptionCallbacks.get(main.name);
    const found = callback === undefined ? undefined : this.globals.get(callback);
    if (found !== undefined && !placed.has(found)) this.append(out, placed, found, main);
    // Functions are appended while others are walked: put what was found into the order of the program.
    out.relocations.sort((a, b) => a.insn - b.insn);
    out.lineInfo.sort((a, b) => a.insn - b.insn);
    out.coreRelos.sort((a, b) => a.insn - b.insn);
    return out;
  }

  /** Places a function and what it reaches. An explicit stack: hostile objects nest calls deeply. */
  private append(
    out: LinkedProgram,
    placed: Map<ObjectFunction, number>,
    first: ObjectFunction,
    main: ObjectFunction,
  ): void {
    const stack = [{ func: first, base: this.place(out, placed, first, main), next: 0 }];
    while (stack.length > 0) {
      const frame = stack.at(-1)!;
      const { func, base } = frame;
      if (frame.next >= func.length) {
        stack.pop();
        continue;
      }
      const at = frame.next++;
      const insn = out.insns[base + at]!;
      const wide = isLdImm64(insn);
      const second = wide && at + 1 < func.length ? out.insns[base + at + 1] : undefined;
      const target = this.target(func, at, insn, second);
      if (wide) frame.next++;
      if (target === undefined) continue;
      switch (target.kind) {
        case 'map':
        case 'data':
          this.patchMap(out, base + at, insn, second!, target);
          break;
        case 'extern':
          this.patchExtern(out, base + at, insn, second, target.extern);
          break;
        default: {
          const known = placed.get(target.func);
          const to = known ?? this.place(out, placed, target.func, main);
          if (target.kind === 'func') insn.src = BPF_PSEUDO_FUNC;
          insn.imm = to - (base + at) - 1;
          out.relocations.push({ insn: base + at, kind: target.kind, func: target.func.name });
          if (known === undefined) stack.push({ func: target.func, base: to, next: 0 });
        }
      }
    }
  }

  private place(
    out: LinkedProgram,
    placed: Map<ObjectFunction, number>,
    func: ObjectFunction,
    main: ObjectFunction,
  ): number {
    const base = out.insns.length;
    this.total += func.length;
    if (base + func.length > MAX_PROG_INSNS || this.total > MAX_OBJECT_INSNS) {
      throw new ObjectError(
        'OBJ_TOO_LARGE',
        base + func.length > MAX_PROG_INSNS
          ? `program ${main.name} has more than ${MAX_PROG_INSNS} instructions`
          : `the programs of this object have more than ${MAX_OBJECT_INSNS} instructions together`,
        { section: func.section.name, symbol: func.name },
      );
    }
    placed.set(func, base);
    const code = this.context.code.get(func.section.index)!;
    for (let i = 0; i < func.length; i++) out.insns.push({ ...code.insns[func.start + i]! });
    this.copyInfos(out, func, base);
    return base;
  }

  private copyInfos(out: LinkedProgram, func: ObjectFunction, base: number): void {
    const { section, start, length } = func;
    const infos = this.sectionInfos(func);
    out.functions.push({
      insn: base,
      name: func.name,
      typeId: infos.functions.get(start) ?? 0,
      global: func.global && !func.hidden,
      length,
      section: section.name,
      sectionOffset: start * 8,
    });
    const shift = base - start;
    const lines = within(infos.lines, start, length);
    // Normally fewer than instructions; not so in a hostile object.
    this.total += Math.max(0, lines.length - length);
    for (const line of lines) {
      out.lineInfo.push(new PlacedLine(line.insn + shift, line.source));
    }
    for (const relo of within(infos.relos, start, length)) {
      out.coreRelos.push({ ...relo, insn: relo.insn + shift });
    }
  }

  /** The .BTF.ext records of a section, by instruction. */
  private sectionInfos({ section }: ObjectFunction): SectionInfos {
    const known = this.infos.get(section.index);
    if (known !== undefined) return known;
    const ext = this.context.btfExt;
    const byInsn = (a: { insn: number }, b: { insn: number }) => a.insn - b.insn;
    const infos: SectionInfos = {
      functions: new Map((ext?.funcInfo.get(section.name) ?? []).map((one) => [one.insnOff / 8, one.typeId])),
      lines: (ext?.lineInfo.get(section.name) ?? [])
        .map((line) => ({ insn: line.insnOff / 8, source: line }))
        .sort(byInsn),
      relos: (ext?.coreRelos.get(section.name) ?? [])
        .map(({ insnOff, typeId, accessString, kind }) => ({ insn: insnOff / 8, typeId, accessString, kind }))
        .sort(byInsn),
    };
    for (const relo of infos.relos) {
      if (!Number.isInteger(relo.insn)) {
        throw new ObjectError('OBJ_BAD_BTF', 'CO-RE relocation is not at an instruction', {
          section: section.name,
          offset: relo.insn * 8,
        });
      }
    }
    this.infos.set(section.index, infos);
    return infos;
  }

  /** What an instruction refers to; undefined where nothing is to be done. */
  private target(func: ObjectFunction, at: number, insn: Insn, second: Insn | undefined): Target | undefined {
    const code = this.context.code.get(func.section.index)!;
    const relocation = code.relocations.get(func.start + at);
    const call = isCall(insn);
    if (relocation === undefined) {
      if (call && insn.src === BPF_PSEUDO_CALL) {
        // A static function of the same section: the distance is final within the section.
        return { kind: 'call', func: this.functionAt(func, at, code, func.start + at + insn.imm + 1) };
      }
      if (isLdImm64(insn) && insn.src === BPF_PSEUDO_FUNC) {
        this.refuse(func, at, 'address of a function without a relocation');
      }
      return undefined;
    }
    if (!call && !isLdImm64(insn)) {
      this.refuse(
        func,
        at,
        `relocation against ${this.symbol(relocation)} of an instruction that takes none`,
      );
    }
    if (!call && second === undefined) this.refuse(func, at, 'the second half of a 64-bit load is missing');
    const { symbol } = relocation;
    const { externs } = this.context;
    if (isExtern(symbol)) {
      const extern = externs.bySymbol.get(symbol.index)!;
      const spec = externs.list[extern]!;
      if (call !== (spec.kind === 'ksym' && spec.func) && call) {
        this.refuse(func, at, `${symbol.name} is called and is no function`);
      }
      return { kind: 'extern', extern };
    }
    const target = symbol.section === 0 ? undefined : this.context.code.get(symbol.section);
    if (call) {
      if (insn.src !== BPF_PSEUDO_CALL) this.refuse(func, at, 'relocation of a call to a helper');
      if (target === undefined)
        this.refuse(func, at, `call of ${this.symbol(relocation)}, which is no function`);
      if (symbol.value % 8 !== 0) this.refuse(func, at, 'call into the middle of an instruction');
      return { kind: 'call', func: this.functionAt(func, at, target, symbol.value / 8 + insn.imm + 1) };
    }
    if (target !== undefined) {
      // A global function: the symbol's value; a static one: the section's symbol and the offset in the immediate.
      const offset = symbol.value + insn.imm;
      if (offset % 8 !== 0) this.refuse(func, at, 'address of the middle of an instruction');
      return { kind: 'func', func: this.functionAt(func, at, target, offset / 8) };
    }
    if (symbol.section === 0 || symbol.section >= SHN_LORESERVE) {
      this.refuse(func, at, `${this.symbol(relocation)} is not defined in a section`);
    }
    const map = this.context.mapAt(symbol.section, symbol.type === STT_SECTION ? insn.imm : symbol.value);
    if (map === undefined) {
      this.refuse(func, at, `${this.symbol(relocation)} is neither a map nor a global variable`);
    }
    return {
      kind: map.data ? 'data' : 'map',
      map: map.index,
      offset: map.data ? symbol.value + insn.imm : 0,
    };
  }

  private functionAt(from: ObjectFunction, at: number, code: CodeSection, insn: number): ObjectFunction {
    const found = functionAt(code, insn);
    if (found === undefined || found.start !== insn) {
      this.refuse(
        from,
        at,
        `call of instruction ${insn} of section ${code.section.name}, where no function starts`,
      );
    }
    return found;
  }

  private patchMap(
    out: LinkedProgram,
    at: number,
    insn: Insn,
    second: Insn,
    target: { kind: 'map' | 'data'; map: number; offset: number },
  ): void {
    const map = this.context.maps[target.map]!.name;
    insn.imm = target.map;
    if (target.kind === 'map') {
      insn.src = BPF_PSEUDO_MAP_IDX;
      second.imm = 0;
      out.relocations.push({ insn: at, kind: 'map', map });
    } else {
      insn.src = BPF_PSEUDO_MAP_IDX_VALUE;
      second.imm = target.offset | 0;
      out.relocations.push({ insn: at, kind: 'data', map, offset: target.offset });
    }
  }

  private patchExtern(
    out: LinkedProgram,
    at: number,
    insn: Insn,
    second: Insn | undefined,
    extern: number,
  ): void {
    const { externs } = this.context;
    const spec = externs.list[extern]!;
    if (spec.kind === 'kconfig') {
      insn.src = BPF_PSEUDO_MAP_IDX_VALUE;
      insn.imm = this.kconfigMap;
      if (second !== undefined) second.imm = spec.offset;
      out.relocations.push({ insn: at, kind: 'kconfig', extern: spec.name });
      return;
    }
    insn.imm = extern;
    if (isCall(insn)) insn.src = BPF_PSEUDO_KFUNC_CALL;
    out.relocations.push({ insn: at, kind: isCall(insn) ? 'kfunc' : 'ksym', extern: spec.name });
  }

  private symbol({ symbol }: ElfRelocation): string {
    return symbolName(this.context.elf, symbol);
  }

  private refuse(func: ObjectFunction, at: number, message: string): never {
    const line = lineAt(this.sectionInfos(func).lines, func.start + at);
    throw new ObjectError(
      'OBJ_BAD_RELOCATION',
      `${line === undefined ? '' : `${line.fileName}:${line.line}: `}${func.name}, instruction ${at}: ${message}`,
      { section: func.section.name, symbol: func.name, offset: (func.start + at) * 8 },
    );
  }
}

type SourceLine = Pick<LineInfo, 'fileName' | 'line' | 'column' | 'text'>;

interface SectionInfos {
  readonly functions: ReadonlyMap<number, number>;
  readonly lines: readonly { insn: number; source: SourceLine }[];
  readonly relos: readonly ProgCoreRelo[];
}

/** Index of the first entry at `insn` or later. */
function firstFrom(list: readonly { insn: number }[], insn: number): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle]!.insn < insn) low = middle + 1;
    else high = middle;
  }
  return low;
}

function within<T extends { insn: number }>(list: readonly T[], start: number, length: number): readonly T[] {
  return list.slice(firstFrom(list, start), firstFrom(list, start + length));
}

function lineAt(lines: SectionInfos['lines'], insn: number): SourceLine | undefined {
  return lines[firstFrom(lines, insn + 1) - 1]?.source;
}

/** A line of a section at its place in a program. Texts are looked up when asked for: most never are. */
class PlacedLine implements ProgLineInfo {
  readonly insn: number;
  readonly #source: SourceLine;

  constructor(insn: number, source: SourceLine) {
    this.insn = insn;
    this.#source = source;
  }

  get file(): string {
    return this.#source.fileName;
  }

  get line(): number {
    return this.#source.line;
  }

  get column(): number {
    return this.#source.column;
  }

  get source(): string {
    return this.#source.text;
  }
}

/** `__exception_cb(name)`: DECL_TAGs of global functions, by the function's name (bpf_prog_assign_exc_cb). */
export function exceptionCallbacks(btf: Btf | undefined): Map<string, string> {
  const prefix = 'exception_callback:';
  const found = new Map<string, string>();
  if (btf === undefined) return found;
  for (let id = 1; id < btf.typeCount; id++) {
    if (btf.kind(id) !== btfKinds.BTF_KIND_DECL_TAG) continue;
    const name = btf.name(id);
    const target = btf.word(id, 2);
    if (name.startsWith(prefix) && btf.kind(target) === btfKinds.BTF_KIND_FUNC) {
      found.set(btf.name(target), name.slice(prefix.length));
    }
  }
  return found;
}
