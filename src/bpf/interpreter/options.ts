import type { Insn } from '../isa.ts';

/** A program's arena (BPF_MAP_TYPE_ARENA): addresses of its own, a u32 and an offset. */
export interface InterpretedArena {
  /** Loads, stores and atomics at these slots go there. */
  readonly slots: ReadonlySet<number>;
  /** Upper half of its addresses in user space. */
  readonly userHigh: number;
  /** Where in the memory bytes are that lie on one page; 0: nowhere, or not on one. */
  whole(address: number, bytes: number): number;
  /** Up to 8 bytes, which may lie on two pages; undefined where one is not there. */
  read(address: number, bytes: number): Uint8Array | undefined;
  write(address: number, bytes: Uint8Array): boolean;
}

/** What a program's environment answers. */
export interface InterpreterOptions {
  readonly insns: readonly Insn[];
  /** Given as a WebAssembly.Memory, it may grow while a program runs. */
  readonly memory: ArrayBufferLike | WebAssembly.Memory;
  /** Address of the stack area: frame n is [stack + 512 n, stack + 512 (n + 1)). */
  readonly stack: number;
  /** How deep BPF functions may nest, the program included. Default MAX_CALL_FRAMES. */
  readonly maxFrames?: number;
  /** Address of a map (`off` undefined), or of byte `off` of its values. */
  mapAddress?(index: number, off?: number): number;
  /** A helper: gets r1 to r5, gives r0. Undefined refuses. */
  helper?(id: number, args: readonly bigint[]): bigint;
  /**
   * A helper that needs no numbers above 2^53: `words` are the registers, two words each, low first. It sets r0 and gives true, or does
   * nothing and gives false, and `helper` is asked.
   */
  quickHelper?(id: number, words: Int32Array): boolean;
  kfunc?(id: number, args: readonly bigint[]): bigint;
  /** bpf_tail_call: the program to go on with, or r0 of one that ran elsewhere, or undefined to return from the call. */
  tailCall?(args: readonly bigint[]): readonly Insn[] | bigint | undefined;
  /** BPF_LD | BPF_ABS and BPF_IND: the value at a packet offset, or undefined where the packet has none (r0 = 0, exit). */
  packetLoad?(skb: bigint, offset: number, size: 1 | 2 | 4): bigint | undefined;
  /** Memory is read and written in big-endian order, as on another machine: tells which machine a program was made for. */
  readonly bigEndian?: boolean;
  /** Loads at these slots give 0 where the address is bad (BPF_PROBE_MEM). */
  readonly probes?: ReadonlySet<number> | undefined;
  readonly arena?: InterpretedArena | undefined;
  /** The program ends when this helper gives 0. */
  readonly unwindHelper?: number | undefined;
}
