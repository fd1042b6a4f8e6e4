/** One program in the machine's JIT, its interpreter and, as root, in this machine's kernel: results, a map's bytes and packets next to each other. */
import { readFileSync } from 'node:fs';
import { expect } from 'vitest';
import {
  assemble,
  BPF_MAP_TYPE,
  type Btf,
  createMachine,
  decodeInsns,
  encodeInsns,
  isa,
  MACHINE_KFUNCS,
  MAP_FLAG,
  type MachineOptions,
  type MapSpec,
  parseBtf,
  type TestRunOptions,
} from '../../src/bpf/index.ts';
import { PROG_TYPES, type ProgType } from '../../src/bpf/prog-types/index.ts';
import { kernelBpf } from '../support/kernel-bpf.ts';

export const VALUE_SIZE = 1024;
const RDONLY_PROG = 1 << 7;

export interface Case {
  readonly type: ProgType;
  /** map[idx:0] is an array of one value of 1024 bytes, map[idx:1] one that is frozen. */
  readonly text: string;
  readonly value?: Uint8Array;
  readonly constant?: Uint8Array;
  readonly run?: TestRunOptions;
  /** map[idx:2], if the program has one. */
  readonly arena?: Pick<MapSpec, 'maxEntries' | 'mapExtra' | 'flags'>;
  /** The machine's kernel types. */
  readonly targetBtf?: Btf;
}

export interface Outcome {
  readonly retval: number;
  readonly value: Uint8Array;
  readonly dataOut: Uint8Array | undefined;
}

/** `call` of a kernel function by its name. */
export const kfunc = (name: string): string =>
  `call kernel-function#${MACHINE_KFUNCS.find((one) => one.name === name)!.id}`;

let types: Btf | undefined;
/** Those of this machine's kernel. */
export function kernelTypes(): Btf {
  types ??= parseBtf(readFileSync('/sys/kernel/btf/vmlinux'));
  return types;
}

const key = new Uint8Array(4);
const padded = (bytes: Uint8Array = new Uint8Array(0)): Uint8Array => {
  const value = new Uint8Array(VALUE_SIZE);
  value.set(bytes);
  return value;
};
const spec = (name: string, flags = 0) =>
  ({ name, type: 'array', keySize: 4, valueSize: VALUE_SIZE, maxEntries: 1, flags }) as const;

export const arenaSpec = (arena: NonNullable<Case['arena']>): MapSpec => ({
  name: 'arena',
  type: 'arena',
  keySize: 0,
  valueSize: 0,
  ...arena,
  flags: (arena.flags ?? 0) | MAP_FLAG.BPF_F_MMAPABLE,
});

export const machineInsns = (text: string) => assemble(text);

export function inMachine(one: Case, engine: 'jit' | 'interpreter', options: MachineOptions = {}): Outcome {
  const machine = createMachine(options);
  const maps = [machine.createMap(spec('value')), machine.createMap(spec('constant', RDONLY_PROG))];
  if (one.arena !== undefined) maps.push(machine.createMap(arenaSpec(one.arena)));
  maps[0]!.update(key, padded(one.value));
  maps[1]!.update(key, padded(one.constant));
  maps[1]!.freeze();
  const program = machine.loadProgram({
    name: 'test',
    type: one.type,
    insns: machineInsns(one.text),
    maps: maps.map((map) => map.spec),
    loadedMaps: maps,
    frozen: new Map([[1, padded(one.constant)]]),
    kfuncs: MACHINE_KFUNCS,
    allowUninitStack: true,
    engine,
    ...(one.targetBtf === undefined ? {} : { targetBtf: one.targetBtf }),
  });
  const { retval, dataOut } = program.testRun(one.run);
  return { retval, value: maps[0]!.lookup(key)!, dataOut };
}

/** Throws with the kernel's log where it refuses the program. */
export function inKernel(one: Case): Outcome {
  const map = (flags: number) =>
    kernelBpf.mapCreate({
      type: BPF_MAP_TYPE.array,
      keySize: 4,
      valueSize: VALUE_SIZE,
      maxEntries: 1,
      flags,
    });
  const fds = [map(0), map(RDONLY_PROG)];
  if (one.arena !== undefined)
    fds.push(kernelBpf.mapCreate({ ...arenaSpec(one.arena), type: BPF_MAP_TYPE.arena }));
  kernelBpf.mapUpdate(fds[0]!, key, padded(one.value));
  kernelBpf.mapUpdate(fds[1]!, key, padded(one.constant));
  kernelBpf.mapFreeze(fds[1]!);
  const insns = decodeInsns(encodeInsns(assemble(one.text)));
  for (const insn of insns) {
    if (insn.code === (isa.BPF_JMP | isa.BPF_CALL) && insn.src === isa.BPF_PSEUDO_KFUNC_CALL) {
      insn.imm = kernelTypes().byName(MACHINE_KFUNCS.find(({ id }) => id === insn.imm)!.name, 'FUNC')!;
    }
    if (!isa.isLdImm64(insn)) continue;
    if (insn.src === isa.BPF_PSEUDO_MAP_IDX) insn.src = isa.BPF_PSEUDO_MAP_FD;
    else if (insn.src === isa.BPF_PSEUDO_MAP_IDX_VALUE) insn.src = isa.BPF_PSEUDO_MAP_VALUE;
    else continue;
    insn.imm = fds[insn.imm]!;
  }
  const flags = one.type === 'syscall' ? 1 << 4 : 0;
  const { fd, log } = kernelBpf.progLoad({ type: PROG_TYPES.indexOf(one.type), insns, flags, logLevel: 1 });
  if (fd < 0) throw new Error(`${fd}: ${log.slice(-600)}\n${one.text}`);
  const result = kernelBpf.progTestRun(fd, {
    ...one.run,
    dataOutSize: one.run?.dataIn === undefined ? 0 : 4096,
  });
  const value = kernelBpf.mapLookup(fds[0]!, key, VALUE_SIZE) as Uint8Array;
  for (const one of [fd, ...fds]) kernelBpf.close(one);
  if (result.error !== 0) throw new Error(`test run: ${result.error}`);
  return {
    retval: result.retval,
    value,
    dataOut: one.run?.dataIn === undefined ? undefined : result.dataOut,
  };
}

export const latin1 = (text: string): Uint8Array => Uint8Array.from(text, (one) => one.charCodeAt(0));

/** Calls with constants: `store(n)` puts r0 at byte 8n of the value. */
export const store = (n: number): string => `r9 = map[idx:0][0]+${n * 8}\n *(u64 *)(r9 +0) = r0\n`;

/** JIT and interpreter agree; with the kernel, where it is there. */
export function compare(one: Case, same: (outcome: Outcome) => unknown = (outcome) => outcome): Outcome {
  const ours = inMachine(one, 'jit');
  expect(same(inMachine(one, 'interpreter'))).toEqual(same(ours));
  if (kernelBpf.reason === undefined) expect(same(ours)).toEqual(same(inKernel(one)));
  return ours;
}

export const result = (outcome: Outcome, n: number): bigint =>
  new DataView(outcome.value.buffer, outcome.value.byteOffset).getBigInt64(n * 8, true);
