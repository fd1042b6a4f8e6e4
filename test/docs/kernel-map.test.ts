import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));

/** Rows of every table of a page: its cells. */
function rows(page: string): string[][] {
  const lines = readFileSync(path.join(root, page), 'utf8').split('\n');
  return lines
    .filter((line) => /^\|(?!\s*-)/.test(line))
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

/** Paths of this repository that a text names between backticks. */
function pathsIn(text: string): string[] {
  const found = text.matchAll(/`((?:src|test|bench|docs|scripts|examples)\/[^`*\s]*)`/g);
  return [...found].map((match) => match[1]!);
}

test('every path that the kernel map names is there', () => {
  const paths = rows('docs/kernel-map.md').flatMap((cells) => cells.flatMap(pathsIn));
  expect(paths.length).toBeGreaterThan(20);
  expect(paths.filter((name) => !existsSync(path.join(root, name)))).toEqual([]);
});

test('what the kernel map says of a place is found in it', () => {
  const missing: string[] = [];
  let checked = 0;
  for (const [, here = ''] of rows('docs/kernel-map.md')) {
    for (const [, name = '', file = ''] of here.matchAll(/`(\w+(?:\.\w+)?)`, `(src\/[^`]+\.ts)`/g)) {
      checked++;
      const text = readFileSync(path.join(root, file), 'utf8');
      if (!text.includes(name.split('.').at(-1)!)) missing.push(`${name} in ${file}`);
    }
  }
  expect(checked).toBeGreaterThan(5);
  expect(missing).toEqual([]);
});

test.each(['README.md', 'ROADMAP.md', 'docs/limits.md', 'docs/safety.md', 'docs/how-it-works.md'])(
  'links of %s lead somewhere',
  (page) => {
    const text = readFileSync(path.join(root, page), 'utf8');
    const links = [...text.matchAll(/\]\((?!https?:)([^)#]+)/g)].map((match) => match[1]!);
    const folder = path.dirname(path.join(root, page));
    expect(links.filter((link) => !existsSync(path.join(folder, link)))).toEqual([]);
    expect(pathsIn(text).filter((name) => !existsSync(path.join(root, name)))).toEqual([]);
  },
);
