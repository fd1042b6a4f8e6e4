import { afterEach, describe, expect, test } from 'vitest';
import { nodeBinaries } from '../support/nodes.ts';
import { fixture, folders, mapsOf, startService, stopAll, trapline, until } from './support.ts';

// What cannot be put back is told: by name, with the reason, and by the exit code.

afterEach(stopAll);

const file = fixture('suspended.cjs');
const sumTo = (n: number): number => (n * (n - 1)) / 2;

describe.each(nodeBinaries())('not restored, Node $version', ({ path }) => {
  test('an edited async function with a call under way; what is beside it goes back', async () => {
    const service = await startService({ node: path, file });
    const before = await service.ask<string[]>('texts');
    const script = 'kprobe:suspended.cjs:wait, kprobe:suspended.cjs:callAdd { @ = count(); }';
    const tracer = trapline('-v', '--arm', 'edit', '--max-pause', '1000', '-p', String(service.pid), script);
    await tracer.saw(/callAdd: edit \(/);
    await service.ask('hold', { times: 1 });
    await service.ask('callAdd', { times: 1 });
    const { code, out, err } = await tracer.interrupt();
    expect({ code, maps: mapsOf(out) }).toEqual({ code: 1, maps: { '@': 2 } });
    expect(err).toMatch(
      /^ERROR: process \d+ is not as it was: the edited text of \S*suspended\.cjs:wait could not be put back: .*BlockedByActiveGenerator$/m,
    );
    expect(err).toMatch(/^HINT: its probes are off and the program goes on; .*restart the process/m);
    expect(err).toContain('restored 1 function');
    const [wait, ...others] = await service.ask<string[]>('texts');
    expect(others).toEqual(before.slice(1));
    expect(wait).not.toBe(before[0]);
    // the program has what it waits for, and the text that stayed does what it did
    expect(await service.ask('release')).toBe(1);
    await service.ask('hold', { times: 2 });
    expect(await service.ask('release')).toBe(3);
    await until('its folder is gone', () => folders(service.pid).length === 0);
  });

  test('a method that was frozen while it held a wrapper', async () => {
    const service = await startService({ node: path, file });
    const tracer = trapline('-v', '-p', String(service.pid), 'kprobe:legacy.cjs:Till.add { @ = count(); }');
    await tracer.attached();
    expect(tracer.err()).toMatch(/Till\.add: property \(/);
    await service.ask('callAdd', { times: 10 });
    await service.ask('freeze');
    const { code, out, err } = await tracer.interrupt();
    expect({ code, maps: mapsOf(out) }).toEqual({ code: 1, maps: { '@': 10 } });
    expect(err).toMatch(
      /^ERROR: process \d+ is not as it was: the replaced binding of \S*legacy\.cjs:Till\.add could not be put back: .*frozen/m,
    );
    expect(await service.ask('callAdd', { times: 4 })).toBe(6);
  });

  test('nothing of the kind where all is put back', async () => {
    const service = await startService({ node: path, file });
    const before = await service.ask('texts');
    const tracer = trapline(
      '-v',
      '--arm',
      'edit',
      '--max-pause',
      '1000',
      '-p',
      String(service.pid),
      'settle:suspended.cjs:wait { @ = count(); }',
    );
    await tracer.attached();
    await service.ask('hold', { times: 3 });
    await service.ask('release');
    const { code, out, err } = await tracer.interrupt();
    expect({ code, maps: mapsOf(out) }).toEqual({ code: 0, maps: { '@': 3 } });
    expect(err.replace(/^WARNING: .* would mix up .*\n/m, '')).not.toMatch(/ERROR|WARNING/);
    expect(await service.ask('texts')).toEqual(before);
  });
});

describe.each(nodeBinaries())('async functions that are edited, Node $version', ({ path }) => {
  // The debugger notes on a promise who waits for it; a finished call that such a note keeps counts as running.
  test.each([
    ['nothing else needs the debugger', 'edit'],
    ['a breakpoint waits for a call', 'auto'],
  ])('what they waited for is still there; %s', async (_, way) => {
    const service = await startService({ node: path, file: fixture('waiting.cjs') });
    const before = await service.ask('texts');
    const script = 'kprobe:waiting.cjs:* { @ = count(); }';
    const tracer = trapline('-v', '--arm', way, '--max-pause', '1000', '-p', String(service.pid), script);
    await tracer.saw(/: edit \(/);
    expect(await service.ask('handle', { times: 200 })).toBe(3 * sumTo(200) + 200);
    const { code, err } = await tracer.interrupt();
    expect({ code, err }).toEqual({ code: 0, err: expect.not.stringMatching(/ERROR|not restored/) });
    expect(await service.ask('texts')).toEqual(before);
  });
});
