/** A program in a machine: verified, compiled for its maps, with an instance a CPU. */
import { BpfError } from '../errors.ts';
import type { Interpreter } from '../interpreter.ts';
import { programInterpreter } from '../interpreter-program.ts';
import { type JitModule, jitProgram } from '../jit/jit.ts';
import type { MemoryLayout, PercpuBlock } from '../layout.ts';
import { viewMemory } from '../maps/memory-view.ts';
import type { VerifiedProgram } from '../verifier/types.ts';
import { verifyProgram } from '../verifier/verifier.ts';
import type { SharedProgram } from './attach.ts';
import type { HelperFunctions } from './imports.ts';
import type { MachineState } from './machine.ts';
import { testRun } from './test-run.ts';
import type {
  LoadedMap,
  LoadedProgram,
  LoadInput,
  RunOptions,
  TestRunOptions,
  TestRunResult,
} from './types.ts';

interface ProgramFunctions {
  readonly helper: HelperFunctions;
  readonly kfunc: HelperFunctions;
}

export type Run64 = (ctx: bigint, second: bigint) => bigint;

/** Runs `action` and puts the frames of a CPU back as they were. */
export function savingFrames<T>(
  memory: WebAssembly.Memory,
  { stack, stackSize }: PercpuBlock,
  action: () => T,
): T {
  const saved = viewMemory(memory).u8.slice(stack, stack + stackSize);
  try {
    return action();
  } finally {
    viewMemory(memory).u8.set(saved, stack);
  }
}

export class Program implements LoadedProgram {
  readonly id: number;
  readonly name: string;
  readonly type: string;
  readonly verified: VerifiedProgram;
  readonly #maps: LoadedMap[];
  /** BPF_ENABLE_STATS */
  runTimeNs = 0n;
  runCnt = 0n;
  readonly engine: 'jit' | 'interpreter';
  readonly machine: MachineState;
  readonly #layout: MemoryLayout;
  readonly #imports: LoadInput['imports'];
  readonly #jit: JitModule | undefined;
  readonly #module: WebAssembly.Module | undefined;
  readonly #callsOn: boolean;
  readonly #instances = new Map<number, Run64>();

  constructor(machine: MachineState, input: LoadInput) {
    this.machine = machine;
    this.name = input.name;
    this.type = input.type;
    this.engine = input.engine ?? 'jit';
    this.#maps = [...input.loadedMaps];
    this.#imports = input.imports;
    this.verified = verifyProgram(input);
    this.#callsOn = this.verified.helpersUsed.includes('tail_call');
    this.id = machine.objects.newId('prog');
    this.#layout = machine.layoutOf(this.maps);
    if (this.engine === 'jit') {
      this.#jit = jitProgram(this.verified, this.#layout);
      this.#module = new WebAssembly.Module(this.#jit.wasm);
      this.instance(0);
    }
  }

  get maps(): readonly LoadedMap[] {
    return this.#maps;
  }

  /** BPF_PROG_BIND_MAP: the map lives as long as the program. */
  bindMap(map: LoadedMap): void {
    if (this.#maps.includes(map)) return;
    this.machine.objects.hold(map);
    this.#maps.push(map);
  }

  /** Bytes of context that the program needs at least (max_ctx_offset, but for the size of a syscall program's last access). */
  get contextSize(): number {
    const access = this.type === 'syscall' ? 1 : 8;
    let size = 0;
    for (const at of this.verified.ctxReads) size = Math.max(size, at + access);
    return size;
  }

  get wasm(): Uint8Array | undefined {
    return this.#jit?.wasm;
  }

  /** The program on a CPU, as a function of r1 and r2: for whoever runs it, not for tail calls. */
  entry(cpu: number): Run64 {
    const run = this.#callsOn ? this.#countTailCalls(cpu) : this.instance(cpu);
    if (this.machine.statsUsers === 0) return run;
    return (first, second) => {
      const start = performance.now();
      try {
        return run(first, second);
      } finally {
        this.runTimeNs += BigInt(Math.round((performance.now() - start) * 1e6));
        this.runCnt++;
      }
    };
  }

  #countTailCalls(cpu: number): Run64 {
    const run = this.instance(cpu);
    const { tailCalls } = this.machine;
    return (first, second) => {
      tailCalls[cpu] = 0;
      return run(first, second);
    };
  }

  /**
   * Runs `action`, which is a program that starts at the first frame, without touching frames of this program that are still in
   * use: those below a function that makes a tail call.
   */
  withFrames<T>(block: PercpuBlock, action: () => T): T {
    return this.hasFunctions ? savingFrames(this.machine.memory, block, action) : action();
  }

  private get hasFunctions(): boolean {
    return this.verified.subprogs.length > 1;
  }

  /** For another thread; undefined in the interpreter. */
  share(): SharedProgram | undefined {
    if (this.#jit === undefined) return undefined;
    const { id, name, hasFunctions } = this;
    return { id, name, wasm: this.#jit.wasm, imports: this.#jit.imports, hasFunctions };
  }

  instance(cpu: number): Run64 {
    const known = this.#instances.get(cpu);
    if (known !== undefined) return known;
    const functions = this.#functions(cpu);
    const run =
      this.#module === undefined
        ? this.#interpreter(cpu, functions)
        : this.#instance(cpu, functions.helper, functions.kfunc);
    this.#instances.set(cpu, run);
    return run;
  }

  /** What the program can call. */
  #functions(cpu: number): ProgramFunctions {
    if (!Number.isInteger(cpu) || cpu < 0 || cpu >= this.machine.ncpu) {
      throw new BpfError('EINVAL', `CPU ${cpu} is not one of ${this.machine.ncpu}`);
    }
    const helper: HelperFunctions = {
      ...this.machine.imports(cpu, this),
      ...(this.#imports?.helper as HelperFunctions),
    };
    return { helper, kfunc: (this.#imports?.kfunc ?? {}) as HelperFunctions };
  }

  #instance(cpu: number, helper: HelperFunctions, kfunc: HelperFunctions): Run64 {
    for (const { module, name } of this.#jit!.imports) {
      const missing = module === 'helper' ? !(name in helper) : module === 'kfunc' && !(name in kfunc);
      if (missing)
        throw new BpfError('EINVAL', `program ${this.name}: ${module} ${name} is not in this machine`);
    }
    const { exports } = new WebAssembly.Instance(this.#module!, {
      env: { memory: this.machine.memory, cpu: new WebAssembly.Global({ value: 'i32' }, cpu) },
      helper: helper as Record<string, WebAssembly.ImportValue>,
      kfunc: kfunc as Record<string, WebAssembly.ImportValue>,
    });
    return exports.run64 as Run64;
  }

  interpret(ctx: number, { cpu = 0 }: RunOptions = {}): Interpreter {
    const vm = this.#vm(cpu, this.#functions(cpu));
    vm.reset(BigInt(ctx));
    return vm;
  }

  #vm(cpu: number, functions: ProgramFunctions): Interpreter {
    return programInterpreter(this.verified, this.#layout, this.machine.memory, {
      cpu,
      imports: functions as unknown as NonNullable<LoadInput['imports']>,
      mapAt: (address) => this.machine.mapAt(address),
    });
  }

  #interpreter(cpu: number, functions: ProgramFunctions): Run64 {
    // A program may run itself by a tail call.
    const idle: Interpreter[] = [];
    return (ctx) => {
      const vm = idle.pop() ?? this.#vm(cpu, functions);
      try {
        vm.reset(ctx);
        return vm.run();
      } finally {
        idle.push(vm);
      }
    };
  }

  run(ctx: number, { cpu = 0 }: RunOptions = {}): bigint {
    return BigInt.asUintN(64, this.entry(cpu)(BigInt(ctx), 0n));
  }

  testRun(options: TestRunOptions = {}): TestRunResult {
    return testRun(this, options);
  }
}
