import { BpfError } from '../errors.ts';
import { MEMORY_HEADER, MEMORY_MAGIC, type MemoryLayout } from '../layout.ts';
import { ArrayMap } from './array.ts';
import { HashMap, initHash } from './hashtab.ts';
import { BPF_MAP_TYPE, MAP_HEADER, MAP_MAGIC } from './map-layout.ts';
import type { BpfMap } from './map-types.ts';
import { viewMemory } from './memory-view.ts';
import { RingBuffer } from './ringbuf.ts';

/** Writes the headers of memory and maps. Once, before any thread uses it, by whoever made the memory; it must be all zero. */
export function initMemory(memory: WebAssembly.Memory, layout: MemoryLayout): void {
  const { data } = viewMemory(memory);
  if (data.byteLength < layout.byteLength) {
    throw new BpfError('EINVAL', `memory of ${data.byteLength} bytes, the layout needs ${layout.byteLength}`);
  }
  data.setUint32(MEMORY_HEADER.ncpu, layout.ncpu, true);
  for (const placed of layout.maps) {
    const { spec, address, geometry } = placed;
    data.setUint32(address + MAP_HEADER.type, BPF_MAP_TYPE[spec.type], true);
    data.setUint32(address + MAP_HEADER.keySize, spec.keySize, true);
    data.setUint32(address + MAP_HEADER.valueSize, spec.valueSize, true);
    data.setUint32(address + MAP_HEADER.maxEntries, spec.maxEntries, true);
    data.setUint32(address + MAP_HEADER.data, address + geometry.data, true);
    if (spec.type === 'hash' || spec.type === 'percpu_hash') initHash(data, placed);
    data.setUint32(address + MAP_HEADER.magic, MAP_MAGIC, true);
  }
  data.setUint32(MEMORY_HEADER.magic, MEMORY_MAGIC, true);
}

/** Map `index` of a layout, for this thread. Throws BpfError EINVAL where there is none, or the memory is not initialised. */
export function openMap(memory: WebAssembly.Memory, layout: MemoryLayout, index: number): BpfMap {
  const placed = layout.maps[index];
  if (placed === undefined) throw new BpfError('EINVAL', `no map ${index}`);
  switch (placed.spec.type) {
    case 'array':
    case 'percpu_array':
      return new ArrayMap(memory, placed, layout.ncpu);
    case 'hash':
    case 'percpu_hash':
      return new HashMap(memory, placed, layout.ncpu);
    case 'ringbuf':
      return new RingBuffer(memory, placed, layout.ncpu);
  }
}
