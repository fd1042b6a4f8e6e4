import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { KernelError, type Tracefs } from '../../src/tracefs/index.ts';
import { TestSystem } from '../kernel/trace/system.ts';

describe('the tree', () => {
  test('folders follow the registry', () => {
    const system = new TestSystem();
    const { fs, tracing } = system;
    expect(fs.readdir('events')).toEqual(['enable', 'ftrace', 'header_event', 'header_page']);
    const { call } = system.event('shop', 'sold', []);
    expect(fs.readdir('events/shop')).toContain('sold');
    expect(fs.readdir('events/shop/sold')).toEqual(expect.arrayContaining(['enable', 'format', 'id']));
    expect(fs.readFile('events/shop/sold/id')).toBe(`${call.id}\n`);
    expect(fs.readdir('events/ftrace/print')).not.toContain('enable');
    // event_callback(): events that are never enabled have no filter and no trigger, and a hist file all the same.
    expect([...fs.readdir('events/ftrace/function')].sort()).toEqual(['format', 'hist', 'id']);
    expect([...fs.readdir('events/ftrace/bprint')].sort()).toEqual(['format', 'hist']);
    expect(fs.readFile('events/ftrace/bprint/hist')).toBe('');
    tracing.removeEvent(call);
    expect(fs.exists('events/shop')).toBe(false);
  });

  test('modes', () => {
    const { fs } = new TestSystem();
    const modes = Object.fromEntries(
      [
        '.',
        'trace',
        'trace_pipe',
        'trace_marker',
        'free_buffer',
        'instances',
        'events',
        'options',
        'per_cpu/cpu0',
      ].map((name) => [name, fs.stat(name).mode.toString(8)]),
    );
    expect(modes).toEqual({
      '.': '700',
      trace: '640',
      trace_pipe: '440',
      trace_marker: '220',
      free_buffer: '200',
      instances: '750',
      events: '755',
      options: '750',
      'per_cpu/cpu0': '750',
    });
    expect(fs.stat('trace')).toMatchObject({ size: 0, isDirectory: false });
  });

  test('errors', () => {
    const system = new TestSystem();
    const { fs } = system;
    const refusal = (run: () => unknown) => system.refusal(run);
    expect(refusal(() => fs.open('nosuch'))).toBe('ENOENT');
    expect(refusal(() => fs.open('nosuch', { write: true, create: true }))).toBe('EACCES');
    expect(refusal(() => fs.open('nosuch/x', { write: true, create: true }))).toBe('ENOENT');
    expect(refusal(() => fs.open('trace/x'))).toBe('ENOTDIR');
    expect(refusal(() => fs.open('events'))).toBe('EISDIR');
    expect(refusal(() => fs.readdir('trace'))).toBe('ENOTDIR');
    expect(refusal(() => fs.mkdir('instances/a/b'))).toBe('ENOENT');
    expect(refusal(() => fs.mkdir('events/x'))).toBe('EPERM');
    expect(refusal(() => fs.unlink('trace'))).toBe('EPERM');
    expect(refusal(() => fs.rename('trace', 'x'))).toBe('EPERM');
    expect(refusal(() => fs.readFile('trace_marker'))).toBe('EINVAL');
    expect(refusal(() => fs.open('trace').write('x'))).toBe('EBADF');
    expect(refusal(() => fs.open('trace', 'w').read(1))).toBe('EBADF');
    expect(refusal(() => fs.stat('a'.repeat(300)))).toBe('ENAMETOOLONG');
  });

  test('an instance stays while a file of it is open', () => {
    const system = new TestSystem();
    const { fs } = system;
    fs.mkdir('instances/a');
    expect(system.refusal(() => fs.mkdir('instances/a'))).toBe('EEXIST');
    const file = fs.open('instances/a/trace');
    expect(system.refusal(() => fs.rmdir('instances/a'))).toBe('EBUSY');
    file.close();
    file.close();
    fs.rmdir('instances/a');
    expect(fs.readdir('instances')).toEqual([]);
    expect(system.refusal(() => fs.rmdir('instances/a'))).toBe('ENOENT');
  });

  test('O_TRUNC empties at open, O_APPEND does not', () => {
    const system = new TestSystem();
    const { fs } = system;
    fs.writeFile('trace_marker', 'x');
    fs.open('trace', 'a').close();
    expect(system.lines()).toHaveLength(1);
    fs.open('per_cpu/cpu1/trace', 'w').close();
    expect(system.lines()).toHaveLength(1);
    fs.open('trace', 'w').close();
    expect(system.lines()).toHaveLength(0);
  });
});

function writable(fs: Tracefs, folder = ''): string[] {
  return fs.readdir(folder).flatMap((name) => {
    const path = folder === '' ? name : `${folder}/${name}`;
    const { isDirectory, mode } = fs.stat(path);
    if (isDirectory) return writable(fs, path);
    return (mode & 0o200) !== 0 ? [path] : [];
  });
}

/** Files that take a list: what stands in front of a word that is refused is done. */
const LISTS = /set_event$|_pid$|_events$|set_(?:ftrace|graph)_|trace_marker|^free_buffer|free_buffer$/;

describe('every writable file', () => {
  const words = fc.constantFrom(
    '0',
    '1',
    '2',
    '-1',
    'x',
    '',
    ' ',
    '\n',
    '!',
    ':',
    '*',
    '~',
    '"',
    '(',
    '0x7fffffffffffffff',
    '99999999999999999999999',
    'p vfs_read',
    'r:a/b vfs_read $retval',
    '-:a/b',
    'hist:keys=a',
    'traceoff',
    'a==1',
    'none',
    'nop',
    'local',
    'hex',
    'nohex',
    'a b',
    '\0',
    'é',
    'x'.repeat(5000),
  );
  const text = fc.oneof(
    words,
    fc.array(words, { maxLength: 4 }).map((list) => list.join(' ')),
    fc.string(),
  );

  test('answers any text with a count or an errno, and a refusal changes nothing', () => {
    const system = new TestSystem();
    system.event('shop', 'sold', [{ type: 'u32', name: 'a', size: 4 }], '"%u", REC->a');
    const { fs } = system;
    fs.mkdir('instances/i');
    const files = writable(fs);
    expect(files.length).toBeGreaterThan(100);
    fc.assert(
      fc.property(fc.constantFrom(...files), text, fc.boolean(), (path, content, append) => {
        if (!fs.exists(path)) return;
        const readable = (fs.stat(path).mode & 0o400) !== 0;
        const before = readable && append ? fs.readFile(path) : '';
        try {
          const taken = append ? fs.appendFile(path, content) : fs.writeFile(path, content);
          expect(taken).toBeGreaterThanOrEqual(0);
        } catch (error) {
          if (!(error instanceof KernelError)) throw error;
          expect(error.errno).toBeLessThan(0);
          // A filter's file shows what was wrong with the text.
          if (
            readable &&
            append &&
            !LISTS.test(path) &&
            !path.endsWith('/filter') &&
            !path.endsWith('/trigger')
          )
            expect(fs.readFile(path)).toBe(before);
        }
        if (readable) fs.readBytes(path);
      }),
      { numRuns: 1500, seed: 7 },
    );
  });
});
