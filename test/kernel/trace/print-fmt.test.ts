import { describe, expect, test } from 'vitest';
import { parsePrintFmt } from '../../../src/kernel/trace/print-fmt-parser.ts';
import { printk } from '../../../src/kernel/trace/printk-format.ts';
import { TestSystem } from './system.ts';

function print(printFmt: string, values: Record<string, number | bigint | string>, extra = new Uint8Array()) {
  const system = new TestSystem();
  const event = system.event(
    'fmt',
    'one',
    [
      { type: 'unsigned long', name: 'u', size: 8 },
      { type: 'int', name: 'i', size: 4, signed: true },
      { type: 'char[4]', name: 'text', size: 4 },
      { type: 'u16[3]', name: 'list', size: 6 },
      { type: 'u16', name: 'pad', size: 2 },
      { type: '__data_loc char[]', name: 'loc', size: 4 },
    ],
    printFmt,
  );
  system.fs.writeFile('events/fmt/one/enable', '1');
  const at = event.call.fields.at(-1)!.offset + 4;
  event.fire({ loc: (extra.length << 16) | at, ...values }, extra);
  return /: one: (.*)$/.exec(system.lines()[0]!)![1];
}

describe('print fmt', () => {
  const bytes = new TextEncoder().encode('latte\0');
  test.each([
    ['"%lu %d", REC->u, REC->i', '18446744073709551615 -7'],
    ['"%s|%5s|%-5s|%.2s", REC->text, REC->text, REC->text, REC->text', 'abc|  abc|abc  |ab'],
    ['"%s", __get_str(loc)', 'latte'],
    ['"%d", __get_dynamic_array_len(loc)', '6'],
    ['"%s", REC->i < 0 ? "minus" : "plus"', 'minus'],
    ['"%s", __print_flags(REC->pad, "|", { 1, "a" }, { 2, "b" }, { 4, "c" })', 'a|c|0x10'],
    ['"%s", __print_symbolic(REC->i, { -7, "seven" }, { 1, "one" })', 'seven'],
    ['"%s", __print_symbolic(REC->pad, { 1, "one" })', '0x15'],
    ['"%s", __print_hex(REC->text, 3)', '61 62 63'],
    ['"%s", __print_hex_str(REC->text, 3)', '616263'],
    ['"%s", __print_array(REC->list, 3, 2)', '{0x201,0x403,0x605}'],
    ['"%x %x", REC->list[0], REC->list[2]', '201 605'],
    ['"%08lx %#x %+d", ((unsigned long)(u8)REC->i), REC->pad, 5', '000000f9 0x15 +5'],
    ['"%d" "%%" "%d", (REC->pad & 0x7) << 2 | 1, !REC->i', '21%0'],
    [
      '"%pS %ps", (void *)0xffffffff81453d95, (void *)0xffffffff81453d90',
      'do_sys_openat2+0x5/0xe0 do_sys_openat2',
    ],
    ['"%pS", 0x10', '0x10'],
    ['"%*d|%-*d|", 4, 1, 3, 2', '   1|2  |'],
    ['"%c%hhd%hx", 65, 0x1ff, 0x12345', 'A-12345'],
  ])('%s', (fmt, text) => {
    expect(print(fmt, { u: -1n, i: -7, text: 'abc', list: 0x060504030201n, pad: 0x15 }, bytes)).toBe(text);
  });

  test('what is no expression shows its own text', () => {
    expect(print('"%d", ({ int x = 1; x; })', {})).toBe('"%d", ({ int x = 1; x; })');
    expect(parsePrintFmt(`"%d", ${'('.repeat(5000)}1`)).toBeUndefined();
  });

  test('%p hides addresses unless hash-ptr is off', () => {
    const system = new TestSystem();
    const tr = system.tracing.globalTrace;
    const hidden = printk(tr, '%p', [0xffff_8881_0000_1000n]);
    expect(hidden).toMatch(/^0{8}[0-9a-f]{8}$/);
    expect(printk(tr, '%px', [0xffff_8881_0000_1000n])).toBe('ffff888100001000');
    system.fs.writeFile('trace_options', 'nohash-ptr');
    expect(printk(tr, '%p', [0xffff_8881_0000_1000n])).toBe('ffff888100001000');
  });
});
