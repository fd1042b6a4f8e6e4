import { describe, expect, test } from 'vitest';
import { dynEventsOf } from '../../../src/kernel/trace/probe/files.ts';
import { findSynthEvent } from '../../../src/kernel/trace/probe/synth-command.ts';
import { dataView, writeEntry } from '../../../src/kernel/trace/trace-entry.ts';
import { showTriggers } from '../../../src/kernel/trace/trigger/trigger-files.ts';
import { hitContext } from './context.ts';
import { TestSystem } from './system.ts';

function rejects(run: () => unknown, code: string): void {
  expect(run).toThrow(expect.objectContaining({ code }));
}

/** sched_switch happens. */
function schedSwitch(system: TestSystem, prev: string, pid: number): void {
  const call = system.tracing.events.byName('sched', 'sched_switch')!;
  const end = Math.max(...call.fields.map(({ offset, size }) => offset + size));
  const data = new Uint8Array(end);
  writeEntry(data, call.id, pid);
  data.set(new TextEncoder().encode(prev), call.field('prev_comm')!.offset);
  dataView(data).setInt32(call.field('prev_pid')!.offset, pid, true);
  dataView(data).setBigInt64(call.field('prev_state')!.offset, -2n, true);
  system.tracing.commit(call, { cpu: 1, ts: 5n, data });
}

describe('an event probe', () => {
  test('takes the fields of another event, which runs in soft mode meanwhile', () => {
    const system = new TestSystem();
    system.write(
      'dynamic_events',
      'e:grp/e sched/sched_switch pid=$prev_pid:s32 name=$prev_comm:string state=$prev_state:s8 me=$comm:string two=\\2\n',
    );
    const attached = system.tracing.globalTrace.file('sched', 'sched_switch')!;
    schedSwitch(system, 'early', 1);
    system.write('events/grp/e/enable', '1');
    expect(attached.showEnable()).toBe('0*\n');
    expect(showTriggers(attached)).toMatch(/^# Available triggers:\n/);
    schedSwitch(system, 'bash', 7);
    expect(system.printed()).toEqual(['e: (sched.sched_switch) pid=7 name="bash" state=-2 me="orc" two=0x2']);
    rejects(() => system.write('dynamic_events', '-:grp/e'), 'EBUSY');
    system.write('events/grp/e/enable', '0');
    expect(attached.showEnable()).toBe('0\n');
    expect([attached.triggers.length, attached.flags & ~(1 << 10)]).toEqual([0, 0]);
    schedSwitch(system, 'late', 1);
    expect(system.printed()).toEqual([]);
    system.write('dynamic_events', '-:grp/e sched.sched_switch pid=$prev_pid:s32\n');
    expect(system.read('dynamic_events')).toBe('');
  });

  test('takes a char without its sign, and no string of the record for one of a program', () => {
    const system = new TestSystem();
    system.write('dynamic_events', 'f:grp/f vfs_read c=$arg3:s8\n');
    system.write('dynamic_events', 'e:grp/e grp.f c=$c:s16\n');
    system.write('dynamic_events', 'e:grp/u sched.sched_switch a=$prev_comm:string b=$prev_comm:ustring\n');
    system.write('events/grp/e/enable', '1');
    system.write('events/grp/u/enable', '1');
    system.fire(system.address('vfs_read'), hitContext({ registers: { dx: -1n } }));
    schedSwitch(system, 'bash', 7);
    expect(system.printed().sort()).toEqual([
      'e: (grp.f) c=255',
      'u: (sched.sched_switch) a="bash" b=(fault)',
    ]);
  });

  test('has a filter on the records of that event', () => {
    const system = new TestSystem();
    system.write('dynamic_events', 'e:grp/e sched.sched_switch pid=$prev_pid:u32 if prev_pid > 5\n');
    system.write('events/grp/e/enable', '1');
    for (const pid of [4, 6, 5, 9]) schedSwitch(system, 'x', pid);
    expect(system.printed()).toEqual(['e: (sched.sched_switch) pid=6', 'e: (sched.sched_switch) pid=9']);
    rejects(() => system.write('dynamic_events', 'e sched.sched_switch if nosuch > 5'), 'EINVAL');
  });

  test('shows its fields in format', () => {
    const system = new TestSystem();
    system.write('dynamic_events', 'e:grp/e sched.sched_switch a=$prev_pid:u32 b=$prev_comm:string\n');
    expect(system.read('events/grp/e/format')).toContain(
      '\tfield:u32 a;\toffset:8;\tsize:4;\tsigned:0;\n' +
        '\tfield:__data_loc char[] b;\toffset:12;\tsize:4;\tsigned:1;\n\nprint fmt: " a=%u b=\\"%s\\"", REC->a, __get_str(b)\n',
    );
  });

  test('keeps a dynamic event that it is attached to', () => {
    const system = new TestSystem();
    system.write('dynamic_events', 's:lat u64 a\ne:grp/e synthetic.lat a=$a\n');
    rejects(() => system.write('dynamic_events', '-:synthetic/lat'), 'EBUSY');
    system.write('dynamic_events', '-:grp/e\n-:synthetic/lat\n');
    expect(system.read('dynamic_events')).toBe('');
    // Probes cannot be attached to kprobes.
    system.write('dynamic_events', 'p:k vfs_read\n');
    rejects(() => system.write('dynamic_events', 'e:grp/e kprobes.k'), 'ENODEV');
  });
});

describe('a synthetic event', () => {
  test('has fields of numbers, strings and stacks', () => {
    const system = new TestSystem();
    const definition = 's8 a; u16 b; int c; unsigned long d; char e[16]; char f[]; long g[]; pid_t h';
    system.write('synthetic_events', `all ${definition}\n`);
    expect(system.read('synthetic_events')).toBe(
      'all\ts8 a; u16 b; int c; unsigned long d; char[16] e; char[] f; long[] g; pid_t h\n',
    );
    expect(system.read('events/synthetic/all/format').split('\n').slice(8, -1)).toEqual([
      '\tfield:s8 a;\toffset:8;\tsize:1;\tsigned:1;',
      '\tfield:u16 b;\toffset:16;\tsize:2;\tsigned:0;',
      '\tfield:int c;\toffset:24;\tsize:4;\tsigned:1;',
      '\tfield:unsigned long d;\toffset:32;\tsize:8;\tsigned:0;',
      '\tfield:char e[];\toffset:40;\tsize:16;\tsigned:1;',
      '\tfield:__data_loc char[] f;\toffset:296;\tsize:8;\tsigned:1;',
      '\tfield:__data_loc long[] g;\toffset:304;\tsize:8;\tsigned:1;',
      '\tfield:pid_t h;\toffset:312;\tsize:4;\tsigned:1;',
      '',
      'print fmt: "a=%d, b=%u, c=%d, d=%lu, e=%s, f=%s, g=%s, h=%d", REC->a, REC->b, REC->c, REC->d, REC->e, __get_str(f), __get_stacktrace(g), REC->h',
    ]);
    const event = findSynthEvent(dynEventsOf(system.tracing), 'all')!;
    event.trace([1n, 2n, 3n, 4n, 'x', 'y', [5n], 6n], { cpu: 0, ts: 1n, pid: 2 });
    expect(system.printed()).toEqual([]);
    event.call.files[0]!.enable(true);
    const vfs = system.address('vfs_read');
    event.trace([-1n, 70000n, -3n, 2n ** 64n - 1n, 'static', 'dynämic', [vfs + 4n, 16n], -4n], {
      cpu: 1,
      ts: 9n,
      pid: 2,
    });
    expect(system.printed()).toEqual([
      'all: a=255 b=4464 c=-3 d=18446744073709551615 e=static f=dynämic g=STACK:\n=> vfs_read+0x4/0x2d0\n=> 0x10\nh=-4',
    ]);
  });

  test('spells out what a gfp_t holds', () => {
    const system = new TestSystem();
    system.write('synthetic_events', 'mem gfp_t flags\n');
    const event = findSynthEvent(dynEventsOf(system.tracing), 'mem')!;
    event.call.files[0]!.enable(true);
    for (const flags of [0n, 5n, 0x200n, 0xcc0n, 0xdc0n, 0x100ccan, 0x820n, 0x3d24can])
      event.trace([flags], { cpu: 0, ts: 1n, pid: 2 });
    expect(system.printed()).toEqual([
      'mem: flags=0 (\0)',
      'mem: flags=5 (GFP_DMA|GFP_DMA32\0)',
      'mem: flags=200 (0x200\0)',
      'mem: flags=cc0 (GFP_KERNEL\0)',
      'mem: flags=dc0 (GFP_KERNEL|__GFP_ZERO\0)',
      'mem: flags=100cca (GFP_HIGHUSER_MOVABLE\0)',
      'mem: flags=820 (GFP_ATOMIC\0)',
      'mem: flags=3d24ca (GFP_TRANSHUGE|__GFP_NORETRY|__GFP_THISNODE\0)',
    ]);
  });

  const INVALID_CMD = 'Command must be of the form: <name> field[;field] ...';
  test.each([
    ['myevent ^chr arg', 'Invalid type'],
    ['myevent ^unsigned arg', 'Incomplete type'],
    ['myevent u64 x; ^unsigned y', 'Incomplete type'],
    ['myevent char ^str]; int v', 'Illegal name'],
    ['^mye-vent char str[]', 'Illegal name'],
    ['myevent char ^st-r[]', 'Illegal name'],
    ['myevent char str;^[]', 'Invalid field'],
    ['myevent char str; ^int', 'Invalid field'],
    ['myevent char ^str[; int v', 'Invalid array specification'],
    ['myevent char ^str[kdjdk]', 'Invalid array specification'],
    ['myevent char ^str[257]', 'Invalid array specification'],
    [`^myevent ${'u64 x; '.repeat(65)}`, 'Too many fields'],
    ['^mye;vent char str[]', INVALID_CMD],
    ['^myevent ; char str[]', INVALID_CMD],
    ['^myevent; char str[]', INVALID_CMD],
    ['^; char str[]', INVALID_CMD],
    ['^;myevent char str[]', INVALID_CMD],
    ['^myevent', INVALID_CMD],
  ])('%s: %s', (marked, message) => {
    const system = new TestSystem();
    const definition = marked.replace('^', '');
    rejects(() => system.write('synthetic_events', definition), 'EINVAL');
    const [head, command, caret] = system.read('error_log').split('\n');
    expect(head!.replace(/^.*synthetic_events: error: /, '')).toBe(message);
    expect(command).toBe(`  Command: ${definition}`);
    expect(caret).toBe(`${' '.repeat('  Command: '.length + marked.indexOf('^'))}^`);
    expect(system.read('synthetic_events')).toBe('');
    expect(system.tracing.events.byName('synthetic', 'myevent')).toBeUndefined();
  });

  test('is removed by its name, unless it is in use', () => {
    const system = new TestSystem();
    system.write('synthetic_events', 'a u64 x\n', false);
    system.write('dynamic_events', 's:synthetic/b u64 x; u32 y\n');
    rejects(() => system.write('synthetic_events', 'a u64 y\n'), 'EEXIST');
    const a = findSynthEvent(dynEventsOf(system.tracing), 'a')!;
    a.ref++;
    rejects(() => system.write('synthetic_events', '', false), 'EBUSY');
    rejects(() => system.write('synthetic_events', '!a\n'), 'EBUSY');
    a.ref--;
    system.write('synthetic_events', '!a u64 x\n');
    expect(system.read('synthetic_events')).toBe('b\tu64 x; u32 y\n');
    system.write('events/synthetic/b/enable', '1');
    rejects(() => system.write('dynamic_events', '-:synthetic/b'), 'EBUSY');
    system.write('events/synthetic/b/enable', '0');
    system.write('dynamic_events', '-:b');
    rejects(() => system.write('synthetic_events', '!b\n'), 'ENOENT');
    rejects(() => system.write('dynamic_events', 's:other/b u64 x'), 'EINVAL');
    expect(system.read('error_log')).toContain('s or -:[synthetic/]<name> field[;field] ...');
  });
});
