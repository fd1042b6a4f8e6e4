import { describe, expect, test } from 'vitest';
import { KernelError } from '../../../src/kernel/errno.ts';
import { TestSystem } from './system.ts';

/** A definition with ^ where the caret belongs, the message, and the errno where it is not EINVAL. */
type Case = readonly [definition: string, message: string, code?: string];

const LONG = '12345678901234567890123456789012345678901234567890123456789012345';

/** What every kind of probe on functions refuses; WHERE is a place that it can be on. */
const COMMON: readonly Case[] = [
  ['K:^/bar WHERE', 'Group name is not specified'],
  [`K:^${LONG}/bar WHERE`, 'Group name is too long'],
  ['K:^foo.1/bar WHERE', 'Group name must follow the same rules as C identifiers'],
  ['K:^ WHERE', 'Event name is not specified'],
  [`K:foo/^${LONG} WHERE`, 'Event name is too long'],
  ['K:foo/^bar.1 WHERE', 'Event name must follow the same rules as C identifiers'],
  ['K WHERE ^$stack10000', 'Invalid stack number'],
  ['K WHERE ^$stack99999999999999999999', 'Invalid $-variable specified'],
  ['K WHERE ^$none_var', 'Invalid $-variable specified'],
  ['K WHERE ^@12345678abcde', 'Invalid memory address'],
  ['K WHERE ^@+10', 'File offset is not available with kprobe'],
  ['K WHERE arg1=\\^x', 'Invalid immediate value'],
  ['K WHERE arg1=\\"abcd^', "String is not closed with '\"'"],
  ['K WHERE ^+0@0)', 'Dereference needs a brace'],
  ['K WHERE ^+0ab1(@0)', 'Invalid dereference offset'],
  ['K WHERE +0(+0(@0^)', 'Dereference brace is not closed'],
  ['K WHERE +0(^$comm)', '$comm can not be dereferenced'],
  ['K WHERE ^&1', 'Invalid fetch argument'],
  [`K WHERE +0(^${'+0('.repeat(13)}@0${')'.repeat(14)}`, 'Dereference is too much nested'],
  ['K WHERE +0(@11):u8[10^', 'Array is not closed'],
  ['K WHERE +0(@11):u8[10]^a', 'Array has wrong suffix'],
  ['K WHERE +0(@11):u8[^10a]', 'Invalid array size'],
  ['K WHERE +0(@11):u8[^0]', 'Invalid array size'],
  ['K WHERE +0(@11):u8[^256]', 'Array number is too big'],
  ['K WHERE @11:^unknown_type', 'Unknown type is specified'],
  ['K WHERE $stack0:^string', 'String accepts only memory argument'],
  ['K WHERE @11:^b10@a/16', 'Invalid bitfield'],
  ['K WHERE ^arg123456789012345678901234567890=@11', 'Argument name is too long'],
  ['K WHERE ^=@11', 'Argument name is not specified'],
  ['K WHERE ^var.1=@11', 'Argument name must follow the same rules as C identifiers'],
  ['K WHERE ^common_pid=@11', 'This argument name is already used'],
  ['K WHERE var1=@11 ^var1=@12', 'This argument name is already used'],
  [
    'K WHERE ^+1234567(+1234567(+1234567(+1234567(+1234567(+1234567(@1234))))))',
    'Argument expression is too long',
    'E2BIG',
  ],
  ['K WHERE arg1=^', 'No argument expression'],
  ['K WHERE args=^$arg*', 'Invalid $-variable specified'],
  ['K WHERE +0(^$arg*)', 'Invalid $-variable specified'],
  ['K WHERE ^$argx', 'Invalid $-variable specified'],
  ['K WHERE $arg* ^$arg*', '$arg* can be used only once in the parameters'],
  ['K WHERE ^hoge', 'This variable is not found at this probe point', 'ENOENT'],
  ['K WHERE a=\\"x":^u8', '$comm and immediate-string only accepts string type'],
];

const KPROBE: readonly Case[] = [
  ['p^100 vfs_read', 'Maxactive is only for function exit'],
  ['r^1a111 vfs_read', 'Invalid maxactive number'],
  ['r^100000 vfs_read', 'Maxactive is too big'],
  ['p ^non_exist_func', 'Invalid probed address or symbol'],
  ['p ^hoge-fuga', 'Invalid probed address or symbol'],
  ['p ^hoge+1000-1000', 'Invalid probed address or symbol'],
  ['p ^vfs_read+4294967296', 'Invalid probed address or symbol'],
  ['p ^name_show', 'The symbol is not unique'],
  ['p ^netfs:nosuch', 'Invalid probed address or symbol'],
  ['r ^vfs_read+10', 'Retprobe address must be an function entry'],
  ['p ^vfs_read+10%return', 'Retprobe address must be an function entry'],
  ['p vfs_read^%hoge', 'Invalid probed address suffix'],
  ['p ^vfs_read+3', 'Probe point is not an instruction boundary', 'EILSEQ'],
  ['p ^jiffies', 'Failed to register probe event'],
  ['p ^asm_exc_int3', 'Failed to register probe event'],
  ['p vfs_read ^$retval', '$retval is not available on probe'],
  ['p vfs_read ^$arg10000', 'This variable is not found at this probe point', 'ENOENT'],
  ['p vfs_read a=^$arg10000', 'Invalid argument number'],
  ['p vfs_read ^$arg0', 'Invalid argument number'],
  ['p vfs_read ^%none_reg', 'Invalid register name'],
  ['p vfs_read ^%constructor', 'Invalid register name'],
  ['p vfs_read+20 ^$arg*', '$arg* can be used only on function entry or exit'],
  ['p vfs_read+20 a=^$arg1', '$arg* can be used only on function entry or exit'],
  ['p kfree ^$arg10', 'This variable is not found at this probe point', 'ENOENT'],
  ['r kfree ^$retval', "This function returns 'void' type", 'ENOENT'],
  ['p sys_nothing:vfs_read ^$arg*', '$arg* can be used only on function entry or exit'],
  ['p __do_sys_openat2 ^$arg*', 'BTF is not available or not supported', 'EOPNOTSUPP'],
  ['p __do_sys_openat2 ^name', 'No BTF entry for this probe point', 'ENOENT'],
  ['p vfs_read file.^f_flags', 'Non pointer structure/union argument is not supported.', 'EOPNOTSUPP'],
  ['p vfs_read a=\\1:^symstr', "Symbol String doesn't accept data/userdata"],
];

const FPROBE: readonly Case[] = [
  ['f^100 vfs_read', 'Maxactive is only for function exit'],
  ['f^1a111 vfs_read', 'Invalid maxactive number'],
  ['f^100000 vfs_read', 'Maxactive is too big'],
  ['f ^non_exist_func', 'Failed to register probe event'],
  ['f ^nothing_*', 'Failed to register probe event'],
  ['f ^vfs_read+10', 'Failed to register probe event'],
  ['f vfs_read^%hoge', 'Invalid probed address suffix'],
  ['f vfs_read ^%ax', 'Invalid fetch argument'],
  ['f vfs_read a=^$arg10000', 'Invalid argument number'],
  ['f kfree ^$arg10', 'This variable is not found at this probe point', 'ENOENT'],
  ['f kfree%return ^$retval', "This function returns 'void' type", 'ENOENT'],
  ['f vfs_read%return $retval->^foo', 'This is not a pointer to union/structure.'],
  ['f vfs_read file->^foo', 'This field is not found.', 'ENOENT'],
  ['f vfs_read file^-.foo', "Failed to parse single hyphen. Forgot '>'?"],
  ['f vfs_read ^file:string', 'This type does not fit for string.'],
];

const TPROBE: readonly Case[] = [
  ['t^100 kfree', 'Maxactive is only for function exit'],
  ['t kf^-ree', 'Invalid character in tracepoint name'],
  ['t kfree^%return', 'Invalid probed address suffix'],
  ['t kfree ^$retval', '$retval is not available on probe'],
  ['t kfree a=+0(^$retval)', '$retval is not available on probe'],
  ['t kfree ^%rax', 'Invalid fetch argument'],
];

const EPROBE: readonly Case[] = [
  ['e ^a.', 'This requires both group and event name to attach'],
  ['e ^.b', 'This requires both group and event name to attach'],
  ['e ^a.b', 'Attached event does not exist', 'ENODEV'],
  ['e sched/sched_switch ^foo', 'BTF is not available or not supported'],
  ['e:^/bar sched/sched_switch', 'Group name is not specified'],
  [`e:^${LONG}/bar sched/sched_switch`, 'Group name is too long'],
  ['e:^foo.1/bar sched/sched_switch', 'Group name must follow the same rules as C identifiers'],
  ['e:^ sched/sched_switch', 'Event name is not specified'],
  ['e:foo/^bar.1 sched/sched_switch', 'Event name must follow the same rules as C identifiers'],
  ['e:foo/bar sched/sched_switch arg=^dfd', 'BTF is not available or not supported'],
  ['e:foo/bar sched/sched_switch arg=^$foo', 'Invalid $-variable specified'],
  ['e:foo/bar sched/sched_switch if ^', "No filter rule after 'if'"],
  [
    '^e:sched/sched_switch sched/sched_switch',
    'Given group/event name is already used by another event',
    'EEXIST',
  ],
];

function check(system: TestSystem, [marked, message, code = 'EINVAL']: Case): void {
  const at = marked.indexOf('^');
  const definition = marked.slice(0, at) + marked.slice(at + 1);
  const before = [...system.tracing.events].length;
  const list = system.read('dynamic_events');
  system.tracing.globalTrace.errorLog.clear();
  let error: unknown;
  try {
    system.write('dynamic_events', definition);
  } catch (caught) {
    error = caught;
  }
  expect(error).toBeInstanceOf(KernelError);
  expect((error as KernelError).code).toBe(code);
  const log = system.read('error_log').split('\n');
  // The last of the entries: some refusals make two.
  const [head, command, caret] = log.slice(-4);
  expect(head!.replace(/^.*?error: /, '')).toBe(message);
  expect(caret).toBe(`${' '.repeat('  Command: '.length + at)}^`);
  expect(command).toBe(`  Command: ${definition.trimEnd()}`);
  expect(system.read('dynamic_events')).toBe(list);
  expect([...system.tracing.events].length).toBe(before);
  expect(system.armed.size).toBe(0);
}

describe('a definition that is refused says where, and changes nothing', () => {
  const kinds = [
    ['p', 'vfs_read'],
    ['r', 'vfs_read'],
    ['f', 'vfs_read'],
    ['t', 'kfree'],
  ] as const;
  for (const [kind, where] of kinds) {
    test.each(
      COMMON.map(([text, ...rest]) => [text.replace('K', kind).replace('WHERE', where), ...rest] as const),
    )('%s', (...each) => check(new TestSystem(), each as unknown as Case));
  }
  test.each([...KPROBE, ...FPROBE, ...TPROBE, ...EPROBE])('%s', (...each) =>
    check(new TestSystem(), each as unknown as Case),
  );
});

describe('probes of one event', () => {
  const DIFFERENT = 'Argument type or name is different from existing probe';
  test.each([
    ['p:k/e vfs_open', '^r:k/e do_exit', 'Probe type is different from existing probe'],
    ['p:k/e vfs_open abcd=\\1', 'p:k/e vfs_open ^bcd=\\1', DIFFERENT],
    ['p:k/e vfs_open abcd=\\1', 'p:k/e vfs_open ^abcd=\\1:u8', DIFFERENT],
    ['p:k/e vfs_open abcd=\\1', 'p:k/e vfs_open ^abcd=\\"foo"', DIFFERENT],
    ['p:k/e vfs_open abcd=\\1', '^p:k/e vfs_open abcd=\\1', 'There is already the exact same probe event'],
    ['p:k/e 0x1234', '^p:k/e 0x5678', 'There is already the exact same probe event'],
    ['f:k/e vfs_open', '^f:k/e do_exit%return', 'Probe type is different from existing probe'],
    ['t:k/e kfree', '^f:k/e kfree', 'Probe type is different from existing probe'],
    ['f:k/e vfs_open', '^p:k/e vfs_open', 'Given group/event name is already used by another event'],
  ])('%s, then %s', (first, second, message) => {
    const system = new TestSystem();
    system.write('dynamic_events', first);
    check(system, [second, message, 'EEXIST']);
  });
});

test('a message names what dentries were made of, unless $arg was replaced', () => {
  const system = new TestSystem();
  const logged = (definition: string): string[] => {
    system.tracing.globalTrace.errorLog.clear();
    expect(() => system.write('dynamic_events', definition)).toThrow(KernelError);
    return system.read('error_log').split('\n').slice(1, 3);
  };
  const made = 'p:a vfs_read a=+0x0(+0x28(+0x48(%di))):string ';
  expect(logged('p:a vfs_read a=%di:%pD %hoge')).toEqual([
    `  Command: ${made}%hoge`,
    `${' '.repeat('  Command: '.length + made.length)}^`,
  ]);
  expect(logged('p:a vfs_read $arg1 %si:%pd %hoge')[0]).toBe('  Command: p:a vfs_read $arg1 %si:%pd %hoge');
});
