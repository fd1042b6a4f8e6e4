import { parseElf } from '../../bpf/elf/index.ts';
import { decodeInsns, type Insn, isa, printConformanceInsn } from '../../bpf/index.ts';
import { emit } from './files.ts';
import { type BpfInput, readInput } from './input.ts';
import { insnText } from './listing.ts';
import { type BpfArguments, SYNTAXES } from './options.ts';

const SHT_PROGBITS = 1;
const SHF_EXECINSTR = 4;

interface Code {
  readonly section: string | undefined;
  readonly insns: readonly Insn[];
  /** Names by first instruction. */
  readonly labels: ReadonlyMap<number, string>;
}

/** `trapline bpf disasm` */
export async function disasmCommand(args: BpfArguments): Promise<number> {
  const syntax = args.choice('syntax', SYNTAXES, 'kernel');
  let text = '';
  for (const { section, insns, labels } of codeOf(readInput(args))) {
    if (section !== undefined && !args.json) text += `${text === '' ? '' : '\n'}section ${section}\n`;
    for (let pc = 0; pc < insns.length; pc++) {
      const insn =
        syntax === 'kernel' ? insnText(insns, pc) : printConformanceInsn(insns[pc]!, insns[pc + 1]);
      const label = labels.get(pc);
      if (args.json) text += `${JSON.stringify({ section, func: label, pc, insn })}\n`;
      else if (syntax === 'kernel') {
        text += `${label === undefined ? '' : `${label}:\n`}${String(pc).padStart(4)}: ${insn}\n`;
      } else text += `${label === undefined ? '' : `${label}:\n`}${insn}\n`;
      if (isa.isLdImm64(insns[pc]!)) pc++;
    }
  }
  emit(args.text('output'), text);
  return 0;
}

function codeOf(input: BpfInput): Code[] {
  if (input.kind === 'insns') return [{ section: undefined, insns: input.insns, labels: new Map() }];
  const elf = parseElf(input.bytes);
  return elf.sections
    .filter(({ type, flags, size }) => type === SHT_PROGBITS && (flags & SHF_EXECINSTR) !== 0 && size > 0)
    .map((section) => ({
      section: section.name,
      insns: decodeInsns(section.data.subarray(0, section.size - (section.size % 8))),
      labels: new Map(
        elf.symbols
          .filter((symbol) => symbol.section === section.index && symbol.type === 2)
          .map(({ name, value }) => [value / 8, name]),
      ),
    }));
}
