import { expect, test } from 'vitest';
import { TestSystem } from './system.ts';

/** Definitions on Linux 6.12's functions, whose types come from that kernel's BTF. */
function define(...lines: readonly string[]) {
  const system = new TestSystem();
  for (const line of lines) system.fs.appendFile('dynamic_events', `${line}\n`);
  return system.fs;
}

function answer(line: string): { errno: string; log: string[] } {
  const system = new TestSystem();
  const errno = system.refusal(() => system.fs.appendFile('dynamic_events', line));
  const log = system.fs.readFile('error_log').split('\n');
  return { errno, log: log.map((text) => text.replace(/^\[.*?\] /, '')).slice(0, 3) };
}

test('arguments and members have the types of the declarations', () => {
  const fs = define(
    'p:g/wake wake_up_process $arg* p->comm:string p->pid p->se.vruntime p->in_execve',
    'r:g/out do_filp_open $retval->f_mode pathname->name:string',
  );
  expect(fs.readFile('dynamic_events')).toBe(
    'p:g/wake wake_up_process p=p arg2=p->comm:string arg3=p->pid arg4=p->se.vruntime arg5=p->in_execve\n' +
      'r10:g/out do_filp_open arg1=$retval->f_mode arg2=pathname->name:string\n',
  );
  const fields = (event: string) =>
    [...fs.readFile(`events/g/${event}/format`).matchAll(/field:(\S.*?);/g)].slice(4).map(([, text]) => text);
  expect(fields('wake')).toEqual([
    'unsigned long __probe_ip',
    'u64 p',
    '__data_loc char[] arg2',
    's32 arg3',
    'u64 arg4',
    'u32 arg5',
  ]);
  expect(fields('out').slice(2)).toEqual(['u32 arg1', '__data_loc char[] arg2']);
});

test('a member without a name is none of an empty name', () => {
  expect(answer('p:g/e vfs_read file->')).toEqual({
    errno: 'ENOENT',
    log: [
      'trace_kprobe: error: This field is not found.',
      '  Command: p:g/e vfs_read file->',
      '                                ^',
    ],
  });
});

test('a struct of eight bytes passes for a pointer to characters, one of four does not', () => {
  expect(answer('p:g/e vfs_read file->f_ref:string').errno).toBe('ENOENT');
  expect(answer('p:g/e vfs_read file->f_count:string').errno).toBe('ok');
  expect(answer('p:g/e vfs_read file->f_lock:string').errno).toBe('EINVAL');
});

test('a tracepoint takes one probe where the system says so, and one that is not there yet any', () => {
  const system = new TestSystem();
  const { fs } = system;
  const add = (line: string) => system.refusal(() => fs.appendFile('dynamic_events', line));
  expect(add('t:g/a kmalloc $arg*')).toBe('ok');
  expect(add('t:g/b kmalloc ptr=ptr')).toBe('EEXIST');
  expect(fs.exists('events/g/b')).toBe(false);
  expect(add('t:g/c later')).toBe('ok');
  expect(add('t:g/d later')).toBe('ok');
  expect(add('-:g/a')).toBe('ok');
  expect(add('t:g/b kmalloc node')).toBe('ok');
  expect(fs.readFile('dynamic_events')).toBe('t:g/c later\nt:g/d later\nt:g/b kmalloc node=node\n');
});

test('what cannot be traced, and places within code', () => {
  expect(answer('f:g/e __schedule')).toEqual({
    errno: 'EINVAL',
    log: [
      'trace_fprobe: error: Failed to register probe event',
      '  Command: f:g/e __schedule',
      '                 ^',
    ],
  });
  expect(answer('f:g/e jiffies').errno).toBe('EINVAL');
  // A kprobe may not sit there, but ftrace can trace it.
  expect(answer('f:g/e notifier_call_chain').errno).toBe('ok');
  expect(answer('p:g/e notifier_call_chain').errno).toBe('EINVAL');
  expect(answer('p:g/e vfs_read+9').errno).toBe('ok');
  expect(answer('p:g/e vfs_read+99999').errno).toBe('EILSEQ');
  expect(answer('p:g/e vfs_read+0x1000000').errno).toBe('EINVAL');
});

test('.syscall names system calls by their numbers', () => {
  const system = new TestSystem();
  const event = system.event('g', 'e', [{ type: 'int', name: 'nr', size: 4, signed: true }]);
  system.fs.writeFile('events/g/e/trigger', 'hist:keys=nr.syscall');
  for (const nr of [5, 462, 156, -1]) event.fire({ nr });
  const names = [...system.fs.readFile('events/g/e/hist').matchAll(/nr: (\w+)/g)].map(([, name]) => name);
  expect(names.sort()).toEqual(['sys_mseal', 'sys_newfstat', 'unknown_syscall', 'unknown_syscall']);
});
