import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { nodeBinaries } from '../support/nodes.ts';
import { launchFolder } from './launch-support.ts';

const FILES: Record<string, string> = {
  'once.mjs': `import { aux } from './aux.mjs';
function tiny(a) { return a; }
export const work = (n) => { if (n === 7) return -1; return n * 2; };
async function later(n) { await null; return n; }
for (let i = 0; i < 10; i++) { tiny(i); work(i); aux(i); }
await later(3);
process.on('exit', () => tiny(99));
`,
  'aux.mjs': 'export function aux(x) { return x; }\n',
  'query.mjs': `import { aux } from './aux.mjs?one';
import * as again from './aux.mjs?two';
const { aux: late } = await import('./aux.mjs#three');
for (let i = 0; i < 10; i++) { aux(i); again.aux(i); late(i); }
`,
  'once.cjs': `const { aux } = require('./aux.cjs');
function tiny(a) { return a; }
for (let i = 0; i < 10; i++) { tiny(i); aux(i); }
process.exit(3);
`,
  'listener.cjs': `function tiny(a) { return a; }
process.on('exit', () => { for (let i = 0; i < 1000; i++) tiny(i); process.exit(4); });
for (let i = 0; i < 10; i++) tiny(i);
`,
  'aux.cjs': 'exports.aux = function aux(x) { return x; };\n',
  'parent.cjs': `function tell(options, launch) { return options; }
const { execFileSync } = require('node:child_process');
const text = execFileSync(process.execPath, ['-p', 'JSON.stringify([process.env.NODE_OPTIONS ?? "none", process.env.TRAPLINE_LAUNCH ?? "none"])']);
tell(...JSON.parse(text));
`,
  'stacks.mjs': `function inner(n) { return n; }
function outer(n) { return inner(n); }
for (let i = 0; i < 3; i++) outer(i);
`,
  'lists.mjs': `function take(items, at) { return items.length; }
for (let i = 0; i < 20; i++) take([{ id: i, ratio: i / 2 }, { id: 100 }, 'text'], i % 2);
`,
  'throws.mjs': `function thrower(n) { if (n === 9) throw new Error('at the end'); }
for (let i = 0; i < 10; i++) thrower(i);
`,
};

const { folder, run } = launchFolder(FILES);
const trace = (command: string, script: string) => run(['-c', command, script]);

describe.each(nodeBinaries())('-c on Node $version', ({ path: node }) => {
  test('stacks begin at the function, whatever its compiled-in site calls', async () => {
    const { code, out } = await trace(
      `'${node}' stacks.mjs`,
      `kprobe:stacks.mjs:inner { @entry[ustack(2)] = count(); } kretprobe:stacks.mjs:outer { @end[ustack(1)] = count(); }
       kprobe:stacks.mjs:outer { @one[ustack(1)] = count(); }`,
    );
    expect(code).toBe(0);
    const frames = [...out.matchAll(/^ {4}(\S+) \(.*stacks\.mjs:\d+:\d+\)$/gm)].map((match) => match[1]);
    expect(frames).toEqual(['outer', 'inner', 'outer', 'outer']);
    expect(out.match(/^\]: 3$/gm)).toHaveLength(3);
  });

  test('an ES module: every call from the first to those of its exit listeners', async () => {
    const { code, out } = await trace(
      `'${node}' once.mjs`,
      `kprobe:once.mjs:tiny { @tiny = count(); } kprobe:once.mjs:work { @work = sum(arg0); }
       kretprobe:once.mjs:work { @ret = sum(retval); } kprobe:aux.mjs:aux { @aux = count(); }
       settle:once.mjs:later { @later = sum(retval); }`,
    );
    expect({ code, out: out.trim().split('\n') }).toEqual({
      code: 0,
      out: ['@aux: 10', '@later: 3', '@ret: 75', '@tiny: 11', '@work: 45'],
    });
  });

  test('properties whose names are computed', async () => {
    const { code, out } = await trace(
      `'${node}' lists.mjs`,
      `kprobe:lists.mjs:take { @sum = sum(arg0[arg1].id); $i = 0; while ($i < len(arg0)) { @[$i] = count(); @text[str(arg0[$i])] = count(); $i++; } }
       kprobe:lists.mjs:take /arg0[arg1].id == 6/ { print(arg0[arg1].ratio); print(arg0[arg1]); }`,
    );
    expect({ code, out: out.trim().split(/\n+/) }).toEqual({
      code: 0,
      out: [
        '3',
        '{ id: 6, ratio: 3 }',
        '@[0]: 20',
        '@[1]: 20',
        '@[2]: 20',
        '@sum: 1090',
        '@text[text]: 20',
        '@text[]: 40',
      ],
    });
  });

  test('a module that is imported by several urls of one file', async () => {
    const { code, out, err } = await trace(
      `'${node}' query.mjs`,
      'kprobe:aux.mjs:aux { @n = count(); } kretprobe:aux.mjs:aux { @sum = sum(retval); }',
    );
    expect({ code, out: out.trim(), err }).toEqual({
      code: 0,
      out: '@n: 30\n@sum: 135',
      err: expect.not.stringContaining('WARNING'),
    });
  });

  test('CommonJS that ends by process.exit()', async () => {
    const { code, out } = await trace(
      `'${node}' once.cjs`,
      'kprobe:once.cjs:tiny { @t = count(); } kretprobe:aux.cjs:aux { @a = sum(retval); }',
    );
    expect({ code, out: out.trim() }).toEqual({ code: 0, out: '@a: 45\n@t: 10' });
  });

  test('process.exit() in a listener of exit', async () => {
    for (let i = 0; i < 3; i++) {
      const { code, out } = await trace(
        `'${node}' listener.cjs`,
        'kprobe:listener.cjs:tiny { @calls = count(); } kretprobe:listener.cjs:tiny { @ends = count(); }',
      );
      expect({ code, out: out.trim() }).toEqual({ code: 0, out: '@calls: 1010\n@ends: 1010' });
    }
  });
});

describe('-c', () => {
  const node = process.execPath;

  test('through a shell, and with an error that nobody catches', async () => {
    const { out, err } = await trace(
      `sh -c '${node} throws.mjs; exit 0'`,
      'kprobe:throws.mjs:thrower { @ = count(); } throw:throws.mjs:thrower { @thrown = count(); }',
    );
    expect(out.trim()).toBe('@: 10\n@thrown: 1');
    expect(err).toContain('Error: at the end');
  });

  test('what the command starts has a clean environment', async () => {
    const { out } = await trace(
      `'${node}' parent.cjs`,
      'kprobe:parent.cjs:tell { printf("%s %s\\n", str(arg0), str(arg1)); }',
    );
    expect(out.trim()).toBe('none none');
  });

  test('BEGIN runs before the program, END before the maps, and nothing is left', async () => {
    const { out } = await trace(
      `'${node}' once.cjs`,
      'BEGIN { printf("first\\n"); } kprobe:once.cjs:tiny /@n < 2/ { @n++; printf("%d\\n", arg0); } END { printf("last\\n"); }',
    );
    expect(out.trim()).toMatch(/^first\n0\n1\nlast\n+@n: 2$/);
    expect(readdirSync(folder).filter((name) => name.startsWith('trapline-launch-'))).toEqual([]);
  });

  test('an unknown function is told before the program begins', async () => {
    const { code, out, err } = await trace(`'${node}' once.cjs`, 'kprobe:once.cjs:tinny { @ = count(); }');
    expect({ code, out }).toEqual({ code: 1, out: '' });
    expect(err).toMatch(/no function matches tinny in once\.cjs[\s\S]*did you mean once\.cjs:tiny\?/);
  });

  test.each([
    ['a function', 'kprobe:throws.mjs:thrower { @ = count(); }'],
    ['a line, which is not known before it is loaded', 'kprobe:throws.mjs:1 { @ = count(); }'],
    ['no function', 'BEGIN { printf("begins\\n"); }'],
  ])('--dry-run runs no line of the program: %s', async (_, script) => {
    const { code, out, err } = await run(['--dry-run', '-c', `'${node}' throws.mjs`, script]);
    expect({ code, out }).toEqual({ code: 0, out: '' });
    expect(err).not.toMatch(/at the end|WARNING|Attaching/);
    const wrong = await run([
      '--dry-run',
      '-c',
      `'${node}' throws.mjs`,
      script.replace(/ \w+\(.*\)/, ' nothing()'),
    ]);
    expect({ code: wrong.code, out: wrong.out }).toEqual({ code: 1, out: '' });
    expect(wrong.err).toContain("Unknown function: 'nothing'");
  });

  test('a probe that names no file, where there are many: what takes the time is told', async () => {
    const many = path.join(folder, 'many');
    mkdirSync(many);
    for (let i = 0; i < 250; i++) writeFileSync(path.join(many, `f${i}.js`), 'exports.f = 1;\n');
    const { code, out, err } = await trace(`'${node}' once.cjs`, 'kprobe:aux { @ = count(); }');
    rmSync(many, { recursive: true });
    expect({ code, out }).toEqual({ code: 0, out: expect.stringContaining('@: 10') });
    expect(err).toMatch(/WARNING: -c: 2\d\d files below .* are prepared before the program begins/);
  });

  test('a command without a Node process', async () => {
    const { code, err } = await trace('true', 'BEGIN { exit(); }');
    expect({ code, err }).toEqual({
      code: 1,
      err:
        'ERROR: -c: the command ended before it could be traced\n' +
        'HINT: it started no Node.js process, or one that ended at once: -c traces the first one\n',
    });
  });
});
