/** What tests of the verifier's rules share: maps, kernel functions, a context, and the verifier over assembler text. */
import {
  assemble,
  type Insn,
  KERNEL_KFUNCS,
  type KfuncDecl,
  type MapSpec,
  VerifierError,
  verifyProgram,
} from '../../src/bpf/index.ts';
import type { ContextAccess, ProgramInput } from '../../src/bpf/verifier/types.ts';

export const MAPS: readonly MapSpec[] = [
  { name: 'hash8', type: 'hash', keySize: 8, valueSize: 8, maxEntries: 16 },
  { name: 'array48', type: 'array', keySize: 4, valueSize: 48, maxEntries: 4 },
  { name: 'ring', type: 'ringbuf', keySize: 0, valueSize: 0, maxEntries: 4096 },
  { name: 'percpu', type: 'percpu_array', keySize: 4, valueSize: 8, maxEntries: 4 },
  { name: 'one', type: 'array', keySize: 4, valueSize: 16, maxEntries: 1 },
];
export const KFUNCS: readonly KfuncDecl[] = [
  { id: 1, name: 'k_path', args: ['u64', 'const'], result: 'slot64' },
  { id: 2, name: 'k_str', args: ['mem_out', 'size', 'u64', 'const'], result: 's32' },
  { id: 3, name: 'k_void', args: ['u32'], result: 'void' },
];
/** Linux's own, by ids of these tests. */
export const KERNEL_KFUNC_DECLS: readonly KfuncDecl[] = [...KERNEL_KFUNCS.values()].map((kernel, i) => ({
  id: 1000 + i,
  name: kernel.name,
  args: [],
  result: 'void',
  kernel,
}));
export const ctx: ContextAccess = {
  size: 168,
  access: (off, size, write) => (!write && off % size === 0 ? 'scalar' : undefined),
};

/** `kcall NAME` in a text is a call of that kernel function. */
export function assembleWithKfuncs(text: string): Insn[] {
  const withIds = text.replace(/kcall (\w+)/g, (_, name: string) => {
    const decl = KERNEL_KFUNC_DECLS.find((one) => one.name === name);
    if (decl === undefined) throw new Error(`no kfunc ${name}`);
    return `call kernel-function#${decl.id}`;
  });
  return assemble(withIds);
}

export function verify(text: string, options: Partial<ProgramInput> = {}) {
  return verifyProgram({
    name: 'p',
    type: 'kprobe',
    insns: assemble(text),
    maps: MAPS,
    ctx,
    kfuncs: KFUNCS,
    ...options,
  });
}

export function refusal(text: string, options: Partial<ProgramInput> = {}): VerifierError {
  try {
    verify(text, options);
  } catch (error) {
    if (error instanceof VerifierError) return error;
    throw error;
  }
  throw new Error('accepted');
}

/** r0 = the value of map `map` for a key of zeros, with a check for NULL. */
export const lookup = (map: number): string => `
  *(u64 *)(r10 -8) = 0
  r1 = map[idx:${map}]
  r2 = r10
  r2 += -8
  call bpf_map_lookup_elem#1
  if r0 != 0x0 goto pc+1
  exit`;

export const reserve = (size: number): string => `
  r1 = map[idx:2]
  r2 = ${size}
  r3 = 0
  call bpf_ringbuf_reserve#131`;
