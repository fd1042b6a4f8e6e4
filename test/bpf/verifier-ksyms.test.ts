/** Typed variables of the kernel: what a program may do with them, and with which memory they are run. */
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  assemble,
  type Btf,
  BtfBuilder,
  createMachine,
  parseBtf,
  VerifierError,
} from '../../src/bpf/index.ts';
import { kernelBpf } from '../support/kernel-bpf.ts';
import { unless } from '../support/skip.ts';

const RAW_TRACEPOINT = 17;

/** A kernel with a structure and a number that every processor has, and a structure and numbers that it has once. */
function target(): Btf {
  const b = new BtfBuilder();
  const int = b.int('int', 4, { signed: true });
  const rq = b.struct('rq', 8, [
    { name: 'nr', type: int, bitOffset: 0 },
    { name: 'cpu', type: int, bitOffset: 32 },
  ]);
  b.var('init_rq', rq, 'global');
  b.var('jiffies', b.const(int), 'global');
  const runqueues = b.var('runqueues', rq, 'global');
  const active = b.var('bpf_prog_active', int, 'global');
  b.func('schedule', b.funcProto(0, []), 'global');
  b.datasec('.data..percpu', 16, [
    { type: runqueues, offset: 0, size: 8 },
    { type: active, offset: 8, size: 4 },
  ]);
  return b.build();
}

const PER_CPU = 'call bpf_per_cpu_ptr#153';
const THIS_CPU = 'call bpf_this_cpu_ptr#154';
const out = (...lines: string[]): string => [...lines, 'r0 = 0', 'exit'].join('\n');

/** Programs by what they load, with `ID` in its place; and the kernel's answer, undefined for none. */
const PROGRAMS: [name: string, symbol: string, kind: 'VAR' | 'FUNC', text: string, answer?: string][] = [
  [
    'a structure on one processor',
    'runqueues',
    'VAR',
    out('r1 = btf_id[ID]', 'r2 = 0', PER_CPU, 'if r0 == 0 goto pc+1', 'r1 = *(u32 *)(r0 +4)'),
  ],
  [
    'unchecked',
    'runqueues',
    'VAR',
    out('r1 = btf_id[ID]', 'r2 = 0', PER_CPU, 'r1 = *(u32 *)(r0 +4)'),
    "R0 invalid mem access 'ptr_or_null_'",
  ],
  [
    'itself',
    'runqueues',
    'VAR',
    out('r1 = btf_id[ID]', 'r1 = *(u32 *)(r1 +4)'),
    'R1 is ptr_rq access percpu memory: off=4',
  ],
  [
    'a number on this processor',
    'bpf_prog_active',
    'VAR',
    out('r1 = btf_id[ID]', THIS_CPU, 'r1 = *(u32 *)(r0 +0)'),
  ],
  [
    'too far',
    'bpf_prog_active',
    'VAR',
    out('r1 = btf_id[ID]', THIS_CPU, 'r1 = *(u64 *)(r0 +0)'),
    'invalid access to memory, mem_size=4 off=0 size=8',
  ],
  [
    'written',
    'bpf_prog_active',
    'VAR',
    out('r1 = btf_id[ID]', THIS_CPU, '*(u32 *)(r0 +0) = 1'),
    'R0 cannot write into rdonly_mem',
  ],
  [
    'what is there once',
    'jiffies',
    'VAR',
    out('r1 = btf_id[ID]', 'r2 = 0', PER_CPU),
    'R1 type=rdonly_mem expected=percpu_ptr_, percpu_rcu_ptr_, percpu_trusted_ptr_',
  ],
  [
    'a function',
    'schedule',
    'FUNC',
    out('r1 = btf_id[ID]', 'r1 = *(u8 *)(r1 +0)'),
    'invalid access to memory, mem_size=0 off=0 size=1',
  ],
];

const vmlinux = '/sys/kernel/btf/vmlinux';
const kernelTypes =
  kernelBpf.reason === undefined && existsSync(vmlinux) ? parseBtf(readFileSync(vmlinux)) : undefined;

function answers(
  text: string,
  btf: Btf,
  symbol: string,
  kind: 'VAR' | 'FUNC',
  given = true,
): string | undefined {
  const machine = createMachine();
  const at = machine.alloc(64);
  const insns = assemble(text.replace('ID', `${btf.byName(symbol, kind)}`));
  const ksyms = new Map(given ? [[symbol, BigInt(at)]] : []);
  try {
    machine.loadProgram({
      name: 'p',
      type: 'raw_tracepoint',
      insns,
      maps: [],
      loadedMaps: [],
      targetBtf: btf,
      ksyms,
    });
    return undefined;
  } catch (error) {
    if (error instanceof VerifierError) return error.summary.trim().split('\n')[0];
    throw error;
  }
}

describe('typed variables of the kernel', () => {
  it.each(PROGRAMS)('%s', (_name, symbol, kind, text, answer) => {
    expect(answers(text, target(), symbol, kind)).toBe(answer);
  });

  it.each(PROGRAMS)(
    '%s, in this kernel',
    unless(kernelBpf.reason ?? (kernelTypes === undefined ? 'the kernel has no BTF' : undefined)),
    (_name, symbol, kind, text, answer) => {
      const id = kernelTypes!.byName(symbol, kind);
      if (id === undefined) return;
      const { fd, log } = kernelBpf.progLoad({
        type: RAW_TRACEPOINT,
        insns: assemble(text.replace('ID', `${id}`)),
        logLevel: 1,
      });
      if (fd >= 0) kernelBpf.close(fd);
      // A kernel without the addresses of variables (CONFIG_KALLSYMS_ALL) says what is said here of those that nobody gave.
      if (log.includes(`ldimm64 failed to find the address for kernel symbol '${symbol}'.`)) return;
      if (answer === undefined) expect(fd, log).toBeGreaterThanOrEqual(0);
      else expect(log).toContain(answer);
    },
  );

  it('have to be somewhere', () => {
    const [, symbol, kind, text] = PROGRAMS[0]!;
    expect(answers(text, target(), symbol, kind, false)).toBe(
      "ldimm64 failed to find the address for kernel symbol 'runqueues'.",
    );
  });

  it('are variables and functions of the target', () => {
    const btf = target();
    const load = (id: number): string | undefined => answers(out(`r1 = btf_id[${id}]`), btf, 'rq', 'VAR');
    expect(load(btf.byName('rq', 'STRUCT')!)).toBe("pseudo btf_id 2 in ldimm64 isn't KIND_VAR or KIND_FUNC");
    expect(load(1000)).toBe('ldimm64 insn specifies invalid btf_id 1000.');
    expect(load(0)).toBe('ldimm64 insn specifies invalid btf_id 0.');
  });

  it.each(['jit', 'interpreter'] as const)('are read where they are (%s)', (engine) => {
    const machine = createMachine({ ncpu: 2 });
    const btf = target();
    const at = machine.alloc(8);
    new DataView(machine.memory.buffer).setInt32(at + 4, 77, true);
    const insns = (cpu: number) =>
      assemble(
        [
          `r1 = btf_id[${btf.byName('runqueues', 'VAR')}]`,
          `r2 = ${cpu}`,
          PER_CPU,
          'r1 = r0',
          'w0 = -1',
          'if r1 == 0 goto pc+1',
          'r0 = *(u32 *)(r1 +4)',
          'exit',
        ].join('\n'),
      );
    const run = (cpu: number): number =>
      machine
        .loadProgram({
          name: 'p',
          type: 'raw_tracepoint',
          engine,
          insns: insns(cpu),
          maps: [],
          loadedMaps: [],
          targetBtf: btf,
          ksyms: new Map([['runqueues', BigInt(at)]]),
        })
        .testRun({ ctxIn: new Uint8Array(16) }).retval;
    expect(run(0)).toBe(77);
    expect(run(1)).toBe(77);
    expect(run(2)).toBe(0xffff_ffff);
  });
});
