/**
 * Every writable file of the tracing folder gets what nobody should write: each write ends with a count of bytes or an errno, and one
 * that is refused has changed nothing.
 */
import { describe, expect, test } from 'vitest';
import { KernelError } from '../../src/kernel/errno.ts';
import type { Tracefs } from '../../src/tracefs/tracefs.ts';
import { TestSystem } from '../kernel/trace/system.ts';
import { generator, seeds } from '../support/fuzz.ts';

type Random = ReturnType<typeof generator>;

/** What commands are made of. */
const WORDS = [
  ...['0', '1', '2', '-1', '4096', '18446744073709551616', '0x', '0x7fffffff', '1e3', '-0', '+5', '00', '77'],
  ...['p', 'r', 'f', 'e', 's', 't', '!', '-', ':', '/', '.', ',', '=', '>', '<', '&', '|', '^', '~', '%'],
  ...[
    '(',
    ')',
    '[',
    ']',
    '{',
    '}',
    '"',
    "'",
    '\\',
    '*',
    '?',
    '$',
    '@',
    '#',
    ' ',
    ' ',
    ' ',
    '\t',
    '\0',
    '\x7f',
  ],
  ...['shop', 'sold', 'shop:sold', 'shop/sold', 'id', 'price', 'sku', 'common_pid', 'COMM', 'CPU', '*:*'],
  ...[
    'hist',
    'keys=',
    'vals=',
    'sort=',
    'size=',
    'keys=id',
    'id.log2',
    'id.buckets=5',
    '.hex',
    ':pause',
    ':clear',
  ],
  ...[
    'traceon',
    'traceoff',
    'snapshot',
    'stacktrace',
    'enable_event',
    'disable_event',
    'enable_hist',
    ' if ',
  ],
  ...[
    'onmatch',
    'onmax',
    'onchange',
    'save',
    'trace',
    'ts0=',
    'common_timestamp.usecs',
    '$ts0',
    'descending',
  ],
  ...['id == 1', 'price < -3', 'sku ~ "t*"', 'sku == "', '&&', '||', '!(', 'CPUS{0-1}', '.function'],
  ...[
    'vfs_read',
    'shop_open',
    'kfree',
    '+4',
    '%return',
    '$arg1',
    '$retval',
    '$stack',
    '$comm',
    ':u32',
    ':string',
  ],
  ...[
    'u64 a;',
    'int b',
    'char c[16];',
    'local',
    'global',
    'counter',
    'mono',
    'nop',
    'function',
    'nooverwrite',
  ],
  ...['sym-addr', 'noprint-parent', 'trace_printk', 'å', '\ud83d\ude00', '\u{fffd}'],
];

function text(random: Random): string {
  const words: string[] = [];
  for (let n = random(9); n >= 0; n--) words.push(WORDS[random(WORDS.length)] as string);
  return words.join(random(3) === 0 ? ' ' : '');
}

/** Mostly words, in one line; sometimes more of them, long, or no text at all. */
function input(random: Random): Uint8Array {
  const encoder = new TextEncoder();
  switch (random(12)) {
    case 0:
      return Uint8Array.from({ length: random(40) }, () => random(256));
    case 1:
      return encoder.encode(text(random).repeat(1 + random(900)));
    case 2:
      return new Uint8Array();
    default:
      return encoder.encode(text(random) + (random(2) === 0 ? '\n' : ''));
  }
}

function* walk(fs: Tracefs, folder = ''): IterableIterator<string> {
  for (const name of fs.readdir(folder)) {
    const path = folder === '' ? name : `${folder}/${name}`;
    if (fs.stat(path).isDirectory) yield* walk(fs, path);
    else yield path;
  }
}

const has = (fs: Tracefs, path: string, bits: number): boolean => (fs.stat(path).mode & bits) !== 0;

/** Records, times, messages and help: they are not what is set. */
const NO_STATE =
  /(^|\/)(trace|trace_pipe|trace_pipe_raw|snapshot|snapshot_raw|stats|error_log|README|saved_.*|format|hist.*|printk_formats|trace_marker.*|available_.*|header_.*|kprobe_profile)$/;

/** Everything that is set, but for the contents of filters that were refused: those show why. */
function state(fs: Tracefs): Map<string, string> {
  const found = new Map<string, string>();
  for (const path of walk(fs)) {
    if (NO_STATE.test(path) || !has(fs, path, 0o400)) continue;
    try {
      found.set(path, fs.readFile(path));
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      found.set(path, error.code as string);
    }
  }
  return found;
}

/** Files whose refused writes leave something, as on Linux. */
function mayChange(written: string, path: string): boolean {
  // The filter that was refused is the filter now, and passes all; one of a system does that to each of its events.
  if (written.endsWith('/filter')) return path.endsWith('/filter');
  // Words are taken one by one, and events one by one: those in front of the one that is refused are switched.
  if (/(^|\/)(set_event|enable)$/.test(written)) return /(^|\/)(set_event|enable)$/.test(path);
  return /(^|\/)set_(ftrace|graph)_/.test(written) && path === written;
}

function shop(): TestSystem & { at: (values: Record<string, number | bigint | string>) => void } {
  const system = new TestSystem();
  const event = system.event(
    'shop',
    'sold',
    [
      { type: 'u64', name: 'id', size: 8 },
      { type: 's32', name: 'price', size: 4, signed: true },
      { type: 'char[8]', name: 'sku', size: 8 },
    ],
    '"id=%llu price=%d sku=%s", REC->id, REC->price, REC->sku',
  );
  system.event('shop', 'opened', [{ type: 'u32', name: 'door', size: 4 }]);
  return Object.assign(system, { at: event.fire });
}

/** A write that must end well or with an errno. */
function attempt(run: () => number): number | string {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    expect(error.code).toMatch(/^E[A-Z0-9]+$/);
    return error.code as string;
  }
}

describe('every writable file', () => {
  test.each(seeds(4))(
    'takes anything, or refuses it with an errno and stays as it was: seed %i',
    { timeout: 120_000 },
    (seed) => {
      const random = generator(seed);
      const system = shop();
      const { fs } = system;
      fs.mkdir('instances/one');
      const refused = new Map<string, number>();
      const tried = new Set<string>();
      let known: Map<string, string> | undefined;
      for (let round = 0; round < 6; round++) {
        for (const path of [...walk(fs)].filter((one) => has(fs, one, 0o200))) {
          // A definition may have gone with the one that was written before. Options are all alike.
          if (!fs.exists(path) || (/(^|\/)options\//.test(path) && random(12) > 0)) continue;
          const kind = path.replace(/^instances\/[^/]+\//, '').replace(/^events\/[^/]+\/[^/]+\//, 'EVENT/');
          tried.add(kind);
          const data = input(random);
          const before: Map<string, string> = known ?? state(fs);
          known = undefined;
          const file = fs.open(path, { write: true, nonblock: true });
          const answer = attempt(() => file.write(data));
          file.close();
          const what = `${path} ${JSON.stringify(new TextDecoder().decode(data.subarray(0, 300)))}: ${answer}`;
          if (typeof answer === 'number') {
            expect(answer, what).toBeGreaterThanOrEqual(0);
            expect(answer, what).toBeLessThanOrEqual(data.length);
            continue;
          }
          refused.set(kind, (refused.get(kind) ?? 0) + 1);
          // Several lines are several commands.
          if (data.subarray(0, -1).includes(10)) continue;
          const after = state(fs);
          for (const [one, content] of before)
            if (after.get(one) !== content && !mayChange(path, one))
              expect(after.get(one), `${what} changed ${one}`).toBe(content);
          for (const one of after.keys()) if (!before.has(one)) expect.fail(`${what} made ${one}`);
          known = after;
        }
        // What is left of it works, and can be read.
        system.at({ id: round, price: -round, sku: 'tea' });
        known = undefined;
        for (const path of walk(fs)) if (has(fs, path, 0o400)) attempt(() => fs.readBytes(path).length);
      }
      expect(refused.size).toBeGreaterThan(20);
      for (const kind of [
        'EVENT/filter',
        'EVENT/trigger',
        'EVENT/enable',
        'kprobe_events',
        'buffer_size_kb',
        'set_event_pid',
      ])
        expect(tried).toContain(kind);
    },
  );

  test.each(seeds(11))(
    'in any order, with O_TRUNC, with folders that come and go, all can be undone: seed %i',
    { timeout: 120_000 },
    (seed) => {
      const random = generator(seed);
      const system = shop();
      const { fs } = system;
      let paths: string[] = [];
      for (let step = 0; step < 1500; step++) {
        if (step % 20 === 0) paths = [...walk(fs)].filter((one) => has(fs, one, 0o200));
        const path = paths[random(paths.length)] as string;
        switch (random(12)) {
          case 0:
            attempt(() => {
              fs.mkdir(`instances/${['a', 'b', '..', '', 'a/b', 'x'.repeat(300), text(random)][random(7)]}`);
              return 0;
            });
            break;
          case 1: {
            const names = fs.readdir('instances');
            attempt(() => {
              fs.rmdir(`instances/${names.length === 0 ? 'none' : names[random(names.length)]}`);
              return 0;
            });
            break;
          }
          case 2:
            system.at({ id: step, price: step & 1 ? -1 : 1, sku: 'tea' });
            break;
          case 3:
            attempt(() => fs.readBytes(path).length);
            break;
          default: {
            const data = input(random);
            const taken = attempt(() =>
              random(2) === 0 ? fs.writeFile(path, data) : fs.appendFile(path, data),
            );
            if (typeof taken === 'number') expect(taken).toBeLessThanOrEqual(data.length);
          }
        }
      }
      // From wherever that has come to, back to nothing.
      for (const name of fs.readdir('instances')) fs.rmdir(`instances/${name}`);
      for (let pass = 0; pass < 3; pass++)
        for (const path of [...walk(fs)].filter((one) => /^events\/.*\/trigger$/.test(one)))
          for (const line of fs.readFile(path).split('\n').reverse())
            if (line !== '' && !line.startsWith('#'))
              attempt(() => fs.appendFile(path, `!${line.replace(/ \[\w+\]$/, '')}`));
      fs.writeFile('events/enable', '0');
      attempt(() => fs.writeFile('dynamic_events', ''));
      fs.writeFile('trace', '');
      fs.writeFile('tracing_on', '1');
      expect(fs.readFile('per_cpu/cpu0/stats')).toMatch(/^entries: 0\n/);
    },
  );
});
