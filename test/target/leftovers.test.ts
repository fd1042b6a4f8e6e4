import inspector from 'node:inspector';
import { afterEach, describe, expect, test } from 'vitest';
import type { ScriptInfo } from '../../src/arch/v8/types.ts';
import { dropLeftovers, replacedScripts } from '../../src/target/leftovers.ts';
import { fixture, mapsOf, run, startService, stopAll, trapline } from '../e2e/support.ts';
import { nodeBinaries } from '../support/nodes.ts';

afterEach(stopAll);

const scripts = (...all: [id: number, url: string][]): ScriptInfo[] =>
  all.map(([id, url]) => ({
    scriptId: String(id),
    url,
    isModule: false,
    length: 1,
    sourceMapURL: '',
    executionContextId: 1,
    hash: '',
  }));

describe('scripts that a live edit has replaced', () => {
  test('none of a process that nobody edited, be modules loaded twice', () => {
    expect(replacedScripts(scripts([1, 'a'], [2, 'b'], [3, 'a'], [9, 'b'], [10, '']))).toEqual(new Set());
  });

  test('edited once and put back: both texts before', () => {
    const list = scripts([1, 'a'], [30, 'b'], [3, 'c'], [4, ''], [31, 'b'], [2, 'b']);
    expect(replacedScripts(list)).toContain('30');
    expect(replacedScripts(list)).not.toContain('2');
  });

  test('a module that was loaded once more stays, whichever of both was edited', () => {
    const first = scripts([1, 'a'], [30, 'b'], [3, 'b'], [4, 'c'], [5, 'd'], [2, 'b'], [31, 'e']);
    expect(replacedScripts(first)).toEqual(new Set(['30']));
    // what it replaced has been collected
    const collected = scripts([1, 'a'], [3, 'b'], [4, 'c'], [5, 'd'], [2, 'b'], [31, 'e']);
    expect(replacedScripts(collected)).toEqual(new Set());
    const second = scripts([1, 'a'], [2, 'b'], [30, 'b'], [4, 'c'], [5, 'd'], [3, 'b']);
    expect(replacedScripts(second)).toEqual(new Set(['30']));
  });

  test('both of a module that was loaded twice, edited and put back: what runs are those that were there first', () => {
    // in either order of the edits
    for (const moved of [
      [2, 3],
      [3, 2],
    ]) {
      const list = scripts(
        [1, 'a'],
        [30, 'b'],
        [31, 'b'],
        [4, 'c'],
        [5, 'd'],
        [29, ''],
        [32, 'b'],
        [33, 'b'],
        ...moved.map((id): [number, string] => [id, 'b']),
      );
      const replaced = replacedScripts(list);
      expect([...replaced].filter((id) => Number(id) < 30)).toEqual([]);
      const sources = list.map(({ scriptId }) => (Number(scriptId) > 31 ? '$tl0123456789ab_1e(' : 'text'));
      const { live, doubtful } = dropLeftovers(list, sources, replaced);
      expect([...live].filter(({ url }) => url === 'b').map(({ scriptId }) => Number(scriptId))).toEqual(
        moved,
      );
      expect(doubtful).toEqual([]);
    }
  });

  test('a module that was loaded once more after an edit is in doubt', () => {
    const list = scripts([1, 'a'], [30, 'b'], [3, 'c'], [4, 'd'], [29, ''], [31, 'b'], [2, 'b'], [40, 'b']);
    const sources = list.map(({ scriptId }) => (scriptId === '31' ? '$tl0123456789ab_1e(' : 'text'));
    const { live, doubtful } = dropLeftovers(list, sources, replacedScripts(list));
    expect([...live].map(({ scriptId }) => Number(scriptId))).toEqual([1, 3, 4, 29, 2]);
    expect(doubtful.map(({ scriptId }) => scriptId)).toEqual(['40']);
  });

  test('two scripts next to each other tell nothing', () => {
    expect(replacedScripts(scripts([1, 'a'], [3, 'b'], [2, 'b'], [4, 'c']))).toEqual(new Set());
  });

  test('V8 lists scripts so: an edited one last, with its old ID', async () => {
    const session = new inspector.Session();
    session.connect();
    const listed: ScriptInfo[] = [];
    session.on('Debugger.scriptParsed', ({ params }) => listed.push(params as unknown as ScriptInfo));
    const make = (url: string): unknown =>
      new Function(`return function f() { return 1 }\n//# sourceURL=${url}`)();
    const held = ['made-first.js', 'made-between.js', 'made-last.js'].map(make);
    session.post('Debugger.enable');
    const idOf = (url: string): string[] =>
      listed.filter((script) => script.url.endsWith(url)).map(({ scriptId }) => scriptId);
    const [id = ''] = idOf('made-first.js');
    session.post('Debugger.getScriptSource', { scriptId: id }, (_, { scriptSource }) => {
      const edited = scriptSource.replace('return 1', 'return 2');
      session.post('Debugger.setScriptSource', { scriptId: id, scriptSource: edited });
    });
    expect((held[0] as () => number)()).toBe(2);
    session.post('Debugger.disable');
    listed.length = 0;
    session.post('Debugger.enable');
    const ids = idOf('made-first.js');
    expect(ids).toHaveLength(2);
    expect(ids[1]).toBe(id);
    const replaced = replacedScripts(listed);
    expect(replaced).toContain(ids[0]);
    expect(replaced).not.toContain(id);
    for (const url of ['made-between.js', 'made-last.js'])
      for (const other of idOf(url)) expect(replaced).not.toContain(other);
    session.disconnect();
  });
});

describe.each(nodeBinaries())('edited and put back, Node $version', ({ path }) => {
  test('all copies of a module that was loaded twice are counted, each time', {
    timeout: 60_000,
  }, async () => {
    const service = await startService({
      node: path,
      file: fixture('reloaded.cjs'),
      flags: ['--no-compilation-cache'],
    });
    const count = async (way: string) => {
      const { pid } = service;
      const script = 'kprobe:legacy.cjs:price { @ = count(); }';
      const tracer = trapline('-v', '--arm', way, '--max-pause', '1000', '-p', String(pid), script);
      await tracer.attached();
      await service.ask('call', { times: 50 });
      const { code, out, err } = await tracer.interrupt();
      expect(code).toBe(0);
      return { counted: mapsOf(out)['@'], told: err.includes('legacy.cjs may have been loaded again') };
    };
    for (const way of ['edit', 'edit', 'bind', 'edit'])
      expect({ way, ...(await count(way)) }).toEqual({ way, counted: 100, told: false });
    await service.ask('load');
    // V8 may have collected what the edits have left
    const { counted, told } = await count('edit');
    expect(counted).toBe(told ? 100 : 150);
  });

  test('functions of a text without a name are there once', { timeout: 60_000 }, async () => {
    const service = await startService({ node: path, file: fixture('evaluated.cjs') });
    const pid = String(service.pid);
    for (let round = 0; round < 3; round++) {
      const tracer = trapline(
        '-v',
        '--arm',
        'edit',
        '--max-pause',
        '1000',
        '-p',
        pid,
        'kprobe:evaled { @ = count(); }',
      );
      await tracer.attached();
      await service.call('evaled', 5);
      const { code, out, err } = await tracer.interrupt();
      expect({ code, out, err }).toEqual({
        code: 0,
        out: expect.stringMatching(/^@: 5$/m),
        err: expect.stringContaining('Attaching 1 probe...'),
      });
    }
    expect(await run('-l', '-p', pid, 'kprobe:evaled')).toMatchObject({
      code: 0,
      out: 'kprobe:<anonymous>:evaled\n',
    });
  });
});
