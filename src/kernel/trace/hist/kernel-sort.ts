/**
 * sort() of lib/sort.c: a bottom-up heapsort that takes out two elements at a time. Not stable, so the order of equal elements is that of
 * the kernel only when it is done the kernel's way.
 */
export function kernelSort<T>(list: T[], from: number, count: number, compare: (a: T, b: T) => number): void {
  const at = (i: number): T => list[from + i] as T;
  const swap = (i: number, j: number): void => {
    const saved = at(i);
    list[from + i] = at(j);
    list[from + j] = saved;
  };
  let n = count;
  let a = count >> 1;
  if (a === 0) return;
  let shift = 0;
  for (;;) {
    if (a > 0) a -= 1 << shift;
    else if (n > 3) {
      swap(0, --n);
      shift = compare(at(1), at(2)) <= 0 ? 1 : 0;
      a = 1 << shift;
      swap(a, --n);
    } else break;
    siftDown(a);
  }
  swap(0, --n);
  if (n === 2 && compare(at(0), at(1)) > 0) swap(0, 1);

  /** Down to a leaf along the larger children, then back up to the element's place. */
  function siftDown(start: number): void {
    let b = start;
    let c = 2 * b + 1;
    let d = c + 1;
    while (d < n) {
      b = compare(at(c), at(d)) > 0 ? c : d;
      c = 2 * b + 1;
      d = c + 1;
    }
    if (d === n) b = c;
    while (b !== start && compare(at(start), at(b)) >= 0) b = (b - 1) >> 1;
    const place = b;
    while (b !== start) {
      b = (b - 1) >> 1;
      swap(b, place);
    }
  }
}
