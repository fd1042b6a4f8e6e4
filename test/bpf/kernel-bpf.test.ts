/** That the binding to the machine's own kernel works at all. */
import { afterAll, describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/index.ts';
import { BPF_CMD, kernelBpf } from '../support/kernel-bpf.ts';
import { unless } from '../support/skip.ts';

const { reason } = kernelBpf;
if (reason !== undefined) console.log(`kernel oracle skipped: ${reason}`);

describe('bpf(2) of this kernel', unless(reason), () => {
  afterAll(() => kernelBpf.closeAll());

  it('creates, fills and reads a map', () => {
    const fd = kernelBpf.mapCreate({ type: 1, keySize: 4, valueSize: 8, maxEntries: 2 });
    expect(fd).toBeGreaterThan(0);
    const key = Uint8Array.of(1, 2, 3, 4);
    const value = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
    expect(kernelBpf.mapLookup(fd, key, 8)).toBe(-2);
    expect(kernelBpf.mapUpdate(fd, key, value)).toBe(0);
    expect(kernelBpf.mapUpdate(fd, key, value, 1n)).toBe(-17);
    expect(kernelBpf.mapLookup(fd, key, 8)).toEqual(value);
    expect(kernelBpf.mapNextKey(fd, undefined, 4)).toEqual(key);
    const batch = kernelBpf.mapBatch(BPF_CMD.MAP_LOOKUP_BATCH, fd, {
      outBatchSize: 8,
      keys: new Uint8Array(8),
      values: new Uint8Array(16),
      count: 2,
    });
    expect(batch).toMatchObject({ error: -2, count: 1 });
    expect(batch.keys.subarray(0, 4)).toEqual(key);
    expect(kernelBpf.mapDelete(fd, key)).toBe(0);
    expect(kernelBpf.mapNextKey(fd, undefined, 4)).toBe(-2);
  });

  it('loads a program with its log, refuses a wrong one, runs the right one', () => {
    const bad = kernelBpf.progLoad({ type: 1, insns: assemble('r0 = r3\n exit'), logLevel: 1 });
    expect(bad.fd).toBe(-13);
    expect(bad.log).toContain('R3 !read_ok');
    const { fd } = kernelBpf.progLoad({ type: 1, insns: assemble('r0 = 7\n exit') });
    expect(fd).toBeGreaterThan(0);
    const run = kernelBpf.progTestRun(fd, { dataIn: new Uint8Array(64).fill(3), repeat: 10 });
    expect(run).toMatchObject({ error: 0, retval: 7, dataSizeOut: 64 });
    // The kernel gives a link header of zeros back to programs that do not see it.
    expect(run.dataOut).toEqual(new Uint8Array(64).fill(3, 14));
  });
});
