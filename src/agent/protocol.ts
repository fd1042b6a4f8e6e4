/**
 * What the tracer, the agent's worker and the agent on the main thread say to each other.
 *
 * Tracer ⇄ worker: frames on a Unix socket: u32 little-endian payload length, u8 kind, payload.
 * Kind 0 is a JSON message; kind 1 is ring data: u32 ring map index, then whole records (u32 length, bytes, padded to 8).
 */
export const FRAME_JSON = 0;
export const FRAME_RING = 1;

/** Stands in every text that is evaluated in the traced process: listings of its functions leave those out. */
export const OWN_MARK = '/*trapline*/';

export type Reply =
  | { readonly id: number; readonly result: unknown }
  | {
      readonly id: number;
      readonly error: { readonly code: string; readonly message: string; readonly log?: string };
    };
export type Notice = { readonly event: string; readonly params: unknown };

/** A program for one agent thread. */
export interface ProgramImage {
  readonly index: number;
  /** Base64 of the WebAssembly module. */
  readonly wasm: string;
  /** READS mask of pt-regs.ts. */
  readonly reads: number;
  /** Those of them that it reads as registers: the rest it only refers to, as they are. All where it is left out. */
  readonly converts?: number;
  /** A program whose context is no pt_regs: another one (its index) makes it at an address of the memory first. */
  readonly context?: { readonly by: number; readonly at: number };
}

/** A call of bpf_trace_printk(). Texts are bytes as characters of latin1. */
export interface PrintkCall {
  readonly format: string;
  /** Decimal. */
  readonly args: readonly string[];
  /** What each argument points to, where that is a text. */
  readonly texts: readonly (string | undefined)[];
}

/** The same with its module: compiled on the worker's thread, for the main one. */
export type CompiledImage = Omit<ProgramImage, 'wasm'> & { readonly wasm: string | WebAssembly.Module };

/** When a site calls a program. */
export type SiteEvent = 'entry' | 'return' | 'throw' | 'settle';

/** One program on one event of a site. `return` runs on every exit, also by a throw (then `error` is set). */
export interface SiteProgram {
  readonly program: number;
  readonly event: SiteEvent;
  /** Goes to pt_regs.bx. */
  readonly cookie: number;
}

export interface SiteSpec {
  readonly site: number;
  /** Address in the text space, decimal; goes to pt_regs.ip. */
  readonly address: string;
  readonly name: string;
  readonly programs: readonly SiteProgram[];
  /** kretprobe instances that may be alive at once; 0 is unbounded for synchronous functions, 4096 for settle. */
  readonly maxactive: number;
  readonly isAsync: boolean;
  readonly isGenerator: boolean;
}

/**
 * `[path, errno, count, trouble]`: reads of a property path that failed, and the first property on the way that was to blame where one
 * was. ENOENT: in none of them did the last property exist, which is undefined in JavaScript and in most cases a misspelt name.
 */
export type ReadFault = [path: number, errno: number, count: number, trouble?: Trouble];

export interface Trouble {
  readonly key: string | number;
  /** `nothing`: a property of null or undefined. */
  readonly reason: 'missing' | 'getter' | 'proxy' | 'nothing';
  /** Of `missing`: properties that there are. */
  readonly names: readonly string[];
}

/** Counters of one site, as in kprobe_profile. */
export interface SiteStats {
  readonly site: number;
  readonly nhit: number;
  readonly nmissed: number;
  /** Calls whose ends are wanted and that only put the probe in place; left out where there were none. */
  readonly unseen?: number;
}
