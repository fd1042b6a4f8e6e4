import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { assemble, decodeInsns, encodeInsns, type Insn } from '../../src/bpf/index.ts';
import { runOnMemory } from '../../src/cli/bpf/conformance-plugin.ts';
import { objectBytes } from '../bpf/support-objects.ts';
import { parseDataFile } from '../conformance/suites.mjs';

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '../..');
const cli = path.join(root, 'dist/cli/main.js');
const vectors = path.join(root, 'test/conformance/bpf_conformance');
const AT_ONCE = 3;

interface Answer {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function plugin(args: readonly string[], input: string | Uint8Array): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [cli, 'bpf', 'conformance-plugin', ...args]);
    let out = '';
    let err = '';
    child.stdout.on('data', (data) => {
      out += data;
    });
    child.stderr.on('data', (data) => {
      err += data;
    });
    // A plugin that refuses its arguments reads nothing.
    child.stdin.on('error', () => {});
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, out, err }));
    child.stdin.end(input);
  });
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const uncommented = (text: string | undefined): string => (text ?? '').replace(/#.*$/gm, '').trim();

interface Vector {
  readonly program: readonly Insn[];
  readonly memory: string;
  readonly result: bigint;
}

/** What the runner would give the plugin, and what it wants back; undefined where the suite wants the program not to assemble. */
function readVector(file: string): Vector | undefined {
  const sections = parseDataFile(readFileSync(path.join(vectors, file), 'utf8'));
  const raw = uncommented(sections.get('raw'));
  let program: readonly Insn[];
  try {
    program =
      raw === ''
        ? assemble(sections.get('asm')!)
        : decodeInsns(new Uint8Array(new BigUint64Array(raw.split(/\s+/).map(BigInt)).buffer));
  } catch (error) {
    if (uncommented(sections.get('error')) === '') throw error;
    return undefined;
  }
  const result = uncommented(sections.get('result'));
  return { program, memory: uncommented(sections.get('mem')), result: BigInt.asUintN(64, BigInt(result)) };
}

const FILES = readdirSync(vectors).filter((name) => name.endsWith('.data'));

describe('trapline bpf conformance-plugin', () => {
  test.each(['jit', 'interpreter'] as const)('all 313 vectors of bpf_conformance: %s', (engine) => {
    expect(FILES).toHaveLength(313);
    const problems: string[] = [];
    for (const file of FILES) {
      const vector = readVector(file);
      if (vector === undefined) continue;
      const { program, memory, result } = vector;
      const answer = runOnMemory(program, Buffer.from(memory.replace(/\s/g, ''), 'hex'), engine);
      if (answer !== result) problems.push(`${file}: ${answer}, not ${result}`);
    }
    expect(problems).toEqual([]);
  });

  test('all 313, each in a process of its own', async () => {
    const problems: string[] = [];
    const next = FILES.values();
    const work = async (): Promise<void> => {
      for (const file of next) {
        const vector = readVector(file);
        if (vector === undefined) continue;
        const args = vector.memory === '' ? [] : [vector.memory];
        const { code, out, err } = await plugin(args, hex(encodeInsns(vector.program)));
        const wanted = `${vector.result.toString(16)}\n`;
        if (code !== 0 || out !== wanted || err !== '')
          problems.push(`${file}: ${code} ${out.trim()} ${err.trim()}, not ${wanted}`);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    expect(problems).toEqual([]);
  }, 180_000);

  test('forms of memory and program, both engines', async () => {
    // r0 = *(u8 *)(r1 + 2) << 8 | r2
    const program = hex(encodeInsns(assemble('r0 = *(u8 *)(r1 +2)\nr0 <<= 8\nr0 |= r2\nexit')));
    const spaced = program.replace(/../g, '$& ');
    const answers = await Promise.all([
      plugin(['01 02 03'], program),
      plugin(['010203', '--interpret'], `${spaced}\n`),
      plugin(['01', '02', '03'], program),
    ]);
    expect(answers).toEqual(answers.map(() => ({ code: 0, out: '303\n', err: '' })));
  });

  test('objects, as bytes and as digits', async () => {
    const object = objectBytes('subprogs', '19');
    const several = await plugin(['--elf'], object);
    expect(several.code).toBe(1);
    expect(several.err).toContain('more than one program');
    const one = objectBytes('core', '19');
    const answers = await Promise.all([plugin(['--elf'], one), plugin(['--elf'], hex(one))]);
    expect(answers[0]).toEqual(answers[1]);
    // As the suite writes them: one function in .text, here with another that it calls.
    const text = new Uint8Array(readFileSync(path.join(root, 'test/bpf/fixtures/library/text_main.bpf.o')));
    expect(await plugin(['05  06  07 ', '--elf'], hex(text))).toEqual({ code: 0, out: 'd\n', err: '' });
  });

  test('mistakes exit with 1 and a coded message', async () => {
    const exit = hex(encodeInsns(assemble('exit')));
    const answers = await Promise.all([
      plugin(['xyz'], exit),
      plugin([], 'b700'),
      plugin([], 'hello'),
      plugin([], hex(encodeInsns(assemble('call 6\nexit')))),
      plugin(['--interpret'], hex(encodeInsns(assemble('r1 = -1 ll\nr0 = *(u64 *)(r1 +0)\nexit')))),
      plugin([], hex(encodeInsns(assemble('r1 = -1 ll\nr0 = *(u64 *)(r1 +0)\nexit')))),
    ]);
    expect(answers.map(({ code, out, err }) => `${code}${out} ${err.split('\n')[0]}`)).toEqual([
      '1 ERROR: the memory is not hexadecimal: xyz',
      '1 ERROR: 2 bytes are no program: instructions have 8 bytes',
      '1 ERROR: standard input is not hexadecimal',
      expect.stringContaining('1 ERROR: '),
      expect.stringContaining('1 ERROR: '),
      expect.stringContaining('1 ERROR: the program failed: memory access out of bounds'),
    ]);
  });
});
