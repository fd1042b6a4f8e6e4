/** A BPF object under test: loaded once, put back between tests. */

import { aFunction, anObject, bytesOf, checkArgument, either, optional } from '../arguments.ts';
import { BpfError } from '../errors.ts';
import { TypedMap, TypedPercpuMap } from '../gen/index.ts';
import { percpuBlock } from '../layout.ts';
import {
  createMachine,
  type LoadedMap,
  type LoadedProgram,
  type Machine,
  MemoryImage,
} from '../machine/index.ts';
import { RingBufferConsumer } from '../maps/ringbuf.ts';
import {
  type BpfObject,
  type BtfValue,
  decodeValue,
  type Globals,
  type LoadedObject,
  type LoadObjectOptions,
  openObject,
} from '../object/index.ts';

/** What programs are told of the task that they run for. */
export interface Task {
  readonly pid?: number;
  /** Default: `pid`. */
  readonly tgid?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** At most 15 characters. */
  readonly comm?: string;
}

export interface FixtureOptions extends Omit<LoadObjectOptions, 'machine'> {
  /** Names the object in messages. */
  readonly name?: string;
  /** Global variables before the load: constants, too. */
  readonly globals?: Readonly<Record<string, BtfValue>>;
  /** Threads that run programs. Default 1. */
  readonly ncpu?: number;
  /** What bpf_get_prandom_u32() gives. Default: 0, 1, 2, … */
  readonly random?: () => number;
}

/** One run of a program. */
export interface ProgramRun {
  readonly program: string;
  /** r0 as a u32. */
  readonly retval: number;
  /** The packet as the program left it. */
  readonly packet: Uint8Array | undefined;
  readonly ctx: Uint8Array | undefined;
  /** Nanoseconds. */
  readonly duration: number;
}

/** What a run gets: a packet, or a context, or both. */
export interface ProgramInputs {
  readonly packet?: Uint8Array;
  readonly ctx?: Uint8Array;
  readonly cpu?: number;
}

/** Program types without a test run get a context of their own making; none is larger. */
const CONTEXT_ROOM = 8192;
const TASK_COMM_LEN = 16;
const HAS_TEST_RUN =
  /^(xdp|socket_filter|sched_cls|sched_act|cgroup_skb|lwt_.*|raw_tracepoint|raw_tracepoint_writable|syscall)$/;

export type TestMap = TypedMap<BtfValue, BtfValue>;
export type TestPercpuMap = TypedPercpuMap<BtfValue, BtfValue>;

export class BpfFixture {
  readonly #source: () => Uint8Array;
  readonly #options: FixtureOptions;
  #object: BpfObject | undefined;
  #loaded: LoadedObject | undefined;
  #image: MemoryImage | undefined;
  #now = 0n;
  #randoms = 0;
  #task: Task = {};

  /** Nothing is read or loaded before it is needed. */
  constructor(source: Uint8Array | (() => Uint8Array), options: FixtureOptions = {}) {
    checkArgument(
      'new BpfFixture()',
      'source',
      source,
      either(bytesOf('the bytes of an object file, or a function that gives them'), aFunction),
    );
    checkArgument('new BpfFixture()', 'options', options, optional(anObject));
    this.#source = typeof source === 'function' ? source : () => source;
    this.#options = options;
  }

  /** The opened object; a new load() of it does not touch this fixture. */
  get object(): BpfObject {
    if (this.#object === undefined) {
      this.#object = openObject(this.#source(), this.#options.name);
      for (const [name, value] of Object.entries(this.#options.globals ?? {})) {
        this.#object.globals.set(name, value);
      }
    }
    return this.#object;
  }

  /** Loads on first use. Throws what `object.load()` throws. */
  get loaded(): LoadedObject {
    if (this.#loaded === undefined) {
      const { name: _name, globals: _globals, ncpu, random, imports, ...options } = this.#options;
      const machine = createMachine({
        ...(ncpu === undefined ? {} : { ncpu }),
        clock: () => Number(this.#now),
        random: random ?? (() => this.#randoms++),
      });
      this.#loaded = this.object.load({
        ...options,
        machine,
        imports: { ...imports, helper: { ...this.#taskHelpers(machine), ...imports?.helper } },
      });
      this.#image = new MemoryImage(machine);
    }
    return this.#loaded;
  }

  get machine(): Machine {
    return this.loaded.machine;
  }

  /** Global variables as they are now. */
  get globals(): Globals {
    return this.loaded.globals;
  }

  /** What bpf_ktime_get_ns() gives, in nanoseconds: it moves only here. */
  get now(): bigint {
    return this.#now;
  }

  set now(nanoseconds: bigint) {
    this.#now = nanoseconds;
  }

  /** The task that programs run for from now on. */
  set task(task: Task) {
    this.#task = task;
  }

  /** Maps and variables as they were after the load; clock, random numbers and task as at the start. For `beforeEach`. */
  reset(): void {
    this.#now = 0n;
    this.#randoms = 0;
    this.#task = {};
    this.#image?.restore();
  }

  /** Throws BpfError OBJ_NO_SUCH_NAME that lists the names there are. */
  program(name: string): LoadedProgram {
    return named(this.loaded.programs, 'program', name);
  }

  /**
   * Runs a program once: a test run, or the context as it is for the program types that the kernel has no test run of (kprobe,
   * tracepoint, perf_event, tracing …): 8 KiB, `ctx` at the start, zeros behind.
   */
  run(name: string, inputs: ProgramInputs | Uint8Array = {}): ProgramRun {
    const program = this.program(name);
    const { packet, ctx, cpu } = inputs instanceof Uint8Array ? { packet: inputs } : inputs;
    if (!HAS_TEST_RUN.test(program.type)) {
      if (packet !== undefined) {
        throw new BpfError('EINVAL', `program ${name}: programs of type ${program.type} take no packet`);
      }
      return this.#runContext(program, ctx ?? new Uint8Array(0), cpu);
    }
    const { retval, duration, dataOut, ctxOut } = program.testRun({
      ...(packet === undefined ? {} : { dataIn: packet }),
      ...(ctx === undefined ? {} : { ctxIn: ctx }),
      ...(cpu === undefined ? {} : { cpu }),
    });
    return { program: name, retval, packet: dataOut, ctx: ctxOut, duration };
  }

  /** A map with keys and values by their types. */
  map(name: string): TestMap {
    return new TypedMap(...this.#typedMap(name));
  }

  percpuMap(name: string): TestPercpuMap {
    return new TypedPercpuMap(...this.#typedMap(name));
  }

  /** Takes the finished records out of a ring buffer: values of the C type `type`, or bytes without it. */
  records(ring: string, type?: string): BtfValue[] {
    const map = this.bytesMap(ring);
    if (map.spec.type !== 'ringbuf') throw new BpfError('EINVAL', `map ${ring} is no ring buffer`);
    const { btf } = this.loaded.spec;
    const id = type === undefined ? undefined : (btf?.byName(type, 'STRUCT') ?? btf?.byName(type));
    if (type !== undefined && (btf === undefined || id === undefined)) {
      throw new BpfError('OBJ_NO_SUCH_NAME', `the object has no type ${type}`);
    }
    const records: BtfValue[] = [];
    new RingBufferConsumer(this.machine.memory, map.placed).drain((view, offset, length) => {
      // A copy: the bytes are the ring's again afterwards.
      const bytes = new Uint8Array(length);
      bytes.set(new Uint8Array(view.buffer, view.byteOffset + offset, length));
      records.push(id === undefined ? bytes : decodeValue(btf!, id, bytes));
    });
    return records;
  }

  /** The map of bytes underneath. */
  bytesMap(name: string): LoadedMap {
    return named(this.loaded.maps, 'map', name);
  }

  /** Gives maps and programs up. The next use loads again. */
  close(): void {
    this.#loaded?.close();
    this.#loaded = undefined;
    this.#image = undefined;
  }

  #typedMap(name: string): ConstructorParameters<typeof TypedMap<BtfValue, BtfValue>> {
    const map = this.bytesMap(name);
    const { keyTypeId = 0, valueTypeId = 0 } = this.loaded.spec.maps.get(name)!;
    return [map, this.loaded.spec.btf, keyTypeId, valueTypeId];
  }

  #runContext(program: LoadedProgram, input: Uint8Array, cpu = 0): ProgramRun {
    const { machine } = this;
    if (input.length > CONTEXT_ROOM) {
      throw new BpfError('E2BIG', `a context of ${input.length} bytes is above ${CONTEXT_ROOM}`);
    }
    const address = machine.alloc(CONTEXT_ROOM);
    try {
      const bytes = () => new Uint8Array(machine.memory.buffer, address, CONTEXT_ROOM);
      bytes().fill(0).set(input);
      const start = performance.now();
      const result = program.run(address, { cpu });
      const duration = Math.round((performance.now() - start) * 1e6);
      const ctx = bytes().slice(0, input.length);
      return {
        program: program.name,
        retval: Number(BigInt.asUintN(32, result)),
        packet: undefined,
        ctx,
        duration,
      };
    } finally {
      machine.free(address, CONTEXT_ROOM);
    }
  }

  #taskHelpers(machine: Machine): Record<string, (...args: never[]) => unknown> {
    const pair = (high: number, low: number): bigint => (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
    return {
      get_current_pid_tgid: () => {
        const { pid = 0, tgid = pid } = this.#task;
        return BigInt.asIntN(64, pair(tgid, pid));
      },
      get_current_uid_gid: () => BigInt.asIntN(64, pair(this.#task.gid ?? 0, this.#task.uid ?? 0)),
      get_current_comm: (buffer: number, size: number | bigint) => {
        const room = Math.min(Number(size), TASK_COMM_LEN);
        const name = new TextEncoder().encode(this.#task.comm ?? '').subarray(0, Math.max(0, room - 1));
        const memory = new Uint8Array(machine.memory.buffer);
        memory.fill(0, buffer >>> 0, (buffer >>> 0) + Number(size));
        memory.set(name, buffer >>> 0);
        return 0n;
      },
    };
  }

  /** The scratch block of a CPU, for contexts with pointers: an address and its bytes. Kept until the next run. */
  scratch(bytes: Uint8Array, cpu = 0): number {
    const { scratch, scratchSize } = percpuBlock(this.machine.layout, cpu);
    if (bytes.length > scratchSize)
      throw new BpfError('E2BIG', `${bytes.length} bytes are above ${scratchSize}`);
    new Uint8Array(this.machine.memory.buffer).set(bytes, scratch);
    return scratch;
  }
}

function named<T>(all: ReadonlyMap<string, T>, kind: string, name: string): T {
  const found = all.get(name);
  if (found !== undefined) return found;
  throw new BpfError('OBJ_NO_SUCH_NAME', `the object has no ${kind} ${name}`, {
    hint: `there are: ${[...all.keys()].join(', ') || 'none'}`,
  });
}

/**
 * An object to test, from its bytes or a function that reads them. Make one a test file; it is loaded at its first use.
 *
 *     const firewall = bpfFixture(readFileSync(new URL('firewall.bpf.o', import.meta.url)))
 *     beforeEach(() => firewall.reset())
 */
export function bpfFixture(
  source: Uint8Array | (() => Uint8Array),
  options: FixtureOptions = {},
): BpfFixture {
  return new BpfFixture(source, options);
}
