import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { BUILTINS } from '../../src/lang/builtins.ts';
import { FUNCTIONS } from '../../src/lang/functions.ts';
import { DEFAULT_CONFIG } from '../../src/lang/index.ts';
import { Engine } from './engine.ts';

const read = (name: string) => readFileSync(new URL(`../../docs/${name}`, import.meta.url), 'utf8');
const examplesOf = (text: string) => [...text.matchAll(/```bpftrace\n(.*?)```/gs)].map((match) => match[1]!);

const page = read('language.md');
const examples = examplesOf(page);
const recipes = examplesOf(read('recipes.md'));

test.each([...examples, ...recipes])('compiles, is verified and runs: %s', (source) => {
  const engine = new Engine(source, {
    params: ['5'],
    targets: { f: ['name', 'value', 'ctx', 'attempt', 'sql', 'id'] },
  });
  for (const [index] of engine.script.programs.entries()) {
    engine.hit(index, {
      args: [{ name: 'n', items: [1, 2], id: 3 }, 100],
      retval: 600,
      error: { code: 'E' },
      self: { debug: 1 },
    });
  }
  expect(engine.script.programs.length).toBeGreaterThan(0);
});

test('the page names every builtin, function and setting', () => {
  expect(examples.length).toBeGreaterThan(10);
  expect(recipes.length).toBeGreaterThan(10);
  for (const name of [...Object.keys(BUILTINS), ...Object.keys(FUNCTIONS)]) {
    expect(page, name).toMatch(new RegExp(`[\`\\s|(]${name}[\`(\\s.,]`));
  }
  for (const [name, value] of [
    ['max_strlen', DEFAULT_CONFIG.maxStrlen],
    ['max_map_keys', DEFAULT_CONFIG.maxMapKeys],
    ['stack_depth', DEFAULT_CONFIG.stackDepth],
    ['print_maps_on_exit', DEFAULT_CONFIG.printMapsOnExit],
  ]) {
    expect(page).toContain(`| \`${name}\` | ${value} |`);
  }
});
