/** Ctrl-C while `-c` is getting ready: it ends with a word, as of a program that the signal ends, and nothing is left. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { cli, environment, launchFolder } from './launch-support.ts';

const node = process.execPath;

const { folder } = launchFolder({
  // its mark says that the program has begun
  'app.cjs': `require('node:fs').writeFileSync(__dirname + '/begun', '');
function work() {}
setInterval(work, 5);
`,
  // in front of everything, until it is ended
  'slow.cjs': 'Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);\n',
});

interface Interrupted {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs the command, and sends SIGINT (to its group, as a terminal does) when `ready` says so. */
async function interrupt(
  args: readonly string[],
  ready: (err: string) => boolean,
  group = false,
): Promise<Interrupted> {
  const child = spawn(node, [cli, ...args], { cwd: folder, env: environment(folder), detached: true });
  let out = '';
  let err = '';
  child.stdout.on('data', (text) => {
    out += text;
  });
  child.stderr.on('data', (text) => {
    err += text;
  });
  const closed = new Promise<number | null>((resolve) => child.once('close', resolve));
  while (!ready(err) && child.exitCode === null) await sleep(5);
  if (child.exitCode === null) process.kill(group ? -(child.pid as number) : (child.pid as number), 'SIGINT');
  return { code: await closed, out, err };
}

/** Command lines of processes that were started for this folder and are still there. */
function left(): string[] {
  const lines = readdirSync('/proc').map((pid) => {
    try {
      return /^\d+$/.test(pid) ? readFileSync(`/proc/${pid}/cmdline`, 'latin1') : '';
    } catch {
      return '';
    }
  });
  return lines.filter((line) => line.includes(folder));
}

/** A process of the command, from outside: its words are in a command line. */
const isThere = (word: string) => (): boolean =>
  left().some((line) => line.includes(word) && !line.includes(cli));

const MESSAGE = 'ERROR: interrupted while getting ready: nothing was traced\n';
const SCRIPT = 'kprobe:app.cjs:work { @ = count(); }';

function expectNothingLeft(): void {
  expect(left()).toEqual([]);
  expect(readdirSync(folder).filter((name) => name.startsWith('trapline-launch-'))).toEqual([]);
  expect(existsSync(path.join(folder, 'begun'))).toBe(false);
}

test('SIGINT to the command alone', async () => {
  const command = `sh -c 'kill -INT $$; : ${folder}/waits'`;
  const { code, out, err } = await interrupt(['-c', command, SCRIPT], () => false);
  expect({ code, out, err }).toEqual({ code: 130, out: '', err: MESSAGE });
  expectNothingLeft();
});

describe.each([
  ['to the tracer', false],
  ['to all of the terminal', true],
])('SIGINT %s', (_name, group) => {
  test('before the command has started a Node process', async () => {
    const command = `sh -c 'sleep 60; : ${folder}/waits'`;
    const { code, out, err } = await interrupt(['-c', command, SCRIPT], isThere('waits'), group);
    expect({ code, out, err }).toEqual({ code: 130, out: '', err: MESSAGE });
    expectNothingLeft();
  });

  test('before the process asks whether it may begin', async () => {
    const command = `sh -c '${node} -r ${folder}/slow.cjs ${folder}/app.cjs; :'`;
    const { code, out, err } = await interrupt(['-c', command, SCRIPT], isThere('slow.cjs\0'), group);
    expect({ code, out, err }).toEqual({ code: 130, out: '', err: MESSAGE });
    expectNothingLeft();
  });

  test('while its files are prepared', async () => {
    const many = path.join(folder, 'many');
    mkdirSync(many, { recursive: true });
    const text = Array.from(
      { length: 300 },
      (_, i) => `exports.f${i} = function (a) { return a + ${i}; };\n`,
    );
    for (let i = 0; i < 300; i++) writeFileSync(path.join(many, `f${i}.js`), text.join(''));
    const command = `sh -c '${node} ${folder}/app.cjs; :'`;
    const told = (err: string) => err.includes('are prepared before the program begins');
    const { code, out, err } = await interrupt(['-c', command, 'kprobe:work { @ = count(); }'], told, group);
    expect({ code, out, err }).toEqual({ code: 130, out: '', err: expect.stringMatching(/^WARNING: .*\n/) });
    expect(err.slice(err.indexOf('\n') + 1)).toBe(MESSAGE);
    expectNothingLeft();
  });

  test('trapline record', async () => {
    const command = `${node} -r ${folder}/slow.cjs ${folder}/app.cjs`;
    const args = ['record', '-c', command, '-e', 'kprobe:app.cjs:work', '-o', path.join(folder, 'trace.dat')];
    const { code, out, err } = await interrupt(args, isThere('slow.cjs\0'), group);
    expect({ code, out, err }).toEqual({ code: 130, out: '', err: MESSAGE });
    expectNothingLeft();
    expect(existsSync(path.join(folder, 'trace.dat'))).toBe(false);
  });
});
