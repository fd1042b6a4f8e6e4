/** A program in a machine: verified, compiled for its maps, with an instance a CPU. */
import { BpfError } from '../errors.ts';
import { bindHelpers, bindKfuncs, REFUSED_HELPERS } from '../helpers/impl/index.ts';
import type { Interpreter } from '../interpreter/interpreter.ts';
import { programInterpreter } from '../interpreter/program.ts';
import { type JitModule, jitProgram } from '../jit/jit.ts';
import { repeatModule } from '../jit/repeat.ts';
import { type MemoryLayout, percpuBlock } from '../layout.ts';
import { viewMemory } from '../maps/memory-view.ts';
import type { VerifiedProgram } from '../verifier/types.ts';
import { verifyProgram } from '../verifier/verifier.ts';
import { adapted } from './adapters.ts';
import { type ContextHost, ProgramContext } from './helper-context.ts';
import type { HelperFunctions } from './imports.ts';
import type { Objects } from './objects.ts';
import { testRun } from './test-run.ts';
import type { TestMachine, TestProgram } from './test-run-common.ts';
import type {
  LoadedMap,
  LoadedProgram,
  LoadInput,
  RunOptions,
  SharedProgram,
  TestRunOptions,
  TestRunResult,
} from './types.ts';

interface ProgramFunctions {
  readonly helper: HelperFunctions;
  readonly kfunc: HelperFunctions;
}

const NO_FUNCTIONS: ProgramFunctions = { helper: {}, kfunc: {} };

export type Run64 = (ctx: bigint, second: bigint) => bigint;
type Run = (ctx: number) => number;
/** Runs a program `times` times (a u32, not 0) and gives the last result. */
export type Repeat = (ctx: number, times: number) => number;

/** `start` begins a run; `run` goes on with one, by a tail call. */
interface Instance {
  readonly start: Run;
  readonly run: Run;
}

/** Programs with higher ids are called through JavaScript: the table stays small. */
const MAX_TABLE = 1 << 16;

let repeatLoop: WebAssembly.Module | undefined;

/** What a program needs of the machine that it is in. */
export interface ProgramHost extends ContextHost, TestMachine {
  readonly objects: Objects;
  /** BPF_ENABLE_STATS: how many ask for run times and counts. */
  readonly statsUsers: number;
  layoutOf(maps: readonly LoadedMap[]): MemoryLayout;
  imports(cpu: number, program: Program): HelperFunctions;
  cpuGlobal(cpu: number): WebAssembly.Global;
  programTable(cpu: number): WebAssembly.Table;
}

export class Program implements LoadedProgram, TestProgram {
  readonly id: number;
  readonly name: string;
  readonly type: string;
  readonly verified: VerifiedProgram;
  readonly #maps: LoadedMap[];
  /** BPF_ENABLE_STATS */
  runTimeNs = 0n;
  runCnt = 0n;
  readonly engine: 'jit' | 'interpreter';
  readonly machine: ProgramHost;
  readonly #layout: MemoryLayout;
  readonly #imports: LoadInput['imports'];
  readonly #jit: JitModule | undefined;
  readonly #module: WebAssembly.Module | undefined;
  readonly #callsOn: boolean;
  readonly #input: LoadInput;
  readonly #instances = new Map<number, Instance>();
  readonly #instances64 = new Map<number, Run64>();
  #jit64: { readonly jit: JitModule; readonly module: WebAssembly.Module } | undefined;
  readonly #contexts = new Map<number, ProgramContext>();

  constructor(machine: ProgramHost, input: LoadInput) {
    this.machine = machine;
    this.name = input.name;
    this.type = input.type;
    this.engine = input.engine ?? 'jit';
    this.#maps = [...input.loadedMaps];
    this.#imports = input.imports;
    this.verified = verifyProgram(input);
    this.#input = input;
    this.#callsOn = this.verified.helpersUsed.includes('tail_call');
    this.id = machine.objects.newId('prog');
    this.#layout = machine.layoutOf(this.maps);
    const refused = this.verified.helpersUsed.find(
      (name) => REFUSED_HELPERS.has(name) && this.#imports?.helper?.[name] === undefined,
    );
    if (refused !== undefined) {
      throw new BpfError('EINVAL', `program ${this.name}: helper ${refused} is not in this machine`, {
        hint: `${REFUSED_HELPERS.get(refused)}: see docs/helpers.md`,
      });
    }
    if (this.engine === 'jit') {
      this.#jit = jitProgram(this.verified, this.#layout, {
        entries: ['run'],
        programs: true,
        outside: true,
      });
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

  /** The program on a CPU as a function of its context, which gives the low half of r0: for whoever runs it, not for tail calls. */
  entry(cpu: number): Run {
    return this.#counted(this.instance(cpu).start);
  }

  /** The same with the whole r0. */
  entry64(cpu: number): (ctx: number) => bigint {
    const run = this.instance64(cpu);
    return this.#counted((ctx) => {
      if (this.#callsOn) this.#resetTailCalls(cpu);
      return run(BigInt(ctx), 0n);
    });
  }

  #resetTailCalls(cpu: number): void {
    const { i32 } = viewMemory(this.machine.memory);
    i32[percpuBlock(this.#layout, cpu).tailCalls >>> 2] = 0;
  }

  /** BPF_ENABLE_STATS */
  #counted<T>(run: (ctx: number) => T): (ctx: number) => T {
    if (this.machine.statsUsers === 0) return run;
    return (ctx) => {
      const start = performance.now();
      try {
        return run(ctx);
      } finally {
        this.runTimeNs += BigInt(Math.round((performance.now() - start) * 1e6));
        this.runCnt++;
      }
    };
  }

  /** `run` of this program, from now on also in the CPU's table. */
  tailCall32(cpu: number): Run {
    const { run } = this.instance(cpu);
    if (this.#module !== undefined && this.id < MAX_TABLE) {
      const table = this.machine.programTable(cpu);
      if (this.id >= table.length) table.grow(Math.max(this.id + 1 - table.length, table.length));
      table.set(this.id, run);
    }
    return run;
  }

  get hasFunctions(): boolean {
    return this.verified.subprogs.length > 1;
  }

  /** For another thread; undefined in the interpreter. */
  share(): SharedProgram | undefined {
    if (this.#jit === undefined) return undefined;
    const { id, name, type, hasFunctions } = this;
    const { wasm, imports } = jitProgram(this.verified, this.#layout);
    return { id, name, type, wasm, imports, hasFunctions };
  }

  instance(cpu: number): Instance {
    let instance = this.#instances.get(cpu);
    if (instance !== undefined) return instance;
    this.#checkCpu(cpu);
    if (this.#jit === undefined) {
      const run64 = this.instance64(cpu);
      const run = (ctx: number): number => Number(BigInt.asIntN(32, run64(BigInt(ctx >>> 0), 0n)));
      const start = (ctx: number): number => {
        if (this.#callsOn) this.#resetTailCalls(cpu);
        return run(ctx);
      };
      instance = { start, run };
    } else {
      const isAlone = this.#jit.outside.length === 0;
      const { helper, kfunc } = isAlone ? NO_FUNCTIONS : this.#functions(cpu);
      const exports = this.#instantiate(cpu, this.#jit, this.#module!, {
        helper:
          this.#callsOn && this.#imports?.helper?.['tail_call'] === undefined
            ? { ...helper, tail_call: helper.tail_call32! }
            : helper,
        kfunc,
      });
      instance = { start: (exports.start ?? exports.run) as Run, run: exports.run as Run };
    }
    this.#instances.set(cpu, instance);
    return instance;
  }

  /** The program as a function of r1 and r2 with the whole r0, which nothing but a debugger asks for: a module of its own. */
  instance64(cpu: number): Run64 {
    let run = this.#instances64.get(cpu);
    if (run !== undefined) return run;
    const functions = this.#functions(cpu);
    if (this.#jit === undefined) run = this.#interpreter(cpu, functions);
    else {
      if (this.#jit64 === undefined) {
        const jit = jitProgram(this.verified, this.#layout, { entries: ['run64'], outside: true });
        this.#jit64 = { jit, module: new WebAssembly.Module(jit.wasm) };
      }
      const { jit, module } = this.#jit64;
      run = this.#instantiate(cpu, jit, module, functions).run64 as Run64;
    }
    this.#instances64.set(cpu, run);
    return run;
  }

  #checkCpu(cpu: number): void {
    if (!Number.isInteger(cpu) || cpu < 0 || cpu >= this.machine.ncpu) {
      throw new BpfError('EINVAL', `CPU ${cpu} is not one of ${this.machine.ncpu}`);
    }
  }

  /** What the program can call. */
  #functions(cpu: number, given?: ProgramContext): ProgramFunctions {
    this.#checkCpu(cpu);
    const context = given ?? this.#context(cpu);
    const { helpersUsed, kfuncsUsed } = this.verified;
    const helper: HelperFunctions = {
      ...this.machine.imports(cpu, this),
      ...bindHelpers(context, helpersUsed),
      ...(this.#imports?.helper as HelperFunctions),
    };
    const kfunc: HelperFunctions = {
      ...bindKfuncs(
        context,
        kfuncsUsed.map(({ name }) => name),
      ),
      ...(this.#imports?.kfunc as HelperFunctions),
    };
    return { helper, kfunc };
  }

  /** What helpers see of the program on a CPU. */
  #context(cpu: number): ProgramContext {
    let context = this.#contexts.get(cpu);
    if (context === undefined) {
      context = this.#newContext(cpu);
      this.#contexts.set(cpu, context);
    }
    return context;
  }

  #newContext(cpu: number): ProgramContext {
    const { btf, targetBtf, attachType, attachTo } = this.#input;
    const { id, name, type, machine } = this;
    return new ProgramContext(machine, cpu, { id, name, type, btf, targetBtf, attachType, attachTo });
  }

  #instantiate(
    cpu: number,
    { outside }: JitModule,
    module: WebAssembly.Module,
    functions: ProgramFunctions,
  ): Readonly<Record<string, unknown>> {
    const { exports } = new WebAssembly.Instance(module, {
      env: {
        memory: this.machine.memory,
        cpu: this.machine.cpuGlobal(cpu),
        ...(this.#callsOn ? { programs: this.machine.programTable(cpu) } : {}),
      },
    });
    for (const [index, func] of outside.entries()) {
      const { module: kind, name } = func;
      const from = functions[kind as keyof ProgramFunctions];
      if (!(name in from))
        throw new BpfError('EINVAL', `program ${this.name}: ${kind} ${name} is not in this machine`);
      (exports.outside as WebAssembly.Table).set(index, adapted(func, from[name]!));
    }
    const context = this.#contexts.get(cpu);
    if (context !== undefined) context.table = exports.table as WebAssembly.Table | undefined;
    return exports;
  }

  /**
   * The program in a loop of WebAssembly's, for test runs; undefined where something has to be done between the runs, and in the
   * interpreter.
   */
  repeater(cpu: number): Repeat | undefined {
    if (this.#jit === undefined || this.machine.statsUsers > 0) return undefined;
    const run = this.instance(cpu).start;
    repeatLoop ??= new WebAssembly.Module(repeatModule());
    return new WebAssembly.Instance(repeatLoop, { env: { run } }).exports.repeat as Repeat;
  }

  interpret(ctx: number, { cpu = 0 }: RunOptions = {}): Interpreter {
    // Stepped from outside, to whatever end: a context of its own, whose callbacks run in it.
    const context = this.#newContext(cpu);
    const vm = this.#vm(cpu, this.#functions(cpu, context));
    context.running.push(vm);
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
    const context = this.#context(cpu);
    const use = <T>(action: (vm: Interpreter) => T): T => {
      const vm = idle.pop() ?? this.#vm(cpu, functions);
      context.running.push(vm);
      try {
        return action(vm);
      } finally {
        context.running.pop();
        idle.push(vm);
      }
    };
    context.idle = use;
    return (ctx) =>
      use((vm) => {
        vm.reset(ctx);
        return vm.run();
      });
  }

  run(ctx: number, { cpu = 0 }: RunOptions = {}): bigint {
    return BigInt.asUintN(64, this.entry64(cpu)(ctx));
  }

  testRun(options: TestRunOptions = {}): TestRunResult {
    return testRun(this, options);
  }
}
