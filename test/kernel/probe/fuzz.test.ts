import { expect, test } from 'vitest';
import { KernelError } from '../../../src/kernel/errno.ts';
import { dynEventsOf } from '../../../src/kernel/trace/probe/files.ts';
import { generator, seeds } from '../../support/fuzz.ts';
import { fromTable } from './context.ts';
import { TestSystem } from './system.ts';

const PIECES = [
  'p',
  'r',
  'f',
  't',
  'e',
  's',
  '-',
  '!',
  ':',
  '/',
  '.',
  ' ',
  ' ',
  ' ',
  '\n',
  '#',
  'grp/',
  'ev',
  '10',
  '4097',
  'vfs_read',
  'do_sys_openat2',
  'kfree',
  'sched_switch',
  'sched.sched_switch',
  'name_show',
  'jiffies',
  '%return',
  '+4',
  '-1',
  'a=',
  'b=',
  '=',
  '%di',
  '%si',
  '$arg1',
  '$arg*',
  '$retval',
  '$stack',
  '$stack3',
  '$comm',
  '@jiffies',
  '@0x10',
  '+0(',
  '-8(',
  '+u0(',
  ')',
  ')',
  '\\1',
  '\\"x"',
  ':u8',
  ':x64',
  ':string',
  ':ustring',
  ':symstr',
  ':char',
  ':b4@3/32',
  ':b99999999999999999999@0/8',
  '[4]',
  '[65]',
  '[',
  ']',
  'dfd',
  'how->flags',
  'file->f_inode',
  'how->',
  '->',
  'if',
  'next_pid > 1',
  'u64 a;',
  'char b[];',
  'synthetic/',
  '0x1234',
  '0',
  '\0',
  'é',
  '\u{1f600}',
  '%pd',
  ':%pd',
  '*',
  '[z-a]',
  '18446744073709551616',
  'nomod:fn',
  '\t',
];

test.each(seeds(20_260_101))(
  'whatever is written leaves either a definition or an errno: seed %i',
  { timeout: 120_000 },
  (seed) => {
    const next = generator(seed);
    let accepted = 0;
    let refused = 0;
    for (let round = 0; round < 400; round++) {
      const system = new TestSystem();
      for (let n = 0; n < 8; n++) {
        const file = ['dynamic_events', 'kprobe_events', 'synthetic_events'][next(3)] as string;
        let text = [
          'p:e vfs_read ',
          'r do_sys_openat2 ',
          'f:f do_sys_openat2 ',
          's:x ',
          'e sched.sched_switch ',
          '',
        ][next(6)] as string;
        for (let pieces = next(9); pieces > 0; pieces--) text += PIECES[next(PIECES.length)];
        const before = system.read('dynamic_events');
        try {
          system.write(file, text);
          accepted++;
        } catch (error) {
          expect(error, text).toBeInstanceOf(KernelError);
          refused++;
          // Lines in front of the one that is refused stay; a single line has changed nothing.
          if (!text.includes('\n') && text[0] !== '-' && text[0] !== '!') {
            expect(system.read('dynamic_events'), text).toBe(before);
          }
        }
      }
      const { list } = dynEventsOf(system.tracing);
      expect(new Set(list.map(({ call }) => call)).size).toBe(
        [...system.tracing.events].filter(({ data }) => data !== undefined).length,
      );
      for (const { call } of list) system.tracing.globalTrace.file(call.system, call.name)!.enable(true);
      for (const ret of [false, true])
        system.fire(system.address('do_sys_openat2'), fromTable(system, ret), ret);
      for (const line of system.printed()) expect(line).toMatch(/^\w+: /);
      for (const { call } of list) system.tracing.globalTrace.file(call.system, call.name)!.enable(false);
      for (let tries = 0; tries < 3 && list.length > 0; tries++) {
        try {
          system.write('dynamic_events', '', false);
        } catch (error) {
          expect(error).toBeInstanceOf(KernelError);
        }
      }
      expect(system.read('dynamic_events')).toBe('');
      expect(system.armed.size).toBe(0);
    }
    expect(accepted).toBeGreaterThan(200);
    expect(refused).toBeGreaterThan(1000);
  },
);
