/** Where a probe on a line goes: before the first statement that begins at or behind a position of the function. */
import { walkOwn } from './instrument-scan.ts';
import type { ScriptMap } from './sourcemap.ts';
import { LineTable } from './symbols-lines.ts';
import { type FunctionNode, forEachChild, isFunction, type Node, parseScript } from './symbols-parse.ts';
import type { FunctionSymbol } from './types.ts';

export interface LineSite {
  /** Offset into the text that V8 runs: InstrumentEdit.at. */
  readonly offset: number;
  /** Where that is in the original file, from 1. */
  readonly line: number;
  readonly column: number;
}

/**
 * The first statement of a function at or behind a position of its original file (line and column from 1); undefined where
 * there is none any more. Statements of functions inside it are not its own. Throws ParseFailure.
 */
export function lineSite(
  source: string,
  isModule: boolean,
  symbol: FunctionSymbol,
  line: number,
  column: number,
  map?: ScriptMap,
): LineSite | undefined {
  const fn = findFunction(parseScript(source, isModule).program, symbol);
  if (fn === undefined) return undefined;
  const lines = new LineTable(source);
  let best: LineSite | undefined;
  for (const { start: offset } of statementsOf(fn)) {
    const at = lines.position(offset);
    const place =
      map === undefined ? { line: at.line + 1, column: at.column + 1 } : map.original(at.line, at.column);
    if (place === undefined || ('file' in place && place.file !== symbol.file)) continue;
    if (place.line < line || (place.line === line && place.column < column)) continue;
    if (
      best !== undefined &&
      (place.line > best.line || (place.line === best.line && place.column >= best.column))
    ) {
      continue;
    }
    best = { offset, line: place.line, column: place.column };
  }
  return best;
}

/** Where the statement of a function's own that begins at an offset ends; undefined where none does. Throws ParseFailure. */
export function statementEnd(
  source: string,
  isModule: boolean,
  symbol: FunctionSymbol,
  offset: number,
): number | undefined {
  const fn = findFunction(parseScript(source, isModule).program, symbol);
  return fn === undefined ? undefined : statementsOf(fn).find(({ start }) => start === offset)?.end;
}

/** The node of a symbol. */
export function findFunction(program: Node, symbol: FunctionSymbol): FunctionNode | undefined {
  let found: FunctionNode | undefined;
  const look = (node: Node): void => {
    if (found !== undefined || node.start > symbol.bodyStart || node.end < symbol.bodyEnd) return;
    if (isFunction(node) && node.body.start === symbol.bodyStart && node.end === symbol.end) found = node;
    else forEachChild(node, look);
  };
  look(program);
  return found;
}

const EMBEDDED = ['consequent', 'alternate', 'body'];

/** Statements of the function that can have a call put before them. */
function statementsOf(fn: FunctionNode): { readonly start: number; readonly end: number }[] {
  const statements: Node[] = [];
  if (fn.body.type !== 'BlockStatement') return [fn.body];
  const add = (statement: unknown): void => {
    const node = statement as Node | null;
    if (node === null || node === undefined) return;
    if (node.type === 'BlockStatement' || node.type === 'EmptyStatement') return;
    // A declared function runs no statement where it stands, and a directive has to stay in front
    if (node.type === 'FunctionDeclaration' || node['directive'] !== undefined) return;
    statements.push(node);
  };
  walkOwn(fn.body, (node) => {
    switch (node.type) {
      case 'BlockStatement':
        for (const statement of node['body'] as readonly Node[]) add(statement);
        break;
      case 'SwitchCase':
        for (const statement of node['consequent'] as readonly Node[]) add(statement);
        break;
      case 'IfStatement':
      case 'ForStatement':
      case 'ForInStatement':
      case 'ForOfStatement':
      case 'WhileStatement':
      case 'DoWhileStatement':
        for (const field of EMBEDDED) add(node[field]);
        break;
    }
  });
  return statements;
}
