import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { KernelError } from '../../../src/kernel/errno.ts';
import { fromTable, STACK } from './context.ts';
import { TestSystem } from './system.ts';

const file = new URL('../../conformance/golden/fetch_values.txt', import.meta.url);

interface Value {
  readonly arg: string;
  readonly ret: boolean;
  readonly printed: string;
  readonly fields: readonly string[];
}

/** `ARG => PRINTED`, then its lines of the format file. Lines without either belong to the value above. */
function readValues(): Value[] {
  const values: { arg: string; ret: boolean; printed: string; fields: string[] }[] = [];
  for (const line of readFileSync(file, 'utf8').split('\n').slice(2)) {
    const [, arg, printed] = /^(\S+|v=\\"imm str":string) => (.*)$/.exec(line) ?? [];
    const last = values.at(-1);
    if (arg !== undefined && printed !== undefined) {
      values.push({ arg, ret: printed.includes(' <- '), printed, fields: [] });
    } else if (line.trimStart().startsWith('field:')) last?.fields.push(line.trim());
    else if (last !== undefined && line !== '' && line !== '"') last.printed += `\n${line}`;
  }
  return values;
}

/** The places of the recorded kernel that no declaration gives: addresses of its stack and of its copy of `how`. */
function scrub(text: string): string {
  return text.replace(/0xffa0[0-9a-f]{12}/g, '0xSTACK').replace(/0xffffffff81[0-9a-f]{6}/g, '0xTEXT');
}

/** Bytes that are no UTF-8, as the recording shows them. */
function question(text: string): string {
  return text.replace(/[^\n\x20-\x7e]/g, '?');
}

/** Reads of small addresses, where the recorded system has per-CPU data that the file does not describe. */
const ELSEWHERE = /^v=\+0\(%di\)$|^v=\+0\(\+0\(%di\)\)/;

describe('what each fetch type prints', () => {
  test.for(
    readValues()
      .filter(({ arg }) => !ELSEWHERE.test(arg))
      .map((value) => [value.arg, value] as const),
  )('%s', ([, value]) => {
    const system = new TestSystem();
    const define = (): number =>
      system.write('kprobe_events', `${value.ret ? 'r' : 'p'}:e do_sys_openat2 ${value.arg}`);
    if (value.printed.startsWith('REJECTED ')) {
      expect(define).toThrow(KernelError);
      expect(system.read('error_log')).toContain(`error: ${value.printed.slice('REJECTED '.length)}\n`);
      return;
    }
    define();
    system.write('events/kprobes/e/enable', '1');
    system.fire(system.address('do_sys_openat2'), fromTable(system, value.ret), value.ret);
    const [printed] = system.printed();
    expect(question(scrub(printed!.slice('e: '.length)))).toBe(question(scrub(value.printed)));
    const format = system.read('events/kprobes/e/format').split('\n');
    const own = format.filter((line) => line.includes('field:') && !/ (common_|__probe_)/.test(line));
    if (value.fields.length > 0) expect(own.map((line) => line.trim())).toEqual(value.fields);
  });
});

test('the context has a stack', () => {
  expect(fromTable(new TestSystem(), false).register('sp')).toBe(STACK);
});
