import { expect, test } from 'vitest';
import { acrossProcesses, parseScript } from '../../src/lang/index.ts';

const across = (source: string) => acrossProcesses(parseScript(source, 'stdin'), ['f']);

test('maps that only go up and down add up', () => {
  const { additive } = across(`
    BEGIN { @zeroed = 0; @set = 1; }
    kprobe:f { @n++; --@down; @plus += arg0; @minus -= 1; @zeroed++; @set++; @last = arg0; @times *= 2; @c = count(); $x = @expr++; }`);
  expect([...additive].sort()).toEqual(['@down', '@expr', '@minus', '@n', '@plus', '@zeroed']);
});

test.each([
  ['interval:s:1 { if (@n > 3) { exit(); } }', ['@n']],
  ['interval:s:1 /@n/ { exit(); }', ['@n']],
  ['END { printf("%d", @n); }', ['@n']],
  ['interval:s:1 { for ($kv : @k) { print($kv.1); } }', ['@k']],
  ['interval:s:1 { print(@k[1]); @other = @n; }', ['@n']],
  ['interval:s:1 { printf("%d", len(@k)); }', ['@k']],
  // carried out for all processes, or a matter of the tracer's own
  ['interval:s:1 { print(@n); clear(@k); print(@k, 3); @ticks++; if (@ticks == 3) { exit(); } }', []],
  ['BEGIN { @n = 1; print(@n); }', []],
  ['kprobe:g { print(@n); if (@n > 1) { exit(); } }', []],
])('reads of one process: %s', (probe, names) => {
  const { reads } = across(`kprobe:$1 { @n++; @k[pid] = count(); }\n${probe}`);
  expect(reads.map(({ name }) => name)).toEqual(names);
  for (const { position } of reads) expect(position.text.slice(position.column - 1)).toMatch(/^@[nk]\b/);
});
