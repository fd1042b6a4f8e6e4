import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { afterAll, describe, expect, test } from 'vitest';
import { TypeScriptTypes } from '../../src/bpf/gen/typescript-types.ts';
import { BpfError, BtfBuilder, createMachine, generateSkeleton, openObject } from '../../src/bpf/index.ts';

const fixtures = new URL('./fixtures/btf/', import.meta.url);
const api = fileURLToPath(new URL('../../src/bpf/index.ts', import.meta.url));
const folder = mkdtempSync(path.join(tmpdir(), 'trapline-gen-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function generate(name: string): string {
  const contents = new Uint8Array(readFileSync(new URL(name, fixtures)));
  return generateSkeleton(openObject(contents, 'values'), { contents, importFrom: api });
}

/** What a strict compiler says about modules in one folder. */
function compile(files: Record<string, string>): string {
  for (const [name, text] of Object.entries(files)) writeFileSync(path.join(folder, name), text);
  const root = fileURLToPath(new URL('../../', import.meta.url));
  const config = {
    compilerOptions: {
      target: 'ES2022',
      lib: ['ES2023'],
      module: 'NodeNext',
      moduleResolution: 'NodeNext',
      types: ['node'],
      typeRoots: [path.join(root, 'node_modules/@types')],
      strict: true,
      exactOptionalPropertyTypes: true,
      verbatimModuleSyntax: true,
      erasableSyntaxOnly: true,
      isolatedModules: true,
      noUnusedLocals: true,
      noUncheckedIndexedAccess: true,
      allowImportingTsExtensions: true,
      noEmit: true,
      skipLibCheck: true,
    },
    files: [...Object.keys(files), path.join(root, 'src/bpf/webassembly.d.ts')],
  };
  writeFileSync(path.join(folder, 'package.json'), '{"type":"module"}');
  const project = path.join(folder, 'tsconfig.json');
  writeFileSync(project, JSON.stringify(config));
  const tsc = path.join(root, 'node_modules/.bin/tsc');
  const { stdout, stderr } = spawnSync(tsc, ['-p', project, '--pretty', 'false'], {
    encoding: 'utf8',
    cwd: folder,
  });
  // The sources that they import are another compilation's matter.
  return (stdout + stderr)
    .split('\n')
    .filter((line) => Object.keys(files).some((name) => line.startsWith(`${name}(`)))
    .join('\n');
}

const USER = `
import { Color, openValues, type Inner, type Value } from './values.ts';

const values = openValues();
values.globals.count = 5;
const glob: Value = values.globals.glob;
export const names: readonly string[] = glob.in.map((one: Inner) => one.name);
const loaded = values.load();
export const wide: bigint = glob.wide;
export const maybe: number | undefined = glob.u.i;
loaded.maps.vals.set({ x: 1, name: 'k' }, { ...glob, color: Color.GREEN, flag: true });
export const entry: bigint | undefined = loaded.maps.arr.get(0);
export const cpus: Inner[] | undefined = loaded.maps.pc.get(0);
export const { retval }: { retval: number } = loaded.programs.prog.testRun({ dataIn: new Uint8Array(64) });

// @ts-expect-error no such variable
values.globals.nothing = 1;
// @ts-expect-error a number, no text
values.globals.count = 'five';
// @ts-expect-error no such map
loaded.maps.nothing;
// @ts-expect-error no such program
loaded.programs.nothing;
// @ts-expect-error the key is a struct
loaded.maps.vals.get(1);
// @ts-expect-error a member that the struct does not have
export const wrong = glob.nothing;
// @ts-expect-error values that were read are not written to
glob.wide = 1n;
`;

test('an arena is read and written by the addresses in it', () => {
  const contents = new Uint8Array(readFileSync(new URL('./fixtures/arena/arena-19.o', import.meta.url)));
  const text = generateSkeleton(openObject(contents, 'lists'), { contents, importFrom: api });
  const user = `
import { openLists } from './lists.ts';
const { maps, globals } = openLists().load();
export const head: bigint = globals.head;
export const node: Uint8Array = maps.arena.read(head, 16);
maps.arena.write(maps.arena.userStart, node);
globals.total = 5n;
`;
  expect(compile({ 'lists.ts': text, 'lists-user.ts': user })).toBe('');
});

describe.each(['values-14.o', 'values-19.o'])('the module of %s', (name) => {
  test('compiles strictly, and so does who uses it', () => {
    const wrong = `${USER}\nvalues.globals.count = 'five';\n`;
    // one run of the compiler: the only complaint is about the mistake
    expect(compile({ 'values.ts': generate(name), 'user.ts': USER, 'wrong.ts': wrong })).toMatch(
      /^wrong\.ts\(\d+,1\): error TS2322.*$/,
    );
  });

  test('has the types of the object', () => {
    const text = generate(name);
    expect(text).toContain('readonly vals: TypedMap<Inner, Value>;');
    expect(text).toContain('readonly arr: TypedMap<number, bigint>;');
    expect(text).toContain('readonly pc: TypedPercpuMap<number, Inner>;');
    expect(text).toMatch(/export const Color = \{\n {2}RED: 0,\n {2}GREEN: 5,\n\} as const;/);
    expect(text).toMatch(
      /readonly text: string;\n {2}readonly bin: string;\n {2}readonly mac: readonly number\[\];/,
    );
    expect(text).toMatch(
      /readonly u: \{ readonly i\?: number; readonly s\?: number \};\n {2}readonly anon: number;/,
    );
    expect(text).toContain("export type ValuesPrograms = 'prog';");
    // A static variable is its file's own.
    expect(text).not.toContain('hid');
  });

  test('runs: variables, maps and programs of the object', async () => {
    const source = path.join(folder, `run-${name}.ts`);
    const output = path.join(folder, `run-${name}.mjs`);
    writeFileSync(source, generate(name));
    await build({ entryPoints: [source], outfile: output, bundle: true, format: 'esm', logLevel: 'silent' });
    // biome-ignore lint/suspicious/noExplicitAny: the types are tested above, by the compiler
    const { openValues } = (await import(pathToFileURL(output).href)) as any;
    const values = openValues();
    expect(values.globals.count).toBe(3);
    expect(values.globals.glob).toMatchObject({
      a: 5,
      b: -3,
      c: 0x1234567890n,
      text: 'hi',
      wide: 2n ** 64n - 1n,
    });
    values.globals.count = 10;
    const { maps, programs, globals } = values.load();
    const glob = globals.glob;
    maps.vals.set({ x: 1, name: 'k' }, { ...glob, neg: -7n });
    expect(maps.vals.get({ x: 1, name: 'k' })).toEqual({ ...glob, neg: -7n });
    expect(maps.vals.get({ x: 2, name: 'k' })).toBeUndefined();
    expect([...maps.vals].map(([key]) => key)).toEqual([{ x: 1, name: 'k' }]);
    expect(maps.vals.delete({ x: 2, name: 'k' })).toBe(false);
    maps.arr.set(1, 77n);
    expect([...maps.arr]).toEqual([
      [0, 0n],
      [1, 77n],
    ]);
    expect(() => maps.arr.set(2, 1n)).toThrow(expect.objectContaining({ code: 'E2BIG' }));
    expect(() => maps.arr.set(0, 2n ** 64n)).toThrow('does not fit');
    // The program adds 1 for each of `vals` and `arr` that has its key, then sums up: 3 + count + 9 + 'x'.
    const { retval } = programs.prog.testRun({ dataIn: new Uint8Array(64) });
    expect(globals.count).toBe(12);
    expect(retval).toBe(3 + 12 + 9 + 'x'.charCodeAt(0));
  });
});

const CONTAINERS_USER = `
import { openContainers, type Job } from './containers.ts';
const { maps } = openContainers().load();
maps.jobs.push({ id: 1, weight: 2n });
export const job: Job | undefined = maps.jobs.pop();
export const done: number | undefined = maps.done.peek();
export const names: string[] = [...maps.events.take<{ id: number; name: string }>('event')].map((one) => one.name);
export const bytes: Uint8Array[] = [...maps.events.take()];
// @ts-expect-error a job, no number
maps.jobs.push(1);
`;

describe.each(['containers-14.o', 'containers-19.o'])('the module of %s', (name) => {
  const contents = new Uint8Array(readFileSync(new URL(name, fixtures)));
  const text = generateSkeleton(openObject(contents, 'containers'), { contents, importFrom: api });

  test('types queues and stacks by their values', () => {
    expect(text).toContain('readonly jobs: TypedQueue<Job>;');
    expect(text).toContain('readonly done: TypedQueue<number>;');
    expect(text).toContain('readonly events: TypedRingBuffer;');
    expect(compile({ 'containers.ts': text, 'containers-user.ts': CONTAINERS_USER })).toBe('');
  });

  test('runs', async () => {
    const source = path.join(folder, `run-${name}.ts`);
    const output = path.join(folder, `run-${name}.mjs`);
    writeFileSync(source, text);
    await build({ entryPoints: [source], outfile: output, bundle: true, format: 'esm', logLevel: 'silent' });
    // biome-ignore lint/suspicious/noExplicitAny: the types are tested above, by the compiler
    const { openContainers } = (await import(pathToFileURL(output).href)) as any;
    const { maps, programs } = openContainers().load();
    const jobs = [
      { id: 5, weight: 50n },
      { id: 6, weight: 60n },
    ];
    for (const job of jobs) maps.jobs.push(job);
    expect(() => maps.jobs.push({ id: 7, weight: 70n })).toThrow(expect.objectContaining({ code: 'E2BIG' }));
    expect([...maps.jobs]).toEqual(jobs);
    expect(maps.jobs.peek()).toEqual(jobs[0]);
    expect(programs.work.testRun({ dataIn: new Uint8Array(64) }).retval).toBe(50);
    expect(maps.jobs.size).toBe(1);
    expect(maps.jobs.pop()).toEqual(jobs[1]);
    expect(maps.jobs.pop()).toBeUndefined();
    maps.jobs.push({ id: 9, weight: 90n });
    expect(programs.work.testRun({ dataIn: new Uint8Array(64) }).retval).toBe(90);
    // The stack's youngest comes first.
    expect([maps.done.pop(), maps.done.pop(), maps.done.pop()]).toEqual([9, 5, undefined]);
    const [first] = maps.events.take('event');
    expect(first).toEqual({ id: 5, name: 'job' });
    expect([...maps.events.take()]).toEqual([Uint8Array.of(9, 0, 0, 0, 0x6a, 0x6f, 0x62, 0)]);
    expect([...maps.events.take('event')]).toEqual([]);
    expect(() => [...maps.events.take('no_such')]).toThrow('the object has no type no_such');
    maps.jobs.push({ id: 10, weight: 1n });
    programs.work.testRun({ dataIn: new Uint8Array(64) });
    expect(() => [...maps.events.take('job')]).toThrow('a record of 8 bytes, job has 16');
  });
});

/** The functions of a module, compiled. */
async function imported(name: string, text: string): Promise<Record<string, () => unknown>> {
  const source = path.join(folder, `${name}.ts`);
  const output = path.join(folder, `${name}.mjs`);
  writeFileSync(source, text);
  await build({ entryPoints: [source], outfile: output, bundle: true, format: 'esm', logLevel: 'silent' });
  return import(pathToFileURL(output).href);
}

const STREAMS_USER = `
import { openStreams, type Order } from './streams.ts';
const { maps } = openStreams().load();
export const fits: boolean = maps.orders.write<Order>('order', { id: 1, amount: 2 }) && maps.orders.write(new Uint8Array(8));
maps.notes.open(4096);
export const sums: bigint[] = maps.notes.take<{ id: number; sum: bigint }>('note').map(({ record }) => record.sum);
export const frames: bigint[] | undefined = maps.stacks.get(1);
export const was: boolean = maps.seen.has({ id: 1, amount: 2 });
export const device: number | undefined = maps.devices.get(0);
// @ts-expect-error an order, no number
maps.seen.add(1);
`;

describe.each(['streams-14.o', 'streams-19.o'])('the module of %s', (name) => {
  const contents = new Uint8Array(readFileSync(new URL(name, fixtures)));
  const text = generateSkeleton(openObject(contents, 'streams'), { contents, importFrom: api });

  test('types buffers, filters and stacks of calls', () => {
    expect(text).toMatch(/readonly orders: TypedUserRingBuffer;/);
    expect(text).toMatch(/readonly notes: TypedPerfEventArray;/);
    expect(text).toMatch(/readonly stacks: TypedStackTraces;/);
    expect(text).toMatch(/readonly seen: TypedBloomFilter<Order>;/);
  });

  test('runs', async () => {
    const { openStreams } = await imported(`run-${name}`, text);
    // biome-ignore lint/suspicious/noExplicitAny: the types are tested above, by the compiler
    const { maps, programs } = (openStreams!() as any).load({
      machine: createMachine({ stack: () => [0x1000n, 0x2000n] }),
    });
    expect(() => maps.notes.take('note')).toThrow('open() it before programs run');
    maps.notes.open(4096);
    expect(maps.orders.write('order', { id: 1, amount: 10 })).toBe(true);
    expect(maps.orders.write(Uint8Array.of(2, 0, 0, 0, 5, 0, 0, 0))).toBe(true);
    expect(() => maps.orders.write(new Uint8Array(5000))).toThrow(expect.objectContaining({ code: 'E2BIG' }));
    let room = 0;
    while (maps.orders.write(new Uint8Array(1000))) room++;
    expect(room).toBe(4);
    expect(programs.take.testRun({ ctxIn: new Uint8Array(8) }).retval).toBe(2 + room);
    expect(maps.notes.take('note')).toEqual([{ cpu: 0, record: { id: 0, sum: 15n } }]);
    expect(maps.notes.take()).toEqual([]);
    expect(maps.notes.lost).toEqual([0]);
    expect(maps.seen.has({ id: 2, amount: 5 })).toBe(true);
    expect(maps.seen.has({ id: 3, amount: 5 })).toBe(false);
    maps.seen.add({ id: 3, amount: 5 });
    expect(maps.seen.has({ id: 3, amount: 5 })).toBe(true);
    const [[id, frames], ...others] = [...maps.stacks];
    expect([frames, others]).toEqual([[0x1000n, 0x2000n], []]);
    expect(maps.stacks.get(id)).toEqual(frames);
    expect([maps.stacks.delete(id), maps.stacks.delete(id), maps.stacks.get(id)]).toEqual([
      true,
      false,
      undefined,
    ]);
    maps.devices.set(1, 7);
    expect([...maps.devices]).toEqual([[1, 7]]);
    maps.notes.close();
  });
});

const MAP_IN_MAP_USER = `
import { openMapInMap } from './map-in-map.ts';
const { maps, programs } = openMapInMap().load();
export const value: number | undefined = maps.outer.get(0)?.get(1);
maps.outer.set(1, maps.second);
maps.outer.set(1, maps.second.map);
maps.by_hash.make(7).set(5n, 1);
for (const [key, inner] of maps.by_hash) for (const [id, flag] of inner) console.log(key + flag, id + 1n);
maps.jumps.set(0, programs.start);
export const name: string | undefined = maps.jumps.get(0)?.name;
// @ts-expect-error a map of numbers by bigints, not of numbers by numbers
maps.by_hash.set(1, maps.first);
// @ts-expect-error the inner map's key is a bigint
maps.by_hash.make(1).get(1);
// @ts-expect-error a program, no map
maps.jumps.set(0, maps.first);
`;

describe.each(['map-in-map-14.o', 'map-in-map-19.o'])('the module of %s', (name) => {
  const contents = new Uint8Array(readFileSync(new URL(`../objects/${name}`, fixtures)));
  const text = generateSkeleton(openObject(contents, 'map-in-map'), { contents, importFrom: api });

  test('types maps of maps by their inner ones, and arrays of programs', () => {
    expect(text).toContain('readonly outer: TypedMapOfMaps<number, TypedMap<number, number>>;');
    // The definition has no key type, only its size.
    expect(text).toMatch(/readonly by_hash: TypedMapOfMaps<number, TypedMap<bigint, number>>;/);
    expect(text).toContain('readonly jumps: TypedProgArray;');
  });

  test('runs', async () => {
    const { openMapInMap } = await imported(`run-${name}`, text);
    // biome-ignore lint/suspicious/noExplicitAny: the types are tested above, by the compiler
    const { maps, programs, object } = (openMapInMap!() as any).load();
    expect(programs.start.testRun({ dataIn: new Uint8Array(64) }).retval).toBe(11);
    expect(maps.outer.get(2).get(0)).toBe(41);
    expect(maps.outer.get(1)).toBeUndefined();
    maps.outer.get(2).set(1, 6);
    expect(maps.second.get(1)).toBe(6);
    maps.outer.set(1, maps.first);
    expect(
      [...maps.outer].map(([key, inner]: [number, { get(key: number): number }]) => [key, inner.get(0)]),
    ).toEqual([
      [0, 5],
      [1, 5],
      [2, 41],
    ]);
    const before = object.machine.maps.size;
    const made = maps.by_hash.make(9);
    made.set(77n, 3);
    expect(maps.by_hash.get(9).get(77n)).toBe(3);
    expect(object.machine.maps.size).toBe(before + 1);
    expect(() => maps.by_hash.set(1, maps.first)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect([maps.by_hash.size, maps.by_hash.delete(9), maps.by_hash.delete(9)]).toEqual([1, true, false]);
    // Nothing holds the one that was made any more.
    expect(object.machine.maps.size).toBe(before);
    expect(() => maps.outer.make(4)).toThrow(expect.objectContaining({ code: 'E2BIG' }));
    expect(object.machine.maps.size).toBe(before);
    expect(
      [...maps.jumps].map(([index, program]: [number, { name: string }]) => [index, program.name]),
    ).toEqual([
      [1, 'tail_two'],
      [2, 'tail_one'],
    ]);
    maps.jumps.set(1, programs.tail_one);
    expect(maps.jumps.get(1)).toBe(programs.tail_one);
    expect([maps.jumps.delete(1), maps.jumps.delete(1), maps.jumps.get(1)]).toEqual([true, false, undefined]);
  });
});

test('the module of every other object compiles strictly, and so does who uses them', () => {
  const modules: Record<string, string> = {
    'streams-user.ts': STREAMS_USER,
    'map-in-map-user.ts': MAP_IN_MAP_USER,
  };
  for (const folder of [fixtures, new URL('./fixtures/objects/', import.meta.url)]) {
    for (const name of readdirSync(folder).filter((name) => name.endsWith('-19.o'))) {
      const contents = new Uint8Array(readFileSync(new URL(name, folder)));
      const base = name.replace('-19.o', '');
      // What cannot be opened at all is tested elsewhere.
      const object = (() => {
        try {
          return openObject(contents, base);
        } catch (error) {
          if (error instanceof BpfError) return undefined;
          throw error;
        }
      })();
      if (object === undefined) continue;
      modules[`${base}.ts`] = generateSkeleton(object, { contents, importFrom: api });
    }
  }
  expect(Object.keys(modules).length).toBeGreaterThan(8);
  expect(compile(modules)).toBe('');
});

test('an object may be called what the module itself uses', () => {
  const contents = new Uint8Array(readFileSync(new URL('values-19.o', fixtures)));
  const options = { contents, importFrom: api };
  const modules = Object.fromEntries(
    ['skeleton', 'loaded_map', '9lives', 'a*/b'].map((name, i) => [
      `odd${i}.ts`,
      generateSkeleton(openObject(contents, name), options),
    ]),
  );
  expect(modules['odd0.ts']).toContain('export function openSkeletonObject(): SkeletonObject {');
  expect(compile(modules)).toBe('');
});

test('names that meet, types without names, and types without an end', () => {
  const b = new BtfBuilder();
  const int = b.int('int', 4, { signed: true });
  const member = [{ name: 'a', type: int, bitOffset: 0 }];
  const one = b.struct('task_info', 4, member);
  const two = b.struct('TaskInfo', 4, member);
  const anonymous = b.struct('', 4, member);
  const typedef = b.typedef('alias_t', anonymous);
  const odd = b.struct('odd', 4, [{ name: 'a-b', type: b.struct('', 4, member), bitOffset: 0 }]);
  let loop = b.struct('', 4, [{ name: 'l', type: b.nextId, bitOffset: 0 }]);
  loop = b.struct('', 4, [{ name: 'l', type: loop, bitOffset: 0 }]);
  const types = new TypeScriptTypes(b.build(), ['Skeleton']);
  expect([one, two, typedef, odd].map((id) => types.of(id))).toEqual([
    'TaskInfo',
    'TaskInfo2',
    'AliasT',
    'Odd',
  ]);
  expect(types.declarations.join('')).toContain('readonly "a-b": { readonly a: number };');
  expect(() => types.of(loop)).toThrow('nested too deeply');
});
