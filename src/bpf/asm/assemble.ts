/** The assembler: one instruction a line, in the kernel's or the conformance suite's syntax, which may be mixed. */

import { checkArgument, stringOf } from '../arguments.ts';
import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import { parseConformance } from './conformance-syntax.ts';
import { parseKernel } from './kernel-syntax.ts';
import { AsmError, type Fixup } from './parse.ts';

/** The label `exit` is there without being written: the first exit. */
function firstExit(insns: readonly Insn[]): number | undefined {
  const at = insns.findIndex((insn) => insn.code === (isa.BPF_JMP | isa.BPF_EXIT));
  return at < 0 ? undefined : at;
}

/**
 * Assembles a program. Comments start with `#` (at a line's start or after a blank), `;` or `//`; `name:` is a label; a slot
 * number and code as the kernel prints them (`3: (b7) `) are skipped. Throws AsmError (code EASM), whose message names the line.
 */
export function assemble(text: string): Insn[] {
  checkArgument('assemble()', 'text', text, stringOf('a string: instructions, one a line'));
  const insns: Insn[] = [];
  const fixups: Fixup[] = [];
  const labels = new Map<string, number>();
  for (const [index, raw] of text.split('\n').entries()) {
    const line = index + 1;
    let rest = raw
      .replace(/(^|\s)#.*$|;.*$|\/\/.*$/, '')
      .trim()
      .replace(/^\d+:\s*(?=\()/, '');
    const isWide = rest.startsWith('(18)');
    rest = rest.replace(/^\([0-9a-f]{2}\)\s*/, '');
    for (;;) {
      const label = /^([A-Za-z_.$][\w.$]*):\s*/.exec(rest);
      if (label === null) break;
      if (labels.has(label[1]!)) throw new AsmError(line, `label ${label[1]} is there twice`);
      labels.set(label[1]!, insns.length);
      rest = rest.slice(label[0].length);
    }
    if (rest === '') continue;
    const out = { insns, fixups, line, isWide };
    if (!parseKernel(rest, out) && !parseConformance(rest, out)) {
      throw new AsmError(line, `unknown instruction ${rest}`);
    }
  }
  for (const { at, label, field, line } of fixups) {
    const target = labels.get(label) ?? (label === 'exit' ? firstExit(insns) : undefined);
    if (target === undefined) throw new AsmError(line, `label ${label} is nowhere`);
    const distance = target - at - 1;
    if (field === 'off' && (distance < -0x8000 || distance > 0x7fff)) {
      throw new AsmError(line, `label ${label} is too far away`);
    }
    insns[at]![field] = distance;
  }
  return insns;
}
