/** bpf_throw(): the whole program ends, by its exception callback where it has one. */
import { describe, expect, test } from 'vitest';
import { assemble } from '../../src/bpf/asm/assemble.ts';
import { BtfBuilder } from '../../src/bpf/btf/builder.ts';
import { KERNEL_KFUNCS } from '../../src/bpf/helpers/kernel-kfuncs.ts';
import type { KfuncDecl } from '../../src/bpf/helpers/kfunc.ts';
import { createMachine } from '../../src/bpf/machine/index.ts';
import type { FuncInfo } from '../../src/bpf/verifier/types.ts';

const BPF_THROW: KfuncDecl = {
  id: 1000,
  name: 'bpf_throw',
  args: ['u64'],
  result: 'void',
  kernel: KERNEL_KFUNCS.get('bpf_throw')!,
};

/** int prog(struct xdp_md *), and functions u64 → int behind it; the program has an exception callback where one is named. */
function types(starts: readonly { insn: number; name: string }[], callback?: string) {
  const b = new BtfBuilder();
  const int = b.int('int', 4, { signed: true });
  const u64 = b.int('unsigned long long', 8);
  const md = b.struct('xdp_md', 4, [{ name: 'data', type: int, bitOffset: 0 }]);
  const main = b.func('prog', b.funcProto(int, [{ name: 'ctx', type: b.ptr(md) }]), 'global');
  const proto = b.funcProto(int, [{ name: 'cookie', type: u64 }]);
  const funcInfo: FuncInfo[] = [{ insn: 0, typeId: main }];
  for (const { insn, name } of starts) funcInfo.push({ insn, typeId: b.func(name, proto, 'global') });
  if (callback !== undefined) b.declTag(`exception_callback:${callback}`, main);
  return { btf: b.build(), funcInfo };
}

const MAIN = `
  r6 = 1
  r1 = 7
  call sub
  r0 += 100
  exit
sub:
  if r1 == 0 goto out
  r1 = 42
  call kernel-function#1000
out:
  r0 = 5
  exit
`;

describe.each(['interpreter', 'jit'] as const)('bpf_throw: %s', (engine) => {
  const machine = createMachine();
  const load = (text: string, more: object = {}) =>
    machine.loadProgram({
      name: 'throws',
      type: 'xdp',
      insns: assemble(text),
      kfuncs: [BPF_THROW],
      maps: [],
      loadedMaps: [],
      engine,
      ...more,
    });

  test('ends the program from a function, with the cookie as its result; again and again', () => {
    const program = load(MAIN);
    for (let n = 0; n < 3; n++) expect(program.run(0)).toBe(42n);
    if (program.wasm !== undefined) expect(WebAssembly.validate(program.wasm)).toBe(true);
    // Nothing happens where it is not called.
    expect(load(MAIN.replace('r1 = 7', 'r1 = 0')).run(0)).toBe(105n);
  });

  test('ends in the exception callback, with a frame of its own', () => {
    const text = `${MAIN}
    cb:
      *(u64 *)(r10 -8) = r1
      r0 = *(u64 *)(r10 -8)
      r0 += 1000
      exit`;
    const starts = [
      { insn: 5, name: 'sub' },
      { insn: 10, name: 'cb' },
    ];
    const program = load(text, types(starts, 'cb'));
    expect(program.verified.exceptionCallback).toBe(10);
    expect(program.run(0)).toBe(1042n);
    expect(() => load(text, types(starts, 'nowhere'))).toThrow(
      "exception callback 'nowhere' could not be found in BTF",
    );
  });
});
