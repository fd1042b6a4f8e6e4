import { describe, expect, test } from 'vitest';
import { TestSystem } from './system.ts';

const U32 = { type: 'u32', name: 'a', size: 4 };

describe('enabling events', () => {
  test('a system shows 0, 1 and X, and a refused value changes nothing', () => {
    const system = new TestSystem();
    const one = system.event('shop', 'one', [U32]);
    system.event('shop', 'two', [U32]);
    const { fs } = system;
    expect(fs.readFile('events/shop/enable')).toBe('0\n');
    fs.writeFile('events/shop/one/enable', '1');
    expect(fs.readFile('events/shop/enable')).toBe('X\n');
    expect(one.regs).toEqual([true]);
    fs.writeFile('events/shop/enable', '1\n');
    expect(fs.readFile('events/shop/enable')).toBe('1\n');
    expect(fs.readFile('events/enable')).toBe('1\n');
    for (const text of ['2', '', 'x', '-1', '1 1'])
      expect(system.refusal(() => fs.writeFile('events/shop/enable', text))).toBe('EINVAL');
    expect(fs.readFile('set_event')).toBe('shop:two\nshop:one\n');
    fs.writeFile('set_event', '');
    expect(fs.readFile('events/enable')).toBe('0\n');
    expect(one.regs).toEqual([true, false]);
  });

  test('set_event takes a word a write: events, systems, both with stars, and removals', () => {
    const system = new TestSystem();
    system.event('shop', 'one', [U32]);
    system.event('shop', 'two', [U32]);
    system.event('bank', 'one', [U32]);
    const { fs } = system;
    expect(fs.appendFile('set_event', 'one')).toBe(3);
    expect(fs.readFile('set_event')).toBe('bank:one\nshop:one\n');
    fs.appendFile('set_event', '!bank');
    expect(fs.readFile('set_event')).toBe('shop:one\n');
    fs.appendFile('set_event', '*:two bank:');
    expect(fs.readFile('set_event')).toBe('bank:one\nshop:two\nshop:one\n');
    for (const text of ['nosuch', 'shop:three', 'sh*:one'])
      expect(system.refusal(() => fs.appendFile('set_event', text))).toBe('EINVAL');
    expect(fs.open('set_event', 'a').write('bank:one shop:one')).toBe(9);
  });

  test('soft mode shows a star, and the source runs once for all instances', () => {
    const system = new TestSystem();
    const { fs, tracing } = system;
    const one = system.event('shop', 'one', [U32]);
    const file = tracing.globalTrace.file('shop', 'one')!;
    file.enable(true, true);
    expect(fs.readFile('events/shop/one/enable')).toBe('0*\n');
    one.fire({ a: 1 });
    expect(system.lines()).toEqual([]);
    fs.writeFile('events/shop/one/enable', '1');
    expect(fs.readFile('events/shop/one/enable')).toBe('1*\n');
    fs.mkdir('instances/other');
    fs.writeFile('instances/other/events/shop/one/enable', '1');
    file.enable(false, true);
    expect(fs.readFile('events/shop/one/enable')).toBe('1\n');
    fs.writeFile('events/shop/one/enable', '0');
    expect(one.regs).toEqual([true]);
    fs.rmdir('instances/other');
    expect(one.regs).toEqual([true, false]);
  });

  test('a source that refuses leaves the event off', () => {
    const system = new TestSystem();
    const { call } = system.event('shop', 'one', [U32]);
    Object.assign(call.class, {
      reg() {
        throw Object.assign(new Error('no'), { code: 'EIO' });
      },
    });
    expect(() => system.fs.writeFile('events/shop/one/enable', '1')).toThrow('no');
    expect(system.fs.readFile('events/shop/one/enable')).toBe('0\n');
  });
});

describe('control files', () => {
  test.each([
    ['buffer_percent', '100', '100\n'],
    ['saved_cmdlines_size', '1', '6552\n'],
    ['saved_cmdlines_size', '10000', '19659\n'],
    ['tracing_cpumask', '2', '2\n'],
    ['tracing_cpumask', '\n', '0\n'],
    ['tracing_cpumask', ' 00000003 \n', '3\n'],
    ['buffer_size_kb', '4', '7\n'],
    ['buffer_size_kb', '1', '7\n'],
    ['buffer_subbuf_size_kb', '5', '8\n'],
    ['tracing_thresh', '100', '100\n'],
    ['trace_clock', 'mono\n', 'local global counter uptime perf [mono] mono_raw boot tai x86-tsc\n'],
    ['set_event_pid', '7 0x10', '7\n16\n'],
    [
      'set_ftrace_filter',
      'vfs_*d ',
      'vfs_fchmod\nvfs_get_fsid\nvfs_iocb_iter_read\nvfs_iter_read\nvfs_mknod\nvfs_splice_read\nvfs_read\n',
    ],
    ['max_graph_depth', '3', '3\n'],
    ['options/stacktrace', '1', '1\n'],
    ['current_tracer', ' function\n', 'function\n'],
  ])('%s takes %j', (file, text, shown) => {
    const { fs } = new TestSystem();
    fs.writeFile(file, text);
    expect(fs.readFile(file)).toBe(shown);
  });

  test.each([
    ['buffer_percent', '101', 'EINVAL'],
    ['saved_cmdlines_size', '32769', 'EINVAL'],
    ['saved_cmdlines_size', '0', 'EINVAL'],
    ['tracing_cpumask', '4', 'EOVERFLOW'],
    ['tracing_cpumask', '0,3', 'EOVERFLOW'],
    ['tracing_cpumask', '000000003', 'EOVERFLOW'],
    ['tracing_cpumask', '0x3', 'EINVAL'],
    ['tracing_cpumask', 'g', 'EINVAL'],
    ['buffer_size_kb', '0', 'EINVAL'],
    ['buffer_size_kb', '99999999999999999999', 'ERANGE'],
    ['buffer_size_kb', '999999999999', 'ENOMEM'],
    ['buffer_subbuf_size_kb', '0', 'EINVAL'],
    ['buffer_subbuf_size_kb', '513', 'EINVAL'],
    ['trace_clock', 'sundial', 'EINVAL'],
    ['trace_options', 'nosuch', 'EINVAL'],
    ['trace_options', 'test_nop_refuse', 'EINVAL'],
    ['trace_options', 'notrace_printk_dest', 'EINVAL'],
    ['options/hex', '2', 'EINVAL'],
    ['current_tracer', 'nosuch', 'EINVAL'],
    ['set_ftrace_filter', 'nosuch ', 'EINVAL'],
    ['events/header_page', '1', 'EINVAL'],
  ])('%s refuses %j with %s and stays as it was', (file, text, errno) => {
    const system = new TestSystem();
    const before = system.fs.readFile(file);
    expect(system.refusal(() => system.fs.appendFile(file, text))).toBe(errno);
    expect(system.fs.readFile(file)).toBe(before);
  });

  test('an instance has options of its own, and none of those that only the top has', () => {
    const { fs } = new TestSystem();
    fs.writeFile('trace_options', 'hex');
    fs.mkdir('instances/a');
    fs.writeFile('instances/a/trace_options', 'raw');
    expect(fs.readFile('options/raw')).toBe('0\n');
    expect(fs.readFile('instances/a/options/hex')).toBe('1\n');
    expect(fs.readFile('instances/a/options/trace_printk_dest')).toBe('0\n');
    expect(fs.exists('instances/a/options/printk-msg-only')).toBe(false);
    expect(fs.readFile('instances/a/available_tracers')).toBe('function_graph function nop\n');
    fs.writeFile('instances/a/options/trace_printk_dest', '1');
    expect(fs.readFile('options/trace_printk_dest')).toBe('0\n');
    fs.rmdir('instances/a');
    expect(fs.readFile('options/trace_printk_dest')).toBe('1\n');
  });
});
