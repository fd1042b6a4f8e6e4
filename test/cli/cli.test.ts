import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { nodeBinaries } from '../support/nodes.ts';
import { unless } from '../support/skip.ts';

const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));
const cli = path.join(root, 'dist/cli/main.js');
const app = path.join(root, 'test/cli/fixtures/app.mjs');
const folder = mkdtempSync(path.join(tmpdir(), 'trapline-cli-'));

interface Target {
  readonly child: ChildProcess;
  readonly pid: string;
  output(): string;
}

const targets: ChildProcess[] = [];
const onFull = unless(existsSync('/dev/full') ? undefined : 'there is no /dev/full');

async function startTarget(binary = process.execPath): Promise<Target> {
  const child = spawn(binary, ['--inspect-port=0', app], { stdio: ['ignore', 'pipe', 'ignore'] });
  targets.push(child);
  let output = '';
  await new Promise<void>((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`the target ended with ${code}`)));
    child.stdout!.on('data', (data) => {
      output += data;
      resolve();
    });
  });
  return { child, pid: String(child.pid), output: () => output };
}

interface Result {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

interface Running {
  readonly child: ChildProcess;
  readonly finished: Promise<Result>;
  /** Resolves when this was written to stdout or stderr. */
  saw(text: string | RegExp): Promise<void>;
}

const start = (...args: string[]): Running => startTo('pipe', ...args);

function startTo(stdout: 'pipe' | number, ...args: string[]): Running {
  const child = spawn(process.execPath, [cli, ...args], { stdio: ['ignore', stdout, 'pipe'] });
  let out = '';
  let err = '';
  const waiting: { text: string | RegExp; resolve(): void }[] = [];
  const look = () => {
    for (const { text, resolve } of waiting) {
      const both = out + err;
      if (typeof text === 'string' ? both.includes(text) : text.test(both)) resolve();
    }
  };
  child.stdout?.on('data', (data) => {
    out += data;
    look();
  });
  child.stderr?.on('data', (data) => {
    err += data;
    look();
  });
  const finished = new Promise<Result>((resolve) => {
    child.once('close', (code) => resolve({ code, out, err }));
  });
  return {
    child,
    finished,
    saw: (text) =>
      new Promise((resolve, reject) => {
        waiting.push({ text, resolve });
        look();
        void finished.then((result) => reject(new Error(`ended: ${JSON.stringify(result)}`)));
      }),
  };
}

const run = (...args: string[]): Promise<Result> => start(...args).finished;

let target: Target;
beforeAll(async () => {
  target = await startTarget();
});
afterAll(() => {
  for (const child of targets) child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

/** A script that ends by itself. */
const forMs = (script: string, ms = 500) => `${script} interval:ms:${ms} { exit(); }`;

describe.each(nodeBinaries().map(({ version, path }) => [version, path] as const))(
  'Node %s',
  (_version, binary) => {
    test('counts by key, prints the map at the end, leaves the target running', async () => {
      const own = await startTarget(binary);
      const script = forMs('kprobe:app.mjs:handle { @[str(arg0.url)] = count(); }');
      const { code, out, err } = await run('-p', own.pid, script);
      expect({ code, err }).toEqual({ code: 0, err: 'Attaching 2 probes...\n' });
      const counts = [...out.matchAll(/^@\[\/item\/([012])\]: (\d+)$/gm)].map((match) => Number(match[2]));
      expect(counts).toHaveLength(3);
      // The target calls in turn.
      expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
      expect(own.child.exitCode).toBe(null);
    });

    test('return values, rejections and async latencies', async () => {
      const own = await startTarget(binary);
      const { code, out, err } = await run(
        '-p',
        own.pid,
        '-f',
        'json',
        '-e',
        forMs(
          `kretprobe:app.mjs:total { @total[retval] = count(); }
         kprobe:app.mjs:query { @t[asyncid] = nsecs; @args = count(); }
         settle:app.mjs:query /@t[asyncid]/ {
           @ms = lhist((nsecs - @t[asyncid]) / 1000000, 0, 1000, 5); delete(@t[asyncid]); @done[error != 0] = count();
         }`,
        ),
      );
      // the call that replaced the binding is none for probes that see ends: nothing is missed
      expect({ code, err }).toEqual({ code: 0, err: '' });
      const lines = out
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as { type: string; data: Record<string, never> });
      expect(lines[0]).toEqual({ type: 'attached_probes', data: { probes: 4 } });
      const data = Object.assign({}, ...lines.map((line) => line.data));
      expect(Object.keys(data['@total'])).toEqual(['6']);
      const settled = Object.values<number>(data['@done']);
      expect(settled).toHaveLength(2);
      const histogram = data['@ms'] as { min: number; count: number }[];
      // Queries that overlap share their asyncid, so a slow machine may see a few short ones.
      const usual = histogram.reduce((most, bucket) => (bucket.count > most.count ? bucket : most));
      expect(usual.min).toBeGreaterThanOrEqual(5);
      const inHistogram = histogram.reduce((sum, { count }) => sum + count, 0);
      expect(inHistogram).toBe(settled[0]! + settled[1]!);
      expect(data['@args'] - inHistogram).toBeLessThanOrEqual(3);
    });
  },
);

describe('output', () => {
  test('printf and exit(n); nothing is printed behind exit', async () => {
    const { code, out, err } = await run(
      '-p',
      target.pid,
      '-e',
      'kprobe:app.mjs:total { printf("%s of %d, %s\\n", func, len(arg0), probe); exit(7); printf("never\\n"); }',
    );
    expect({ code, err }).toEqual({ code: 7, err: 'Attaching 1 probe...\n' });
    expect(out).toBe(
      'total of 3, kprobe:test/cli/fixtures/app.mjs:total\n\n\n'.replace('test/cli/fixtures', relative()),
    );
  });

  test('BEGIN, interval, END and positional parameters need no function', async () => {
    const script = path.join(folder, 'script.bt');
    writeFileSync(
      script,
      `BEGIN { printf("begin %d %s\\n", $1, str($2)); }
       interval:ms:50 { @n++; printf("tick %d\\n", @n); if (@n == 3) { exit(); } }
       END { printf("end\\n"); clear(@n); }`,
    );
    const { code, out } = await run('-p', target.pid, script, '42', 'two');
    expect({ code, out }).toEqual({ code: 0, out: 'begin 42 two\ntick 1\ntick 2\ntick 3\nend\n\n\n' });
  });

  test('-o takes the data, stderr keeps the rest', async () => {
    const file = path.join(folder, 'data');
    const { code, out, err } = await run('-p', target.pid, '-o', file, 'BEGIN { printf("x\\n"); exit(); }');
    expect({ code, out, err }).toEqual({ code: 0, out: '', err: 'Attaching 1 probe...\n' });
    expect(readFileSync(file, 'utf8')).toBe('x\n\n\n');
  });

  test('-o to a full disk: said, restored, exit 1', onFull, async () => {
    const script = 'kprobe:app.mjs:handle { printf("%d\\n", nsecs); }';
    const { code, out, err } = await run('-v', '-o', '/dev/full', '-p', target.pid, script);
    expect({ code, out }).toEqual({ code: 1, out: '' });
    expect(err.match(/^ERROR: .*$/gm)).toEqual(['ERROR: cannot write /dev/full: no space left on device']);
    expect(err).toContain('restored 1 function');
  });

  test('standard output on a full disk: said, restored, exit 1', onFull, async () => {
    const full = openSync('/dev/full', 'w');
    try {
      const script = 'kprobe:app.mjs:handle { printf("%d\\n", nsecs); }';
      const tracer = startTo(full, '-v', '-p', target.pid, script);
      const { code, err } = await tracer.finished;
      expect(code).toBe(1);
      expect(err.match(/^.*(ERROR|Error).*$/gm)).toEqual([
        'ERROR: cannot write standard output: no space left on device',
      ]);
      expect(err).toContain('restored 1 function');
    } finally {
      closeSync(full);
    }
  });

  test('help for a full disk: said, exit 1', onFull, async () => {
    const full = openSync('/dev/full', 'w');
    try {
      for (const args of [['--help'], ['bpf', '--help'], ['-l', 'tracepoint:*']]) {
        expect(await startTo(full, ...args).finished).toEqual({
          code: 1,
          out: '',
          err: 'ERROR: cannot write standard output: no space left on device\n',
        });
      }
    } finally {
      closeSync(full);
    }
  });

  test('-o to a folder that is not there', async () => {
    const { code, err } = await run('-o', path.join(folder, 'none/x'), '-p', target.pid, 'BEGIN { exit(); }');
    expect({ code, err }).toEqual({
      code: 1,
      err: `ERROR: cannot write ${folder}/none/x: no such file or directory\n`,
    });
  });

  test('print and clear keep their order', async () => {
    const { out } = await run(
      '-p',
      target.pid,
      '-e',
      'BEGIN { @x = 5; print(@x); printf("between\\n"); clear(@x); print(@x); printf("after\\n"); exit(); }',
    );
    expect(out).toBe('@x: 5\nbetween\nafter\n\n\n');
  });

  test('stacks are printed with their frames, each in its place', async () => {
    const { code, out, err } = await run(
      '-p',
      target.pid,
      `kprobe:app.mjs:total {
         printf("first %s", kstack(2)); printf("second\\n"); print(ustack(1)); print((1, kstack(2))); print("last"); exit();
       }`,
    );
    expect({ code, err }).toEqual({ code: 0, err: 'Attaching 1 probe...\n' });
    const frame = (name: string) => `        ${name} \\(.*app\\.mjs(:\\d+:\\d+)?\\)\\n`;
    const both = `${frame('total')}${frame('handle')}`;
    const first = `first \\n${both}second\\n\\n${frame('total')}\\n\\(1, \\n${both}\\)\\nlast\\n`;
    expect(out).toMatch(new RegExp(`^${first}`));
  });

  test('a getter is not run; the failed read is a warning with its place', async () => {
    const { code, err } = await run(
      '-p',
      target.pid,
      '-e',
      forMs('kprobe:app.mjs:look { @[str(arg0.url)] = count(); }'),
    );
    expect(code).toBe(0);
    expect(err).toMatch(
      /^stdin:1:\d+: WARNING: a value could not be read, \d+ times: 'url' is a getter, .*EFAULT/m,
    );
    expect(target.output()).not.toContain('GETTER RAN');
  });

  test('a misspelt property is told at the end, with the nearest name', async () => {
    const script = forMs('kprobe:app.mjs:total { @[arg0.lenght] = count(); }');
    const { code, err } = await run('-p', target.pid, '-e', script);
    expect(code).toBe(0);
    expect(err).toMatch(
      /^stdin:1:\d+: WARNING: no value read here has a property 'lenght', \d+ times: .*did you mean length\?/m,
    );
  });

  test('system() needs --unsafe; its output is data, in its place', async () => {
    const script =
      'BEGIN { printf("a\\n"); system("echo %s %d; exit 3", "x  y", 4); printf("b\\n"); exit(); }';
    const refused = await run('-p', target.pid, '-e', script);
    expect({ code: refused.code, out: refused.out }).toEqual({ code: 1, out: '' });
    expect(refused.err).toMatch(
      /^stdin:1:24: ERROR: system\(\) is an unsafe function being used in safe mode\n.*\n +~{6}\nHINT: --unsafe/,
    );
    const text = await run('--unsafe', '-p', target.pid, '-e', script);
    expect(text).toEqual({ code: 0, out: 'a\nx y 4\nb\n\n\n', err: 'Attaching 1 probe...\n' });
    const json = await run('--unsafe', '-f', 'json', '-p', target.pid, '-e', script);
    expect(json.out.split('\n')).toContain('{"type": "syscall", "data": "x y 4\\n"}');
  });

  test('a second Ctrl-C ends a command of system()', async () => {
    const tracer = start(
      '--unsafe',
      '-p',
      target.pid,
      '-e',
      'BEGIN { printf("on\\n"); system("sleep 60"); }',
    );
    await tracer.saw('on');
    tracer.child.kill('SIGINT');
    // again and again: signals that come before the command has looked at the first are one
    const again = setInterval(() => tracer.child.kill('SIGINT'), 200);
    const { out } = await tracer.finished;
    clearInterval(again);
    expect(out).toBe('on\n');
  });

  test('-l of nothing: why, and the nearest name', async () => {
    expect(await run('-l', 'kprobe:ap.mjs:*', '-p', target.pid)).toEqual({
      code: 1,
      out: '',
      err: `ERROR: no loaded script matches ap.mjs\nHINT: did you mean ${relative()}/app.mjs?\n`,
    });
    expect(await run('-l', 'kprobe:app.mjs:handel', '-p', target.pid)).toEqual({
      code: 1,
      out: '',
      err: `ERROR: no function matches handel in ${relative()}/app.mjs\nHINT: did you mean ${relative()}/app.mjs:handle?\n`,
    });
  });

  test('-l takes short names of probe types, and several patterns', async () => {
    const listed = await run(
      '-p',
      target.pid,
      '-l',
      'k:app.mjs:tot*,kr:app.mjs:han*, t:http:server_request_st*,i:',
    );
    const file = /kprobe:(.*app\.mjs):total/.exec(listed.out)?.[1];
    expect(listed).toEqual({
      code: 0,
      err: '',
      out: `kprobe:${file}:total\nkretprobe:${file}:handle\ntracepoint:http:server_request_start\ninterval:\n`,
    });
    const none = await run('-p', target.pid, '-l', 'k:app.mjs:total,kprobe:app.mjs:totl');
    expect(none).toMatchObject({ code: 1, out: '' });
    expect(none.err).toMatch(/^ERROR: no function matches totl in /);
    const events = await run('-l', 't:http:server_request_st*,t:fs:op_end');
    expect(events.out).toBe('tracepoint:http:server_request_start\ntracepoint:fs:op_end\n');
  });

  test('-l lists what can be probed, -lv with parameters', async () => {
    const short = await run('-l', 'kprobe:app.mjs:*', '-p', target.pid);
    expect(short.out.split('\n')).toContain(`kprobe:${relative()}/app.mjs:total`);
    const long = await run('-lv', 'app.mjs:handle', '-p', target.pid);
    expect(long.out).toMatch(/^kprobe:\S+app\.mjs:handle {2}\S+app\.mjs:4 {2}\(req, res\)\n$/);
  });

  test('a reader that takes its time gets everything', async () => {
    const file = path.join(folder, 'many.cjs');
    const names = Array.from({ length: 6000 }, (_, i) => `aFunctionOfAVeryLargeApplication${i}`);
    writeFileSync(
      file,
      `${names.map((name) => `function ${name}() {}`).join('\n')}\nsetInterval(() => {}, 1000); console.log(process.pid);`,
    );
    const many = spawn(process.execPath, ['--inspect-port=0', file], { stdio: ['ignore', 'pipe', 'ignore'] });
    targets.push(many);
    await new Promise((resolve) => many.stdout!.once('data', resolve));
    const command = `'${process.execPath}' '${cli}' -l 'kprobe:many.cjs:a*' -p ${many.pid} --max-pause 5000`;
    const { stdout, status } = spawnSync('sh', ['-c', `${command} | (sleep 3; cat)`], { encoding: 'utf8' });
    expect(status).toBe(0);
    expect(
      stdout
        .trimEnd()
        .split('\n')
        .map((line) => line.split(':').at(-1)),
    ).toEqual(names);
  });

  test('--info shows the process', async () => {
    const { code, out } = await run('--info', '-p', target.pid);
    expect(code).toBe(0);
    expect(out).toContain(`Process ${target.pid}\n`);
    expect(out).toContain('worker threads, not traced:');
  });

  test('--dry-run verifies and attaches nothing', async () => {
    const { code, out, err } = await run(
      '--dry-run',
      '-p',
      target.pid,
      'kprobe:app.mjs:total { @ = count(); }',
    );
    expect({ code, out, err }).toEqual({ code: 0, out: '', err: '' });
  });

  test('--dry-run and -d without a process take what probes name for granted', async () => {
    const program = 'kprobe:f { @[args.x] = count(); for ($kv : @) { print($kv.1); } }';
    expect(await run('--dry-run', program)).toEqual({ code: 0, out: '', err: '' });
    const wrong = await run('--dry-run', 'kprobe:f { @ = coun(); }');
    expect(wrong).toMatchObject({ code: 1, out: '' });
    expect(wrong.err).toContain("ERROR: Unknown function: 'coun'");
    for (const stage of ['ast', 'codegen', 'verifier', 'wasm']) {
      const { code, out, err } = await run('-d', stage, program);
      expect({ code, err }).toEqual({ code: 0, err: '' });
      expect(out).toContain('kprobe:f');
    }
  });

  test('a loop that spends its budget is told with its place', async () => {
    const source = 'kprobe:app.mjs:total { while (1) { @n++; } }';
    const { code, err } = await run('-p', target.pid, '-e', forMs(source));
    expect(code).toBe(0);
    expect(err.match(/^stdin:1:24: WARNING: Loop limit reached.*$/gm)).toHaveLength(1);
  });

  test('-v says how probes were armed and what was restored', async () => {
    const { err } = await run('-v', '-p', target.pid, '-e', forMs('kprobe:app.mjs:total { @ = count(); }'));
    expect(err).toMatch(
      /^\S+app\.mjs:total: (nop|property|bind|edit|break) \(estimated [\d.]+ ms, paused [\d.]+ ms/m,
    );
    expect(err).toMatch(/^All probes count, from \d+(?:\.\d+)? ms after "Attaching" on$/m);
    expect(err).toMatch(/^process \d+: restored 1 function, \d+ bytes of source; \d+ pauses?: p50/m);
  });
});

/** How the target names its files: relative to its working directory, which is this process's. */
function relative(): string {
  return path.relative(process.cwd(), path.dirname(app)) || '.';
}

test('hits that a breakpoint missed are told without -v, also where tracing ends while it is off', async () => {
  const hot = path.join(folder, 'hot.cjs');
  writeFileSync(
    hot,
    'const f = (x) => x + 1;\nsetInterval(() => { for (let i = 0; i < 9000; i++) f(i); }, 5);',
  );
  const child = spawn(process.execPath, ['--inspect-port=0', hot], { stdio: 'ignore' });
  targets.push(child);
  const traced = start(
    '-p',
    String(child.pid),
    '--arm',
    'break',
    'kprobe:hot.cjs:1 { @++; if (@ == 150) { print(@); } }',
  );
  await traced.saw('@: ');
  traced.child.kill('SIGINT');
  const { code, err } = await traced.finished;
  expect(code).toBe(0);
  expect(err).toMatch(
    /WARNING: \S*hot.cjs:1: hits were missed, about \d+ by the rate of those that were counted/,
  );
  expect(err.match(/armed by a breakpoint/g)).toHaveLength(1);
});

describe('signals', () => {
  test('Ctrl-C prints the maps and restores', async () => {
    const tracer = start(
      '-v',
      '-p',
      target.pid,
      'kprobe:app.mjs:handle { @ = count(); printf("hit\\n"); } END { printf("bye\\n"); }',
    );
    await tracer.saw('hit');
    tracer.child.kill('SIGINT');
    const { code, out, err } = await tracer.finished;
    expect(code).toBe(0);
    expect(out).toMatch(/^(hit\n)+bye\n\n\n@: \d+\n$/);
    expect(err).toContain('restored 1 function');
  });

  test('a signal that comes twice, as that of timeout(1) does, is one', async () => {
    const tracer = start('-p', target.pid, 'kprobe:app.mjs:handle { @ = count(); printf("hit\\n"); }');
    await tracer.saw('hit');
    // some of them find the one before still waiting, and are none
    for (let i = 0; i < 50; i++) tracer.child.kill('SIGINT');
    const { code, out } = await tracer.finished;
    expect(code).toBe(0);
    expect(out).toMatch(/^@: \d+$/m);
  });

  test('a process that does not answer is told of, and waited for', async () => {
    const own = await startTarget();
    const tracer = start(
      '-p',
      own.pid,
      'kprobe:app.mjs:total { @ = count(); if (@ == 3) { print("three"); } }',
    );
    await tracer.saw('three');
    own.child.kill('SIGSTOP');
    tracer.child.kill('SIGINT');
    await tracer.saw('WARNING: the process does not answer yet: another Ctrl-C leaves at once, without maps');
    own.child.kill('SIGCONT');
    const { code, out } = await tracer.finished;
    expect(code).toBe(0);
    expect(out).toMatch(/^@: \d+$/m);
  });

  test('a second signal leaves at once, restored', async () => {
    const tracer = start(
      '-v',
      '-p',
      target.pid,
      'kprobe:app.mjs:handle { @ = count(); printf("hit\\n"); } END { printf("bye\\n"); }',
    );
    // that call has replaced the binding
    await tracer.saw('hit');
    tracer.child.kill('SIGINT');
    tracer.child.kill('SIGINT');
    tracer.child.kill('SIGTERM');
    const { code, err } = await tracer.finished;
    expect(code).toBe(0);
    expect(err).toContain('restored 1 function');
  });

  test('the reader of a pipe goes: restored, exit 0', async () => {
    const tracer = start('-v', '-p', target.pid, '-e', 'kprobe:app.mjs:handle { printf("%d\\n", nsecs); }');
    await tracer.saw(/\d{10}/);
    tracer.child.stdout!.destroy();
    const { code, err } = await tracer.finished;
    expect(code).toBe(0);
    expect(err).toContain('restored 1 function');
  });

  test('the target goes: said, exit 0', async () => {
    const own = await startTarget();
    const script = 'kprobe:app.mjs:handle { @ = count(); printf("hit\\n"); }';
    const tracer = start('-v', '-p', own.pid, '-e', script);
    await tracer.saw('hit');
    // the maps are copied every half a second
    await new Promise((resolve) => setTimeout(resolve, 1500));
    own.child.kill('SIGKILL');
    const { code, out, err } = await tracer.finished;
    expect(code).toBe(0);
    // What was seen of the maps last.
    expect(out).toMatch(/^(hit\n)+\n\n@: [1-9]\d*\n$/);
    expect(err).toContain(`process ${own.pid}: `);
  });
});

describe('several', () => {
  test('processes: maps are merged by key, BEGIN prints once', async () => {
    const other = await startTarget();
    const script = 'BEGIN { printf("begin\\n"); } kprobe:app.mjs:total { @[pid] = count(); @n = count(); }';
    const { code, out } = await run('-p', target.pid, '-p', other.pid, '-e', forMs(script));
    expect(code).toBe(0);
    const maps = new Map(
      [...out.matchAll(/^@(?:\[(\d+)\]|n): (\d+)$/gm)].map((match) => [match[1] ?? 'n', Number(match[2])]),
    );
    expect([...maps.keys()].sort()).toEqual([target.pid, other.pid, 'n'].sort());
    expect(maps.get(target.pid)! + maps.get(other.pid)!).toBe(maps.get('n'));
    expect(out.match(/begin/g)).toHaveLength(1);
  });

  test('processes: integers that go up add up, what intervals read is of one', async () => {
    const other = await startTarget();
    const script = `kprobe:app.mjs:total { @n++; @each[pid]++; @kept = 7; }
      interval:ms:50 { @ticks++; if (@n > 1000000) { print(1); } } END { printf("end\\n"); clear(@ticks); }`;
    const { code, out, err } = await run('-p', target.pid, '-p', other.pid, '-e', forMs(script));
    expect(code).toBe(0);
    const each = [...out.matchAll(/^@each\[\d+\]: (\d+)$/gm)].map(([, n]) => Number(n));
    expect(each).toHaveLength(2);
    expect(Number(/^@n: (\d+)$/m.exec(out)?.[1])).toBe(each[0]! + each[1]!);
    expect(out).toContain('@kept: 7\n');
    expect(err.match(/WARNING/g)).toHaveLength(1);
    expect(err).toMatch(
      /^stdin:2:38: WARNING: @n is read of one process only: each has its own\n.*\n +~~\nHINT: print\(@n\) shows/m,
    );
  });

  test('processes: when the first dies, intervals go on in the next', async () => {
    const [one, two] = [await startTarget(), await startTarget()];
    const tracer = start(
      '-p',
      one.pid,
      '-p',
      two.pid,
      '-e',
      'interval:ms:20 { printf("tick %d\\n", pid); } END { printf("end %d\\n", pid); }',
    );
    await tracer.saw(`tick ${one.pid}`);
    one.child.kill('SIGKILL');
    await tracer.saw(`tick ${two.pid}`);
    tracer.child.kill('SIGINT');
    const { code, out } = await tracer.finished;
    expect(code).toBe(0);
    expect(out.match(/end \d+/g)).toEqual([`end ${two.pid}`]);
  });

  test('processes: which one does not have what is named', async () => {
    const other = path.join(folder, 'other.cjs');
    writeFileSync(other, 'setInterval(function tick() {}, 50); console.log(process.pid);');
    const child = spawn(process.execPath, ['--inspect-port=0', other], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    targets.push(child);
    await new Promise((resolve) => child.stdout!.once('data', resolve));
    const { code, err } = await run(
      '-p',
      target.pid,
      '-p',
      String(child.pid),
      'kprobe:handle { @ = count(); }',
    );
    expect(code).toBe(1);
    expect(err).toMatch(
      new RegExp(
        `^process ${child.pid} does not have what the script names:\\nstdin:1:8: ERROR: no function matches handle`,
      ),
    );
  });

  test('tracers: the second is refused', async () => {
    const first = start('-v', '-p', target.pid, '-e', 'kprobe:app.mjs:total { @ = count(); }');
    await first.saw(/total: \w+ \(/);
    const { code, err } = await run('-p', target.pid, 'BEGIN { exit(); }');
    const holder = first.child.pid;
    expect({ code, err }).toEqual({
      code: 1,
      err: `ERROR: process ${target.pid} is being traced already, by process ${holder}\nHINT: kill -INT ${holder} ends that one\n`,
    });
    first.child.kill('SIGINT');
    expect((await first.finished).code).toBe(0);
  });

  test('a tracer killed by SIGKILL is cleaned up after within 2 s', async () => {
    const first = start('-v', '-p', target.pid, '-e', 'kprobe:app.mjs:total { @ = count(); }');
    await first.saw(/total: \w+ \(/);
    first.child.kill('SIGKILL');
    await first.finished;
    // the next one waits for that
    expect(await run('-p', target.pid, 'BEGIN { exit(); }')).toMatchObject({
      code: 0,
      err: 'Attaching 1 probe...\n',
    });
  });
});

describe('-c', () => {
  test('starts a command, traces it, ends with it', async () => {
    const script =
      'kprobe:app.mjs:total { @[retval] = count(); } kretprobe:app.mjs:total { @n = count(); if (@n > 5) { exit(3); } }';
    const { code, out, err } = await run(
      '-c',
      `'${process.execPath}' --inspect-port=0 ${app}`,
      script.replace('@[retval]', '@[len(arg0)]'),
    );
    expect({ code, err: code === 3 ? '' : err }).toEqual({ code: 3, err: '' });
    expect(out).toMatch(/^\n\n@\[3\]: \d+\n@n: [6-9]\n$/);
  });

  test('a command that is not there', async () => {
    const { code, err } = await run('-c', 'no-such-program x', 'kprobe:app.mjs:total { @ = count(); }');
    expect({ code, err }).toEqual({
      code: 1,
      err: 'ERROR: -c: cannot start no-such-program: there is no such program\n',
    });
  });
});

describe('errors', () => {
  const cases: readonly (readonly [name: string, args: readonly string[], err: string | RegExp])[] = [
    ['no program', [], /^ERROR: no program\nHINT: trapline --help/],
    ['an empty program', ['-p', '1', ''], /^ERROR: no program\nHINT: trapline --help/],
    ['no process', ['BEGIN { exit(); }'], /^ERROR: no process to trace\nHINT: give -p PID/],
    [
      'no such script',
      ['-p', '1', 'missing.bt'],
      /^ERROR: cannot read the script missing\.bt: there is no such file/,
    ],
    [
      'a command that there is not',
      ['bfp', 'run'],
      'ERROR: cannot read the script bfp: there is no such file\nHINT: did you mean bpf?\n',
    ],
    [
      'a folder for a script',
      ['-p', '1', '/'],
      'ERROR: cannot read the script /: illegal operation on a directory\n',
    ],
    [
      'an option',
      ['--max-puase', '1'],
      /^ERROR: unknown option --max-puase\nHINT: did you mean --max-pause\?/,
    ],
    [
      'a negative number',
      ['--max-pause', '-1', 'BEGIN { exit(); }'],
      /^ERROR: --max-pause: -1 is not a whole number from 0\nUsage: trapline \[options\]/,
    ],
    [
      'of trapline tracefs',
      ['tracefs', '--mount', '/mnt', '-p', '-1'],
      /^ERROR: -p: -1 is not a whole number from 1\nUsage: trapline tracefs --mount DIR/,
    ],
    ['of trapline bpf', ['bpf', 'verify', '--nothing'], /^ERROR: verify has no option --nothing/],
    [
      'syntax, before the process is touched',
      ['-p', '1', 'kprobe:a.js:f {'],
      /^stdin:1:\d+: ERROR: .*\nkprobe:a\.js:f {\n *~+/,
    ],
    [
      'a process that is not Node',
      ['-p', String(process.ppid === 1 ? 1 : 1), 'BEGIN { exit(); }'],
      /^ERROR: /,
    ],
  ];
  test.each(cases)('%s', async (_name, args, err) => {
    const result = await run(...args);
    expect(result.code).toBe(1);
    expect(result.out).toBe('');
    expect(result.err).toMatch(err);
  });

  test('an unknown function of the target, with the nearest name', async () => {
    const { code, err } = await run('-p', target.pid, 'kprobe:app.mjs:handel { @ = count(); }');
    expect(code).toBe(1);
    expect(err).toBe(
      [
        'stdin:1:8: ERROR: no function matches handel in RELATIVE/app.mjs',
        'kprobe:app.mjs:handel { @ = count(); }',
        '       ~~~~~~~~~~~~~~',
        'HINT: did you mean RELATIVE/app.mjs:handle?',
        '',
      ]
        .join('\n')
        .replaceAll('RELATIVE', relative()),
    );
  });

  test('a pause above --max-pause is refused', async () => {
    const script = forMs('kprobe:app.mjs:total { @ = count(); }');
    const { code, out, err } = await run('--max-pause', '0', '--arm', 'edit', '-p', target.pid, script);
    expect({ code, out }).toEqual({ code: 1, out: '' });
    expect(err).toMatch(
      /ERROR: looking for functions needs V8's debugger: enabling it would stop the process for about \d+ ms\nHINT: --max-pause \d+ allows it/,
    );
  });

  test('an unknown function of the language', async () => {
    const { code, err } = await run('-p', target.pid, 'kprobe:app.mjs:handle { @ = conut(); }');
    expect(code).toBe(1);
    expect(err).toMatch(/^stdin:1:29: ERROR: .*conut.*\nkprobe:.*\n +~~~~~\nHINT: did you mean count\?\n$/);
  });
});
