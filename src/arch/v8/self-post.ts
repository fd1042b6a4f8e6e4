/**
 * Post handlers in a script's text: a call behind a statement, however it ends.
 *
 *     statement            →  const q=Q();try{statement}finally{P(q)}
 *     const x = …          →  const q=Q();const x = …;P(q);         (a block would hide x)
 *     if (a) statement     →  if (a) {const q=Q();try{statement}finally{P(q)}}
 *     x => value           →  x => {const q=Q();try{return value}finally{P(q)}}
 *     {}                   →  {P(Q());}
 *
 * The entry hook goes in front of that (instrument.ts); `Q` takes over what it left. Line numbers stay.
 */
import { EditList } from './instrument-edits.ts';
import { findFunction } from './instrument-line.ts';
import { findToken } from './instrument-scan.ts';
import { entryOffset, forEachChild, isFunction, type Node, parseScript } from './symbols-parse.ts';
import type { FunctionSymbol } from './types.ts';

export interface PostEdit {
  readonly symbol: FunctionSymbol;
  /** Start of the statement; undefined is the function's first one. */
  readonly at: number | undefined;
  readonly take: string;
  readonly tell: string;
  /** A name that nothing in the script has. */
  readonly variable: string;
}

export interface PostText {
  readonly source: string;
  /** Where a statement of the old text begins in the new one, with what was put in front of it. */
  at(offset: number): number;
  /** The offset in the old text of a place in the new one that is not inside of what was put in. */
  original(offset: number): number;
}

interface Insertion {
  readonly at: number;
  readonly text: string;
  /** The other end of what it belongs to. */
  readonly other: number;
  readonly closes: boolean;
}

/** Throws ParseFailure; EILSEQ is the caller's business (the statement exists). */
export function insertPosts(source: string, isModule: boolean, edits: readonly PostEdit[]): PostText {
  const program = parseScript(source, isModule).program;
  const texts: Insertion[] = [];
  const blocks = new Set<number>();
  // Several on one statement nest: all openings in front, closings in reverse.
  const groups = new Map<number, { place: Place; edits: PostEdit[] }>();
  for (const edit of edits) {
    const place = findPlace(program, source, edit);
    const group = groups.get(place.start);
    if (group === undefined) groups.set(place.start, { place, edits: [edit] });
    else group.edits.push(edit);
  }
  for (const { place, edits: group } of groups.values()) {
    const { kind, start, end } = place;
    const takes = group.map(({ variable, take }) => `const ${variable}=${take};`).join('');
    const tells = [...group]
      .reverse()
      .map(({ tell, variable }) => `${tell}(${variable});`)
      .join('');
    const around = (before: string, after: string) => {
      texts.push({ at: start, text: before, other: end, closes: false });
      texts.push({ at: end, text: after, other: start, closes: true });
    };
    if (kind === 'empty') {
      const calls = group.map(({ tell, take }) => `${tell}(${take});`).join('');
      texts.push({ at: start, text: calls, other: end, closes: false });
    } else if (kind === 'lexical') around(takes, `;${tells}`);
    else if (kind === 'statement') around(`${takes}try{`, `}finally{${tells}}`);
    else {
      around(`{${takes}try{${kind === 'expression' ? 'return ' : ''}`, `}finally{${tells}}}`);
      blocks.add(start);
    }
  }
  // Where one ends and another begins, the end comes first; of several ends the inner one.
  texts.sort((a, b) => a.at - b.at || Number(b.closes) - Number(a.closes) || b.other - a.other);
  const list = new EditList();
  for (const { at, text } of texts) list.insert(at, text);
  const { text: edited } = list.apply(source, ['', '']);
  return {
    source: edited,
    at(offset) {
      let shifted = offset;
      for (const { at, text, closes } of texts)
        if (at < offset || (at === offset && closes)) shifted += text.length;
      // The entry hook belongs inside of a block that was made around the statement.
      return blocks.has(offset) ? shifted + 1 : shifted;
    },
    original(offset) {
      let shift = 0;
      for (const { at, text } of texts) {
        if (at + shift + text.length > offset) break;
        shift += text.length;
      }
      return offset - shift;
    },
  };
}

type Kind = 'statement' | 'lexical' | 'embedded' | 'expression' | 'empty';

interface Place {
  readonly kind: Kind;
  readonly start: number;
  readonly end: number;
}

function findPlace(program: Node, source: string, edit: PostEdit): Place {
  const { symbol } = edit;
  const fn = findFunction(program, symbol);
  if (fn === undefined) throw new Error('the script has no such function');
  if (fn.body.type !== 'BlockStatement') {
    const start = findToken(source, fn.params.at(-1)?.end ?? fn.start, '=>') + 2;
    return { kind: 'expression', start, end: fn.end };
  }
  if (edit.at === undefined || edit.at <= symbol.entry) {
    const first = (fn.body['body'] as readonly Node[]).find(
      (node) => node.type !== 'FunctionDeclaration' && node['directive'] === undefined,
    );
    if (first === undefined) {
      const at = entryOffset(fn.body);
      return { kind: 'empty', start: at, end: at };
    }
    return placeOf(first, false);
  }
  const place = findStatement(fn.body, edit.at);
  if (place === undefined) throw new Error('no statement begins there');
  return place;
}

function placeOf(node: Node, embedded: boolean): Place {
  const lexical =
    node.type === 'ClassDeclaration' || (node.type === 'VariableDeclaration' && node['kind'] !== 'var');
  return {
    kind: lexical ? 'lexical' : embedded ? 'embedded' : 'statement',
    start: node.start,
    end: node.end,
  };
}

const LOOPS = new Set([
  'IfStatement',
  'ForStatement',
  'ForInStatement',
  'ForOfStatement',
  'WhileStatement',
  'DoWhileStatement',
]);

/** The statement that begins at an offset, not those of functions inside. */
function findStatement(body: Node, offset: number): Place | undefined {
  let found: Place | undefined;
  const look = (node: Node): void => {
    if (found !== undefined || node.start > offset || node.end <= offset || isFunction(node)) return;
    const lists = [node.type === 'BlockStatement' ? node['body'] : undefined, node['consequent']];
    for (const list of lists) {
      if (!Array.isArray(list)) continue;
      const statement = (list as readonly Node[]).find(({ start }) => start === offset);
      if (statement !== undefined && statement.type !== 'BlockStatement') {
        found = placeOf(statement, false);
        return;
      }
    }
    if (LOOPS.has(node.type)) {
      for (const field of ['consequent', 'alternate', 'body']) {
        const child = node[field] as Node | null | undefined;
        if (child?.start === offset && child.type !== 'BlockStatement') {
          found = placeOf(child, true);
          return;
        }
      }
    }
    forEachChild(node, look);
  };
  look(body);
  return found;
}
