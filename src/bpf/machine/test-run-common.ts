/** What the test runs of all program types do alike (net/bpf/test_run.c). */
import { BpfError } from '../errors.ts';
import type { MemoryLayout } from '../layout.ts';
import { viewMemory } from '../maps/memory-view.ts';
import type { TestRunOptions } from './types.ts';

/** What a test run needs of the machine. */
export interface TestMachine {
  readonly memory: WebAssembly.Memory;
  readonly ncpu: number;
  readonly layout: MemoryLayout;
  alloc(size: number): number;
  free(address: number, size: number): void;
}

/** What a test run needs of the program. */
export interface TestProgram {
  readonly type: string;
  readonly machine: TestMachine;
  /** Bytes of context that the program needs at least. */
  readonly contextSize: number;
  /** The program as a function of its context, on a CPU. */
  entry(cpu: number): (ctx: number) => number;
  /** The program run `times` times, where nothing is to be done between the runs. */
  repeater(cpu: number): ((ctx: number, times: number) => number) | undefined;
}

export const ETH_HLEN = 14;
/** Test runs come from the loopback device, the only one there is. */
export const LOOPBACK_IFINDEX = 1;
export const PAGE_SIZE = 4096;
/** Kept free behind the packet: struct skb_shared_info. */
export const TAILROOM = 320;

export const refuse = (code: string, message: string): never => {
  throw new BpfError(code, `test run: ${message}`);
};

/** bpf_test_run: `repeat` runs and the mean time of one. */
export function repeatRun(
  program: TestProgram,
  options: TestRunOptions,
  ctx: number,
  prepare?: () => void,
): { retval: number; duration: number } {
  const repeat = options.repeat === undefined || options.repeat === 0 ? 1 : options.repeat;
  if (!Number.isInteger(repeat) || repeat < 0 || repeat > 0xffff_ffff) {
    refuse('EINVAL', `repeat ${options.repeat} is not a u32`);
  }
  const isPlain = prepare === undefined && options.execute === undefined && repeat > 1;
  const loop = isPlain ? program.repeater(options.cpu ?? 0) : undefined;
  if (loop !== undefined) {
    const start = performance.now();
    const retval = loop(ctx, repeat) >>> 0;
    return { retval, duration: Math.round(((performance.now() - start) * 1e6) / repeat) };
  }
  const { execute } = options;
  const run =
    execute === undefined
      ? program.entry(options.cpu ?? 0)
      : (at: number) => Number(BigInt.asUintN(32, execute(BigInt(at))));
  let result = 0;
  const start = performance.now();
  for (let i = 0; i < repeat; i++) {
    prepare?.();
    result = run(ctx);
  }
  const elapsed = (performance.now() - start) * 1e6;
  return { retval: result >>> 0, duration: Math.round(elapsed / repeat) };
}

/** A block of memory for the time of a call. */
export function withBlock<T>(program: TestProgram, size: number, use: (address: number) => T): T {
  const { machine } = program;
  const address = machine.alloc(size);
  try {
    return use(address);
  } finally {
    machine.free(address, size);
  }
}

/** A copy of the memory between two addresses. */
export function slice(program: TestProgram, from: number, to: number): Uint8Array {
  const copy = new Uint8Array(Math.max(0, to - from));
  copy.set(viewMemory(program.machine.memory).u8.subarray(from, Math.max(from, to)));
  return copy;
}

/** The packet, which has to have a link header and to fit a page. */
export function checkPacket(data: Uint8Array | undefined, headroom: number, tailroom = TAILROOM): Uint8Array {
  const size = data?.length ?? 0;
  if (data === undefined || size < ETH_HLEN || size > PAGE_SIZE - headroom - tailroom) {
    return refuse('EINVAL', `packet of ${size} bytes, not ${ETH_HLEN} to ${PAGE_SIZE - headroom - tailroom}`);
  }
  return data;
}

/** bpf_ctx_init, bpf_check_uarg_tail_zero: a context of `size` bytes, with zeros behind what was given. */
export function contextBytes(given: Uint8Array, size: number): Uint8Array {
  if (given.length > PAGE_SIZE || given.subarray(size).some((byte) => byte !== 0))
    refuse('E2BIG', `context of ${given.length} bytes, not ${size}`);
  return padded(given, size);
}

/** Exactly `size` bytes: cut, or with zeros behind. */
export function padded(bytes: Uint8Array, size: number): Uint8Array {
  const copy = new Uint8Array(size);
  copy.set(bytes.subarray(0, size));
  return copy;
}
