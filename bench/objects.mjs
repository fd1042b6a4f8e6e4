// Object files from bytes to running programs: parse, link, relocate, verify, compile, instantiate. Beside it, as root, the same object
// by the system's libbpf and kernel (open, load, close). Objects that need what this machine has not are left out, and named.
//
//   node bench/objects.mjs [FOLDER]      the repository's own objects unless a folder of others is named
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { check, median, quick, row } from './lib/report.mjs';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const from = process.env.TRAPLINE_DIST ?? path.join(root, 'dist');
const ending = from.endsWith('src') ? 'ts' : 'js';
const { createMachine, openObject } = await import(
  pathToFileURL(path.join(from, `bpf/index.${ending}`)).href
);

const given = process.argv.slice(2).find((arg) => !arg.startsWith('-'));
const folder = given ?? path.join(root, 'test/bpf/fixtures/objects');
const files = readdirSync(folder).filter((name) => name.endsWith('.o'));
const rounds = quick ? 5 : 40;
const kconfig = { CONFIG_HZ: 250, CONFIG_SMP: true };

/** libbpf's open, load and close, or undefined where it cannot be had. */
function oracle() {
  try {
    const koffi = createRequire(import.meta.url)('koffi');
    const library = koffi.load('libbpf.so.1');
    library.func('void *libbpf_set_print(void *callback)')(null);
    const open = library.func(
      'void *bpf_object__open_mem(const void *bytes, size_t size, const void *options)',
    );
    const load = library.func('int bpf_object__load(void *object)');
    const close = library.func('void bpf_object__close(void *object)');
    return (bytes) => {
      const object = open(bytes, bytes.length, null);
      if (object === null) return false;
      const error = load(object);
      close(object);
      return error === 0;
    };
  } catch {
    return undefined;
  }
}

function time(work, count) {
  const times = [];
  for (let i = 0; i < count; i++) {
    const start = performance.now();
    work();
    times.push(performance.now() - start);
  }
  return times;
}

const kernel = process.getuid?.() === 0 ? oracle() : undefined;
const machine = createMachine();
const opens = [];
const loads = [];
const ratios = [];
let slowest = { file: '', ratio: 0 };
let insns = 0;
let exact = true;
const refused = [];
for (const file of files) {
  const bytes = readFileSync(path.join(folder, file));
  const opened = openObject(bytes, file);
  for (const { functions, insns: code } of opened.spec.programs.values()) {
    insns += code.length;
    const length = functions.reduce((sum, func) => sum + func.length, 0);
    exact = check(`${file}: instructions of all functions`, length, code.length) && exact;
  }
  opens.push(median(time(() => openObject(bytes, file), rounds)));
  const load = () => openObject(bytes, file).load({ machine, kconfig }).close();
  try {
    load();
  } catch (error) {
    if (typeof error.code !== 'string') throw error;
    refused.push(`${file} (${error.code})`);
    continue;
  }
  exact = check(`${file}: left in the machine`, machine.maps.size + machine.programs.size, 0) && exact;
  const ours = median(time(load, rounds));
  loads.push(ours);
  if (kernel?.(bytes) !== true) continue;
  const ratio = ours / median(time(() => kernel(bytes), rounds));
  ratios.push(ratio);
  if (ratio > slowest.ratio) slowest = { file, ratio };
}

const geomean = (values) => Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
row({
  name: `open ${files.length} objects, ${insns.toLocaleString('en-US')} linked instructions`,
  value: geomean(opens),
  spread: [Math.min(...opens), Math.max(...opens)],
  unit: 'ms an object',
  exact,
});
if (loads.length > 0) {
  row({
    name: `open and load ${loads.length} objects`,
    value: geomean(loads),
    spread: [Math.min(...loads), Math.max(...loads)],
    unit: 'ms an object',
  });
}
if (ratios.length > 0) {
  row({
    name: `open and load ${ratios.length} objects, against libbpf and the kernel`,
    value: geomean(ratios),
    spread: [Math.min(...ratios), Math.max(...ratios)],
    unit: 'times',
    limit: 3,
  });
  row({
    name: 'the slowest of them',
    value: slowest.ratio,
    unit: 'times',
    limit: 3,
    note: `${slowest.file}; ${ratios.filter((ratio) => ratio > 3).length} of ${ratios.length} above 3`,
  });
}
if (refused.length > 0) console.log(`not loaded here: ${refused.join(', ')}`);
