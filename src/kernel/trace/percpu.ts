/**
 * Where a thread's programs find their context: the per-CPU block of the shared memory. Here for the agent on the main thread,
 * which imports no more of the eBPF machine than this.
 */
export { type MemoryLayout, type PercpuBlock, percpuBlock } from '../../bpf/layout.ts';
