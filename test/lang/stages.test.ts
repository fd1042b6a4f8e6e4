import { expect, test } from 'vitest';
import { compile, didYouMean, dumpStage, similarName } from '../../src/lang/index.ts';

const resolver = { resolve: () => [{ name: 'f', params: ['req'] }] };

test('the tree with its types', () => {
  const source =
    'config = { max_strlen = 32 } kprobe:f /arg0 > 1/ { @x[str(args.req.url)] = count(); if ($# == 0) { $a = -nsecs; } else { exit(); } }';
  expect(dumpStage('ast', compile(source, { file: 'x', resolver, params: ['p'] }))).toBe(`Program
 config: max_strlen = 32
 kprobe:f
  pred
   > :: [int64]
    builtin: arg0 :: [value]
    int: 1 :: [int64]
  =
   map: @x :: [count_t]
    call: str :: [string]
     .url :: [value]
      .req :: [value]
       builtin: args
   call: count :: [count_t]
  if
   int: 0 :: [int64]
   then
    =
     variable: $a :: [int64]
     - :: [int64]
      builtin: nsecs :: [uint64]
   else
    call: exit
`);
});

test('the listing, under the statements it came from', () => {
  const source = 'kprobe:f /arg1/ { @ = count(); exit(); @ = count(); }';
  expect(dumpStage('codegen', compile(source, { file: 'x', resolver }))).toBe(`; program 0: kprobe:f
  0: (bf) r6 = r1
; /arg1/
  1: (18) r1 = 0x7e5700000000000d ll
  3: (b7) r2 = 0
  4: (85) call js_truthy#10
  5: (15) if r0 == 0x0 goto pc+22
; @ = count()
  6: (62) *(u32 *)(r10 -8) = 0
  7: (18) r1 = map[idx:0]
  9: (bf) r2 = r10
  10: (07) r2 += -8
  11: (85) call bpf_map_lookup_elem#1
  12: (15) if r0 == 0x0 goto pc+3
  13: (79) r1 = *(u64 *)(r0 +0)
  14: (07) r1 += 1
  15: (7b) *(u64 *)(r0 +0) = r1
; exit()
  16: (18) r1 = map[idx:1]
  18: (b7) r2 = 16
  19: (b7) r3 = 0
  20: (85) call bpf_ringbuf_reserve#131
  21: (15) if r0 == 0x0 goto pc+6
  22: (7a) *(u64 *)(r0 +0) = 0
  23: (bf) r7 = r0
  24: (7a) *(u64 *)(r7 +8) = 0
  25: (bf) r1 = r7
  26: (b7) r2 = 0
  27: (85) call bpf_ringbuf_submit#132
;
  28: (b7) r0 = 0
  29: (95) exit

; map 0 @: percpu_array, key 4, value 8, 1 entries
; map 1 ring: ringbuf, key 0, value 0, 8388608 entries
`);
});

test('the nearest name', () => {
  const names = ['print', 'printf', 'count', 'nsecs', 'arg0'];
  expect(similarName('prinft', names)).toBe('printf');
  expect(similarName('conut', names)).toBe('count');
  expect(similarName('NSECS', names)).toBe('nsecs');
  expect(similarName('xyz', names)).toBeUndefined();
  expect(similarName('args', names)).toBe('arg0');
  expect(similarName('count', ['count'])).toBeUndefined();
  expect(didYouMean('cuont', names, '@')).toBe('did you mean @count?');
});
