// The same companion in node:test. The program is a pair of kprobes: it runs on registers of the test's making, at times that the
// test sets, for a process that the test names.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { beforeEach, describe, test } from 'node:test';
import { assertEntries, assertEntry, assertLoads, assertReturns, bpfFixture } from 'trapline/testing';

const object = readFileSync(new URL('../bpf/slowread.bpf.o', import.meta.url));
const MICROSECOND = 1000n;

/** `struct pt_regs` of x86-64: rax is its 11th word, rdx the 13th. */
function registers({ rax = 0n, rdx = 0n }) {
  const words = new BigUint64Array(21);
  words[10] = BigInt.asUintN(64, rax);
  words[12] = rdx;
  return new Uint8Array(words.buffer);
}

describe('slowread', () => {
  const slowread = bpfFixture(object, { globals: { min_us: 100 } });
  beforeEach(() => slowread.reset());

  const read = (task, { us, asked = 4096n, result = 4096n }) => {
    slowread.task = task;
    assertReturns(slowread.run('read_begin', { ctx: registers({ rdx: asked }) }), 0);
    slowread.now += us * MICROSECOND;
    assertReturns(slowread.run('read_end', { ctx: registers({ rax: result }) }), 0);
  };

  test('loads', () => assertLoads(slowread));

  test('slow reads are reported, fast ones are not', () => {
    read({ pid: 7, comm: 'cat' }, { us: 99n });
    read({ pid: 7, comm: 'cat' }, { us: 100n, asked: 10n, result: -5n });
    assert.deepEqual(slowread.records('events', 'slow_read'), [
      { pid: 7, us: 100, result: -5n, asked: 10n, comm: 'cat' },
    ]);
    assert.deepEqual(slowread.records('events'), []);
  });

  test('a histogram of powers of two for each process', () => {
    for (const us of [1n, 2n, 3n, 4n, 1024n, 2047n]) read({ pid: 8, comm: 'node' }, { us });
    read({ pid: 9, comm: 'sh' }, { us: 10_000_000_000n / 1000n });
    const slots = new Array(20).fill(0);
    slots[0] = 1;
    slots[1] = 2;
    slots[2] = 1;
    slots[10] = 2;
    assertEntry(slowread.map('histograms'), 8, { slots, comm: 'node' });
    const last = new Array(20).fill(0);
    last[19] = 1;
    assertEntry(slowread.map('histograms'), 9, { slots: last, comm: 'sh' });
    assertEntries(slowread.map('starts'), []);
  });

  test('reads of two threads at the same time are kept apart', () => {
    const begin = (pid) => {
      slowread.task = { pid, tgid: 70, comm: 'two' };
      slowread.run('read_begin', { ctx: registers({ rdx: BigInt(pid) }) });
    };
    const end = (pid) => {
      slowread.task = { pid, tgid: 70, comm: 'two' };
      slowread.run('read_end', { ctx: registers({ rax: 1n }) });
    };
    begin(71);
    slowread.now += 500n * MICROSECOND;
    begin(72);
    slowread.now += 500n * MICROSECOND;
    end(71);
    end(72);
    assert.deepEqual(
      slowread.records('events', 'slow_read').map(({ us, asked }) => [us, asked]),
      [
        [1000, 71n],
        [500, 72n],
      ],
    );
  });

  test('a read that began before the program did is left out', () => {
    slowread.task = { pid: 5 };
    assertReturns(slowread.run('read_end', { ctx: registers({}) }), 0);
    assertEntries(slowread.map('histograms'), []);
  });
});

test('only the process that is asked for', () => {
  const slowread = bpfFixture(object, { globals: { only_pid: 42 } });
  slowread.task = { pid: 41 };
  slowread.run('read_begin', { ctx: registers({}) });
  assertEntries(slowread.map('starts'), []);
  slowread.task = { pid: 43, tgid: 42 };
  slowread.run('read_begin', { ctx: registers({}) });
  assertEntries(slowread.map('starts'), [[(42n << 32n) | 43n, { time: 0n, bytes: 0n }]]);
});
