/**
 * `node scripts/golden-types.mjs BTF`: writes test/support/golden/kernel-types.json.gz, what the replay of recordings knows of a
 * kernel's types. BTF is that kernel's /sys/kernel/btf/vmlinux. Needs a build.
 *
 * `functions`: by name the return type, then names and types of parameters; of those that the simulated system has. `tracepoints`: the
 * same without a return type and the leading data pointer. `structs`: by number the size in bytes, then members as [name, type, bit
 * offset, bits of a bit field]. A type is a C declaration without names of its own: `int`, `#12 *` is a pointer to struct 12.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { parseBtf, resolveType } from '../dist/bpf/index.js';
import { placedSymbols } from '../test/support/golden/symbols.mjs';

const STUB = '__probestub_';

const [, , file] = process.argv;
if (file === undefined) throw new Error('usage: node scripts/golden-types.mjs BTF');
const btf = parseBtf(readFileSync(file));
const structs = [];
const numbers = new Map();

function declared(id) {
  const type = btf.type(resolveType(btf, id));
  switch (type.kind) {
    case 'INT':
      return intName(type);
    case 'ENUM':
      return 'enum e';
    case 'ENUM64':
      return 'long';
    case 'PTR':
      return `${declared(type.type)} *`;
    case 'ARRAY':
      return `${declared(type.type)} [${type.nelems}]`;
    case 'STRUCT':
    case 'UNION':
      return `#${numberOf(type)}`;
    default:
      // Of functions and of what is only declared there is nothing to know.
      return 'void';
  }
}

function intName({ bits, signed }) {
  const name = { 8: 'char', 16: 'short', 32: 'int', 64: 'long' }[bits];
  if (name === undefined) return `int${bits}`;
  if (bits === 8) return signed ? 'signed char' : 'char';
  return signed ? name : `unsigned ${name}`;
}

/** The number of a struct; its members are told by the loop below, as they may name it. */
function numberOf(type) {
  const known = numbers.get(type.id);
  if (known !== undefined) return known;
  const number = structs.length;
  numbers.set(type.id, number);
  structs.push(type);
  return number;
}

function params(proto) {
  return proto.params.filter(({ type }) => type !== 0).flatMap(({ name, type }) => [name, declared(type)]);
}

const wanted = new Set(
  placedSymbols()
    .filter(({ data }) => !data)
    .map(({ name }) => name),
);
const functions = {};
const tracepoints = {};
for (const { kind, name, type } of btf.types) {
  if (kind !== 'FUNC') continue;
  const proto = btf.type(type);
  if (wanted.has(name)) functions[name] ??= [declared(proto.type), ...params(proto)];
  else if (name.startsWith(STUB)) tracepoints[name.slice(STUB.length)] = params(proto).slice(2);
}
for (let n = 0; n < structs.length; n++) {
  const { size, members } = structs[n];
  structs[n] = [
    size,
    ...members.map(({ name, type, bitOffset, bitSize }) => [
      name,
      declared(type),
      bitOffset,
      ...(bitSize === 0 ? [] : [bitSize]),
    ]),
  ];
}
const bytes = gzipSync(JSON.stringify({ functions, tracepoints, structs }), { level: 9 });
writeFileSync(new URL('../test/support/golden/kernel-types.json.gz', import.meta.url), bytes);
console.log(
  `${Object.keys(functions).length} functions, ${Object.keys(tracepoints).length} tracepoints, ${structs.length} structs: ` +
    `${bytes.length} bytes`,
);
