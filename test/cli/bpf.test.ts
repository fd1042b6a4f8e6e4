import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { assemble, dumpC, encodeInsns, openObject, parseBtf, writeBtf } from '../../src/bpf/index.ts';
import { tcpPacket } from '../../src/bpf/testing/index.ts';
import { BPF_COMMANDS } from '../../src/cli/bpf/commands.ts';
import { BPF_OPTIONS, optionsOf } from '../../src/cli/bpf/options.ts';

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '../..');
const cli = path.join(root, 'dist/cli/main.js');
const objects = path.join(root, 'test/bpf/fixtures/objects');
const examples = path.join(root, 'examples/bpf-testing/bpf');
const firewall = path.join(examples, 'firewall.bpf.o');
const folder = mkdtempSync(path.join(tmpdir(), 'trapline-bpf-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const packet = (source: string): string => `hex:${hex(tcpPacket({ source }))}`;

interface Result {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function bpf(args: readonly string[], input: string | Uint8Array = ''): Promise<Result> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [cli, 'bpf', ...args], { cwd: folder });
    let out = '';
    let err = '';
    child.stdout.on('data', (data) => {
      out += data;
    });
    child.stderr.on('data', (data) => {
      err += data;
    });
    child.stdin.on('error', () => {});
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, out, err }));
    child.stdin.end(input);
  });
}

const lines = (text: string): unknown[] =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

describe('help and mistakes', () => {
  test('help lists commands; each command its options', async () => {
    const { code, out } = await bpf(['--help']);
    expect(code).toBe(0);
    for (const { name } of BPF_COMMANDS) expect(out).toContain(`\n  ${name} `);
    const help = await bpf(['run', '--help']);
    for (const { name } of optionsOf('run')) expect(help.out).toContain(`--${name}`);
    expect(help.out).not.toContain('--stage');
    for (const line of (out + help.out).split('\n')) expect(line.length).toBeLessThanOrEqual(130);
  });

  test('every option belongs to a command', () => {
    for (const { name, commands } of BPF_OPTIONS) expect(commands, name).not.toHaveLength(0);
  });

  test.each([
    [[], 1, /^Runs, verifies/, ''],
    [['rnu'], 1, '', 'ERROR: bpf has no command rnu\nHINT: did you mean run?\n'],
    [['run'], 1, '', 'ERROR: no program\nHINT: trapline bpf run --help\n'],
    [['run', 'x.o', '--stage', 'wat'], 1, '', 'ERROR: run has no option --stage\nHINT: it is one of dump\n'],
    [
      ['run', 'x.o', '--repat', '2'],
      1,
      '',
      'ERROR: run has no option --repat\nHINT: did you mean --repeat?\n',
    ],
    [['run', 'none.o'], 1, '', 'ERROR: cannot read the program none.o: there is no such file\n'],
    [
      ['run', firewall, '--prog', 'firewal', '--data-in', 'zero:64'],
      1,
      '',
      'ERROR: there is no program firewal\nHINT: did you mean firewall?\n',
    ],
    [
      ['run', firewall, '--data-in', 'zero:64'],
      1,
      '',
      'ERROR: the object has 2 programs\nHINT: say which: --prog firewall, --prog answer_ping\n',
    ],
    [
      ['run', firewall, '--prog', 'firewall'],
      1,
      '',
      'ERROR: programs of type xdp run on a packet\nHINT: --data-in FILE, --data-in hex:… or --data-in zero:64\n',
    ],
    [
      ['run', firewall, '--prog', 'firewall', '--data-in', 'hex:123'],
      1,
      '',
      'ERROR: --data-in: hex:123 is not an even number of hexadecimal digits\n',
    ],
    [
      ['run', firewall, '--prog', 'firewall', '--data-in', 'zero:64', '--set', 'max_conections=1'],
      1,
      '',
      'ERROR: --set: there is no global variable max_conections\nHINT: did you mean max_connections?\n',
    ],
    [
      ['run', firewall, '--prog', 'firewall', '--data-in', 'zero:64', '--put', 'bloked=[1,2]'],
      1,
      '',
      'ERROR: there is no map bloked\nHINT: did you mean blocked?\n',
    ],
    [['btf', 'show', firewall], 1, '', /^ERROR: btf cannot show\n/],
    [
      ['dump', firewall, '--stage', 'xlatd'],
      1,
      '',
      /^ERROR: --stage: xlatd is not one of .*\nHINT: did you mean xlated/,
    ],
  ] as const)('%j', async (args, code, out, err) => {
    const result = await bpf(args);
    expect(result.code).toBe(code);
    if (typeof out === 'string') expect(result.out).toBe(out);
    else expect(result.out).toMatch(out);
    if (typeof err === 'string') expect(result.err).toBe(err);
    else expect(result.err).toMatch(err);
  });
});

describe('files', () => {
  test('what never ends, is empty or broken is refused by its name', async () => {
    const cut = path.join(folder, 'cut.o');
    writeFileSync(cut, readFileSync(firewall).subarray(0, 3000));
    const empty = path.join(folder, 'empty');
    writeFileSync(empty, '');
    for (const [args, message] of [
      [
        ['run', firewall, '--prog', 'firewall', '--data-in', '/dev/zero'],
        'cannot read the data-in /dev/zero: it has more than 1048576 bytes',
      ],
      [['run', empty], `${empty} is empty`],
      [['run', '-'], 'standard input is empty'],
      [['dump', cut], `${cut}: section headers lie beyond the end of the file (offset 0x61a0)`],
      [['btf', 'dump', cut], `${cut}: section headers lie beyond the end of the file (offset 0x61a0)`],
    ] as const) {
      expect(await bpf(args)).toEqual({ code: 1, out: '', err: `ERROR: ${message}\n` });
    }
  });

  test('verify goes on behind one that cannot be read', async () => {
    const cut = path.join(folder, 'cut2.o');
    writeFileSync(cut, readFileSync(firewall).subarray(0, 3000));
    const text = await bpf(['verify', cut, firewall]);
    expect([text.code, text.out.match(/accepted/g)?.length]).toEqual([1, 2]);
    expect(text.err).toBe(`ERROR: ${cut}: section headers lie beyond the end of the file (offset 0x61a0)\n`);
    const json = await bpf(['verify', '-f', 'json', path.join(folder, 'none.o'), firewall]);
    expect([json.code, json.err]).toEqual([1, '']);
    expect(lines(json.out)).toMatchObject([
      { file: path.join(folder, 'none.o'), accepted: false, code: 'ENOENT' },
      { program: 'firewall', accepted: true },
      { program: 'answer_ping', accepted: true },
    ]);
  });
});

describe('run', () => {
  test('assembler text, digits and bytes on standard input', async () => {
    const text = 'r0 = 7\nexit\n';
    const bytes = encodeInsns(assemble(text));
    const results = await Promise.all([
      bpf(['run', '-'], text),
      bpf(['run', '-'], hex(bytes)),
      bpf(['run', '-'], bytes),
      bpf(['run', '-', '--input', 'asm'], text),
    ]);
    for (const { code, out } of results) {
      expect(out).toMatch(/^Return value: 7, duration \(average\): \d+ns\n$/);
      expect(code).toBe(0);
    }
    const broken = await bpf(['run', '-'], 'r0 = 7\nfrob\n');
    expect(broken).toEqual({ code: 1, out: '', err: 'ERROR: line 2: unknown instruction frob\n' });
    const unsafe = await bpf(['run', '-'], 'r0 = *(u64 *)(r10 -1000)\nexit\n');
    expect(unsafe.err).toMatch(/^ERROR: program prog refused at instruction 0: invalid read from stack/);
    expect(unsafe.code).toBe(1);
  });

  test('a packet through a firewall, with an entry and a variable', async () => {
    const base = ['run', firewall, '--prog', 'firewall', '--data-in', packet('192.0.2.7')];
    const blocked = 'blocked=[{"length": 24, "address": [192, 0, 2, 0]}, 5]';
    const [pass, drop, ports, interpreted, text] = await Promise.all([
      bpf([...base, '-f', 'json']),
      bpf([...base, '-f', 'json', '--put', blocked, '--repeat', '3']),
      bpf([...base, '-f', 'json', '--set', 'check_ports=true']),
      bpf([...base, '-f', 'json', '--put', blocked, '--engine', 'interpreter']),
      bpf([...base, '--data-out', '-', '--data-out', 'out.bin']),
    ]);
    expect(pass.err).toBe('');
    expect(lines(pass.out)).toEqual([
      { retval: 2, duration: expect.any(Number), data_out: packet('192.0.2.7').slice(4) },
    ]);
    expect(lines(drop.out)).toEqual([expect.objectContaining({ retval: 1 })]);
    expect(lines(ports.out)).toEqual([expect.objectContaining({ retval: 1 })]);
    expect(lines(interpreted.out)).toEqual([expect.objectContaining({ retval: 1 })]);
    expect(text.out).toMatch(/^Return value: 2 \(XDP_PASS\), /);
    expect(hex(readFileSync(path.join(folder, 'out.bin')))).toBe(packet('192.0.2.7').slice(4));
  });
});

describe('verify', () => {
  test('accepted programs with numbers; exit 0', async () => {
    const { code, out, err } = await bpf(['verify', firewall, path.join(objects, 'maps-19.o')]);
    expect(err).toBe('');
    expect(code).toBe(0);
    expect(out.trim().split('\n')).toEqual([
      expect.stringMatching(
        /firewall\.bpf\.o: firewall: accepted \(xdp, \d+ instructions, \d+ looked at, stack \d+\)$/,
      ),
      expect.stringMatching(/answer_ping: accepted/),
      expect.stringMatching(/maps-19\.o: count_all: accepted \(socket_filter, 80 instructions/),
    ]);
  });

  test('a refused program at its line of source', async () => {
    const file = path.join(examples, 'broken.bpf.o');
    const { code, out, err } = await bpf(['verify', file]);
    expect({ code, out }).toEqual({ code: 1, out: '' });
    const [place, source, caret] = err.split('\n');
    expect(place).toMatch(
      /^\.\/broken\.bpf\.c:11:15: ERROR: program no_check: invalid access to packet, off=12 size=/,
    );
    expect(source).toBe('  return eth->h_proto == 0x0008 ? XDP_DROP : XDP_PASS;');
    expect(caret).toMatch(/^ {14}~+$/);
    const verbose = await bpf(['verify', file, '--log-level', '2']);
    expect(verbose.err).toContain('R1 offset is outside of the packet\nprocessed ');
    const json = await bpf(['verify', file, '-f', 'json']);
    expect(json.code).toBe(1);
    expect(lines(json.out)).toEqual([
      expect.objectContaining({
        program: 'no_check',
        accepted: false,
        code: 'VERIFIER',
        position: expect.objectContaining({ file: './broken.bpf.c', line: 11, column: 15 }),
      }),
    ]);
  });

  test('as an unprivileged user', async () => {
    const leak = 'r0 = r10\nexit\n';
    const [root, user] = await Promise.all([
      bpf(['verify', '-', '-t', 'socket_filter'], leak),
      bpf(['verify', '-', '-t', 'socket_filter', '--unprivileged'], leak),
    ]);
    expect(root.code).toBe(0);
    expect(user.err).toContain('R0 leaks addr as return value');
    expect(user.code).toBe(1);
  });
});

describe('dump, disasm', () => {
  test('insns: maps by name, source among them; xlated: maps by id', async () => {
    const file = path.join(objects, 'maps-19.o');
    const [insns, xlated, json] = await Promise.all([
      bpf(['dump', file, '--stage', 'insns']),
      bpf(['dump', file]),
      bpf(['dump', file, '-f', 'json']),
    ]);
    expect(insns.out).toContain('(18) r1 = map[counts]\n');
    expect(insns.out).toMatch(
      /^count_all:\n; int count_all\(void \*ctx\) \{ @ \.\/maps\.c:66\n {3}0: \(b4\) w1 = 0\n/,
    );
    expect(xlated.out).toMatch(/\(18\) r1 = map\[id:\d+\]\n/);
    expect(lines(json.out)[0]).toEqual({
      program: 'count_all',
      pc: 0,
      insn: '(b4) w1 = 0',
      func: 'count_all',
      file: './maps.c',
      line: 66,
      source: 'int count_all(void *ctx) {',
    });
  });

  test('disassembly assembles to the same bytes in both syntaxes', async () => {
    const bytes = encodeInsns(
      assemble('r1 = 0x123456789 ll\nif r1 > 5 goto +1\nr0 = *(u8 *)(r1 +3)\nr0 = 1\nr0 = bswap16 r0\nexit'),
    );
    writeFileSync(path.join(folder, 'prog.bin'), bytes);
    const [kernel, suite] = await Promise.all([
      bpf(['disasm', 'prog.bin']),
      bpf(['disasm', 'prog.bin', '--syntax', 'conformance']),
    ]);
    expect(kernel.out).toMatch(/^ {3}0: \(18\) r1 = 0x123456789 ll\n {3}2: \(25\) if r1 > 0x5 goto pc\+1\n/);
    expect(encodeInsns(assemble(kernel.out))).toEqual(bytes);
    expect(encodeInsns(assemble(suite.out))).toEqual(bytes);
    const object = await bpf(['disasm', path.join(objects, 'subprogs-19.o')]);
    expect(object.out).toMatch(/^section \.text\nglobal_middle:\n {3}0: \(18\) r2 = 0x0 ll\n/);
  });

  test('wat: the module that runs', async () => {
    const { out } = await bpf(['dump', '-', '--stage', 'wat'], 'r0 = 5\nr0 *= 3\nexit\n');
    expect(out).toMatch(/^\(module\n {2}\(import "env" "memory" \(memory \d+ \d+ shared\)\)\n/);
    expect(out).toContain('(export "run" (func $run))');
    expect(out).toMatch(/\(func \$run \(param \$0 i32\) \(result i32\)\n/);
    expect(out.endsWith(')\n')).toBe(true);
    const count = (pattern: RegExp) => out.match(pattern)?.length ?? 0;
    expect(count(/\(/g)).toBe(count(/\)/g));
    expect(count(/^ *(block|loop|if) /gm)).toBe(count(/^ *end$/gm));
  });

  test('wat of every object has its blocks closed', async () => {
    const { out, code } = await bpf(['dump', firewall, '--stage', 'wat']);
    expect(code).toBe(0);
    const count = (pattern: RegExp) => out.match(pattern)?.length ?? 0;
    expect(count(/^ *(block|loop|if) /gm)).toBe(count(/^ *end$/gm));
    expect(count(/^ *(block|loop|if) /gm)).toBeGreaterThan(10);
    expect(out).toMatch(/ i64\.atomic\.rmw|i32\.atomic\.rmw/);
  });
});

describe('raw instructions with maps', () => {
  const COUNT = `
    r1 = 7
    *(u64 *)(r10 -8) = r1
    r1 = map[idx:0]
    r2 = r10
    r2 += -8
    call bpf_map_lookup_elem#1
    if r0 == 0x0 goto pc+4
    r1 = *(u64 *)(r0 +0)
    r1 += 1
    *(u64 *)(r0 +0) = r1
    r0 = r1
    exit`;
  const counts = ['--new-map', 'counts=hash:8:8:16'];

  test('run, verify, dump and map have them', async () => {
    const run = await bpf(['run', '-', ...counts, '--put', 'counts=[7,41]', '--data-in', 'zero:64'], COUNT);
    expect(run).toMatchObject({ code: 0, err: '' });
    expect(run.out).toMatch(/^Return value: 42,/);
    expect(await bpf(['verify', '-', ...counts], COUNT)).toMatchObject({ code: 0, err: '' });
    expect((await bpf(['dump', '-', ...counts], COUNT)).out).toContain('r1 = map[id:1]');
    const map = await bpf(
      ['map', '-', ...counts, '--put', 'counts=[7,41]', '--data-in', 'zero:64', '-f', 'json'],
      COUNT,
    );
    expect(lines(map.out)).toEqual([
      {
        name: 'counts',
        id: 1,
        type: 'hash',
        elements: [{ key: '0700000000000000', value: '2a00000000000000' }],
      },
    ]);
  });

  test.each([
    [
      ['counts=hash:8:8'],
      'ERROR: --new-map: counts=hash:8:8 is not NAME=TYPE:KEY:VALUE:ENTRIES[:FLAGS]\nHINT: for example --new-map counts=hash:8:8:1024\n',
    ],
    [['counts=hsh:8:8:1'], 'ERROR: --new-map: there is no map type hsh\nHINT: did you mean hash?\n'],
    [['a=hash:8:8:1', 'a=hash:8:8:1'], 'ERROR: --new-map: there are two maps a\n'],
    [['a=array:8:8:1'], "ERROR: map a: an array's key size is 4, not 8\n"],
  ])('%s is refused', async (maps, err) => {
    const options = maps.flatMap((map) => ['--new-map', map]);
    expect(await bpf(['run', '-', ...options], COUNT)).toMatchObject({ code: 1, out: '', err });
  });

  test('an object declares its own', async () => {
    const { code, err } = await bpf(['run', firewall, ...counts]);
    expect(code).toBe(1);
    expect(err).toContain('--new-map is for instructions: an object declares its maps');
  });
});

describe('btf, gen, map', () => {
  test('btf dump, both formats', async () => {
    const file = path.join(objects, 'maps-19.o');
    const [raw, c, broken] = await Promise.all([
      bpf(['btf', 'dump', file]),
      bpf(['btf', 'dump', 'file', file, 'format', 'c']),
      bpf(['btf', 'dump', file, 'format', 'xml']),
    ]);
    expect(raw.out).toMatch(/^\[1\] PTR '\(anon\)' type_id=3\n/);
    const { btf } = openObject(new Uint8Array(readFileSync(file))).spec;
    expect(c.out).toBe(dumpC(btf!));
    expect(broken.err).toBe('ERROR: format xml is not one of raw, c\n');
    writeFileSync(path.join(folder, 'some.btf'), writeBtf(btf!));
    const alone = await bpf(['btf', 'dump', 'some.btf']);
    expect(alone.out).toBe(raw.out);
    expect(parseBtf(writeBtf(btf!)).typeCount).toBe(btf!.typeCount);
  });

  test('gen writes a module', async () => {
    const { out, code } = await bpf(['gen', firewall]);
    expect(code).toBe(0);
    expect(out).toMatch(/from ["']trapline\/bpf["']/);
    expect(out).toContain('openFirewall');
    const file = await bpf(['gen', firewall, '-o', 'firewall.ts', '--import-from', '../bpf.ts']);
    expect(file.out).toBe('');
    const written = readFileSync(path.join(folder, 'firewall.ts'), 'utf8');
    expect(/from ['"](.+)['"]/.exec(written)?.[1]).toBe('../bpf.ts');
    const none = await bpf(['gen', '-'], 'exit\n');
    expect(none.err).toBe('ERROR: - is not an object file\nHINT: clang -target bpf -g -O2 -c makes one\n');
  });

  test('gen object links objects, gen skeleton is gen', async () => {
    const parts = ['library', 'rest', 'program'].map((name) => path.join(objects, '../link', `${name}-19.o`));
    const made = await bpf(['gen', 'object', 'whole.o', ...parts]);
    expect([made.code, made.out, made.err]).toEqual([0, '', '']);
    const run = await bpf(['run', 'whole.o', '--prog', 'nested', '--data-in', 'zero:64', '-f', 'json']);
    expect(JSON.parse(run.out).retval).toBe(6);
    const module = await bpf(['gen', 'skeleton', 'whole.o']);
    expect(module.out).toContain('openWhole');
    const [conflict, none, nothing, odd] = await Promise.all([
      bpf(['gen', 'object', 'twice.o', parts[0]!, parts[0]!]),
      bpf(['gen', 'object', 'alone.o']),
      bpf(['gen', 'object', 'missing.o', 'not-there.o']),
      bpf(['gen', 'object', 'x.o', parts[0]!, '-o', 'y']),
    ]);
    expect([conflict.code, conflict.err]).toEqual([
      1,
      `ERROR: ${parts[0]} and ${parts[0]} both define it (symbol scaled)\nHINT: \`static\` or \`__weak\` makes one of them give way\n`,
    ]);
    expect(none.err).toBe('ERROR: no object to link\nHINT: trapline bpf gen object OUT.o IN.o...\n');
    expect(nothing.err).toBe('ERROR: cannot read the object not-there.o: there is no such file\n');
    expect(odd.err).toMatch(/^ERROR: gen object has no option --output\n/);
    for (const file of ['twice.o', 'alone.o', 'missing.o', 'x.o'])
      expect(existsSync(path.join(folder, file))).toBe(false);
  });

  test('map without a program to run: all maps as they are after the load', async () => {
    const { code, out, err } = await bpf([
      'map',
      firewall,
      '-f',
      'json',
      '--set',
      'max_connections=7',
      '--put',
      'open_ports=[443,1]',
    ]);
    expect([code, err]).toEqual([0, '']);
    const shown = lines(out) as { name: string; elements: unknown[] }[];
    expect(shown.map(({ name }) => name)).toEqual([
      'blocked',
      'open_ports',
      'buckets',
      'counters',
      'drops',
      '.rodata',
      '.bss',
    ]);
    expect(shown[1]!.elements).toEqual([{ key: 443, value: 1 }]);
    expect(JSON.stringify(shown[5]!.elements)).toContain('{"max_connections":7}');
  });

  test('map: the variables of an arena', async () => {
    const arena = path.join(root, 'test/bpf/fixtures/arena/arena-19.o');
    const { out } = await bpf([
      'map',
      arena,
      '--prog',
      'add',
      '--ctx-in',
      'hex:00000000',
      '-f',
      'json',
      '-m',
      'arena',
    ]);
    expect(lines(out)).toEqual([
      {
        name: 'arena',
        id: 1,
        type: 'arena',
        elements: [
          {
            value: {
              '.addr_space.1': [{ total: 40 }, { calls: [1, 2, 0, 1] }, { first: { next: 0, value: 7 } }],
            },
          },
        ],
      },
    ]);
  });

  test('map shows what a run wrote, by its types', async () => {
    const args = ['map', path.join(objects, 'maps-19.o'), '--data-in', 'zero:64'];
    const [json, text, before] = await Promise.all([
      bpf([...args, '-f', 'json', '--map', 'counts', '--repeat', '3']),
      bpf([...args, '-m', 'counts']),
      bpf(['map', path.join(objects, 'maps-19.o'), '-f', 'json', '-m', 'counts']),
    ]);
    expect(lines(json.out)).toEqual([
      {
        name: 'counts',
        id: expect.any(Number),
        type: 'hash',
        elements: [{ key: { pid: 7, comm: 'abc' }, value: { count: 3, bytes: 300 } }],
      },
    ]);
    expect(text.out).toMatch(/^\d+: hash {2}name counts {2}key 16B {2}value 16B {2}max_entries 1024\n\[/);
    expect(lines(before.out)).toEqual([expect.objectContaining({ elements: [] })]);
  });
});
