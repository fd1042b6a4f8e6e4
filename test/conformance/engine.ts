/** The parts of the eBPF machine that the conformance suites drive, as one object. */
export { assemble } from '../../src/bpf/asm/assemble.ts';
export { convertFilter, SKB_HELPERS } from '../../src/bpf/classic.ts';
export { Interpreter } from '../../src/bpf/interpreter/interpreter.ts';
export * as isa from '../../src/bpf/isa.ts';
export { decodeInsns, encodeInsns } from '../../src/bpf/isa.ts';
export { jitRaw } from '../../src/bpf/jit/raw.ts';
export { loadPacket, writeSkBuff } from '../../src/bpf/sk-buff.ts';
export { callSkbHelper } from '../../src/bpf/skb-helpers.ts';
export { decodeSockFilters } from '../../src/bpf/sock-filter.ts';
