import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { tcpPacket } from '../../src/bpf/testing/index.ts';
import { parseBpfArguments } from '../../src/cli/bpf/options.ts';
import { openDebugger } from '../../src/cli/bpf/step.ts';

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '../..');
const objects = path.join(root, 'test/bpf/fixtures/objects');
const firewall = path.join(root, 'examples/bpf-testing/bpf/firewall.bpf.o');
const folder = mkdtempSync(path.join(tmpdir(), 'trapline-step-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const packet = `hex:${Buffer.from(tcpPacket({ source: '192.0.2.7' })).toString('hex')}`;

function session(...argv: string[]): (command: string) => string {
  const debug = openDebugger(parseBpfArguments('step', argv));
  return (command) => debug.execute(command) ?? 'quit';
}

function assembled(text: string, ...argv: string[]): (command: string) => string {
  const file = path.join(folder, `p${Math.random()}.s`);
  writeFileSync(file, text);
  return session(file, ...argv);
}

describe('raw instructions', () => {
  const TEXT =
    'r6 = 0\nr7 = 3\nloop:\nr6 += r7\nr7 -= 1\nif r7 != 0 goto loop\nr0 = r6\n*(u64 *)(r10 -8) = r0\nexit\n';

  test('steps forwards and backwards see the same states', () => {
    const run = assembled(TEXT);
    const states: string[] = [];
    for (let n = 0; n < 14; n++) {
      states.push(run('regs'));
      run('step');
    }
    expect(run('step')).toBe('the program ended after 14 instructions, r0 = 0x6 (6)\n');
    for (let n = 13; n >= 0; n--) {
      run(`back ${n === 13 ? 1 : 1}`);
      expect(run('regs'), `moment ${n}`).toBe(states[n]);
    }
    expect(run('back')).toMatch(/^#0 /);
    expect(run('goto 9')).toMatch(/^#9 prog\n {3}3: \(17\) r7 -= 1\n|^#9 /);
    expect(run('regs')).toBe(states[9]);
    expect(run('goto 99')).toMatch(/^the program ended after 14/);
  });

  test('breakpoints, forwards and backwards', () => {
    const run = assembled(TEXT);
    expect(run('break *3')).toBe('breakpoint 1 at instruction 3\n');
    const moments = ['c', 'c', 'c', 'c'].map((command) => run(command).match(/#(\d+)|ended/)?.[0]);
    expect(moments).toEqual(['#3', '#6', '#9', 'ended']);
    expect(['rc', 'rc', 'rc', 'rc'].map((command) => run(command).match(/#(\d+)/)?.[0])).toEqual([
      '#9',
      '#6',
      '#3',
      '#0',
    ]);
    expect(run('breakpoints')).toBe('1: *3\n');
    expect(run('delete 1')).toBe('');
    expect(run('delete 1')).toBe('ERROR: there is no breakpoint 1\n');
    expect(run('c')).toMatch(/^the program ended/);
  });

  test('stack and memory', () => {
    const run = assembled(TEXT);
    run('c');
    run('back');
    expect(run('stack')).toBe('fp-8    0x6                 6\n');
    expect(run('x r10-8 8')).toMatch(/^[0-9a-f]{8} {2}06 00 00 00 00 00 00 00 /);
    expect(run('x r10-8 0')).toBe('');
    expect(run('x 0xfffffff0')).toMatch(/^ERROR: there is no memory at 0xfffffff0/);
    expect(run('print r6')).toBe('r6 = 0x6 (6)\n');
    expect(run('print r10')).toMatch(/^r10 = 0x[0-9a-f]+ \(fp\)\n$/);
  });

  test('callbacks are stepped through, forwards and backwards', () => {
    const run = assembled(
      'r1 = 3\nr2 = subprog[+6]\nr3 = r10\nr4 = 0\ncall bpf_loop\nr0 = 0\nexit\nr0 = 0\nexit\n',
      '--type',
      'socket_filter',
      '--data-in',
      'zero:64',
    );
    run('break *8');
    const indices: string[] = [];
    for (let n = 0; n < 3; n++) {
      expect(run('c')).toMatch(/^breakpoint 1, \*8\n#\d+ subprog_8\n/);
      indices.push(run('print r1'));
      expect(run('where').trim().split('\n')).toHaveLength(2);
    }
    expect(indices).toEqual([0, 1, 2].map((n) => `r1 = 0x${n} (${n})\n`));
    expect(run('back 2')).toMatch(/^#7 subprog_8\n/);
    expect(run('print r1')).toBe(indices[1]);
    expect(run('rc')).toMatch(/^the|^breakpoint 1/);
    expect(run('print r1')).toBe(indices[0]);
    expect(run('finish')).toMatch(/^breakpoint 1|^#\d+ prog/);
    run('delete 1');
    expect(run('c')).toMatch(/^the program ended after 13 instructions, r0 = 0x0 /);
  });

  test('random numbers and times are the same on every way back', () => {
    const run = assembled(
      'call bpf_get_prandom_u32\nr6 = r0\ncall bpf_ktime_get_ns\nr7 = r0\nr0 = 0\nexit\n',
      '--type',
      'socket_filter',
      '--data-in',
      'zero:64',
    );
    run('goto 4');
    const seen = run('regs');
    run('restart');
    run('goto 4');
    expect(run('regs')).toBe(seen);
    run('c');
    run('goto 4');
    expect(run('regs')).toBe(seen);
  });
});

describe('an object', () => {
  test('lines: next, prev, break at a line and a function', () => {
    const run = session(path.join(objects, 'maps-19.o'), '--data-in', 'zero:64');
    expect(run('next')).toMatch(/^#\d+ count_all at \.\/maps\.c:67\n67\t {2}u32 zero = 0, three = 3;\n/);
    expect(run('next')).toMatch(/maps\.c:68\n/);
    expect(run('prev')).toMatch(/maps\.c:67\n/);
    expect(run('prev')).toMatch(/maps\.c:66\n/);
    expect(run('break maps.c:79')).toMatch(/^breakpoint 1 at instructions? /);
    expect(run('c')).toMatch(/^breakpoint 1, maps\.c:79\n#\d+ count_all at \.\/maps\.c:79\n/);
    expect(run('list')).toMatch(/^=> 79\t {2}if \(slot\) \*slot \+= 2;$/m);
    expect(run('disas')).toMatch(/^=> +\d+: \(15\) if r8 == 0x0 goto/m);
    expect(run('break nothing')).toMatch(/^ERROR: there is no function nothing/);
    expect(run('break 4000')).toMatch(/^ERROR: no instruction belongs to line 4000/);
  });

  test('maps as they are at each moment', () => {
    const run = session(path.join(objects, 'maps-19.o'), '--data-in', 'zero:64');
    run('break 79');
    run('c');
    const entry = [{ key: { pid: 7, comm: 'abc' }, value: { count: 1, bytes: 100 } }];
    expect(JSON.parse(run('map counts'))).toEqual(entry);
    expect(run('map')).toContain('counts: hash, 1 entries\n');
    run('restart');
    expect(JSON.parse(run('map counts'))).toEqual([]);
    run('c');
    expect(JSON.parse(run('map counts'))).toEqual(entry);
    run('c');
    const slots = JSON.parse(run('map slots')) as { key: unknown; value: unknown }[];
    run('reverse-continue');
    expect(JSON.parse(run('map slots'))).not.toEqual(slots);
    expect(run('map nothing')).toMatch(/^ERROR: there is no map nothing/);
  });

  test('functions: break, where, finish, and a packet', () => {
    const run = session(firewall, '--prog', 'firewall', '--data-in', packet, '--set', 'max_connections=1');
    expect(run('break too_fast')).toMatch(/^breakpoint 1 at instruction \d+\n$/);
    expect(run('c')).toMatch(/^breakpoint 1, too_fast\n#\d+ too_fast at /);
    const calls = run('where').trim().split('\n');
    expect(calls).toHaveLength(2);
    expect(calls[0]).toMatch(/^#0 too_fast at \.\/firewall\.bpf\.c:\d+, instruction \d+$/);
    expect(calls[1]).toMatch(/^#1 firewall at /);
    expect(run('finish')).toMatch(/^#\d+ firewall at /);
    expect(run('map buckets')).toContain('"used": 1');
    expect(run('print max_connections')).toBe('max_connections = 1\n');
    expect(run('print check_ports')).toBe('check_ports = false\n');
    expect(run('print max_conections')).toBe(
      'ERROR: there is no global variable max_conections\nHINT: did you mean max_connections?\n',
    );
    expect(run('c')).toMatch(/^the program ended after \d+ instructions, r0 = 0x2 \(2\)\n$/);
  });

  test('the packet is the memory that registers point to', () => {
    const run = session(firewall, '--prog', 'firewall', '--data-in', packet);
    run('step 3');
    const data = [...run('regs').matchAll(/^r(\d)/gm)].map(([, n]) => n);
    const found = data.some((n) => run(`x r${n} 14`).includes('02 00 00 00 00 02 02 00 00 00 00 01 08 00'));
    expect(found).toBe(true);
  });
});

test('a pipe of commands; an empty line repeats', () => {
  const cli = path.join(root, 'dist/cli/main.js');
  const { stdout, status, stderr } = spawnSync(
    process.execPath,
    [cli, 'bpf', 'step', firewall, '--prog', 'firewall', '--data-in', packet],
    { input: 'step\n\nhelp\nfoo\nquit\nstep\n', encoding: 'utf8' },
  );
  expect(stderr).toBe('');
  expect(status).toBe(0);
  expect(stdout).toMatch(/^firewall \(xdp, xdp\), \d+ instructions; help lists the commands\n#0 firewall at/);
  expect(stdout.match(/^#\d+ /gm)).toEqual(['#0 ', '#1 ', '#2 ']);
  expect(stdout).toContain('reverse-continue (rc)');
  expect(stdout).toContain('ERROR: no command foo\nHINT: help lists the commands\n');
  expect(stdout.endsWith('(bpf) quit\n')).toBe(true);
});

test('mistakes before the session', () => {
  expect(() =>
    session(path.join(objects, 'core-19.o'), '--prog', 'read_file', '--data-in', 'zero:64'),
  ).toThrow('take no packet');
  expect(() => session('-')).toThrow('standard input is for commands');
});
