import { describe, expect, test } from 'vitest';
import { KernelError } from '../../../src/kernel/errno.ts';
import { dynEventsOf } from '../../../src/kernel/trace/probe/files.ts';
import { fromTable, hitContext } from './context.ts';
import { TestSystem } from './system.ts';

function rejects(run: () => unknown, code: string): void {
  expect(run).toThrow(expect.objectContaining({ code }));
}

/** The only line that one definition prints at one hit of do_sys_openat2. */
function printed(definition: string, ret = false): string {
  const system = new TestSystem();
  system.write('dynamic_events', definition);
  const [event] = dynEventsOf(system.tracing).list;
  system.tracing.globalTrace.file(event!.call.system, event!.call.name)!.enable(true);
  system.fire(system.address('do_sys_openat2'), fromTable(system, ret), ret);
  const lines = system.printed();
  expect(lines).toHaveLength(1);
  return lines[0]!;
}

describe('definitions', () => {
  test.each([
    ['+9223372036854775808(%di)', 'ERANGE', 'Invalid dereference offset'],
    ['+18446744073709551616x(%di)', 'ERANGE', 'Invalid dereference offset'],
    ['+8x(%di)', 'EINVAL', 'Invalid dereference offset'],
    ['\\18446744073709551616', 'ERANGE', 'Invalid immediate value'],
    ['\\-9223372036854775809', 'ERANGE', 'Invalid immediate value'],
    ['\\x', 'EINVAL', 'Invalid immediate value'],
    ['@18446744073709551616', 'ERANGE', 'Invalid memory address'],
    ['@1x', 'EINVAL', 'Invalid memory address'],
    ['buf->x', 'EINVAL', 'Failed to get BTF type info.'],
    ['file->nosuch', 'ENOENT', 'This field is not found.'],
  ])('a=%s is refused with %s', (argument, code, text) => {
    const system = new TestSystem();
    rejects(() => system.write('kprobe_events', `p:foo vfs_read a=${argument}\n`), code);
    expect(system.read('error_log')).toContain(text);
  });

  test('read back in the order they were made, with what was left out', () => {
    const system = new TestSystem();
    const text =
      'p vfs_read # a comment\n\n  r:grp/ vfs_write $retval\nf vfs_open $arg*\nt kfree\ne sched.sched_switch n=$next_comm:string\ns:lat u64 a; char b[]\n';
    expect(system.write('dynamic_events', text)).toBe(text.length);
    expect(system.read('dynamic_events').split('\n')).toEqual([
      'p:kprobes/p_vfs_read_0 vfs_read',
      'r10:grp/r_vfs_write_0 vfs_write arg1=$retval',
      'f:fprobes/vfs_open__entry vfs_open path=path file=file',
      't:tracepoints/kfree kfree',
      'e:eprobes/sched_switch sched.sched_switch n=$next_comm:string',
      's:synthetic/lat\tu64 a; char[] b',
      '',
    ]);
    expect(system.read('kprobe_events')).toBe(
      'p:kprobes/p_vfs_read_0 vfs_read\nr10:grp/r_vfs_write_0 vfs_write arg1=$retval\n',
    );
    expect(system.read('synthetic_events')).toBe('lat\tu64 a; char[] b\n');
  });

  test('the files remove what they list when they are truncated, or nothing where one is in use', () => {
    const system = new TestSystem();
    system.write('dynamic_events', 'p:a vfs_read\nf:b vfs_read\ns:c int x\n');
    system.write('kprobe_events', '', false);
    expect(system.read('dynamic_events')).toBe('f:fprobes/b vfs_read\ns:synthetic/c\tint x\n');
    system.write('events/fprobes/b/enable', '1');
    rejects(() => system.write('dynamic_events', '', false), 'EBUSY');
    expect(system.read('dynamic_events')).toBe('f:fprobes/b vfs_read\ns:synthetic/c\tint x\n');
    system.write('events/fprobes/b/enable', '0');
    system.write('dynamic_events', '', false);
    expect(system.read('dynamic_events')).toBe('');
    expect(system.tracing.events.byName('fprobes', 'b')).toBeUndefined();
  });

  test('lines in front of one that is refused stay', () => {
    const system = new TestSystem();
    rejects(() => system.write('kprobe_events', 'p:a vfs_read\np:b nosuch\np:c vfs_read\n'), 'EINVAL');
    expect(system.read('kprobe_events')).toBe('p:kprobes/a vfs_read\n');
  });

  test('a line holds at most 4094 bytes and its newline', () => {
    const system = new TestSystem();
    const line = (length: number) => 'p:a vfs_read'.padEnd(length);
    expect(system.write('kprobe_events', `${line(4094)}\n-:a\n`)).toBe(4099);
    rejects(() => system.write('kprobe_events', `${line(4095)}\n`), 'EINVAL');
    expect(system.write('kprobe_events', line(4095))).toBe(4095);
    rejects(() => system.write('kprobe_events', 'p:b vfs_read\0'), 'EINVAL');
  });

  test('names are made of places, with what no name may hold replaced', () => {
    const system = new TestSystem();
    system.write('kprobe_events', 'p vfs_read+0\np nomod:some.fn\nr 0x1234\n');
    expect(system.read('kprobe_events')).toBe(
      'p:kprobes/p_vfs_read_0 vfs_read\n' +
        'p:kprobes/p_nomod_some_fn_0 nomod:some.fn\n' +
        'r:kprobes/r_0x0000000000001234 0x0000000000001234\n',
    );
  });

  test.each([
    '%ax',
    '@jiffies',
    '@0xffffffff81000000',
    '@jiffies+10',
    '@jiffies-10',
    '$stack',
    '$stack0',
    '$comm',
    '+0(%ax)',
    '-0(%ax)',
    '+10($stack)',
    '+0($stack1)',
    '+10(@jiffies-10)',
    '+0(+10(+20($stack)))',
    'varname=%ax',
    '%ax:x16',
    '$comm:string',
    '+0($stack):string',
    '+0(%ax)+10',
    'file->f_pos',
    'file->f_bits',
    'file->f_name',
    'count:string',
  ])('p vfs_read %s is a probe', (arg) => {
    const system = new TestSystem();
    system.write('kprobe_events', `p:e vfs_read ${arg}\n`);
    expect(system.read('kprobe_events')).toContain(arg.includes('=') ? arg : `=${arg}`);
  });

  test.each([
    '%ex',
    '@',
    '@deaqswdefr',
    '@jiffies*10',
    '@jiffies/10',
    '@jiffies%10',
    '@jiffies&10',
    '$stackp',
    '$stack0+10',
    '$retval',
    '+(%ax)',
    '(%ax+10)',
    '-(%ax)',
    '(%ax)',
    '+10($comm)',
    'varname=varname2=%ax',
    '%ax::x16',
    '%ax:y16',
    'x16:%ax',
    '$comm:x64',
    '$stack:string',
    '%ax:string',
  ])('p vfs_read %s is none', (arg) => {
    const system = new TestSystem();
    expect(() => system.write('kprobe_events', `p:e vfs_read ${arg}\n`)).toThrow(KernelError);
    expect(system.read('kprobe_events')).toBe('');
    expect(system.read('error_log')).not.toBe('');
  });

  test('bit fields of structures are shifted out of their words', () => {
    const system = new TestSystem();
    system.write('kprobe_events', 'p:e vfs_read a=file->f_bits b=file->f_pos\n');
    system.write('events/kprobes/e/enable', '1');
    const file = new Uint8Array(128);
    // Five bits from bit 803 on, and a number inside of a union without a name.
    file[100] = 0b1010_1111;
    file[88] = 9;
    system.fire(
      system.address('vfs_read'),
      hitContext({ registers: { di: 0x100n }, memory: [[0x100n, file]] }),
    );
    expect(system.printed()).toEqual(['e: (vfs_read+0x0/0x2d0) a=21 b=9']);
  });

  test('there are no uprobes', () => {
    const system = new TestSystem();
    rejects(() => system.write('uprobe_events', 'p:a /bin/sh:0x10\n'), 'EOPNOTSUPP');
    rejects(() => system.write('dynamic_events', 'p:a /bin/sh:0x10\n'), 'EINVAL');
    system.write('uprobe_events', '\n', false);
    expect(system.read('uprobe_events') + system.read('uprobe_profile')).toBe('');
  });
});

describe('an enabled event', () => {
  test('arms every probe on it, and those that come', () => {
    const system = new TestSystem();
    system.write('kprobe_events', 'p:e vfs_read\np:e vfs_write\n');
    expect(system.armed.size).toBe(0);
    system.write('events/kprobes/e/enable', '1');
    system.write('kprobe_events', 'p:e vfs_open\n');
    expect([...system.armed].map(({ address }) => address)).toEqual(
      ['vfs_read', 'vfs_write', 'vfs_open'].map((name) => system.address(name)),
    );
    rejects(() => system.write('kprobe_events', '-:e'), 'EBUSY');
    // All but the last one could go.
    expect(system.read('kprobe_events')).toBe('p:kprobes/e vfs_open\n');
    system.write('events/kprobes/e/enable', '0');
    expect(system.armed.size).toBe(0);
  });

  test('stays off where one of its probes cannot be armed', () => {
    const system = new TestSystem();
    system.unarmable.add(system.address('vfs_write'));
    system.write('kprobe_events', 'p:e vfs_read\np:e vfs_write\n');
    rejects(() => system.write('events/kprobes/e/enable', '1'), 'EBUSY');
    expect(system.armed.size).toBe(0);
    expect(system.tracing.globalTrace.file('kprobes', 'e')!.enabled).toBe(false);
    system.write('kprobe_events', '', false);
  });

  test('counts its hits in kprobe_profile', () => {
    const system = new TestSystem();
    system.write('kprobe_events', 'p:e vfs_read\np:e vfs_write\nr:ret vfs_read\n');
    system.write('events/kprobes/e/enable', '1');
    for (let i = 0; i < 3; i++) system.fire(system.address('vfs_read'), hitContext({}));
    system.fire(system.address('vfs_write'), hitContext({}));
    expect(system.read('kprobe_profile')).toBe(
      `  ${'e'.padEnd(44)} ${'3'.padStart(15)} ${'0'.padStart(15)}\n` +
        `  ${'e'.padEnd(44)} ${'1'.padStart(15)} ${'0'.padStart(15)}\n` +
        `  ${'ret'.padEnd(44)} ${'0'.padStart(15)} ${'0'.padStart(15)}\n`,
    );
  });

  test('of a module that comes later is armed then, and not once it has gone', () => {
    const system = new TestSystem();
    const dynEvents = dynEventsOf(system.tracing);
    const moduleSymbols = system.symbols.filter(({ module }) => module === 'netfs');
    const remove = (): void => {
      system.modules.delete('netfs');
      system.symbols.splice(system.symbols.indexOf(moduleSymbols[0]!), 1);
    };
    remove();
    system.write('kprobe_events', 'p:e netfs:netfs_read\n');
    system.write('events/kprobes/e/enable', '1');
    expect(system.armed.size).toBe(0);
    system.modules.add('netfs');
    system.symbols.push(...moduleSymbols);
    dynEvents.moduleChanged('9p');
    expect(system.armed.size).toBe(0);
    dynEvents.moduleChanged('netfs');
    expect([...system.armed].map(({ address }) => address)).toEqual([moduleSymbols[0]!.address]);
    remove();
    dynEvents.moduleChanged('netfs');
    expect(system.armed.size).toBe(0);
    expect(system.read('kprobe_events')).toBe('p:kprobes/e netfs:netfs_read\n');
  });
});

describe('records', () => {
  test.each([
    ['p:e do_sys_openat2 a=%di b=$arg1:s32 c=dfd', 'a=0xffffffffffffff9c b=-100 c=-100'],
    ['p:e do_sys_openat2 a=+0x40(%si):x64 b=+u0(+u0x40(%si)):ustring', 'a=0x10001000 b="/alpha"'],
    ['p:e do_sys_openat2 a=how->flags:x64 b=how->mode:b16@8/64', 'a=0x8000000000008001 b=65210'],
    [
      'p:e do_sys_openat2 a=+0(%cx):u32 b=+0(%cx):string c=+0(%cx):string[2]',
      'a=0 b=(fault) c={(fault),(fault)}',
    ],
    ['p:e do_sys_openat2 a=+0x100(%si):string[2] b=$comm', 'a={"/alpha","/beta/gamma"} b="orc"'],
    [
      'p:e do_sys_openat2 a=+0x100(%si):string[2] b=+0x110(%si):ustring[1]',
      'a={"/alpha","/beta/gamma"} b={"/x"}',
    ],
    ['p:e do_sys_openat2 a=\\"text" b=\\-3:s16 c=@modprobe_path+6:string', 'a="text" b=-3 c="modprobe"'],
    ['p:e do_sys_openat2 a=$stack0:symstr b=$comm', 'a="__do_sys_openat2+0xa6/0x130" b="orc"'],
    ['p:e do_sys_openat2 $arg*', 'dfd=-100 filename=0x10000000 how=0xffa0000000ce7c10'],
    ['p:e do_sys_openat2 a=+1(%si):char[2]', "a={'&','K'}"],
  ])('%s', (definition, args) => {
    expect(printed(definition)).toBe(`e: (do_sys_openat2+0x0/0xe0) ${args}`);
  });

  test.each(['r:e do_sys_openat2', 'f:e do_sys_openat2%return'])('%s: of a return', (head) => {
    expect(printed(`${head} r=$retval a=$arg1:s32 b=filename c=$arg1:x8`, true)).toBe(
      'e: (__do_sys_openat2+0xa6/0x130 <- do_sys_openat2) r=-22 a=-100 b=0x10000000 c=0x9c',
    );
  });

  test('go to every instance that has the event on', () => {
    const system = new TestSystem();
    system.write('kprobe_events', 'p:e vfs_read a=%di\n');
    const other = system.tracing.createInstance('other');
    other.file('kprobes', 'e')!.enable(true);
    system.fire(system.address('vfs_read'), hitContext({ registers: { di: 7n } }));
    expect(system.printed()).toEqual([]);
    expect(other.buffer.consume()?.data.length).toBe(24);
  });

  test('a string that fits is whole; one that fits no page is lost with its record', () => {
    const system = new TestSystem();
    system.write('kprobe_events', 'p:e vfs_read a=+0(%di):string\n');
    system.write('events/kprobes/e/enable', '1');
    const hit = (length: number): string[] => {
      const memory = [
        [0x5000n, new Uint8Array(length).fill(0x61)],
        [0x5000n + BigInt(length), new Uint8Array(1)],
      ] as const;
      system.fire(system.address('vfs_read'), hitContext({ registers: { di: 0x5000n }, memory }));
      return system.printed();
    };
    expect(hit(3000)).toEqual([`e: (vfs_read+0x0/0x2d0) a="${'a'.repeat(3000)}"`]);
    expect(hit(5000)).toEqual([]);
    expect(system.read('kprobe_profile')).toMatch(/ 2 +0\n$/);
  });

  test('properties of JavaScript values', () => {
    const system = new TestSystem();
    system.write(
      'kprobe_events',
      'p:e handle url=$arg1->url:string host=request.headers.host:string n=reply->size:u32 all=request:string none=$arg2->x:string\n',
    );
    expect(system.read('kprobe_events')).toBe(
      'p:kprobes/e handle url=$arg1->url:string host=request.headers.host:string n=reply->size:u32 all=request:string none=$arg2->x:string\n',
    );
    system.write('events/kprobes/e/enable', '1');
    const values: Readonly<Record<string, bigint | string>> = {
      '0:url': '/a?ü',
      '0:headers.host': 'localhost',
      '1:size': 1234n,
      '0:': '[object]',
    };
    const property = (arg: number, path: readonly string[]) => values[`${arg}:${path.join('.')}`];
    system.fire(system.address('handle'), hitContext({ property }));
    expect(system.printed()).toEqual([
      'e: (handle+0x0/0x100) url="/a?ü" host="localhost" n=1234 all="[object]" none=(fault)',
    ]);
  });
});

test('names may have letters beyond ASCII, except those of events and arguments', () => {
  const system = new TestSystem();
  const property = (_: number, path: readonly string[]) => path.join('/');
  system.write('dynamic_events', 'p:e größe v=länge.straße:string $arg1:string\nf:f gr*e\n');
  expect(system.read('dynamic_events')).toBe(
    'p:kprobes/e größe v=länge.straße:string arg2=länge:string\nf:fprobes/f gr*e\n',
  );
  system.write('events/kprobes/e/enable', '1');
  system.write('events/fprobes/f/enable', '1');
  system.fire(system.address('größe'), hitContext({ property }));
  expect(system.printed()).toEqual(['e: (größe+0x0/0x100) v="straße" arg2=""', 'f: (größe+0x0/0x100)']);
});

test('fprobes take the place of a function in the list of them', () => {
  const system = new TestSystem();
  const names = [...system.functions()].map(({ name }) => name);
  const place = names.indexOf('vfs_write') + 1;
  system.write('dynamic_events', `f:g 0x${place.toString(16)}\n`);
  system.write('events/fprobes/g/enable', '1');
  system.fire(system.address('vfs_read'), hitContext({}));
  system.fire(system.address('vfs_write'), hitContext({}));
  expect(system.printed()).toEqual(['g: (vfs_write+0x0/0x4a0)']);
  for (const none of ['0', `${names.length + 1}`, `${place}x`])
    expect(() => system.write('dynamic_events', `f:h ${none}\n`)).toThrow();
});

test('fprobes take globs, tracepoint probes their arguments', () => {
  const system = new TestSystem();
  system.write('dynamic_events', 'f:g vfs_* \nt:t sched_switch p=prev next $arg1\n');
  system.write('events/fprobes/g/enable', '1');
  system.write('events/tracepoints/t/enable', '1');
  system.fire(system.address('vfs_write'), hitContext({}));
  system.fire(0xffff_ffff_9000_0000n, hitContext({ registers: { di: 1n, si: 0x10n, dx: 0x20n } }));
  expect(system.printed()).toEqual([
    'g: (vfs_write+0x0/0x4a0)',
    't: (0xffffffff90000000) p=0x10 next=0x20 preempt=1',
  ]);
  expect(system.read('dynamic_events')).toBe(
    'f:fprobes/g vfs_*\nt:tracepoints/t sched_switch p=prev next=next preempt=preempt\n',
  );
});
