/** Random numbers for fuzz tests, always the same ones for a seed. */

/** mulberry32: `next(below)`. */
export function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

/** The seeds of a test: its own, or `TRAPLINE_FUZZ_SEEDS=1,2,3`. */
export function seeds(own: number): readonly number[] {
  const { TRAPLINE_FUZZ_SEEDS } = process.env;
  return TRAPLINE_FUZZ_SEEDS === undefined ? [own] : TRAPLINE_FUZZ_SEEDS.split(',').map(Number);
}
