import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));

/** Where folders with a README are looked for, and what its files are. */
const PLACES = [
  { folder: 'src', files: /\.ts$/ },
  { folder: 'test/conformance', files: /\.(mjs|ts)$/ },
  { folder: 'test/support', files: /\.(mjs|ts)$/ },
  { folder: 'test/fixtures', files: /\.(c|m)?[jt]s$/ },
];
/** Files that need no word: what the folder's others import by its name. */
const OBVIOUS = /^(index|bundle-entry)\.ts$/;

interface Folder {
  readonly name: string;
  readonly names: readonly string[];
  readonly files: RegExp;
  readonly readme: string;
}

function foldersBelow(name: string, files: RegExp): Folder[] {
  const entries = readdirSync(path.join(root, name), { withFileTypes: true });
  const names = entries.filter((entry) => entry.isFile()).map((entry) => entry.name);
  const below = entries
    .filter((entry) => entry.isDirectory() && entry.name !== 'node_modules')
    .flatMap((entry) => foldersBelow(`${name}/${entry.name}`, files));
  if (!names.includes('README.md')) return below;
  const readme = readFileSync(path.join(root, name, 'README.md'), 'utf8');
  return [{ name, names, files, readme }, ...below];
}

const FOLDERS = PLACES.flatMap(({ folder, files }) => foldersBelow(folder, files));

/** What stands between backticks, `a-{b,c}.ts` as two. */
function quoted(text: string): string[] {
  const found = [...text.matchAll(/`([^`\n]+)`/g)].map((match) => match[1]!);
  return found.flatMap((name) => {
    const braces = /^([^{}]*)\{([^{}]+)\}([^{}]*)$/.exec(name);
    if (braces === null) return [name];
    return braces[2]!.split(',').map((one) => `${braces[1]}${one}${braces[3]}`);
  });
}

const patternOf = (name: string): RegExp =>
  new RegExp(`^${name.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replace(/\*/g, '.*')}$`);

describe.each(FOLDERS)('$name/README.md', ({ name, names, files, readme }) => {
  test('names every file of its folder', () => {
    const patterns = quoted(readme).map(patternOf);
    const silent = names.filter(
      (file) => files.test(file) && !OBVIOUS.test(file) && !patterns.some((pattern) => pattern.test(file)),
    );
    expect(silent).toEqual([]);
  });

  test('the files and folders in the first column of its tables are there', () => {
    const cells = readme.split('\n').flatMap((line) => (line.startsWith('|') ? [line.split('|')[1]!] : []));
    const places = cells.flatMap(quoted).filter((one) => /^[\w./-]+(\.(ts|mjs|json|txt)|\/)$/.test(one));
    // a table may be of a folder below, and a row begin in one
    const all = readdirSync(path.join(root, name), { recursive: true, encoding: 'utf8' });
    const below = all.map((one) => `/${one.replaceAll('\\', '/')}`);
    const exists = (place: string): boolean =>
      existsSync(path.join(root, name, place)) ||
      below.some((one) => one.endsWith(`/${place.replace(/\/$/, '')}`));
    expect(places.filter((place) => !exists(place))).toEqual([]);
  });
});

test('there are folders to look at', () => {
  expect(FOLDERS.length).toBeGreaterThan(30);
});

test('folders without a README are spoken of in one above', () => {
  const files = readdirSync(path.join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .map((name) => `src/${name.replaceAll('\\', '/')}`)
    .filter((name) => name.endsWith('.ts') && !OBVIOUS.test(path.basename(name)));
  const silent = files.filter((file) => {
    const above = FOLDERS.filter(({ name }) => file.startsWith(`${name}/`));
    const nearest = above.sort((a, b) => b.name.length - a.name.length)[0]!;
    const inside = file.slice(nearest.name.length + 1);
    const patterns = quoted(nearest.readme).map(patternOf);
    return !patterns.some((pattern) => pattern.test(inside) || pattern.test(path.basename(file)));
  });
  expect(silent).toEqual([]);
});
