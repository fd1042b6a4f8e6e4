// Loads every program of the objects in a folder, each alone, here and with the system's libbpf into the machine's kernel, and compares:
// accepted or refused, and the relocated instructions. Needs root, Linux on x86-64 and dist/ (npm run build). Nothing is pinned or attached.
//
//   node scripts/compare-programs.mjs FOLDER [PART OF A NAME]
//
// Helpers without an implementation are given one that returns 0: what is compared is loading. Prints each difference, then
// `N compared, N accepted by both, N with the same instructions, N refused by both, N not comparable, N different`, where what the kernel
// refuses with EPERM is not comparable; exits 1 where something is different.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';

const bpf = await import(new URL('../dist/bpf/index.js', import.meta.url));
const koffi = createRequire(import.meta.url)('koffi');
const library = koffi.load('libbpf.so.1');
const libbpf = {};
for (const declaration of [
  'void *libbpf_set_print(void *callback)',
  'void *bpf_object__open_mem(const void *bytes, size_t size, const void *options)',
  'int bpf_object__load(void *object)',
  'void bpf_object__close(void *object)',
  'void *bpf_object__next_program(void *object, void *program)',
  'const char *bpf_program__name(void *program)',
  'int bpf_program__set_autoload(void *program, bool on)',
  'void *bpf_program__insns(void *program)',
  'size_t bpf_program__insn_cnt(void *program)',
]) {
  libbpf[/(\w+)\(/.exec(declaration)[1]] = library.func(declaration);
}
libbpf.libbpf_set_print(null);

const EPERM = 1;
const [folder, part = ''] = process.argv.slice(2);
if (folder === undefined) {
  console.error('node scripts/compare-programs.mjs FOLDER [PART OF A NAME]');
  process.exit(1);
}
const targetBtf = bpf.parseBtf(new Uint8Array(readFileSync('/sys/kernel/btf/vmlinux')));
const kconfig = existsSync('/proc/config.gz')
  ? gunzipSync(readFileSync('/proc/config.gz')).toString()
  : undefined;

/** One program by libbpf: 0 or -errno, and its instructions as they went to the kernel. */
function inKernel(bytes, wanted) {
  const file = Buffer.from(bytes);
  const object = libbpf.bpf_object__open_mem(file, file.length, null);
  if (object === null) return { result: -22 };
  const programs = [];
  let program = libbpf.bpf_object__next_program(object, null);
  for (; program !== null; program = libbpf.bpf_object__next_program(object, program)) programs.push(program);
  for (const one of programs) {
    libbpf.bpf_program__set_autoload(one, libbpf.bpf_program__name(one) === wanted);
  }
  const result = libbpf.bpf_object__load(object);
  const found = programs.find((one) => libbpf.bpf_program__name(one) === wanted);
  let insns = [];
  if (result === 0 && found !== undefined) {
    const size = Number(libbpf.bpf_program__insn_cnt(found)) * 8;
    const code = koffi.decode(libbpf.bpf_program__insns(found), koffi.array('uint8_t', size, 'Typed'));
    insns = bpf.decodeInsns(Uint8Array.from(code));
  }
  libbpf.bpf_object__close(object);
  return { result, insns };
}

const stubs = {};

function here(bytes, name, wanted) {
  for (;;) {
    try {
      const object = bpf.openObject(bytes, name);
      const loaded = object.load({
        programs: [wanted],
        targetBtf,
        ...(kconfig === undefined ? {} : { kconfig }),
        imports: { helper: stubs },
      });
      const { insns } = loaded.programs.get(wanted).verified;
      loaded.close();
      return { insns };
    } catch (error) {
      if (typeof error.code !== 'string') throw error;
      const helper = /helper (\w+) is not in this machine/.exec(error.message)?.[1];
      if (helper === undefined || helper in stubs) return { error };
      stubs[helper] = () => 0;
    }
  }
}

/** Addresses, file descriptors and ids are another machine's; everything else has to be the same. */
function difference(kernel, own) {
  if (kernel.length !== own.length) return `${own.length} instructions, not ${kernel.length}`;
  for (let pc = 0; pc < own.length; pc++) {
    const [a, b] = [kernel[pc], own[pc]];
    if (a.code === 0x18 && a.src !== 0) {
      // The second slot of a variable's address is its offset.
      const sameKind = { 1: 5, 2: 6 }[a.src] === b.src || a.src === b.src;
      if (!sameKind || a.dst !== b.dst || (a.src === 2 && kernel[pc + 1].imm !== own[pc + 1].imm))
        return `at ${pc}`;
      pc++;
    } else if (!(a.code === 0x85 && a.src === 2 && b.src === 2)) {
      for (const field of ['code', 'dst', 'src', 'off', 'imm'])
        if (a[field] !== b[field]) return `${field} at ${pc}`;
    }
  }
  return undefined;
}

const counts = { compared: 0, both: 0, same: 0, refused: 0, incomparable: 0, different: 0 };
for (const file of readdirSync(folder).sort()) {
  if (!file.endsWith('.o') || !file.includes(part)) continue;
  const bytes = new Uint8Array(readFileSync(path.join(folder, file)));
  for (const name of bpf.openObject(bytes, file).spec.programs.keys()) {
    const kernel = inKernel(bytes, name);
    const own = here(bytes, file, name);
    counts.compared++;
    if (kernel.result === -EPERM) counts.incomparable++;
    else if ((kernel.result === 0) !== (own.error === undefined)) {
      counts.different++;
      console.log(
        `${file} ${name}: the kernel says ${kernel.result}, here ${own.error?.message ?? 'accepted'}`,
      );
    } else if (own.error !== undefined) counts.refused++;
    else {
      counts.both++;
      const where = difference(kernel.insns, own.insns);
      if (where === undefined) counts.same++;
      else {
        counts.different++;
        console.log(`${file} ${name}: other instructions: ${where}`);
      }
    }
  }
}
const { compared, both, same, refused, incomparable, different } = counts;
console.log(
  `${compared} compared, ${both} accepted by both, ${same} with the same instructions, ${refused} refused by both, ${incomparable} not comparable, ${different} different`,
);
process.exit(different === 0 ? 0 : 1);
