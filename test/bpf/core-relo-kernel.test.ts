import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Btf, parseBtf, parseBtfExt } from '../../src/bpf/btf/index.ts';
import { applyCoreRelocations } from '../../src/bpf/core-relo/index.ts';
import { decodeInsns } from '../../src/bpf/index.ts';
import { unless } from '../support/skip.ts';
import { fixture } from './support-elf-sections.ts';

/** libbpf and the running kernel are the reference: root, bpftool and the kernel's BTF are needed. */
const VMLINUX = '/sys/kernel/btf/vmlinux';
const ready =
  process.getuid?.() === 0 &&
  existsSync(VMLINUX) &&
  spawnSync('bpftool', ['version']).status === 0 &&
  spawnSync('bpftool', ['prog', 'list']).status === 0;

describe(
  'against libbpf and the running kernel',
  unless(ready ? undefined : "it needs root, bpftool and the kernel's BTF"),
  () => {
    let folder = '';
    let mounted = false;
    const object = (name: string) => fileURLToPath(new URL(`./fixtures/btf/${name}`, import.meta.url));
    let kernel: Btf;

    beforeAll(() => {
      kernel = parseBtf(new Uint8Array(readFileSync(VMLINUX)));
      folder = mkdtempSync(path.join(tmpdir(), 'trapline-core-'));
      mounted = spawnSync('mount', ['-t', 'bpf', 'bpf', folder]).status === 0;
    });
    afterAll(() => {
      if (mounted) spawnSync('umount', [folder]);
      rmSync(folder, { recursive: true, force: true });
    });

    function relocated(name: string, section: string) {
      const sections = fixture(name);
      const btf = parseBtf(sections.get('.BTF')!.bytes);
      const relos = parseBtfExt(sections.get('.BTF.ext')!.bytes, btf).coreRelos.get(section)!;
      return applyCoreRelocations(decodeInsns(sections.get(section)!.bytes), relos, btf, kernel);
    }

    test.each([
      ['core-14.o', 'socket', 'values'],
      ['core-19.o', 'socket', 'values'],
      ['core-14.o', 'tc', 'reads'],
      ['core-19.o', 'tc', 'reads'],
    ])('%s %s: the instructions that bpftool loads', (name, section, program) => {
      if (!mounted) throw new Error('no BPF file system could be mounted');
      const pins = path.join(folder, `${name.replace(/\W/g, '_')}_${program}`);
      mkdirSync(pins);
      execFileSync('bpftool', ['prog', 'loadall', object(name), pins], { stdio: 'pipe' });
      const dump = path.join(tmpdir(), `trapline-xlated-${process.pid}-${program}`);
      execFileSync('bpftool', ['prog', 'dump', 'xlated', 'pinned', path.join(pins, program), 'file', dump], {
        stdio: 'pipe',
      });
      const theirs = decodeInsns(new Uint8Array(readFileSync(dump)));
      rmSync(dump);
      const ours = relocated(name, section);
      expect(ours.report.length).toBeGreaterThan(8);
      expect(theirs.length).toBe(ours.insns.length);
      // Map addresses and calls are rewritten by others than CO-RE; loads from untrusted pointers get a mode of their own.
      const plain = ours.insns
        .map((insn, at) => ({ insn, theirs: theirs[at]!, at }))
        .filter(({ insn, at }) => {
          const slot = ours.insns[at - 1]?.code === 0x18 ? at - 1 : at;
          const relocation = ours.report.some((one) => one.insn === slot);
          return relocation || (slot === at && insn.code !== 0x85 && insn.code !== 0x18);
        });
      const mode = (code: number) => ((code & 7) === 1 ? code & 0x1f : code);
      expect(plain.map(({ theirs }) => ({ ...theirs, code: mode(theirs.code) }))).toEqual(
        plain.map(({ insn }) => ({ ...insn, code: mode(insn.code) })),
      );
      expect(plain.length).toBeGreaterThan(20);
    });

    test.each(['core-14.o', 'core-19.o'])('%s: each relocation as libbpf logs it', (name) => {
      const pins = path.join(folder, `${name.replace(/\W/g, '_')}_log`);
      const { stdout, stderr } = spawnSync('bpftool', ['-d', 'prog', 'loadall', object(name), pins], {
        encoding: 'utf8',
        maxBuffer: 1 << 28,
      });
      const log = (stdout + stderr).split('\n');
      let relocations = 0;
      for (const [section, program] of [
        ['socket', 'values'],
        ['tc', 'reads'],
      ] as const) {
        for (const { index, insn, local, target, newValue } of relocated(name, section).report) {
          const lines = log.filter((line) => line.includes(`prog '${program}': relo #${index}: `)).join('\n');
          relocations++;
          expect(lines).toContain(`relo #${index}: ${local}\n`);
          if (target === undefined) expect(lines).not.toContain(': matching candidate');
          else
            expect(lines).toMatch(
              new RegExp(` matching candidate #\\d+ ${target.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}$`, 'm'),
            );
          const patched = /patched insn #(\d+) .* -> (\d+)/.exec(lines)!;
          expect([Number(patched[1]), BigInt(patched[2]!)]).toEqual([insn, newValue]);
        }
      }
      expect(relocations).toBeGreaterThan(40);
    });

    test.each(['core-poison-14.o', 'core-poison-19.o'])('%s: poisoned where libbpf poisons it', (name) => {
      const { report } = relocated(name, 'tc');
      const poisoned = report.filter(({ outcome }) => outcome === 'poisoned');
      expect(poisoned).toHaveLength(1);
      const { stdout, stderr, status } = spawnSync(
        'bpftool',
        ['prog', 'load', object(name), path.join(folder, 'poisoned')],
        { encoding: 'utf8' },
      );
      expect(status).not.toBe(0);
      const log = stdout + stderr;
      expect(log).toMatch(new RegExp(`^${poisoned[0]!.insn}: (<invalid CO-RE relocation>|.*195896080)`, 'm'));
      expect(log).toContain(poisoned[0]!.local);
    });
  },
);
