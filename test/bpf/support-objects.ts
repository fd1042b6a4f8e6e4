import { readdirSync, readFileSync } from 'node:fs';
import { type BpfObject, openObject, type ProgramSpec } from '../../src/bpf/index.ts';

const folder = new URL('./fixtures/objects/', import.meta.url);

/** Objects of both compilers: `maps-14.o` by clang-14 -mcpu=v2, `maps-19.o` by clang-19 -mcpu=v3 (scripts/fixtures-bpf.mjs). */
export const VARIANTS = ['14', '19'] as const;

export function objectBytes(name: string, variant: string): Uint8Array {
  return new Uint8Array(readFileSync(new URL(`${name}-${variant}.o`, folder)));
}

export function openFixture(name: string, variant: string): BpfObject {
  return openObject(objectBytes(name, variant), `${name}.bpf.o`);
}

/** Names of all committed objects, `maps-14.o`. */
export function fixtureNames(): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.o'))
    .sort();
}

export function fixtureBytes(file: string): Uint8Array {
  return new Uint8Array(readFileSync(new URL(file, folder)));
}

/** The function that a call or function address lands in. */
export function calledFunction(program: ProgramSpec, insn: number): string | undefined {
  const to = insn + program.insns[insn]!.imm + 1;
  return program.functions.find((func) => func.insn === to)?.name;
}
