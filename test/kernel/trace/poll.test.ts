/** Who polls is told when there is what was waited for; readers of `trace` may stop recording meanwhile. */
import { describe, expect, test } from 'vitest';
import { TestSystem } from './system.ts';

function shop() {
  const system = new TestSystem();
  const event = system.event('shop', 'sold', [{ type: 'u64', name: 'id', size: 8 }], '"id=%llu", REC->id');
  system.golden.task = { pid: 77, tgid: 70, comm: 'node', cpu: 1 };
  system.fs.writeFile('events/shop/sold/enable', '1');
  return { ...event, system, fs: system.fs };
}

describe('poll', () => {
  test('a CPU is ready when buffer_percent of it is full; a read takes what there is', async () => {
    const { fs, fire } = shop();
    fs.writeFile('buffer_size_kb', '40');
    fs.writeFile('buffer_percent', '30');
    const raw = fs.open('per_cpu/cpu1/trace_pipe_raw');
    let woken = 0;
    expect(raw.poll(() => woken++)).toBe(false);
    fire({ id: 1n });
    expect(woken).toBe(0);
    expect(raw.poll()).toBe(false);
    expect(raw.poll(undefined, true)).toBe(true);
    // the pipe of all CPUs waits for anything
    const pipe = fs.open('trace_pipe');
    expect(pipe.poll()).toBe(true);
    pipe.close();
    let fired = 1;
    for (; woken === 0 && fired < 5000; fired++) fire({ id: BigInt(fired) });
    // a page has room for 4080 / 20 of these
    const pages = fired / 204;
    expect(woken).toBe(1);
    expect(pages).toBeGreaterThan(1.9);
    expect(pages).toBeLessThan(4.1);
    expect(raw.poll()).toBe(true);
    expect((await raw.readAsync(4096)).length).toBe(4096);
    fs.writeFile('trace', '');
    fs.writeFile('buffer_percent', '0');
    expect(raw.poll()).toBe(false);
    fire({ id: 1n });
    expect(raw.poll()).toBe(true);
    raw.close();
  });

  test('the option block answers at once', () => {
    const { fs } = shop();
    const raw = fs.open('per_cpu/cpu0/trace_pipe_raw');
    expect(raw.poll()).toBe(false);
    fs.writeFile('options/block', '1');
    expect(raw.poll()).toBe(true);
    raw.close();
  });

  test('a hist is ready when it has counted since it was read', () => {
    const { fs, fire } = shop();
    fs.writeFile('events/shop/sold/enable', '0');
    fs.writeFile('events/shop/sold/trigger', 'hist:keys=id:size=128');
    const hist = fs.open('events/shop/sold/hist');
    let woken = 0;
    expect(hist.poll(() => woken++)).toBe(false);
    fire({ id: 1n });
    fire({ id: 2n });
    expect(woken).toBe(1);
    expect(hist.poll()).toBe(true);
    expect(new TextDecoder().decode(hist.read(4096))).toContain('Hits: 2');
    expect(hist.poll(() => woken++)).toBe(false);
    // a hit without room is one too
    for (let i = 0; i < 200; i++) fire({ id: BigInt(i) });
    expect(woken).toBe(2);
    hist.seek(0);
    expect(new TextDecoder().decode(hist.read(65536))).toContain('Dropped: 72');
    hist.close();
  });
});

test('pause-on-trace: nothing is recorded while trace is open for reading', () => {
  const { fs, fire } = shop();
  fire({ id: 1n });
  const ignored = fs.open('trace');
  fire({ id: 2n });
  ignored.close();
  fs.writeFile('options/pause-on-trace', '1');
  const first = fs.open('trace');
  const second = fs.open('trace');
  fire({ id: 3n });
  expect(fs.readFile('tracing_on')).toBe('1\n');
  first.close();
  fire({ id: 4n });
  second.close();
  fire({ id: 5n });
  const ids = (fs.readFile('trace').match(/id=\d+/g) ?? []).join(' ');
  expect(ids).toBe('id=1 id=2 id=5');
});
