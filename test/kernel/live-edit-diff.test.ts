import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { Session } from 'node:inspector';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { instrument } from '../../src/arch/v8/instrument.ts';
import { liveEditChanges, lostFunctions } from '../../src/arch/v8/live-edit-diff.ts';
import { fitLiveEdit, literalStart, lostTexts } from '../../src/arch/v8/live-edit-fit.ts';
import { SelfInspector } from '../../src/arch/v8/self-inspector.ts';
import { functionSymbols } from '../../src/arch/v8/symbols.ts';
import type { ScriptInfo } from '../../src/arch/v8/types.ts';

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
function reached(edits: readonly Edit[], name = 'f', kind: 'cjs' | 'mjs' = 'cjs'): boolean[] {
  const input = edits.map(({ before, after }) => ({
    file: path.join(folder, `m${next++}.${kind}`),
    before,
    after,
  }));
  const script = fileURLToPath(new URL('../fixtures/self/edit.cjs', import.meta.url));
  const out = execFileSync(process.execPath, [script], { input: JSON.stringify(input), encoding: 'utf8' });
  const texts = JSON.parse(out) as string[];
  return edits.map(({ after }, n) => {
    if (kind === 'mjs') {
      expect(texts[n]).toMatch(/^(?:function|BlockedByTopLevelEsModuleChange)/);
      return texts[n]!.startsWith('function');
    }
    const start = after.indexOf(`function ${name}(`);
    return texts[n] === after.slice(start, name === 'f' ? spanOf(after).end : after.indexOf('\nmodule'));
  });
}

/** The column of a function's start, as V8 has it. */
function locationOf(fn: unknown): number {
  const session = new Session();
  session.connect();
  let column = -1;
  Object.assign(globalThis, { __located: fn });
  session.post('Runtime.evaluate', { expression: '__located' }, (_error, { result }) => {
    session.post(
      'Runtime.getProperties',
      { objectId: result.objectId! },
      (_failure, { internalProperties }) => {
        const place = internalProperties?.find(({ name }) => name === '[[FunctionLocation]]')?.value?.value;
        column = (place as { columnNumber: number }).columnNumber;
      },
    );
  });
  session.disconnect();
  return column;
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

  it('begins a function behind its name, whose letters may be matched with others', () => {
    const one = (entry: string, result: string, tail: string) =>
      `function fatal(z){${entry} let n=0; for(const i of z) n+=i; return ${result};${tail} }\nmodule.exports={f:fatal}\n`;
    const plain = one('', 'n', '');
    const texts = [1, 2, 3].map((most) => {
      const sites = [1, 2, 3].slice(0, most).map((n) => `$tl0a1f_${n}`);
      const all = (form: (site: string) => string) => sites.map(form).join('');
      return one(
        `${all((q) => `const ${q}i=${q}e(void 0,z);`)}try{`,
        sites.reduce((value, q) => `${q}r(${q}i,${value})`, 'n'),
        `${all((q) => `;${q}r(${q}i)`)}}catch($tl0a1f_x){${all((q) => `${q}t(${q}i,$tl0a1f_x);`)}throw($tl0a1f_x)}`,
      );
    });
    const edits = texts.flatMap((text) => [
      { what: 'to', before: plain, after: text },
      { what: 'back', before: text, after: plain },
    ]);
    const info = { scriptId: '1', url: 'x.cjs', isModule: false } as ScriptInfo;
    const told = edits.map(({ before, after }) => {
      const [from, to] = [before, after].map((text) => {
        const [symbol] = functionSymbols(info, text, 0n);
        return { start: literalStart(text, symbol!), end: symbol!.end };
      });
      return lostFunctions(liveEditChanges(before, after), [from!], [to!]).size === 0;
    });
    expect(told).toEqual(reached(edits, 'fatal'));
    expect(told).toContain(false);
    expect(told).toContain(true);
    expect(texts.map((text) => lostTexts(info, plain, text).size)).toEqual(
      texts.map((_text, n) => (told[2 * n] && told[2 * n + 1] ? 0 : 1)),
    );
  });

  it('is refused for an ES module where blanks between functions are matched anew', () => {
    const one = (hooks: readonly string[]) => `export function f(a){${hooks[0]}if(a>5) return a*2;return a-1;}
const fatal  = function(a){
  };
const work=(a)=>{
};
class C_let_{ m(a){switch(a&1){case 0: return 'e';default: return 'o'}}
 static s(a){${hooks[1]} switch(a&1){case 0: return 'e';default: return 'o'} } }
function cart  (a)  {
  }


const tl  = function(a){${hooks[2]}
}; const all={fatal,work,C_let_,cart,tl};export {all};
`;
    const before = one(['', '', '']);
    const hooks = [1, 2, 3].map((n) => `$tl4767b1de9c3a_${n}e(void 0,a);`);
    const edits = [hooks, [hooks[0]!, '', ''], [hooks[0]!, hooks[1]!, '']].map((some) => ({
      what: some.join(''),
      before,
      after: one(some),
    }));
    const info = { scriptId: '1', url: 'x.mjs', isModule: true } as ScriptInfo;
    expect(edits.map(({ after }) => lostTexts(info, before, after).size === 0)).toEqual([false, true, true]);
    expect(reached(edits, 'f', 'mjs')).toEqual([false, true, true]);
  });

  it('begins functions of every kind where V8 says', () => {
    const kinds = [
      'function a(x){}',
      'function /* ( */ b /* ( */ (x){}',
      'async function*c(x){}',
      'x=>1',
      '(x)=>1',
      'async x=>1',
      'async (x)=>{}',
      '({m(x){}}).m',
      "({['a('](x){}})['a(']",
      "({[String('b')](x){}}).b",
      "({'c('(x){}})['c(']",
      '({async *g(x){}}).g',
      '(class{static z(x){}}).z',
      '(class{constructor(x){}})',
      '(x=(1,2))=>x',
    ];
    const text = `module.exports=[\n${kinds.join(',\n')}\n];\n`;
    const file = path.join(folder, `starts${next++}.cjs`);
    writeFileSync(file, text);
    const functions = require(file) as unknown[];
    const info = [...inspector.scripts.values()].find(({ url }) => url.endsWith(file))!;
    const symbols = functionSymbols(info, text, 0n);
    expect(symbols).toHaveLength(kinds.length);
    const columns = symbols.map((symbol) => {
      const at = literalStart(text, symbol);
      return at - (text.lastIndexOf('\n', at - 1) + 1);
    });
    expect(columns).toEqual(functions.map(locationOf));
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
