/** Instructions as text, with functions, lines of source and names of maps among them. */
import { type Insn, isa, printInsn } from '../../bpf/index.ts';
import type { ProgFuncInfo, ProgLineInfo } from '../../bpf/object/index.ts';

export interface ListingOptions {
  /** By first instruction. */
  readonly functions?: readonly Pick<ProgFuncInfo, 'insn' | 'name'>[];
  readonly lines?: readonly ProgLineInfo[];
  /** What stands in the brackets of `map[…]`, by the index in the instruction. */
  readonly mapName?: (index: number) => string | undefined;
}

export interface ListedInsn {
  readonly pc: number;
  /** `(b7) r0 = 0` */
  readonly text: string;
  /** Set where a function begins here. */
  readonly func: string | undefined;
  /** Set where a line begins here. */
  readonly line: ProgLineInfo | undefined;
}

/** One instruction as bpftool prints it: `(b7) r0 = 0`. */
export function insnText(insns: readonly Insn[], pc: number, options: ListingOptions = {}): string {
  const insn = insns[pc]!;
  const next = insns[pc + 1];
  const code = insn.code.toString(16).padStart(2, '0');
  let text = printInsn(insn, next);
  if (
    isa.isLdImm64(insn) &&
    (insn.src === isa.BPF_PSEUDO_MAP_IDX || insn.src === isa.BPF_PSEUDO_MAP_IDX_VALUE)
  ) {
    const name = options.mapName?.(insn.imm);
    if (name !== undefined) text = text.replace(/map\[[^\]]*\]/, () => `map[${name}]`);
  }
  return `(${code}) ${text}`;
}

export function* listInsns(insns: readonly Insn[], options: ListingOptions = {}): Generator<ListedInsn> {
  const functions = new Map(options.functions?.map(({ insn, name }) => [insn, name]));
  const lines = new Map(options.lines?.map((line) => [line.insn, line]));
  for (let pc = 0; pc < insns.length; pc++) {
    yield { pc, text: insnText(insns, pc, options), func: functions.get(pc), line: lines.get(pc) };
    if (isa.isLdImm64(insns[pc]!)) pc++;
  }
}

/** As bpftool: `name:`, `; source`, `   0: (b7) r0 = 0`. */
export function listingText(insns: readonly Insn[], options: ListingOptions = {}): string {
  let text = '';
  for (const { pc, text: insn, func, line } of listInsns(insns, options)) {
    if (func !== undefined) text += `${func}:\n`;
    if (line !== undefined && line.source !== '')
      text += `; ${line.source.trim()} @ ${line.file}:${line.line}\n`;
    text += `${String(pc).padStart(4)}: ${insn}\n`;
  }
  return text;
}
