/**
 * Compiles a script and runs it in this process: the real verifier, JIT, maps and ring, and the real decoding of what comes
 * out. Only where programs reach for JavaScript values a small stand-in answers, since values are the agent's part.
 */

import {
  createMemory,
  initMemory,
  jitProgram,
  layoutMemory,
  type MemoryLayout,
  openMap,
  percpuBlock,
  RingBufferConsumer,
  verifyProgram,
} from '../../src/bpf/index.ts';
import { ANY_EVENTS, matchPoint } from '../../src/cli/events.ts';
import { JS_KFUNC_DECLS, JS_VALUE } from '../../src/kernel/trace/js-kfuncs.ts';
import { ARG_REGS, HANDLE_TAG, PT_REGS, PT_REGS_SIZE, referenceOf } from '../../src/kernel/trace/pt-regs.ts';
import { type CompiledScript, compileScript, type ScriptConfig } from '../../src/lang/index.ts';
import { type DecodeContext, printedMap, RecordDecoder } from '../../src/output/index.ts';
import { show } from './show.ts';

export interface Hit {
  readonly args?: readonly unknown[];
  readonly self?: unknown;
  readonly retval?: unknown;
  readonly error?: unknown;
  readonly ip?: bigint;
  readonly cookie?: number;
  readonly cpu?: number;
}

export interface RunOptions {
  readonly params?: readonly string[];
  readonly config?: Partial<ScriptConfig>;
  /** Parameter names by target. */
  readonly targets?: Record<string, readonly string[]>;
}

const NCPU = 2;
/** Handles of this stand-in are all of one generation, which is not that of register references. */
const GENERATION = 1024n;
const encoder = new TextEncoder();

export const context: DecodeContext = {
  funcName: (address) => `func_${address}`,
  probeName: (program, cookie) => `probe_${program}_${cookie}`,
  stack: (id) => [`frame ${id}`],
  realtimeNs: (ns) => ns,
  strftimeFormat: () => '',
};

/** A script that is loaded and can be hit. */
export class Engine {
  readonly script: CompiledScript;
  readonly layout: MemoryLayout;
  readonly memory: WebAssembly.Memory;
  now = 1000;
  asyncId = 1;
  /** `[path, value]` of every kfunc call that reads a value, in order. */
  readonly reads: [string, string][] = [];
  readonly #view: DataView;
  readonly #run: ((ctx: number) => number)[][];
  readonly #consumer: RingBufferConsumer;
  readonly #decoder: RecordDecoder;
  #handles: unknown[] = [];
  #hit: Hit = {};
  #cpu = 0;
  #strftime: (action: number) => string;

  constructor(source: string, options: RunOptions = {}) {
    this.script = compileScript(source, {
      file: 'test.bt',
      resolver: {
        resolve: ({ type, target }) =>
          type === 'tracepoint' || type === 'rawtracepoint'
            ? matchPoint(type, target, ANY_EVENTS)
            : Object.entries(options.targets ?? { [target]: ['req', 'res'] }).map(([name, params]) => ({
                name,
                params,
              })),
      },
      params: options.params ?? [],
      config: options.config ?? {},
    });
    const specs = this.script.maps.map(({ spec }) => spec);
    this.layout = layoutMemory(specs, { ncpu: NCPU });
    this.memory = createMemory(this.layout);
    initMemory(this.memory, this.layout);
    this.#view = new DataView(this.memory.buffer);
    this.#consumer = new RingBufferConsumer(this.memory, this.layout.maps[this.script.ring]!);
    this.#strftime = (action) => {
      const found = this.script.actions[action];
      return found?.kind === 'strftime' ? found.format : '';
    };
    this.#decoder = new RecordDecoder(this.script, this.#context());
    this.#run = this.script.programs.map((program, index) => this.#load(program.insns, index));
  }

  #context(): DecodeContext {
    return { ...context, strftimeFormat: this.#strftime };
  }

  #load(insns: CompiledScript['programs'][number]['insns'], index: number): ((ctx: number) => number)[] {
    const verified = verifyProgram({
      name: `p${index}`,
      type: 'kprobe',
      insns,
      maps: this.script.maps.map(({ spec }) => spec),
      ctx: {
        size: PT_REGS_SIZE,
        access: (off, size, write) => (size === 8 && off % 8 === 0 && !write ? 'scalar' : undefined),
      },
      kfuncs: JS_KFUNC_DECLS,
    });
    const jit = jitProgram(verified, this.layout);
    const module = new WebAssembly.Module(jit.wasm as Uint8Array<ArrayBuffer>);
    return Array.from({ length: NCPU }, (_, cpu) => {
      const instance = new WebAssembly.Instance(module, {
        env: { memory: this.memory, cpu: new WebAssembly.Global({ value: 'i32' }, cpu) },
        helper: this.#helpers(),
        kfunc: this.#kfuncs(),
      });
      return instance.exports['run'] as (ctx: number) => number;
    });
  }

  #helpers(): Record<string, WebAssembly.ImportValue> {
    return {
      ktime_get_ns: () => this.now,
      ktime_get_boot_ns: () => this.now,
      get_prandom_u32: () => 0x8000_0001 | 0,
      get_current_pid_tgid: () => (4711n << 32n) | 4712n,
      get_current_uid_gid: () => (100n << 32n) | 1000n,
      get_current_comm: (at: number, size: number) => {
        this.#bytes(at, size, encoder.encode('node'));
        return 0n;
      },
    };
  }

  #bytes(at: number, size: number, bytes: Uint8Array): void {
    const target = new Uint8Array(this.memory.buffer, at, size);
    target.fill(0);
    target.set(bytes.subarray(0, size));
  }

  // The stand-in for the agent's values: handles are indexes of a list.

  #register(value: unknown): bigint {
    if (typeof value === 'number') return BigInt.asUintN(64, BigInt(Math.trunc(value)));
    if (typeof value === 'bigint') return BigInt.asUintN(64, value);
    if (typeof value === 'boolean') return value ? 1n : 0n;
    if (value === undefined || value === null) return 0n;
    return HANDLE_TAG | GENERATION | BigInt(this.#handles.push(value));
  }

  /** What a register reference stands for: the value itself. */
  #reference(slot: number): unknown {
    const what = referenceOf(slot);
    if (typeof what === 'number') return this.#hit.args?.[what];
    return what === 'r10' ? this.#hit.self : what === 'ax' ? this.#hit.retval : this.#hit.error;
  }

  #value(low: number, high: number, path: number): unknown {
    const register = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
    let value: unknown =
      register >> 48n === 0x7e57n
        ? (register & 0xffff_ffff_fc00n) === 0n
          ? this.#reference(Number(register & 1023n))
          : this.#handles[Number(register & 1023n) - 1]
        : Number(BigInt.asIntN(64, register));
    const { keys } = this.script.paths[path]!;
    for (const key of keys) {
      value =
        value === undefined || value === null ? undefined : (value as Record<string | number, unknown>)[key];
    }
    this.reads.push([keys.join('.'), String(value)]);
    return value;
  }

  #slot(value: bigint): void {
    this.#view.setBigUint64(percpuBlock(this.layout, this.#cpu).resultSlot, value, true);
  }

  #kfuncs(): Record<string, WebAssembly.ImportValue> {
    const { tags } = JS_VALUE;
    return {
      js_path: (low: number, high: number, path: number) =>
        this.#slot(this.#register(this.#value(low, high, path))),
      js_str: (at: number, size: number, low: number, high: number, path: number) => {
        const value = this.#value(low, high, path);
        const text = encoder.encode(
          ['string', 'number', 'boolean'].includes(typeof value) ? String(value) : '',
        );
        const used = text.subarray(0, size - 1);
        this.#bytes(at, size, used);
        return used.length + 1;
      },
      js_value: (at: number, size: number, low: number, high: number, path: number) => {
        const value = this.#value(low, high, path);
        const data = new Uint8Array(8);
        const view = new DataView(data.buffer);
        let tag: number = tags.undefined;
        let bytes: Uint8Array = data;
        if (value === null) tag = tags.null;
        else if (typeof value === 'boolean') {
          tag = tags.boolean;
          view.setBigUint64(0, value ? 1n : 0n, true);
        } else if (Number.isSafeInteger(value)) {
          tag = tags.int;
          view.setBigInt64(0, BigInt(value as number), true);
        } else if (typeof value === 'number') {
          tag = tags.double;
          view.setFloat64(0, value, true);
        } else if (value !== undefined) {
          tag = typeof value === 'string' ? tags.string : tags.object;
          bytes = encoder.encode(typeof value === 'string' ? value : JSON.stringify(value));
        }
        this.#bytes(at + 8, size - 8, bytes);
        this.#view.setUint32(at, tag, true);
        this.#view.setUint32(at + 4, tag <= tags.null ? 0 : bytes.length, true);
        return 0;
      },
      js_buf: (at: number, size: number, low: number, high: number, path: number) => {
        const value = this.#value(low, high, path);
        const bytes = value instanceof Uint8Array ? value : new Uint8Array(0);
        this.#bytes(at, size, bytes);
        return value instanceof Uint8Array ? Math.min(size, bytes.length) : -22;
      },
      js_len: (low: number, high: number, path: number) =>
        (this.#value(low, high, path) as { length: number } | undefined)?.length ?? 0,
      js_id: (low: number, high: number) => {
        const value = this.#value(low, high, 0);
        this.#slot(typeof value === 'number' ? BigInt(value) : BigInt(this.#handles.indexOf(value) + 100));
      },
      js_arg: (index: number) => this.#slot(this.#register(this.#hit.args?.[index])),
      js_stackid: (depth: number) => depth,
      js_asyncid: () => this.asyncId,
      js_at: (low: number, high: number, keyLow: number, keyHigh: number, path: number) => {
        const object = this.#value(low, high, path) as Record<PropertyKey, unknown> | null | undefined;
        const value = object?.[this.#value(keyLow, keyHigh, 0) as PropertyKey];
        const exact = typeof value === 'number' && (value | 0) === value;
        this.#slot(
          exact ? this.#register(value) : HANDLE_TAG | GENERATION | BigInt(this.#handles.push(value)),
        );
      },
      js_truthy: (low: number, high: number, path: number) => (this.#value(low, high, path) ? 1 : 0),
    };
  }

  /** Runs program `index` with a context made of these values. */
  hit(index: number, hit: Hit = {}): void {
    const { args = [], self, retval, error, ip = 0n, cookie = 0, cpu = 0 } = hit;
    const { ctx } = percpuBlock(this.layout, cpu);
    this.#handles = [];
    this.#hit = hit;
    this.#cpu = cpu;
    const set = (reg: keyof typeof PT_REGS, value: bigint): void =>
      this.#view.setBigUint64(ctx + PT_REGS[reg], value, true);
    for (const [i, reg] of ARG_REGS.entries()) set(reg, this.#register(args[i]));
    set('r10', this.#register(self));
    set('ax', this.#register(retval));
    set('r11', this.#register(error));
    set('ip', ip);
    set('bx', BigInt(cookie));
    set('r12', BigInt(args.length));
    this.#run[index]![cpu]!(ctx);
  }

  /** The map as `print` would show it: `[key, value]`, keys of several parts joined by commas. */
  map(name: string): [string, string][] {
    const index = this.script.maps.findIndex((map) => map.name === name);
    const map = this.script.maps[index]!;
    const context = this.#context();
    const entries = [...openMap(this.memory, this.layout, index).entries()].map((entry) => ({
      ...entry,
      context,
    }));
    const printed = printedMap(map, entries);
    return printed.entries.map(({ key, value }) => [key.map(show).join(), show(value)]);
  }

  /** The buckets of a keyless hist or lhist: `[low, high, count]`; undefined is unbounded. */
  buckets(name: string): [number | undefined, number | undefined, number][] {
    const text = this.map(name)[0]![1];
    return JSON.parse(text).map(({ low, high, count }: Record<string, number>) => [low, high, count]);
  }

  /** Everything in the ring, decoded. */
  records(): string[] {
    const records: string[] = [];
    this.#consumer.drain((view, offset, length) => {
      const bytes = new Uint8Array(new Uint8Array(view.buffer, view.byteOffset + offset, length));
      const event = this.#decoder.decode(new DataView(bytes.buffer));
      switch (event.kind) {
        case 'printf':
        case 'time':
          records.push(event.text);
          break;
        case 'value':
          records.push(`= ${show(event.value)}`);
          break;
        case 'exit':
          records.push(`exit ${event.code}`);
          break;
        case 'print_map':
          records.push(`print_map ${this.script.maps[event.map]!.name} ${event.top} ${event.div}`);
          break;
        case 'clear':
        case 'zero':
          records.push(`${event.kind} ${this.script.maps[event.map]!.name}`);
          break;
        default:
          records.push(event.kind);
      }
    });
    return records;
  }
}
