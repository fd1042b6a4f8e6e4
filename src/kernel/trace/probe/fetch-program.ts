/**
 * The eBPF program of a probe event in a system whose values do not outlive the hit: it takes what the event's fetch instructions
 * load into a ring record, and whoever reads the ring hands that to the event as a ProbeContext.
 *
 *     0   u32 number of the probe
 *     4   u32 cpu
 *     8   u64 nanoseconds (CLOCK_MONOTONIC)
 *     16  a slot for each value: a number's u64, or a string's s64 length with the NUL (or -errno) and its zero-filled bytes
 */
import { ProgramBuilder, R0, R1, R2, R3, R4, R6, R7, R10, type Reg } from '../../../bpf/builder.ts';
import type { Insn } from '../../../bpf/isa.ts';
import * as isa from '../../../bpf/isa.ts';
import { JS_KFUNCS } from '../js-kfuncs.ts';
import { ARG_REGS, argumentRef, HANDLE_TAG_HI16, PT_REGS, type PtReg, registerRef } from '../pt-regs.ts';
import type { ProbeContext } from '../trace-arch.ts';
import type { FetchInsn } from './fetch-insn.ts';
import { HitStage, type HitStageOptions, type LoadedValue, type StagedHist } from './hit-stage.ts';

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
  /** Frames of the stack that the record names, as a number that js_stackid() gave; none by default. */
  readonly stack?: number;
  /** What is done with a hit in front of its record. */
  readonly stage?: HitStageOptions;
}

/** A value in the record. */
interface Slot {
  readonly offset: number;
  readonly isString: boolean;
}

export interface FetchProgram {
  readonly insns: readonly Insn[];
  /** Hists of the stage that the program counts. */
  readonly counted: ReadonlySet<StagedHist>;
  /** The number of the hit's stack in a record; 0 where there is none. */
  stack(record: DataView): number;
  /** What a record of it says; `record` begins with the head. */
  context(record: DataView, comm: string): ProbeContext;
}

/** Numbers of registers that hold JavaScript values, and so may be handles. */
const VALUE_REGS: ReadonlySet<string> = new Set([...ARG_REGS, 'ax', 'r10', 'r11']);

/** Generates the program. The result is for verifyProgram() as a kprobe program with the js_* kfuncs. */
export function fetchProgram(options: FetchProgramOptions): FetchProgram {
  const generator = new Generator(options);
  const insns = generator.generate();
  const { registers, properties, size, counted, stack } = generator;
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  return {
    insns,
    counted,
    stack: (record) => (stack === undefined ? 0 : Math.max(0, record.getInt32(stack.offset, true))),
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

/** How a value is loaded, into R1 or, of a string, to memory; by what names it, so that it is loaded once. */
interface Loader extends LoadedValue {
  readonly slot: Slot;
}

class Generator {
  readonly registers = new Map<string, Slot>();
  /** By the instruction that loads it (strings), or the argument's number and path (numbers). */
  readonly properties = new Map<FetchInsn | string, Slot>();
  size = HIT_HEAD;
  stack: Slot | undefined;
  counted: ReadonlySet<StagedHist> = new Set();
  readonly #options: FetchProgramOptions;
  readonly #b = new ProgramBuilder();
  readonly #loaders: Loader[] = [];
  /** The value of each argument whose fields a stage may use. */
  readonly #values: (LoadedValue | undefined)[];

  constructor(options: FetchProgramOptions) {
    this.#options = options;
    this.#values = options.code.map((code) => this.#plan(code));
    if (options.stack !== undefined) this.stack = this.#slot(8, false);
  }

  generate(): Insn[] {
    const b = this.#b;
    const { stage: options, maxString } = this.#options;
    const full = b.newLabel('full');
    b.mov(R6, R1);
    const stage =
      options === undefined
        ? undefined
        : new HitStage(b, options, { maxString, argument: (n) => this.#values[n] });
    const sends = stage?.emit() ?? true;
    this.counted = stage?.counted ?? this.counted;
    if (!sends) return b.build();
    b.ldMap(R1, this.#options.ring).mov(R2, this.size).mov(R3, 0).call(isa.BPF_FUNC_ringbuf_reserve);
    b.jcond('==', R0, 0, full).mov(R7, R0);
    b.call(isa.BPF_FUNC_ktime_get_ns).stx(8, R7, 8, R0);
    b.call(isa.BPF_FUNC_get_smp_processor_id).stx(4, R7, 4, R0).st(4, R7, 0, this.#options.probe);
    for (const loader of this.#loaders) {
      const { slot } = loader;
      const at = stage?.stackOf(loader);
      if (at !== undefined) {
        const bytes = slot.isString ? 8 + maxString : 8;
        for (let i = 0; i < bytes; i += 8) b.ldx(8, R1, R10, at + i).stx(8, R7, slot.offset + i, R1);
      } else if (slot.isString) loader.emit(R7, slot.offset);
      else {
        loader.emit();
        b.stx(8, R7, slot.offset, R1);
      }
    }
    const { stack: frames = 0 } = this.#options;
    if (this.stack !== undefined)
      b.mov(R1, frames).kcall(JS_KFUNCS.js_stackid.id).stx(8, R7, this.stack.offset, R0);
    b.mov(R1, R7).mov(R2, 0).call(isa.BPF_FUNC_ringbuf_submit);
    return b.label(full).mov(R0, 0).exit().build();
  }

  /** Sees to it that the record holds what an argument loads. The value, where it is stored as it is. */
  #plan(code: readonly FetchInsn[]): LoadedValue | undefined {
    const start = code[0]?.op === 'symbol' ? 1 : 0;
    const [load, store, end] = code.slice(start);
    if (load === undefined) return undefined;
    const value = this.#load(load, code);
    if (end?.op !== 'end') return undefined;
    if (value?.isString === true) return value;
    return store?.op === 'st_raw' ? value : undefined;
  }

  #load(load: FetchInsn, code: readonly FetchInsn[]): LoadedValue | undefined {
    switch (load.op) {
      case 'reg':
        return this.#register(load.name);
      case 'retval':
        return this.#register('ax');
      case 'arg':
      case 'edata': {
        const value = this.#argument(load.param);
        // Whoever reads the record has no stack to look for it.
        return load.op === 'arg' && load.param >= ARG_REGS.length ? undefined : value;
      }
      case 'prop':
        if (code.some(({ op }) => op === 'st_string' || op === 'st_ustring')) return this.#string(load);
        if (load.path.length > 0 || load.param >= ARG_REGS.length) return this.#property(load);
        return this.#number(propertyKey(load.param, []), () => this.#root(load.param, R1));
      default:
        // constants, comm, and memory that a process does not have
        return undefined;
    }
  }

  #slot(bytes: number, isString: boolean): Slot {
    const slot = { offset: this.size, isString };
    this.size += bytes;
    return slot;
  }

  /** A value that has a slot, known already or with the given loader. */
  #loader(slot: Slot, emit: LoadedValue['emit'], isCheap = false): Loader {
    let loader = this.#loaders.find((one) => one.slot === slot);
    if (loader === undefined) {
      loader = { slot, isString: slot.isString, isCheap, emit };
      this.#loaders.push(loader);
    }
    return loader;
  }

  #register(name: string): Loader | undefined {
    if (!Object.hasOwn(PT_REGS, name)) return undefined;
    let slot = this.registers.get(name);
    if (slot === undefined) {
      slot = this.#slot(8, false);
      this.registers.set(name, slot);
    }
    const load = (): void => {
      this.#b.ldx(8, R1, R6, PT_REGS[name as PtReg]);
      if (VALUE_REGS.has(name)) this.#identify();
    };
    return this.#loader(slot, load, true);
  }

  #argument(index: number): Loader | undefined {
    const name = ARG_REGS[index];
    if (name === undefined) return this.#number(`${index}`, () => this.#root(index, R1));
    return this.#register(name);
  }

  #number(key: string, emit: () => void): Loader {
    let slot = this.properties.get(key);
    if (slot === undefined) {
      slot = this.#slot(8, false);
      this.properties.set(key, slot);
    }
    return this.#loader(slot, () => {
      emit();
      this.#identify();
    });
  }

  #property({ param, path }: FetchInsn): Loader {
    const number = this.#options.path(path.map(keyOf));
    return this.#number(propertyKey(param, path), () => {
      this.#root(param, R1);
      this.#b.mov(R2, number).kcall(JS_KFUNCS.js_path.id).mov(R1, R0);
    });
  }

  #string(load: FetchInsn): Loader {
    const { maxString } = this.#options;
    const slot = this.#slot(8 + maxString, true);
    this.properties.set(load, slot);
    const path = this.#options.path(load.path.map(keyOf));
    return this.#loader(slot, (base, offset) => {
      const b = this.#b;
      // A bare value is read as it is, not as a register holds it.
      if (load.path.length > 0) this.#root(load.param, R3);
      else b.lddw(R3, load.param < 0 ? registerRef('ax') : argumentRef(load.param));
      b.mov(R1, base as Reg)
        .add(R1, (offset as number) + 8)
        .mov(R2, maxString)
        .mov(R4, path);
      b.kcall(JS_KFUNCS.js_str.id).stx(8, base as Reg, offset as number, R0);
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
