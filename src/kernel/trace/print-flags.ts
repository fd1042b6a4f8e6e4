/** Bits by their names. */

export interface FlagName {
  readonly value: bigint;
  readonly text: string;
}

/** trace_print_flags_seq(): each name whose bits are all there takes them away; what is left is a hexadecimal number. */
export function printFlags(given: bigint, delimiter: string, flags: readonly FlagName[]): string {
  let left = given;
  const found: string[] = [];
  for (const { value, text } of flags) {
    if (left === 0n) break;
    if ((left & value) !== value) continue;
    left &= ~value;
    found.push(text);
  }
  if (left !== 0n) found.push(`0x${left.toString(16)}`);
  return found.join(delimiter);
}
