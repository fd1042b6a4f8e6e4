/** The package as others get it: what it holds, what bundlers may drop, and its declarations in a strict project. */
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'acorn';
import { build } from 'esbuild';
import { afterAll, describe, expect, test } from 'vitest';

const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));
const manifest = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as {
  readonly sideEffects: readonly string[];
  readonly exports: Readonly<Record<string, unknown>>;
};
const folder = mkdtempSync(path.join(tmpdir(), 'trapline-package-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Statements that do something when their module is loaded. */
function actsWhenLoaded(file: string): boolean {
  const options = { ecmaVersion: 'latest', sourceType: 'module', allowHashBang: true } as const;
  const { body } = parse(readFileSync(path.join(root, file), 'utf8'), options);
  const declares = /^(Import|Export|Function|Class|Variable)/;
  return body.some(({ type }) => !declares.test(type));
}

/** They fill tables of their own module, or of one that they import, and whoever uses those imports them by name. */
const TABLES = [
  'arch/v8/outline-tokens.js',
  'cli/bpf/wasm-names.js',
  'kernel/trace/hist/hist-command.js',
  'kernel/trace/probe/fetch-type.js',
];

describe('sideEffects', () => {
  test('names every module that does something when it is loaded', () => {
    const files = readdirSync(path.join(root, 'dist'), { recursive: true, encoding: 'utf8' });
    const modules = files.map((name) => name.replaceAll('\\', '/')).filter((name) => /\.js$/.test(name));
    const acting = modules.filter(
      (name) =>
        !/^agent\/|^cli\/chunk-/.test(name) && !TABLES.includes(name) && actsWhenLoaded(`dist/${name}`),
    );
    expect(acting.map((name) => `./dist/${name}`).sort()).toEqual(manifest.sideEffects);
  });

  test.each([
    ["import 'trapline/register'", 'trapline.sites', true],
    ["import 'trapline/testing/vitest'", 'expect.extend(', true],
    ["import { assemble } from 'trapline/bpf'; console.log(assemble('exit'))", 'trapline.sites', false],
  ])('%s, bundled', async (contents, text, isThere) => {
    const { outputFiles } = await build({
      stdin: { contents, resolveDir: project() },
      bundle: true,
      platform: 'node',
      format: 'esm',
      external: ['vitest'],
      write: false,
      logLevel: 'error',
    });
    expect(outputFiles[0]!.text.includes(text)).toBe(isThere);
  });
});

let made: string | undefined;
/** A project with the package and what its declarations import. */
function project(): string {
  if (made !== undefined) return made;
  const modules = path.join(folder, 'node_modules');
  const installed = path.join(modules, 'trapline');
  mkdirSync(path.join(modules, '@types'), { recursive: true });
  cpSync(path.join(root, 'package.json'), path.join(installed, 'package.json'));
  cpSync(path.join(root, 'dist'), path.join(installed, 'dist'), {
    recursive: true,
    filter: (file) => !file.endsWith('.map'),
  });
  for (const name of ['@types/node', 'undici-types', 'acorn', 'ws', '@jridgewell', 'vitest'])
    symlinkSync(path.join(root, 'node_modules', name), path.join(modules, name));
  made = folder;
  return made;
}

const EVERYTHING = `
import { attachTracefs, defineTracepoint, Kprobe, registerKprobe, TextPrinter, trace } from 'trapline';
import { createMachine, openObject } from 'trapline/bpf';
import { bpfFixture } from 'trapline/testing';
import { openTracefs } from 'trapline/tracefs';
import { readTraceDat } from 'trapline/export';
import 'trapline/register';
import 'trapline/testing/vitest';
const { buffer } = createMachine().memory;
export const used = [attachTracefs, defineTracepoint, Kprobe, registerKprobe, TextPrinter, trace, openObject, bpfFixture, openTracefs, readTraceDat, buffer];
`;
const ENGINE = `
import { createMachine, openObject } from 'trapline/bpf';
import { bpfFixture } from 'trapline/testing';
const bytes: number = createMachine().memory.buffer.byteLength;
export const used = [openObject, bpfFixture, bytes];
// @ts-expect-error it is a number
export const wrong: string = bytes;
`;

describe('declarations in a strict project that checks its libraries', () => {
  test('the project imports every entry of the package', () => {
    const entries = Object.keys(manifest.exports).filter((name) => !name.endsWith('.json'));
    const imported = [...EVERYTHING.matchAll(/'trapline([^']*)'/g)].map((match) => `.${match[1]}`);
    expect(imported.sort()).toEqual(entries.sort());
  });

  test('no typed array has a type argument: TypeScript before 5.7 knows none', () => {
    const files = readdirSync(path.join(root, 'dist'), { recursive: true, encoding: 'utf8' });
    const declarations = files.filter((name) => name.endsWith('.d.ts'));
    const generic = declarations.filter((name) =>
      /\b(?:[A-Z]\w*\d+(?:Clamped)?Array|DataView)</.test(
        readFileSync(path.join(root, 'dist', name), 'utf8'),
      ),
    );
    expect(declarations.length).toBeGreaterThan(300);
    expect(generic).toEqual([]);
  });

  test.each([
    { lib: ['ES2022'], types: [], text: ENGINE },
    { lib: ['ES2022', 'DOM'], types: [], text: ENGINE },
    { lib: ['ES2022'], types: ['node'], text: EVERYTHING },
    { lib: ['ES2022', 'DOM'], types: ['node'], text: EVERYTHING },
  ])('lib $lib, types $types', { timeout: 120_000 }, ({ lib, types, text }) => {
    const cwd = project();
    writeFileSync(path.join(cwd, 'index.ts'), text);
    const compilerOptions = {
      target: 'ES2022',
      lib,
      types,
      module: 'NodeNext',
      strict: true,
      exactOptionalPropertyTypes: true,
      noUncheckedIndexedAccess: true,
      skipLibCheck: false,
      noEmit: true,
    };
    writeFileSync(path.join(cwd, 'package.json'), '{ "type": "module" }');
    writeFileSync(path.join(cwd, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['index.ts'] }));
    const tsc = path.join(
      path.dirname(createRequire(import.meta.url).resolve('typescript/package.json')),
      'bin/tsc',
    );
    expect(
      messagesOf(() => execFileSync(process.execPath, [tsc, '-p', '.'], { cwd, encoding: 'utf8' })),
    ).toBe('');
  });
});

/** What a command wrote, also when it failed. */
function messagesOf(run: () => string): string {
  try {
    return run();
  } catch (error) {
    return (error as { stdout?: string }).stdout || String(error);
  }
}
