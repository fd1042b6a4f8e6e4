/** What a load or store does with a register. */
export type AccessSize = 1 | 2 | 4 | 8;

/** Variable and fixed offsets, and sizes, beyond which nothing is allowed (BPF_MAX_VAR_OFF, BPF_MAX_VAR_SIZ). */
export const MAX_VAR_OFF = 1 << 29;
export const MAX_VAR_OFF_BIG: bigint = BigInt(MAX_VAR_OFF);

export interface Access {
  readonly regno: number;
  readonly off: number;
  readonly size: AccessSize;
  readonly write: boolean;
  /** Register loaded or stored; -1 for none (constants, atomics). */
  readonly value: number;
  readonly isSigned?: boolean;
  /** Value of a BPF_ST. */
  readonly imm?: number | undefined;
  /** Unaligned accesses are refused whatever the options (atomics). */
  readonly aligned?: boolean;
}
