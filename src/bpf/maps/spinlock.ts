import { LOCK_SPINS } from './map-layout.ts';

/** Spins before a thread that may sleep does so, letting a preempted holder run. */
const SPINS_BEFORE_SLEEP = 1000;
const SLEEP_MS = 1;
/** About a second: on a machine with more threads than processors a holder may not run for long. Wasm, which cannot sleep, gives up
 *  after LOCK_SPINS, some 50 ms. */
const SLEEPS = 1000;

/**
 * Takes a lock word (an index into `i32`) for `cpu`; false (-EBUSY) when its holder keeps it for too long, for instance
 * because that thread was terminated while it held it.
 */
export function lock(i32: Int32Array, index: number, cpu: number): boolean {
  for (let round = 0; round < SLEEPS; round++) {
    for (let i = 0; i < SPINS_BEFORE_SLEEP; i++) {
      if (Atomics.load(i32, index) === 0 && Atomics.compareExchange(i32, index, 0, cpu + 1) === 0)
        return true;
    }
    if (!sleep(i32, index)) return spin(i32, index, cpu);
  }
  return false;
}

export function unlock(i32: Int32Array, index: number): void {
  Atomics.store(i32, index, 0);
}

/** False where this thread may not sleep: a browser's main thread, or memory that is not shared. */
function sleep(i32: Int32Array, index: number): boolean {
  try {
    const holder = Atomics.load(i32, index);
    if (holder !== 0) Atomics.wait(i32, index, holder, SLEEP_MS);
    return true;
  } catch {
    return false;
  }
}

function spin(i32: Int32Array, index: number, cpu: number): boolean {
  for (let i = 0; i < LOCK_SPINS; i++) {
    if (Atomics.load(i32, index) === 0 && Atomics.compareExchange(i32, index, 0, cpu + 1) === 0) return true;
  }
  return false;
}
