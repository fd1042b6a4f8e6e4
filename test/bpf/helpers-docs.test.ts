/** docs/helpers.md, and that every helper of the kernel's list is there or refused. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { helpersPage } from '../../src/bpf/helpers/docs.ts';
import { HELPER_IMPLS, KFUNC_IMPLS, REFUSED_HELPERS } from '../../src/bpf/helpers/impl/index.ts';
import { KERNEL_KFUNCS } from '../../src/bpf/helpers/kernel-kfuncs.ts';
import { kernelProto } from '../../src/bpf/helpers/kernel-protos.ts';
import { HELPER_NAMES } from '../../src/bpf/helpers/names.ts';
import { createMachine } from '../../src/bpf/index.ts';
import { BUILT_IN } from '../../src/bpf/jit/calls.ts';
import { SAME_IMPORT } from '../../src/bpf/jit/imports.ts';
import { helperImports } from '../../src/bpf/machine/imports.ts';
import type { MachineState } from '../../src/bpf/machine/machine.ts';

describe('docs/helpers.md', () => {
  it('is up to date (npm run generate)', () => {
    const file = path.join(import.meta.dirname, '../../docs/helpers.md');
    expect(readFileSync(file, 'utf8')).toBe(helpersPage());
  });

  it('every helper is implemented or refused, and none is both', () => {
    const machine = createMachine() as MachineState;
    const given = helperImports(
      machine,
      { hasFunctions: false },
      {
        cpu: 0,
        clock: () => 0,
        random: () => 0,
      },
    );
    expect(HELPER_NAMES.length).toBe(212);
    for (const [id, name] of HELPER_NAMES.entries()) {
      if (kernelProto(id) === undefined) continue;
      const here = name in given || name in HELPER_IMPLS || BUILT_IN.has(name) || name in SAME_IMPORT;
      expect([name, here]).toEqual([name, !REFUSED_HELPERS.has(name)]);
    }
    for (const name of REFUSED_HELPERS.keys()) expect(HELPER_NAMES).toContain(name);
    for (const name of Object.keys(HELPER_IMPLS)) expect(HELPER_NAMES).toContain(name.replace(/_dyn$/, ''));
    for (const name of Object.keys(KFUNC_IMPLS)) expect([...KERNEL_KFUNCS.keys()]).toContain(name);
  });

  it('has a row for each', () => {
    const page = helpersPage();
    for (const [id, name] of HELPER_NAMES.entries()) {
      if (kernelProto(id) !== undefined) expect(page).toContain(`| ${id} | \`${name}\` |`);
    }
  });
});
