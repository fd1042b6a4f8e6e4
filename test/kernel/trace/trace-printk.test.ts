import { expect, test } from 'vitest';
import { tracePrintk, tracePuts } from '../../../src/tracefs/index.ts';
import { TestSystem } from './system.ts';

const IP = 0xffffffff81453d95n;

test('formats are kept once, arguments are words of the record', () => {
  const system = new TestSystem();
  const { tracing, fs } = system;
  for (let n = 1; n <= 2; n++)
    tracePrintk(tracing, IP, 'sold %d of "%s" at %5llu, %c%s\n', n, 'thé', 1n << 40n, 65, 'x');
  tracePuts(tracing, IP, 'closed\n');
  expect(system.lines().map((line) => line.replace(/^.*?: /, ''))).toEqual([
    'do_sys_openat2: sold 1 of "thé" at 1099511627776, Ax',
    'do_sys_openat2: sold 2 of "thé" at 1099511627776, Ax',
    'do_sys_openat2: closed',
  ]);
  expect(fs.readFile('printk_formats').replace(/0x\w+/g, 'ADDR')).toBe(
    'ADDR : "sold %d of \\"%s\\" at %5llu, %c%s\\n"\nADDR : "closed\\n"\n',
  );
  tracePuts(tracing, IP, 'thé\n');
  expect(fs.readFile('printk_formats')).toContain(': "thé\\n"\n');
  expect(fs.readFile('trace')).toContain(': thé\n');
  fs.writeFile('trace_options', 'printk-msg-only');
  expect(system.lines()[2]).toBe('closed');
});

test('it goes to the instance that asks for it, and nowhere with the option off', () => {
  const system = new TestSystem();
  const { tracing, fs } = system;
  fs.mkdir('instances/a');
  fs.writeFile('instances/a/options/trace_printk_dest', '1');
  expect(tracePrintk(tracing, IP, 'one\n')).toBe(true);
  expect(system.lines()).toEqual([]);
  expect(system.lines('instances/a/trace')).toHaveLength(1);
  fs.writeFile('options/trace_printk', '0');
  expect(tracePrintk(tracing, IP, 'two\n')).toBe(false);
  expect(system.lines('instances/a/trace')).toHaveLength(1);
});
