import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { nodeBinaries } from '../support/nodes.ts';

// The test suites that three packages ship in their tarballs, unchanged: a container of plugins that looks at how functions
// are declared, an assertion library, a test framework that looks into the stacks of its own calls. Each is run plain, and
// under the real command with a probe on the entry and one on the end of every function of the package, its tests' functions included.

const root = fileURLToPath(new URL('../..', import.meta.url));
/** Of seconds; a machine may be busy. */
const SUITE_MS = 180_000;
const runner = 'test/fixtures/packages/suite.cjs';

interface Suite {
  readonly name: string;
  /** The runner writes TAP; node:test has to be asked for it. */
  readonly reporter: readonly string[];
  readonly files: readonly string[];
  /** Calls that never end: a listener of `exit` that calls process.exit(). */
  readonly open: number;
  /** What has to be there at least: results, probed functions, calls seen. */
  readonly results: number;
  readonly functions: number;
  readonly calls: number;
}

const SUITES: readonly Suite[] = [
  {
    name: 'avvio',
    reporter: ['--test-reporter=tap'],
    files: avvioFiles(),
    open: 0,
    results: 250,
    functions: 1000,
    calls: 20_000,
  },
  {
    name: 'must',
    reporter: ['--test-reporter=tap'],
    files: [],
    open: 0,
    results: 1200,
    functions: 1500,
    calls: 15_000,
  },
  {
    name: 'tape',
    reporter: [],
    files: tapeFiles(),
    open: 1,
    results: 200,
    functions: 400,
    calls: 4000,
  },
];

/** All but the files whose tests race timers of 10 ms against each other or against the loading of plugins. */
function avvioFiles(): string[] {
  const folder = path.join(root, 'node_modules/avvio/test');
  return readdirSync(folder).filter((name) => name.endsWith('.js') && !name.startsWith('plugin-timeout'));
}

/**
 * Its tests are made for a process each. Together run those that start no programs and leave alone what is one for the
 * process: the default harness, `only`, the text of a function that `eval` has cached.
 */
function tapeFiles(): string[] {
  const folder = path.join(root, 'node_modules/tape/test');
  const alone = [
    'array.js',
    'exposed-harness.js',
    'fail.js',
    'teardown.js',
    'timeoutAfter.js',
    'too_many.js',
    'undef.js',
    'wait.js',
  ];
  const shared = /child_process|spawn|runProgram|\.only\(|onFinish|onFailure|objectMode/;
  return readdirSync(folder)
    .filter((name) => name.endsWith('.js') && !alone.includes(name))
    .filter((name) => !shared.test(readFileSync(path.join(folder, name), 'utf8')));
}

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function run(command: string, args: readonly string[], env: Record<string, string> = {}): Promise<Ended> {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: SUITE_MS,
      env: {
        ...process.env,
        ...env,
        NODE_V8_COVERAGE: undefined,
        NODE_TEST_CONTEXT: undefined,
        NODE_OPTIONS: undefined,
      },
    });
    let [out, err] = ['', ''];
    child.stdout.on('data', (data) => {
      out += data;
    });
    child.stderr.on('data', (data) => {
      err += data;
    });
    child.once('close', (code) => resolve({ code, out, err }));
  });
}

/** The results of a TAP text; sorted, for some of the tests race timers. */
function results(text: string): string[] {
  const lines = text.split('\n').filter((line) => /^\s*(not )?ok \d+/.test(line));
  return lines.map((line) => line.replace(/ # time=.*$/, '').replace(/ok \d+/, 'ok')).sort();
}

const nodes = nodeBinaries();
const versions = new Map([nodes[0]!, nodes.at(-1)!].map(({ version, path: binary }) => [version, binary]));

describe.each([...versions])('%s', (_version, node) => {
  it.each(SUITES)('the tests of $name', { timeout: SUITE_MS + 10_000 }, async (suite) => {
    const args = [...suite.reporter, runner, `node_modules/${suite.name}/test`, ...suite.files];
    const target = `"node_modules/${suite.name}/*":*`;
    const script = [
      `kprobe:${target} { @calls = count(); @functions[probe] = count(); }`,
      `kretprobe:${target} { @ends = count(); }`,
    ];
    const cli = path.join(root, 'dist/cli/main.js');
    const sites = { TRAPLINE_MIN_LENGTH: '0', TRAPLINE_ENDS: 'all', TRAPLINE_CACHE: '0' };
    const [plain, traced] = await Promise.all([
      run(node, args),
      run(
        process.execPath,
        [cli, '-c', [node, ...args].map((arg) => `'${arg}'`).join(' '), script.join('\n')],
        sites,
      ),
    ]);
    const expected = results(plain.out);
    expect(expected.length).toBeGreaterThan(suite.results);
    expect(expected.filter((line) => line.includes('not ok'))).toEqual([]);
    // The command gives its own standard output to data, the program's goes to standard error.
    expect(results(traced.err)).toEqual(expected);
    expect(traced.err).not.toContain('WARNING');
    const probes = Number(/Attaching (\d+) probes/.exec(traced.err)?.[1]);
    expect(probes).toBeGreaterThan(suite.functions * 2);
    const calls = Number(/^@calls: (\d+)$/m.exec(traced.out)?.[1]);
    expect(calls).toBeGreaterThan(suite.calls);
    expect([...traced.out.matchAll(/^@functions\[/gm)].length).toBeGreaterThan(suite.functions / 4);
    const ends = Number(/^@ends: (\d+)$/m.exec(traced.out)?.[1]);
    expect(ends).toBe(calls - suite.open);
  });
});
