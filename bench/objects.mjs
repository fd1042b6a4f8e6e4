// Object files from bytes to running programs: parse, link, relocate, verify, compile, instantiate. Beside it, as root, the same object
// by the system's libbpf and kernel (open, load, close), and each of its programs alone: the engine's loadProgram (verify, compile,
// instantiate) against bpf(BPF_PROG_LOAD) of the same instructions, with maps, types and func_info in place. Rounds are interleaved,
// after as many to warm up: the kernel's verifier is compiled once and for all, V8 compiles this one as it runs. What the first load in a
// process takes is a row of its own, linking three objects into one another. Objects that need what this machine has not are left out,
// and named; so is the kernel's part where it cannot be asked.
//
//   node bench/objects.mjs [FOLDER...] [-v]      the repository's own objects unless folders of others are named
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { kernelOracle } from './lib/kernel.mjs';
import { check, median, quick, row } from './lib/report.mjs';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const from = process.env.TRAPLINE_DIST ?? path.join(root, 'dist');
const ending = from.endsWith('src') ? 'ts' : 'js';
const index = pathToFileURL(path.join(from, `bpf/index.${ending}`)).href;
const { createMachine, encodeInsns, linkObjects, openObject } = await import(index);

const verbose = process.argv.includes('-v');
const given = process.argv.slice(2).filter((arg) => !arg.startsWith('-'));
const OWN = ['test/bpf/fixtures/objects', 'examples/bpf-testing/bpf'].map((folder) =>
  path.join(root, folder),
);
const folders = given.length > 0 ? given : OWN;
const files = folders.flatMap((folder) =>
  readdirSync(folder)
    .filter((name) => name.endsWith('.o'))
    .map((name) => path.join(folder, name)),
);
const rounds = quick ? 5 : 40;
const warmUp = quick ? 10 : 200;
const kconfig = { CONFIG_HZ: 250, CONFIG_SMP: true };
const geomean = (values) => Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);

/** libbpf's functions, or undefined where they cannot be had. */
function systemLibbpf() {
  try {
    const koffi = createRequire(import.meta.url)('koffi');
    const library = koffi.load('libbpf.so.1');
    const functions = {};
    for (const declaration of [
      'void *libbpf_set_print(void *callback)',
      'void *bpf_object__open_mem(const void *bytes, size_t size, const void *options)',
      'int bpf_object__load(void *object)',
      'void bpf_object__close(void *object)',
      'int bpf_object__btf_fd(void *object)',
      'int bpf_object__find_map_fd_by_name(void *object, const char *name)',
      'void *bpf_object__find_program_by_name(void *object, const char *name)',
      'int bpf_program__type(void *program)',
      'int bpf_program__expected_attach_type(void *program)',
      'void *bpf_linker__new(const char *file, const void *options)',
      'int bpf_linker__add_file(void *linker, const char *file, const void *options)',
      'int bpf_linker__finalize(void *linker)',
      'void bpf_linker__free(void *linker)',
    ]) {
      functions[/(\w+)\(/.exec(declaration)[1]] = library.func(declaration);
    }
    functions.libbpf_set_print(null);
    return functions;
  } catch {
    return undefined;
  }
}

// V8 keeps what it compiled, by the bytes of the module, for as long as a module of the same bytes lives: a program that is loaded once
// never finds itself there, so no two modules are the same here. An unused custom section makes them differ.
const { Module } = WebAssembly;
let modules = 0;
WebAssembly.Module = class extends Module {
  constructor(bytes) {
    const count = ++modules;
    const unique = new Uint8Array(bytes.length + 8);
    unique.set(bytes);
    unique.set(
      [0, 6, 1, 0x78, count & 255, (count >> 8) & 255, (count >> 16) & 255, count >> 24],
      bytes.length,
    );
    super(unique);
  }
};

const kernel = await kernelOracle();
const libbpf = kernel.reason === undefined ? systemLibbpf() : undefined;

function openedByLibbpf(bytes) {
  const object = libbpf.bpf_object__open_mem(bytes, bytes.length, null);
  if (object === null) return undefined;
  if (libbpf.bpf_object__load(object) === 0) return object;
  libbpf.bpf_object__close(object);
  return undefined;
}

function elapsed(work) {
  const start = performance.now();
  work();
  return performance.now() - start;
}

const machine = createMachine();
const loadOurs = (bytes, file) => openObject(bytes, file).load({ machine, kconfig });

/** What machine.loadProgram was asked for while an object was loaded. */
function recorded(bytes, file) {
  const inputs = [];
  const own = machine.loadProgram;
  machine.loadProgram = (input) => {
    inputs.push(input);
    return own.call(machine, input);
  };
  const loaded = loadOurs(bytes, file);
  delete machine.loadProgram;
  return { loaded, inputs };
}

/** The same program for the kernel: its maps by libbpf's descriptors. Undefined where the kernel refuses it. */
function forKernel(object, input) {
  const program = libbpf.bpf_object__find_program_by_name(object, input.name);
  const fds = input.maps.map(({ name }) => {
    // Maps of variables are named after the object, and found by their section.
    const section = /\.(?:data|rodata|bss|kconfig)\S*$/.exec(name)?.[0];
    return libbpf.bpf_object__find_map_fd_by_name(object, section ?? name);
  });
  if (program === null || fds.some((fd) => fd < 0)) return undefined;
  const insns = input.insns.map((insn) =>
    insn.code === 0x18 && (insn.src === 5 || insn.src === 6)
      ? { ...insn, src: insn.src - 4, imm: fds[insn.imm] }
      : insn,
  );
  const spec = {
    type: libbpf.bpf_program__type(program),
    expectedAttachType: libbpf.bpf_program__expected_attach_type(program),
    insns: encodeInsns(insns),
    license: input.license,
    btfFd: Math.max(0, libbpf.bpf_object__btf_fd(object)),
    funcInfo: input.funcInfo,
  };
  const { fd } = kernel.progLoad(spec);
  if (fd < 0) return undefined;
  kernel.close(fd);
  return spec;
}

const objects = [];
const refused = [];
let insns = 0;
let exact = true;
for (const file of files) {
  const bytes = readFileSync(file);
  const name = path.basename(file);
  for (const { functions, insns: code } of openObject(bytes, name).spec.programs.values()) {
    insns += code.length;
    const length = functions.reduce((sum, func) => sum + func.length, 0);
    exact = check(`${name}: instructions of all functions`, length, code.length) && exact;
  }
  try {
    loadOurs(bytes, name).close();
  } catch (error) {
    if (typeof error.code !== 'string') throw error;
    refused.push(`${name} (${error.code})`);
    continue;
  }
  exact = check(`${name}: left in the machine`, machine.maps.size + machine.programs.size, 0) && exact;
  const object = libbpf && openedByLibbpf(bytes);
  if (object !== undefined) libbpf.bpf_object__close(object);
  objects.push({ name, bytes, inKernel: object !== undefined });
}
for (let round = 0; round < warmUp; round++) {
  for (const { name, bytes } of objects) loadOurs(bytes, name).close();
}

const measured = objects.map((object) => ({ ...object, ...measure(object) }));

/** Medians in milliseconds of the whole object and of each program that both load. */
function measure({ name, bytes, inKernel }) {
  const open = [];
  const whole = [];
  const wholeKernel = [];
  for (let round = 0; round < rounds; round++) {
    open.push(elapsed(() => openObject(bytes, name)));
    whole.push(elapsed(() => loadOurs(bytes, name).close()));
    if (inKernel) wholeKernel.push(elapsed(() => libbpf.bpf_object__close(openedByLibbpf(bytes))));
  }
  const result = { open: median(open), whole: median(whole), programs: [] };
  if (!inKernel) return result;
  result.wholeKernel = median(wholeKernel);
  const { loaded, inputs } = recorded(bytes, name);
  const object = openedByLibbpf(bytes);
  for (const input of inputs) {
    const spec = forKernel(object, input);
    if (spec === undefined) continue;
    const ours = [];
    const theirs = [];
    for (let round = 0; round < rounds; round++) {
      let program;
      let fd;
      ours.push(
        elapsed(() => {
          program = machine.loadProgram(input);
        }),
      );
      machine.release(program);
      theirs.push(
        elapsed(() => {
          fd = kernel.progLoad(spec).fd;
        }),
      );
      kernel.close(fd);
    }
    result.programs.push({
      name: input.name,
      insns: input.insns.length,
      ours: median(ours),
      theirs: median(theirs),
    });
  }
  libbpf.bpf_object__close(object);
  loaded.close();
  return result;
}

const show = (value) => value.toFixed(3).padStart(8);
if (verbose) {
  console.log('object or program: insns, ms here, ms in the kernel, times');
  for (const { name, whole, wholeKernel, programs } of measured) {
    if (wholeKernel === undefined) continue;
    console.log(
      `${name.padEnd(40)}${show(whole)}${show(wholeKernel)}${(whole / wholeKernel).toFixed(2).padStart(7)}`,
    );
    for (const { name, insns, ours, theirs } of programs) {
      const count = String(insns).padStart(6);
      console.log(
        `  ${name.padEnd(32)}${count}${show(ours)}${show(theirs)}${(ours / theirs).toFixed(2).padStart(7)}`,
      );
    }
  }
}

const range = (values) => [Math.min(...values), Math.max(...values)];
/** The target is for each of them, so the slowest is held against it. */
function compared(name, ratios) {
  row({ name, value: geomean(ratios), spread: range(ratios), unit: 'times', note: 'mean' });
  row({
    name: `${name}: the slowest`,
    value: Math.max(...ratios),
    unit: 'times',
    limit: 3,
    note: above(ratios),
  });
}

const above = (ratios) => `${ratios.filter((ratio) => ratio > 3).length} of ${ratios.length} above 3`;
row({
  name: `open ${objects.length} objects (${insns.toLocaleString('en-US')} linked instructions in ${files.length})`,
  value: geomean(measured.map(({ open }) => open)),
  spread: range(measured.map(({ open }) => open)),
  unit: 'ms an object',
  exact,
});
row({
  name: `open and load ${objects.length} objects`,
  value: geomean(measured.map(({ whole }) => whole)),
  spread: range(measured.map(({ whole }) => whole)),
  unit: 'ms an object',
});
const both = measured.filter(({ wholeKernel }) => wholeKernel !== undefined);
if (both.length > 0) {
  const programs = both.flatMap(({ programs }) => programs.map(({ ours, theirs }) => ours / theirs));
  compared(
    `open and load ${both.length} objects, against libbpf and the kernel`,
    both.map(({ whole, wholeKernel }) => whole / wholeKernel),
  );
  compared(`load ${programs.length} programs, against BPF_PROG_LOAD alone`, programs);
} else {
  const why = kernel.reason ?? (libbpf === undefined ? 'libbpf is not here' : 'it loads none of them');
  row({ name: 'open and load against libbpf and the kernel', note: `skipped: ${why}` });
}
if (refused.length > 0) console.log(`not loaded here: ${refused.join(', ')}`);

linking();

/** Three objects become one: files read, linked, written, as `bpftool gen object` does it. */
function linking() {
  const parts = ['library', 'rest', 'program'].map((name) =>
    path.join(root, 'test/bpf/fixtures/link', `${name}-19.o`),
  );
  const work = mkdtempSync(path.join(os.tmpdir(), 'trapline-bench-link-'));
  const out = path.join(work, 'out.o');
  const ours = () => linkObjects(parts.map((name) => ({ name, bytes: readFileSync(name) })));
  const theirs = () => {
    const linker = libbpf.bpf_linker__new(out, null);
    const failed = parts.some((part) => libbpf.bpf_linker__add_file(linker, part, null) !== 0);
    if (failed || libbpf.bpf_linker__finalize(linker) !== 0)
      throw new Error('libbpf does not link the objects');
    libbpf.bpf_linker__free(linker);
  };
  const programs = (bytes) => {
    const { spec } = openObject(bytes, 'linked');
    return JSON.stringify([...spec.programs.values()].map(({ name, insns }) => [name, insns]));
  };
  const known = readFileSync(path.join(root, 'test/bpf/fixtures/link/linked-19.o'));
  const exact = check('linked: instructions of all programs', programs(ours()), programs(known));
  const times = [];
  const ratios = [];
  for (let round = 0; round < warmUp + rounds; round++) {
    const here = elapsed(ours);
    const there = libbpf === undefined ? undefined : elapsed(theirs);
    if (round < warmUp) continue;
    times.push(here);
    if (there !== undefined) ratios.push(here / there);
  }
  rmSync(work, { recursive: true });
  row({ name: 'link three objects', value: median(times), spread: range(times), unit: 'ms', exact });
  const name = "link three objects, against libbpf's linker";
  if (ratios.length === 0) row({ name, note: `skipped: ${kernel.reason ?? 'libbpf is not here'}` });
  else row({ name, value: median(ratios), spread: range(ratios), unit: 'times' });
}

const FIRST = `
  const { openObject } = await import(process.argv[1]);
  const { readFileSync } = await import('node:fs');
  const bytes = readFileSync(process.argv[2]);
  const start = performance.now();
  openObject(bytes, 'first').load({ kconfig: { CONFIG_HZ: 250, CONFIG_SMP: true } });
  console.log(performance.now() - start);`;
if (ending === 'js') {
  const one = measured.findIndex(({ name }) => name.startsWith('globals')) || 0;
  const file = files.find((file) => path.basename(file) === measured[Math.max(0, one)].name);
  const times = Array.from({ length: quick ? 2 : 7 }, () =>
    Number(execFileSync(process.execPath, ['--input-type=module', '-e', FIRST, index, file])),
  );
  row({
    name: 'the first object that a process opens and loads',
    value: median(times),
    spread: range(times),
    unit: 'ms',
    note: path.basename(file),
  });
}
