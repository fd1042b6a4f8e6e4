/** Code that nobody uses is taken out: of an export that nothing names, no compiler tells. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

function codeFiles(folder: string): string[] {
  return readdirSync(path.join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const name = `${folder}/${entry.name}`;
    if (entry.isDirectory()) return entry.name === 'node_modules' ? [] : codeFiles(name);
    return /\.([cm]?js|ts)$/.test(name) ? [name] : [];
  });
}

const withoutComments = (text: string): string => text.replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '');

/** The kernel's constants: their tables may be whole. */
const isConstant = (name: string): boolean => /^(BPF_FUNC_\w+|[A-Z][A-Z0-9_]+)$/.test(name);

/** What Node looks for in a module of loader hooks. */
const HOOKS = new Set(['initialize', 'resolve', 'load']);

/** What files of `folder` export, and nothing but its declaration names: neither its own file nor another. */
function unused(texts: ReadonlyMap<string, string>, folder: string): string[] {
  const uses = new Map<string, number>();
  for (const text of texts.values())
    for (const [word] of text.matchAll(/[\w$]+/g)) uses.set(word, (uses.get(word) ?? 0) + 1);
  return [...texts]
    .filter(([file]) => file.startsWith(`${folder}/`))
    .flatMap(([file, text]) => {
      const declarations = text.matchAll(
        /^export (?:abstract )?(?:async )?(?:function\*?|const|let|class|interface|type) ([\w$]+)/gm,
      );
      return [...declarations]
        .map((match) => match[1]!)

        .filter((name) => !isConstant(name) && !HOOKS.has(name) && uses.get(name) === 1)
        .map((name) => `${file}: ${name}`);
    });
}

test('somebody uses every export of the sources', () => {
  const names = ['src', 'test', 'scripts', 'bench', 'examples'].flatMap(codeFiles);
  const texts = new Map(
    names.map((name) => [name, withoutComments(readFileSync(path.join(root, name), 'utf8'))]),
  );
  expect(unused(texts, 'src')).toEqual([]);
});

test('the check finds what only its declaration names', () => {
  const texts = new Map([
    ['src/a.ts', 'export function idle() {}\nexport const own = 1;\nexport type Own = typeof own;'],
    ['src/b.ts', 'export class Busy {}\nexport const BPF_ANY = 0;\nexport async function* lazy() {}'],
    ['test/a.ts', 'new (await import("../src/b.ts")).Busy();'],
  ]);
  expect(unused(texts, 'src')).toEqual(['src/a.ts: idle', 'src/a.ts: Own', 'src/b.ts: lazy']);
});
