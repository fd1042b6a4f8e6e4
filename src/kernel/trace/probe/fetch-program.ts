/**
 * The eBPF program of a probe event in a system whose values do not outlive the hit: it takes what the event's fetch instructions
 * load into a ring record, and whoever reads the ring hands that to the event as a ProbeContext.
 *
 *     0   u32 number of the probe
 *     4   u32 cpu
 *     8   u64 nanoseconds (CLOCK_MONOTONIC)
 *     16  a slot for each value: a number's u64, or a string's s64 length with the NUL (or -errno) and its zero-filled bytes
 */
import { ProgramBuilder, R0, R1, R2, R3, R4, R6, R7 } from '../../../bpf/builder.ts';
import type { Insn } from '../../../bpf/isa.ts';
import * as isa from '../../../bpf/isa.ts';
import { JS_KFUNCS } from '../js-kfuncs.ts';
import { ARG_REGS, argumentRef, HANDLE_TAG_HI16, PT_REGS, type PtReg, registerRef } from '../pt-regs.ts';
import type { ProbeContext } from '../trace-arch.ts';
import type { FetchInsn } from './fetch-insn.ts';

/** Bytes of the head of a record. */
export const HIT_HEAD = 16;

export interface FetchProgramOptions {
  /** The number that its records carry. */
  readonly probe: number;
  readonly code: readonly (readonly FetchInsn[])[];
  /** Index of the ring buffer among the program's maps. */
  readonly ring: number;
  /** Bytes of a string, its NUL among them; a multiple of 8. */
  readonly maxString: number;
  /** The number of a property path; 0 is the empty one. */
  readonly path: (keys: readonly (string | number)[]) => number;
}

/** A value in the record. */
interface Slot {
  readonly offset: number;
  readonly isString: boolean;
}

export interface FetchProgram {
  readonly insns: readonly Insn[];
  /** What a record of it says; `record` begins with the head. */
  context(record: DataView, comm: string): ProbeContext;
}

/** Numbers of registers that hold JavaScript values, and so may be handles. */
const VALUE_REGS: ReadonlySet<string> = new Set([...ARG_REGS, 'ax', 'r10', 'r11']);

/** Generates the program. The result is for verifyProgram() as a kprobe program with the js_* kfuncs. */
export function fetchProgram(options: FetchProgramOptions): FetchProgram {
  const generator = new Generator(options);
  const insns = generator.generate();
  const { registers, properties, size } = generator;
  const decoder = new TextDecoder();
  return {
    insns,
    context(record, comm) {
      if (record.byteLength < size) throw new RangeError('the record is too short');
      const number = (slot: Slot | undefined): bigint =>
        slot === undefined ? 0n : record.getBigUint64(slot.offset, true);
      return {
        comm,
        register: (name) => number(registers.get(name)),
        // A process has no memory that programs could read by an address.
        read: () => undefined,
        readString: () => undefined,
        entryValue: (arg) => {
          const name = ARG_REGS[arg];
          return number(name === undefined ? properties.get(`${arg}`) : registers.get(name));
        },
        property(arg, path, insn) {
          const slot = properties.get(insn) ?? properties.get(propertyKey(arg, path));
          if (slot === undefined) return undefined;
          if (!slot.isString) return record.getBigUint64(slot.offset, true);
          const length = Number(record.getBigInt64(slot.offset, true));
          if (length <= 0) return undefined;
          return decoder.decode(
            new Uint8Array(record.buffer, record.byteOffset + slot.offset + 8, length - 1),
          );
        },
      };
    },
  };
}

function propertyKey(arg: number, path: readonly string[]): string {
  return [arg, ...path].join('.');
}

class Generator {
  readonly registers = new Map<string, Slot>();
  /** By the instruction that loads it (strings), or the argument's number and path (numbers). */
  readonly properties = new Map<FetchInsn | string, Slot>();
  size = HIT_HEAD;
  readonly #options: FetchProgramOptions;
  readonly #b = new ProgramBuilder();
  readonly #fill: (() => void)[] = [];

  constructor(options: FetchProgramOptions) {
    this.#options = options;
  }

  generate(): Insn[] {
    const b = this.#b;
    for (const code of this.#options.code) this.#plan(code);
    const full = b.newLabel('full');
    b.mov(R6, R1);
    b.ldMap(R1, this.#options.ring).mov(R2, this.size).mov(R3, 0).call(isa.BPF_FUNC_ringbuf_reserve);
    b.jcond('==', R0, 0, full).mov(R7, R0);
    b.call(isa.BPF_FUNC_ktime_get_ns).stx(8, R7, 8, R0);
    b.call(isa.BPF_FUNC_get_smp_processor_id).stx(4, R7, 4, R0).st(4, R7, 0, this.#options.probe);
    for (const fill of this.#fill) fill();
    b.mov(R1, R7).mov(R2, 0).call(isa.BPF_FUNC_ringbuf_submit);
    return b.label(full).mov(R0, 0).exit().build();
  }

  #plan(code: readonly FetchInsn[]): void {
    const load = code[code[0]?.op === 'symbol' ? 1 : 0];
    if (load === undefined) return;
    switch (load.op) {
      case 'reg':
        this.#register(load.name);
        break;
      case 'retval':
        this.#register('ax');
        break;
      case 'arg':
      case 'edata':
        this.#argument(load.param);
        break;
      case 'prop':
        if (code.some(({ op }) => op === 'st_string' || op === 'st_ustring')) this.#string(load);
        else if (load.path.length > 0 || load.param >= ARG_REGS.length) this.#property(load);
        else this.#number(propertyKey(load.param, []), () => this.#root(load.param, R1));
        break;
      default:
        // constants, comm, and memory that a process does not have
        break;
    }
  }

  #slot(bytes: number, isString: boolean): Slot {
    const slot = { offset: this.size, isString };
    this.size += bytes;
    return slot;
  }

  #register(name: string): void {
    if (this.registers.has(name) || !Object.hasOwn(PT_REGS, name)) return;
    const slot = this.#slot(8, false);
    this.registers.set(name, slot);
    this.#fill.push(() => {
      this.#b.ldx(8, R1, R6, PT_REGS[name as PtReg]);
      if (VALUE_REGS.has(name)) this.#identify();
      this.#b.stx(8, R7, slot.offset, R1);
    });
  }

  #argument(index: number): void {
    const name = ARG_REGS[index];
    if (name === undefined) this.#number(`${index}`, () => this.#root(index, R1));
    else this.#register(name);
  }

  #number(key: string, emit: () => void): void {
    if (this.properties.has(key)) return;
    const slot = this.#slot(8, false);
    this.properties.set(key, slot);
    this.#fill.push(() => {
      emit();
      this.#identify();
      this.#b.stx(8, R7, slot.offset, R1);
    });
  }

  #property({ param, path }: FetchInsn): void {
    const number = this.#options.path(path.map(keyOf));
    this.#number(propertyKey(param, path), () => {
      this.#root(param, R1);
      this.#b.mov(R2, number).kcall(JS_KFUNCS.js_path.id).mov(R1, R0);
    });
  }

  #string(load: FetchInsn): void {
    const { maxString } = this.#options;
    const slot = this.#slot(8 + maxString, true);
    this.properties.set(load, slot);
    const path = this.#options.path(load.path.map(keyOf));
    this.#fill.push(() => {
      const b = this.#b;
      // A bare value is read as it is, not as a register holds it.
      if (load.path.length > 0) this.#root(load.param, R3);
      else b.lddw(R3, load.param < 0 ? registerRef('ax') : argumentRef(load.param));
      b.mov(R1, R7)
        .add(R1, slot.offset + 8)
        .mov(R2, maxString)
        .mov(R4, path);
      b.kcall(JS_KFUNCS.js_str.id).stx(8, R7, slot.offset, R0);
    });
  }

  /** An argument's (or, -1, the return value's) register. */
  #root(param: number, into: typeof R1): void {
    const name = param < 0 ? 'ax' : ARG_REGS[param];
    if (name !== undefined) {
      this.#b.ldx(8, into, R6, PT_REGS[name]);
      return;
    }
    this.#b.mov(R1, param).kcall(JS_KFUNCS.js_arg.id).mov(into, R0);
  }

  /** A handle in R1 becomes the number that stands for the value's identity. */
  #identify(): void {
    const b = this.#b;
    const plain = b.newLabel('plain');
    b.mov(R2, R1).rsh(R2, 48).jcond('!=', R2, HANDLE_TAG_HI16, plain);
    b.kcall(JS_KFUNCS.js_id.id).mov(R1, R0).label(plain);
  }
}

/** Array indices are numbers in paths. */
function keyOf(name: string): string | number {
  return /^(0|[1-9][0-9]{0,9})$/.test(name) ? Number(name) : name;
}
