/**
 * Rebuilds the BPF objects under test/bpf/fixtures/objects from their C sources, with every compiler of the list that is
 * installed. `node scripts/fixtures-bpf.mjs [OUT_FOLDER]`; the committed objects are in the source folder itself.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = path.join(path.dirname(fileURLToPath(import.meta.url)), '../test/bpf/fixtures/objects');

/** Suffix of the object's name, compiler, instruction set; `only` limits the sources. */
export const VARIANTS = [
  { suffix: '14', compiler: 'clang-14', cpu: 'v2' },
  { suffix: '19', compiler: 'clang-19', cpu: 'v3' },
  { suffix: '19v4', compiler: 'clang-19', cpu: 'v4', only: ['subprogs', 'globals'] },
  // Without types.
  { suffix: '19plain', compiler: 'clang-19', cpu: 'v3', only: ['legacy-maps', 'globals'], plain: true },
];

export function installed(tool) {
  try {
    execFileSync(tool, ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** Sources whose objects are linked into `linked-….o`. */
const LINKED = ['link-one', 'link-two'];

/**
 * Compiles every source into `out`; the names of the objects. DWARF is taken out, BTF stays. Objects need llvm-strip, linked ones
 * bpftool.
 */
export function build(out, { strip = 'llvm-strip-19', linker = 'bpftool' } = {}) {
  mkdirSync(out, { recursive: true });
  const sources = readdirSync(folder).filter((name) => name.endsWith('.c'));
  const made = [];
  for (const { suffix, compiler, cpu, only, plain } of VARIANTS) {
    if (!installed(compiler)) continue;
    const parts = [];
    for (const source of sources) {
      const base = source.replace(/\.c$/, '');
      if (only !== undefined && !only.includes(base)) continue;
      const object = path.join(out, `${base}-${suffix}.o`);
      // Relative names only: nothing of this machine's folders goes into the objects.
      const flags = [
        '-target',
        'bpf',
        ...(plain ? [] : ['-g']),
        '-O2',
        `-mcpu=${cpu}`,
        '-fdebug-compilation-dir=.',
      ];
      const warnings = [
        '-Wall',
        '-Wno-unused-function',
        '-Wno-ignored-attributes',
        '-Wno-incompatible-pointer-types-discards-qualifiers',
      ];
      execFileSync(compiler, [...flags, ...warnings, '-c', source, '-o', object], {
        cwd: folder,
        stdio: 'inherit',
      });
      if (installed(strip)) execFileSync(strip, ['-g', object]);
      (LINKED.includes(base) ? parts : made).push(object);
    }
    if (parts.length > 0 && installed(linker)) {
      const linked = path.join(out, `linked-${suffix}.o`);
      execFileSync(linker, ['gen', 'object', linked, ...parts]);
      made.push(linked);
    }
    for (const part of parts) rmSync(part);
  }
  return made.map((object) => path.basename(object));
}

const linkFolder = path.join(folder, '../link');
/** Objects of test/bpf/fixtures/link in the order in which bpftool links them: libbpf wants definitions of maps first. */
export const PARTS = ['library', 'rest', 'program'];

/** What `linkObjects()` is tested with: the parts of a program, what bpftool makes of them, and objects that do not fit. */
export function buildParts(out) {
  mkdirSync(out, { recursive: true });
  const made = [];
  const compile = ({ suffix, compiler, cpu }, source, name, ...more) => {
    const object = path.join(out, `${name}-${suffix}.o`);
    const flags = ['-target', 'bpf', '-g', '-O2', `-mcpu=${cpu}`, '-fdebug-compilation-dir=.'];
    const warnings = ['-Wno-ignored-attributes', '-Wno-incompatible-pointer-types-discards-qualifiers'];
    const args = [...flags, ...warnings, ...more, '-c', `${source}.c`, '-o', object];
    execFileSync(compiler, args, { cwd: linkFolder, stdio: 'inherit' });
    execFileSync('llvm-strip-19', ['-g', object]);
    made.push(object);
    return object;
  };
  for (const variant of VARIANTS.filter(({ only, compiler }) => only === undefined && installed(compiler))) {
    const parts = PARTS.map((name) => compile(variant, name, name));
    const linked = path.join(out, `linked-${variant.suffix}.o`);
    execFileSync('bpftool', ['gen', 'object', linked, ...parts]);
    made.push(linked);
    if (variant.compiler !== 'clang-19') continue;
    for (const wrong of [1, 2, 3, 4]) compile(variant, 'wrong', `wrong-${wrong}`, `-DWRONG=${wrong}`);
  }
  return made.map((object) => path.basename(object));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const out = process.argv[2];
  for (const name of build(path.resolve(out ?? folder))) console.log(name);
  for (const name of buildParts(out === undefined ? linkFolder : path.resolve(out, 'link')))
    console.log(name);
}
