import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import * as bpf from '../conformance/engine.ts';
import { runBpfConformance, runDataFile, runTestBpf } from '../conformance/suites.mjs';
import { unless } from '../support/skip.ts';

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '../..');
const shared = process.env['TRAPLINE_SHARED'] ?? path.join(root, '../shared');
const testBpf = path.join(shared, 'conformance/test_bpf');

describe('instruction set conformance, interpreter and JIT', () => {
  test('bpf_conformance: all of the suite', () => {
    const problems: string[] = [];
    const counts = runBpfConformance(
      bpf,
      path.join(root, 'test/conformance/bpf_conformance'),
      (name: string, list: string[]) => {
        for (const problem of list) problems.push(`${name}: ${problem}`);
      },
    );
    expect(problems).toEqual([]);
    expect(counts).toEqual({ passed: 313, failed: 0, skipped: 0 });
  });

  test('the runner reports a wrong result of each engine, a wrong encoding, and an error that did not come', () => {
    expect(runDataFile(bpf, '-- asm\nmov %r0, 2\nexit\n-- result\n0x3\n')).toEqual([
      'interpreter: 0x2, expected 0x3',
      'jit: 0x2, expected 0x3',
    ]);
    expect(
      runDataFile(bpf, '-- asm\nmov %r0, 2\nexit\n-- raw\n0x00000003000000b7\n0x95\n-- result\n0x2\n'),
    ).toEqual(['assembled to b7000000020000009500000000000000, not the raw section']);
    expect(runDataFile(bpf, '-- asm\nmov %r0, 2\nexit\n-- error\nwhatever\n')).toHaveLength(2);
    expect(runDataFile(bpf, '-- asm\nfrob %r0\n-- result\n0x2\n')[0]).toContain(
      'unknown instruction frob %r0',
    );
  });

  test(
    'test_bpf, without the very large programs (npm run conformance runs all)',
    unless(existsSync(testBpf) ? undefined : 'the vectors of lib/test_bpf.c are not here ($TRAPLINE_SHARED)'),
    () => {
      const problems: string[] = [];
      const counts = runTestBpf(
        bpf,
        testBpf,
        (name: string, list: string[]) => {
          for (const problem of list) problems.push(`${name}: ${problem}`);
        },
        (line: { insns_file?: string }) => line.insns_file === undefined,
      );
      expect(problems).toEqual([]);
      expect(counts.passed).toBeGreaterThan(300);
    },
  );
});
