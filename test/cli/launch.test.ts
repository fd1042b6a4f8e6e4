import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { nodeBinaries } from '../support/nodes.ts';

const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));
const cli = path.join(root, 'dist/cli/main.js');
const folder = mkdtempSync(path.join(tmpdir(), 'trapline-cli-launch-'));

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
  'once.cjs': `const { aux } = require('./aux.cjs');
function tiny(a) { return a; }
for (let i = 0; i < 10; i++) { tiny(i); aux(i); }
process.exit(3);
`,
  'aux.cjs': 'exports.aux = function aux(x) { return x; };\n',
  'parent.cjs': `function tell(options, launch) { return options; }
const { execFileSync } = require('node:child_process');
const text = execFileSync(process.execPath, ['-p', 'JSON.stringify([process.env.NODE_OPTIONS ?? "none", process.env.TRAPLINE_LAUNCH ?? "none"])']);
tell(...JSON.parse(text));
`,
  'throws.mjs': `function thrower(n) { if (n === 9) throw new Error('at the end'); }
for (let i = 0; i < 10; i++) thrower(i);
`,
};

beforeAll(() => {
  for (const [name, text] of Object.entries(FILES)) writeFileSync(path.join(folder, name), text);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function trace(command: string, script: string): Promise<{ code: number | null; out: string; err: string }> {
  return new Promise((resolve) => {
    const { NODE_OPTIONS: _options, ...env } = process.env;
    const child = execFile(
      process.execPath,
      [cli, '-c', command, script],
      { cwd: folder, env: { ...env, TMPDIR: folder }, timeout: 25_000 },
      (_error, out, err) => resolve({ code: child.exitCode, out, err }),
    );
  });
}

describe.each(nodeBinaries())('-c on Node $version', ({ path: node }) => {
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

  test('CommonJS that ends by process.exit()', async () => {
    const { code, out } = await trace(
      `'${node}' once.cjs`,
      'kprobe:once.cjs:tiny { @t = count(); } kretprobe:aux.cjs:aux { @a = sum(retval); }',
    );
    expect({ code, out: out.trim() }).toEqual({ code: 0, out: '@a: 45\n@t: 10' });
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
