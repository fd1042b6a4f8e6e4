/** What a debugger shows of an execution: places, registers, memory. */
import { isa, type LoadedMap } from '../../bpf/index.ts';
import { percpuBlock } from '../../bpf/layout.ts';
import type { ProgLineInfo } from '../../bpf/object/index.ts';
import { lineOf } from '../../bpf/object/index.ts';
import { mapContents } from './contents.ts';
import type { DebugSession } from './debug-session.ts';
import { hexDump } from './files.ts';
import { insnText } from './listing.ts';
import type { Loaded } from './load.ts';

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

export class DebugView {
  readonly loaded: Loaded;
  readonly session: DebugSession;

  constructor(loaded: Loaded, session: DebugSession) {
    this.loaded = loaded;
    this.session = session;
  }

  get insns(): readonly isa.Insn[] {
    return this.loaded.program.verified.insns;
  }

  lineAt(pc: number): ProgLineInfo | undefined {
    return this.loaded.spec === undefined ? undefined : lineOf(this.loaded.spec, pc);
  }

  /** The function that an instruction is of. */
  functionAt(pc: number): { name: string; insn: number } {
    const { spec, program } = this.loaded;
    const named = spec?.functions.findLast(({ insn }) => insn <= pc);
    if (named !== undefined) return named;
    const start = program.verified.subprogs.findLast((insn) => insn <= pc) ?? 0;
    return { name: start === 0 ? program.name : `subprog_${start}`, insn: start };
  }

  insn(pc: number): string {
    return `${String(pc).padStart(4)}: ${insnText(this.insns, pc, { mapName: (n) => this.#mapName(n) })}`;
  }

  #mapName(index: number): string | undefined {
    const map = this.loaded.program.maps[index];
    return map === undefined ? undefined : this.nameOf(map);
  }

  nameOf(map: LoadedMap): string {
    for (const [name, one] of this.loaded.maps) if (one === map) return name;
    return map.spec.name;
  }

  /** Where the execution stands: function, line, instruction. */
  place(): string {
    const { vm, moment, error } = this.session;
    if (error !== undefined) return `the program failed after ${moment} instructions: ${error.message}\n`;
    if (vm.exited) {
      const r0 = vm.regs[0]!;
      return `the program ended after ${moment} instructions, r0 = ${hex(r0)} (${BigInt.asIntN(64, r0)})\n`;
    }
    const line = this.lineAt(vm.pc);
    const where = line === undefined ? '' : ` at ${line.file}:${line.line}`;
    const source = line === undefined || line.source === '' ? '' : `${line.line}\t${line.source}\n`;
    return `#${moment} ${this.functionAt(vm.pc).name}${where}\n${source}${this.insn(vm.pc)}\n`;
  }

  calls(): string {
    const { vm } = this.session;
    const slots = [vm.pc, ...vm.returnSlots.map((slot) => slot - 1).reverse()];
    return slots
      .map((pc, n) => {
        const line = this.lineAt(pc);
        return `#${n} ${this.functionAt(pc).name}${line === undefined ? '' : ` at ${line.file}:${line.line}`}, instruction ${pc}\n`;
      })
      .join('');
  }

  registers(): string {
    const { vm } = this.session;
    return Array.from(vm.regs)
      .map((value, n) => {
        const what = this.describe(value);
        return `r${n}`.padEnd(4) + hex(value).padEnd(20) + (what ?? `${BigInt.asIntN(64, value)}`).trimEnd();
      })
      .map((line) => `${line}\n`)
      .join('');
  }

  /** What an address belongs to; undefined for a number. */
  describe(value: bigint): string | undefined {
    if (value === 0n || value > 0xffff_ffffn) return undefined;
    const at = Number(value);
    const { machine } = this.loaded;
    const plus = (base: number): string => (at === base ? '' : `+${at - base}`);
    const block = percpuBlock(machine.layout, 0);
    if (at > block.stack && at <= block.stack + block.stackSize) {
      const frame = this.session.vm.regs[10]!;
      const off = at - Number(frame);
      return off <= 0 && off >= -512 ? `fp${off === 0 ? '' : off}` : `stack${plus(block.stack)}`;
    }
    const { ctx } = this.session.target;
    if (at >= ctx && at < ctx + 256) return `ctx${plus(ctx)}`;
    for (const map of this.loaded.maps.values()) {
      const { address, byteLength, geometry } = map.placed;
      if (at === address) return `map ${this.nameOf(map)}`;
      if (at > address && at < address + byteLength) {
        return `${this.nameOf(map)}${at >= address + geometry.data ? ` data${plus(address + geometry.data)}` : plus(address)}`;
      }
    }
    return undefined;
  }

  /** The frame of the current function, from its top. */
  stack(): string {
    const { vm } = this.session;
    const top = Number(vm.regs[10]!);
    const view = new DataView(this.loaded.machine.memory.buffer);
    let text = '';
    for (let off = -8; off >= -isa.MAX_BPF_STACK; off -= 8) {
      const value = view.getBigUint64(top + off, true);
      if (value === 0n) continue;
      text += `fp${String(off).padEnd(5)} ${hex(value).padEnd(19)} ${this.describe(value) ?? BigInt.asIntN(64, value)}\n`;
    }
    return text === '' ? 'nothing but zeros\n' : text;
  }

  memory(at: number, length: number): string {
    const bytes = new Uint8Array(this.loaded.machine.memory.buffer);
    return hexDump(bytes.subarray(at, Math.min(at + length, bytes.length)).slice(), at);
  }

  map(name: string, map: LoadedMap): string {
    return `${mapContents(this.loaded, map, this.loaded.object?.spec.maps.get(name), false)}\n`;
  }

  /** Instructions around the current one. */
  disassembly(around = 6): string {
    const { pc } = this.session.vm;
    let text = '';
    for (let at = 0; at < this.insns.length; at++) {
      const isWide = isa.isLdImm64(this.insns[at]!);
      if (at >= pc - around && at <= pc + around) text += `${at === pc ? '=>' : '  '} ${this.insn(at)}\n`;
      if (isWide) at++;
    }
    return text;
  }

  /** The lines of source that are known around the current one. */
  source(around = 5): string {
    const { spec } = this.loaded;
    const here = this.lineAt(this.session.vm.pc);
    if (spec === undefined || here === undefined) return 'no lines of source are known\n';
    const lines = new Map<number, string>();
    for (const { file, line, source } of spec.lineInfo) {
      if (file === here.file && Math.abs(line - here.line) <= around) lines.set(line, source);
    }
    return [...lines]
      .sort(([a], [b]) => a - b)
      .map(([line, source]) => `${line === here.line ? '=>' : '  '} ${line}\t${source}\n`)
      .join('');
  }
}
