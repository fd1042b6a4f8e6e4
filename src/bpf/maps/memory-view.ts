/** Typed views of the memory. Its size never changes, so they stay valid. */
export interface MemoryView {
  readonly u8: Uint8Array;
  readonly i32: Int32Array;
  readonly i64: BigInt64Array;
  readonly data: DataView;
}

const views = new WeakMap<WebAssembly.Memory, MemoryView>();

/** The views of a memory, made once per thread. */
export function viewMemory(memory: WebAssembly.Memory): MemoryView {
  let view = views.get(memory);
  if (view === undefined || view.u8.buffer !== memory.buffer) {
    const { buffer } = memory;
    view = {
      u8: new Uint8Array(buffer),
      i32: new Int32Array(buffer),
      i64: new BigInt64Array(buffer),
      data: new DataView(buffer),
    };
    views.set(memory, view);
  }
  return view;
}
