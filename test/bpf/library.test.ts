import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import {
  assemble,
  createMachine,
  createMap,
  decodeInsns,
  defaultMachine,
  disassemble,
  encodeInsns,
  loadProgram,
  VerifierError,
  verify,
} from '../../src/bpf/index.ts';

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '../..');
const object = path.join(root, 'test/bpf/fixtures/library/xdp_prog.bpf.o');
const folder = mkdtempSync(path.join(tmpdir(), 'trapline-library-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The example of the documentation, letter by letter. */
const EXAMPLE = `import { openObject, loadProgram, createMap, assemble, disassemble, verify, VerifierError } from 'trapline/bpf'
const object = openObject(bytes)                      // specs are plain data; nothing is checked against a machine yet
object.globals.set('min_us', 100n)
const loaded = object.load()                          // verify, relocate, JIT
const { retval, dataOut, duration } = loaded.programs.get('xdp_prog')!.testRun({ dataIn, repeat: 1000 })`;

const TYPES = `
export const results: { retval: number; dataOut: Uint8Array | undefined; duration: number } = { retval, dataOut, duration };
export const count: number = loaded.machine.maps.size;
const map = createMap({ name: 'm', type: 'hash', keySize: 4, valueSize: 8, maxEntries: 10 });
export const bytesOf: Uint8Array | undefined = map.lookup(new Uint8Array(4));
export const program = loadProgram({ type: 'xdp', insns: assemble('r0 = 2\\nexit'), maps: [map] });
export const text: string = disassemble(program.verified.insns);
export const stack: number = verify({ type: 'xdp', insns: 'exit' }).stackDepth;
export const isRefusal = (error: unknown): string | undefined => (error instanceof VerifierError ? error.summary : undefined);

// @ts-expect-error no such map type
createMap({ name: 'm', type: 'hsah', keySize: 4, valueSize: 8, maxEntries: 10 });
// @ts-expect-error no such program type
loadProgram({ type: 'xpd', insns: 'exit' });
// @ts-expect-error maps of a machine, not specs
loadProgram({ type: 'xdp', insns: 'exit', maps: [{ name: 'm', type: 'hash', keySize: 4, valueSize: 8, maxEntries: 1 }] });
// @ts-expect-error a value of C is no function
object.globals.set('min_us', () => 1);
// @ts-expect-error the return value is a number
export const wrong: string = retval;
`;

describe('the library as its users see it', () => {
  /** A project of a user's, with the built package. */
  function project(files: Record<string, string>): void {
    mkdirSync(path.join(folder, 'node_modules'), { recursive: true });
    for (const [name, target] of [
      ['trapline', root],
      ['@types', path.join(root, 'node_modules/@types')],
    ] as const) {
      const link = path.join(folder, 'node_modules', name);
      rmSync(link, { force: true });
      symlinkSync(target, link);
    }
    writeFileSync(path.join(folder, 'package.json'), '{"type":"module"}');
    for (const [name, text] of Object.entries(files)) writeFileSync(path.join(folder, name), text);
  }

  test('the example runs as it is written', () => {
    const lead = `import { readFileSync } from 'node:fs'
const bytes = readFileSync(${JSON.stringify(object)}), dataIn = new Uint8Array(64)\n`;
    const tail = `\nconsole.log(retval, dataOut[0], dataOut.length, loaded.globals.get('packets'), duration >= 0)`;
    project({ 'run.mjs': lead + EXAMPLE.replace('!.', '.') + tail });
    const { stdout, stderr } = spawnSync(process.execPath, ['run.mjs'], { cwd: folder, encoding: 'utf8' });
    expect(stderr).toBe('');
    expect(stdout).toBe('1 100 64 1000n true\n');
  });

  test('its types are good under a strict compiler, and refuse mistakes', () => {
    const lead = 'declare const bytes: Uint8Array, dataIn: Uint8Array;\n';
    project({
      'user.ts': lead + EXAMPLE + TYPES,
      'tsconfig.json': JSON.stringify({
        compilerOptions: {
          target: 'ES2022',
          lib: ['ES2023'],
          module: 'NodeNext',
          moduleResolution: 'NodeNext',
          types: ['node'],
          strict: true,
          exactOptionalPropertyTypes: true,
          noUncheckedIndexedAccess: true,
          verbatimModuleSyntax: true,
          isolatedModules: true,
          skipLibCheck: true,
          noEmit: true,
        },
        files: ['user.ts'],
      }),
    });
    const tsc = path.join(root, 'node_modules/.bin/tsc');
    const { stdout } = spawnSync(tsc, ['-p', folder, '--pretty', 'false'], { encoding: 'utf8' });
    expect(stdout).toBe('');
  });
});

describe('createMap, loadProgram, verify', () => {
  const spec = { name: 'sum', type: 'array', keySize: 4, valueSize: 8, maxEntries: 1 } as const;
  const ADD = `r1 = 0
    *(u32 *)(r10 -4) = r1
    r2 = r10
    r2 += -4
    r1 = map[idx:0]
    call bpf_map_lookup_elem
    if r0 == 0 goto out
    r1 = 5
    lock *(u64 *)(r0 +0) += r1
    out:
    r0 = 2
    exit`;

  test.each([
    ['text', ADD],
    ['instructions', assemble(ADD)],
    ['bytes', encodeInsns(assemble(ADD))],
  ])('a program from %s, with a map', (_, insns) => {
    const sum = createMap(spec);
    const program = loadProgram({ type: 'xdp', insns, maps: [sum] });
    const { retval } = program.testRun({ dataIn: new Uint8Array(64), repeat: 3 });
    expect(retval).toBe(2);
    expect(sum.lookup(new Uint8Array(4))).toEqual(Uint8Array.of(15, 0, 0, 0, 0, 0, 0, 0));
  });

  test('one machine unless told of another; maps and programs do not mix', () => {
    const machine = createMachine();
    const here = createMap(spec);
    const there = createMap(spec, { machine });
    expect(defaultMachine().mapAt(here.address)).toBe(here);
    expect(machine.mapAt(there.address)).toBe(there);
    expect(() => loadProgram({ type: 'xdp', insns: ADD, maps: [here] }, { machine })).toThrow(
      expect.objectContaining({ code: 'EINVAL' }),
    );
    expect(loadProgram({ type: 'xdp', insns: ADD, maps: [there] }, { machine }).type).toBe('xdp');
  });

  test('verify needs no machine; refusals say why and where', () => {
    expect(verify({ type: 'xdp', insns: ADD, maps: [spec] }).helpersUsed).toEqual(['map_lookup_elem']);
    let error: unknown;
    try {
      verify({ name: 'leaky', type: 'xdp', insns: 'r0 = *(u64 *)(r2 +0)\nexit' });
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(VerifierError);
    expect(error).toMatchObject({ code: 'VERIFIER', insn: 0, summary: 'R2 !read_ok', errnoName: 'EACCES' });
  });

  test('what is no program', () => {
    expect(() => verify({ type: 'xdp', insns: 'frob' })).toThrow(expect.objectContaining({ code: 'EASM' }));
    expect(() => verify({ type: 'xdp', insns: new Uint8Array(9) })).toThrow('9 bytes are no whole number');
    expect(() => verify({ type: 'xdp', insns: [] })).toThrow(VerifierError);
    for (const type of ['unspec', 'toString', 'frob', undefined]) {
      const insns = 'r0 = 0\nexit';
      expect(() => verify({ type: type as 'xdp', insns })).toThrow(`there is no program type ${type}`);
      expect(() => loadProgram({ type: type as 'xdp', insns })).toThrow(VerifierError);
    }
    expect(() => createMap({ ...spec, keySize: 3 })).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  test('disassemble and assemble are each other back', () => {
    const text = disassemble(assemble(ADD));
    expect(encodeInsns(assemble(text))).toEqual(encodeInsns(assemble(ADD)));
    expect(decodeInsns(encodeInsns(assemble(ADD)))).toEqual(assemble(ADD));
  });
});
