import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { instrument } from '../../src/arch/v8/instrument.ts';
import { liveEditChanges, lostFunctions } from '../../src/arch/v8/live-edit-diff.ts';
import { fitLiveEdit } from '../../src/arch/v8/live-edit-fit.ts';
import { SelfInspector } from '../../src/arch/v8/self-inspector.ts';
import { functionSymbols } from '../../src/arch/v8/symbols.ts';

// The prediction against V8 itself: edit real functions and see whether the living ones have the new text.

const require = createRequire(import.meta.url);
const inspector = new SelfInspector();
let folder: string;
let next = 0;

beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'trapline-diff-'));
  inspector.open();
});
afterAll(() => {
  inspector.close();
  rmSync(folder, { recursive: true, force: true });
});

interface Edit {
  readonly what: string;
  readonly before: string;
  readonly after: string;
}

const spanOf = (text: string) => ({ start: text.indexOf('function f'), end: text.indexOf('/*end*/') });

/** Edits `f` of CommonJS modules: whether V8 reached it. */
function reached(edits: readonly Edit[]): boolean[] {
  const input = edits.map(({ before, after }) => ({
    file: path.join(folder, `m${next++}.cjs`),
    before,
    after,
  }));
  const script = fileURLToPath(new URL('../fixtures/self/edit.cjs', import.meta.url));
  const out = execFileSync(process.execPath, [script], { input: JSON.stringify(input), encoding: 'utf8' });
  const texts = JSON.parse(out) as string[];
  return edits.map(({ after }, n) => texts[n] === after.slice(spanOf(after).start, spanOf(after).end));
}

/** Whether it is expected to. */
const expected = ({ before, after }: Edit): boolean =>
  lostFunctions(liveEditChanges(before, after), [spanOf(before)], [spanOf(after)]).size === 0;

const REST = '\nfunction other() {\n  return 1;\n}\nmodule.exports = { f };\n';
const shapes = {
  lines: `function f(z) {<e>\n  return z;\n<t>}/*end*/${REST}`,
  oneLine: `function f(z) {<e> return z; <t>}/*end*/${REST}`,
  dense: `function f(z){<e>return z<t>}/*end*/;${REST}`,
  tight: `function f(z) {<e>\n  return z;<t>\n}/*end*/${REST}`,
  crowded: `function f(z){<e>return z;<t> }/*end*/${'function pad(a){return a+1}'.repeat(40)}${REST}`,
  blanks: `\n\nfunction f(z) {<e>return z;<t>}/*end*/\n\n\n${REST}`,
};

describe('live edit', () => {
  it.each(Object.entries(shapes))('is predicted for %s', (_name, shape) => {
    const text = (entry: string, tail: string) => shape.replace('<e>', entry).replace('<t>', tail);
    const edits = [0, 1, 4, 9, 16, 30].flatMap((k) =>
      (
        [
          [`const i=H${'0'.repeat(k)}();try{`, ';R(i);}catch(x){T(i,x);throw x}'],
          ['try{', `}finally{${'q'.repeat(k)}}`],
          [`q${'0'.repeat(k)};`, ''],
        ] as const
      ).map(([entry, tail]) => ({
        what: `${entry} ${tail}`,
        before: text('', ''),
        after: text(entry, tail),
      })),
    );
    const real = reached(edits);
    expect(edits.map((edit) => [edit.what, expected(edit)])).toEqual(
      edits.map(({ what }, n) => [what, real[n]]),
    );
    const outcomes = {
      reached: real.filter((one) => one).length,
      lost: real.filter((one) => !one).length,
    };
    expect(outcomes.reached + outcomes.lost).toBe(18);
    if (shape === shapes.tight) expect(outcomes.lost).toBe(0);
    if (shape === shapes.crowded) expect(outcomes.reached).toBe(0);
  });

  it.each([
    ['declaration', 'function f(z) {\n  return z;\n}'],
    ['arrow', 'const f = (z) => {\n  return z;\n};'],
    ['one line', 'function f(z) { return z; }'],
    ['callback', 'let f;\n[1].forEach(() => (f = function (z) {\n  if (z) return z;\n  return 0;\n}));'],
    ['try', 'function f(z) {\n  try {\n    return z;\n  } finally {\n    if (z === 0) return 1;\n  }\n}'],
  ])('reaches the ends of a %s once the text is fitted', (_name, text) => {
    const file = path.join(folder, `fit${next++}.cjs`);
    const before = `${text}\nfunction other() { return 2; }\nmodule.exports = { f, other };\n`;
    writeFileSync(file, before);
    const { f } = require(file) as { f: (z: number) => number };
    const info = [...inspector.scripts.values()].find(({ url }) => url.endsWith(file))!;
    const symbols = functionSymbols(info, before, 0n);
    const symbol = symbols.find(({ params }) => params.length === 1)!;
    const rough = instrument(
      before,
      [{ symbol, site: 1, events: ['entry', 'return'], reads: 1 }],
      { prefix: '__fit' },
      false,
    );
    expect(rough.sites).toEqual([1]);
    const { source, lost } = fitLiveEdit(info, before, before, rough.source, [symbol.index]);
    expect([source.length, [...lost]]).toEqual([rough.source.length, []]);
    const told: unknown[] = [];
    Object.assign(globalThis, {
      __fit1e: (_self: unknown, z: number) => told.push(z),
      __fit1r: (_instance: unknown, value: unknown) => {
        told.push(value);
        return value;
      },
      __fit1t: () => {},
    });
    expect(inspector.setSource(info.scriptId, source).status).toBe('Ok');
    expect(f(7)).toBe(7);
    expect(told).toEqual([7, 7]);
    // And back.
    expect(inspector.setSource(info.scriptId, before).status).toBe('Ok');
    expect([f(8), told.length, f.toString()]).toEqual([8, 2, before.slice(symbol.start, symbol.end)]);
  });
});
