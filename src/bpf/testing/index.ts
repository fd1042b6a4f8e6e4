/** Tests of BPF programs, in any test framework: `trapline/testing`. */
export * from './asserts.ts';
export * from './checks.ts';
export * from './fixture.ts';
export { type BpfMatchers, bpfMatchers } from './matchers.ts';
export * from './packets.ts';
