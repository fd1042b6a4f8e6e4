/** Arrays for the time of one analysis. A typed array is dear to make, and small programs need more time for two dozen than for what is in them. */

/** Longer ones are not kept. */
const MAX_KEPT = 1 << 14;

/**
 * A function that gives the same array again and again: of at least `length` elements, of which the first `length` are `value`. Whoever asks is
 * done with the one before.
 */
export function scratch(): (length: number, value?: number) => Int32Array {
  let kept = new Int32Array(16);
  return (length, value = 0) => {
    if (length > MAX_KEPT) return new Int32Array(length).fill(value);
    if (length > kept.length) kept = new Int32Array(Math.min(MAX_KEPT, 2 * length));
    return kept.fill(value, 0, length);
  };
}
