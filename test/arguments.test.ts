/** Wrong arguments of callers in JavaScript: whatever the package exports answers them with an error of ours, and none hangs. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import * as bpf from '../src/bpf/index.ts';
import * as testing from '../src/bpf/testing/index.ts';
import * as exporting from '../src/export/index.ts';
import * as library from '../src/index.ts';
import * as tracefs from '../src/tracefs/index.ts';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const ENTRIES: Readonly<Record<string, object>> = {
  '.': library,
  './bpf': bpf,
  './testing': testing,
  './tracefs': tracefs,
  './export': exporting,
};
/** They export nothing. */
const EFFECTS = ['./register', './testing/vitest'];

const folder = mkdtempSync(path.join(tmpdir(), 'trapline-arguments-'));
const before = process.cwd();
beforeAll(() => process.chdir(folder));
afterAll(() => {
  process.chdir(before);
  rmSync(folder, { recursive: true, force: true });
});

const VALUES: readonly unknown[] = [
  undefined,
  null,
  true,
  42,
  -1,
  1.5,
  Number.NaN,
  7n,
  '',
  'nonsense',
  Symbol('s'),
  {},
  { nonsense: 1 },
  Object.create(null),
  [],
  [undefined],
  [{}],
  () => undefined,
  new Uint8Array(3),
  new Uint8Array(16),
  new Map(),
];

type Callable = (...args: readonly unknown[]) => unknown;

/** What calling `f` throws, rejects with, or fails with when what it made is read; undefined where it takes its arguments. */
async function failure(f: Callable, args: readonly unknown[]): Promise<unknown> {
  const isClass = /^class\b/.test(Function.prototype.toString.call(f));
  try {
    const made = isClass ? Reflect.construct(f, args) : f(...args);
    if (made instanceof Promise) await made;
    else if (typeof made?.next === 'function') made.next();
    else if (made?.finished instanceof Promise) await made.finished;
    return undefined;
  } catch (error) {
    return error;
  }
}

const isOurs = (error: unknown): boolean =>
  error instanceof library.TraplineError ||
  error instanceof bpf.BpfError ||
  // what assertions are for
  error instanceof testing.BpfAssertionError;

test('every entry of the package is looked at', () => {
  const manifest = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as {
    readonly exports: object;
  };
  const entries = Object.keys(manifest.exports).filter((name) => !name.endsWith('.json'));
  expect([...Object.keys(ENTRIES), ...EFFECTS].sort()).toEqual(entries.sort());
});

const ALL = Object.entries(ENTRIES).flatMap(([entry, names]) =>
  Object.entries(names)
    .filter((item): item is [string, Callable] => typeof item[1] === 'function')
    // they are what is thrown: nobody has to make one
    .filter(([, f]) => !(f.prototype instanceof Error))
    .map(([name, f]) => [entry, name, f] as const),
);

describe('bad values', () => {
  test('there are functions and classes to call', () => {
    expect(ALL.length).toBeGreaterThan(170);
  });

  test.each(ALL)('%s %s', { timeout: 30_000 }, async (_entry, _name, f) => {
    const wrong: string[] = [];
    const rows = [[], ...VALUES.flatMap((value) => [[value], [value, value], [value, value, value, value]])];
    for (const args of rows) {
      const error = await failure(f, args);
      if (error !== undefined && !isOurs(error)) wrong.push(`${args.map((arg) => typeof arg)}: ${error}`);
    }
    expect(wrong).toEqual([]);
  });
});

/** Right arguments. */
const printer = new library.TextPrinter({ data: () => {}, progress: () => {} });
const trace = { script: 'BEGIN { exit(); }', target: { self: true }, printer };
const map = { name: 'm', type: 'array', keySize: 4, valueSize: 8, maxEntries: 1 };
const program = { type: 'xdp', insns: 'r0 = 0\nexit' };

test.each<[call: string, run: () => unknown, message: string, hint: string]>([
  [
    'no object',
    () => library.trace(undefined as never),
    'trace(): options is undefined',
    'expected an object with script, target and printer',
  ],
  [
    'a misspelt option',
    () => library.trace({ ...trace, maxPauseMS: 5 } as never),
    'trace(): options.maxPauseMS is unknown',
    'did you mean maxPauseMs?',
  ],
  [
    'a choice',
    () => library.trace({ ...trace, arm: 'bindd' } as never),
    'trace(): options.arm is "bindd"',
    'expected one of "auto", "nop", "property", "bind", "edit", "break"',
  ],
  [
    'a number below its range',
    () => library.trace({ ...trace, maxPauseMs: -1 } as never),
    'trace(): options.maxPauseMs is -1',
    'expected a number, 0 or more',
  ],
  [
    'a pid',
    () => library.attachTracefs('4711' as never),
    'attachTracefs(): pid is "4711"',
    'expected a whole number, from 1 to 2147483647',
  ],
  [
    'an option that is none',
    () => library.attachTracefs(1, { colour: 1 } as never),
    'attachTracefs(): options.colour is no option',
    'options are way, maxPauseMs, bufferSizeKb, ringBytes, maxString, inTarget, unsafe, cpus, watchModules, lazy, onWarning, onGone',
  ],
  [
    'a handler',
    () => library.attach(1, { onRecord() {}, onArmed: 1 } as never),
    'attach(): events.onArmed is 1',
    'expected a function',
  ],
  [
    'a text',
    () => library.compileScript(new Uint8Array(3) as never, {} as never),
    'compileScript(): source is an array of 3 bytes',
    'expected a string: a program',
  ],
  [
    'what a probe is made of',
    () => library.registerKprobe({ symbolName: 'f' } as never),
    'registerKprobe(): p is an object',
    'expected a probe: new Kprobe({ symbolName, preHandler })',
  ],
  [
    'a list of probes',
    () => library.registerKprobes([new library.Kprobe(), 'f'] as never),
    'registerKprobes(): ps[1] is "f"',
    'expected a probe: new Kprobe({ symbolName, preHandler })',
  ],
  [
    'an option of a probe',
    () => new library.Kprobe({ symbolname: 'f' } as never),
    'new Kprobe(): init.symbolname is no option',
    'did you mean symbolName?',
  ],
  [
    'an option of an event',
    () => library.defineTracepoint('a', 'b', {}, { regFunc() {} } as never),
    'defineTracepoint(): options.regFunc is no option',
    'did you mean regfunc?',
  ],
  [
    'an option of a folder',
    () => library.openOwnTracefs({ bufferSizeKB: 5 } as never),
    'openOwnTracefs(): options.bufferSizeKB is no option',
    'did you mean bufferSizeKb?',
  ],
  [
    'bytes',
    () => bpf.openObject('prog.o' as never),
    'openObject(): bytes is "prog.o"',
    'expected a Uint8Array: the bytes of an object file',
  ],
  [
    'half an instruction',
    () => bpf.decodeInsns(new Uint8Array(3)),
    'decodeInsns(): bytes is an array of 3 bytes',
    'expected a Uint8Array of whole instructions, 8 bytes each',
  ],
  [
    'a misspelt property',
    () => bpf.createMap({ ...map, maxEntries: undefined, maxEntrys: 1 } as never),
    'createMap(): spec.maxEntries is undefined',
    'expected a number, 0 or more',
  ],
  [
    'a property',
    () => bpf.createMap({ name: 'm', type: 'array', keySize: 4, valueSize: 8, max_entries: 1 } as never),
    'createMap(): spec.max_entries is unknown',
    'did you mean maxEntries?',
  ],
  [
    'a machine',
    () => bpf.createMap(map as never, { machine: {} } as never),
    'createMap(): options.machine is an object',
    'expected a machine, as createMachine() gives it',
  ],
  [
    'a misspelt option of an object',
    () => bpf.BpfObject.prototype.load.call({}, { targetBTF: undefined } as never),
    'load(): options.targetBTF is unknown',
    'did you mean targetBtf?',
  ],
  [
    'an engine',
    () => bpf.loadProgram({ ...program, engine: 'jitt' } as never),
    'loadProgram(): input.engine is "jitt"',
    'expected one of "jit", "interpreter"',
  ],
  [
    'an instruction',
    () => bpf.loadProgram({ ...program, insns: [{ code: 1 }] } as never),
    'loadProgram(): input.insns is an array',
    'expected text, bytes or decoded instructions',
  ],
  [
    'a number of CPUs',
    () => bpf.createMachine({ ncpu: 65 }),
    'createMachine(): options.ncpu is 65',
    'expected a whole number, from 1 to 64',
  ],
  [
    'fields of a packet',
    () => testing.tcpPacket({ sourceport: 80 } as never),
    'tcpPacket(): fields.sourceport is no option',
    'did you mean sourcePort?',
  ],
  [
    'a port',
    () => testing.udpPacket({ sourcePort: 65_536 }),
    'udpPacket(): fields.sourcePort is 65536',
    'expected a whole number, from 0 to 65535',
  ],
  [
    'a version',
    () => exporting.readTraceDat('trace.dat' as never),
    'readTraceDat(): bytes is "trace.dat"',
    'expected a Uint8Array: the bytes of a trace.dat file',
  ],
  [
    'nothing',
    () => tracefs.openTracefs(null as never),
    'new Tracefs(): tracing is null',
    'expected a Tracing',
  ],
])('%s is told by its name, with what was expected', async (_, run, message, hint) => {
  expect(await failure(run, [])).toMatchObject({ code: 'EINVAL', message, hint });
});
