// BTF of a whole kernel: parse, find, relocate, print, deduplicate. bpftool does the same printing beside it, where present.
//
//   node bench/btf.mjs [FILE]        /sys/kernel/btf/vmlinux unless a file is named
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { check, median, quick, row } from './lib/report.mjs';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const from = process.env.TRAPLINE_DIST ?? path.join(root, 'dist');
const ending = from.endsWith('src') ? 'ts' : 'js';
const bpf = await import(pathToFileURL(path.join(from, `bpf/index.${ending}`)).href);

const file = process.argv.slice(2).find((arg) => !arg.startsWith('-')) ?? '/sys/kernel/btf/vmlinux';
if (!existsSync(file)) {
  console.log(`btf: skipped, there is no ${file}`);
  process.exit(0);
}
const bytes = new Uint8Array(readFileSync(file));
const rounds = quick ? 3 : 9;

function time(run) {
  const times = [];
  let result;
  for (let i = 0; i < rounds; i++) {
    const start = performance.now();
    result = run();
    times.push(performance.now() - start);
  }
  return { result, ms: median(times), spread: [Math.min(...times), Math.max(...times)] };
}

const parsed = time(() => bpf.parseBtf(bytes));
const btf = parsed.result;
const count = btf.typeCount - 1;
row({
  name: `parse ${count.toLocaleString('en-US')} types, ${(bytes.length / 1e6).toFixed(1)} MB`,
  value: parsed.ms,
  spread: parsed.spread,
  unit: 'ms',
  limit: 200,
});

const first = time(() => bpf.parseBtf(bytes).byName('task_struct', 'STRUCT'));
row({
  name: 'parse and find the first name',
  value: first.ms,
  spread: first.spread,
  unit: 'ms',
  limit: 300,
  exact: check('task_struct', btf.name(first.result), 'task_struct'),
});

const decoded = time(() => {
  let n = 0;
  for (const type of btf.types) n += type.id > 0 ? 1 : 0;
  return n;
});
row({
  name: 'decode every type',
  value: decoded.ms,
  spread: decoded.spread,
  unit: 'ms',
  exact: check('types', decoded.result, count),
});

const object = new Uint8Array(readFileSync(path.join(root, 'test/bpf/fixtures/btf/core-19.o')));
const { spec } = bpf.openObject(object, 'core-19');
const program = spec.programs.get('values');
const relos = program.coreRelos.map((relo) => ({ ...relo, insnOff: relo.insn * 8 }));
const relocated = time(() => bpf.applyCoreRelocations(program.insns, relos, spec.btf, btf));
row({
  name: `relocate ${relos.length} accesses against it`,
  value: relocated.ms,
  spread: relocated.spread,
  unit: 'ms',
  exact: check('relocations', relocated.result.report.length, relos.length),
});

const bpftool = spawnSync('bpftool', ['version']).status === 0;
for (const [name, args, run] of [
  ['as a C header', ['format', 'c'], () => bpf.dumpC(btf)],
  ['as a list', [], () => [...bpf.dumpRaw(btf)].join('')],
]) {
  const ours = time(run);
  let note;
  let exact;
  if (bpftool) {
    const theirs = time(
      () => spawnSync('bpftool', ['btf', 'dump', 'file', file, ...args], { maxBuffer: 1 << 28 }).stdout,
    );
    note = `${(ours.ms / theirs.ms).toFixed(2)} times bpftool's ${theirs.ms.toFixed(0)} ms, its start included`;
    if (args.length === 0)
      exact = check('bytes of the list', Buffer.byteLength(ours.result), theirs.result.length);
  }
  row({ name, value: ours.ms, spread: ours.spread, unit: 'ms', note, exact });
}

const deduplicated = time(() => bpf.dedupBtf(btf).btf);
row({
  name: 'deduplicate it (there is nothing to find)',
  value: deduplicated.ms,
  spread: deduplicated.spread,
  unit: 'ms',
  exact: check('types left', deduplicated.result.typeCount, btf.typeCount),
});
