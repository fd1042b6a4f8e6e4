import { MEMORY_HEADER } from '../layout.ts';

/**
 * Typed views of a memory. A memory that grows gets new views: whoever grows it stores its size in the memory's header, and `viewMemory`
 * compares that on every call. Hold on to a view only where the memory cannot grow meanwhile.
 */
export interface MemoryView {
  readonly u8: Uint8Array;
  readonly i32: Int32Array;
  readonly i64: BigInt64Array;
  readonly data: DataView;
  /** What the header's `pages` was when the views were made. */
  readonly pages: number;
}

const PAGES = MEMORY_HEADER.pages >>> 2;
const views = new WeakMap<WebAssembly.Memory, MemoryView>();

function makeView(memory: WebAssembly.Memory): MemoryView {
  let { buffer } = memory;
  const pages = Atomics.load(new Int32Array(buffer), PAGES);
  // Another thread grew it, and this thread has not been told yet.
  if (buffer.byteLength < pages * 65536) {
    memory.grow(0);
    buffer = memory.buffer;
  }
  return {
    u8: new Uint8Array(buffer),
    i32: new Int32Array(buffer),
    i64: new BigInt64Array(buffer),
    data: new DataView(buffer),
    pages,
  };
}

/** The current views of a memory. */
export function viewMemory(memory: WebAssembly.Memory): MemoryView {
  let view = views.get(memory);
  if (view === undefined || Atomics.load(view.i32, PAGES) !== view.pages) {
    view = makeView(memory);
    views.set(memory, view);
  }
  return view;
}

/** `view`, or newer ones of the same memory where it has grown. */
export function currentView(memory: WebAssembly.Memory, view: MemoryView): MemoryView {
  return Atomics.load(view.i32, PAGES) === view.pages ? view : viewMemory(memory);
}
