import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { scanFunctions } from '../../src/arch/v8/symbols.ts';
import { LineTable } from '../../src/arch/v8/symbols-lines.ts';
import type { FunctionSymbol, ScriptInfo } from '../../src/arch/v8/types.ts';

export function scriptOf(url: string, source: string, isModule = false): ScriptInfo {
  return {
    scriptId: '1',
    url,
    isModule,
    length: source.length,
    sourceMapURL: '',
    executionContextId: 1,
    hash: '',
  };
}

export function symbolsOf(source: string, url = 'file:///app/x.js', isModule = false): FunctionSymbol[] {
  const { symbols, failure } = scanFunctions(scriptOf(url, source, isModule), source, 0x1000n);
  if (failure !== undefined) throw new Error(failure);
  return symbols;
}

export function symbolsOfFile(file: string, isModule = false): FunctionSymbol[] {
  return symbolsOf(readFileSync(file, 'utf8'), `file://${file}`, isModule);
}

/** The innermost function around a position (line and column from 1). */
export function functionAt(
  symbols: readonly FunctionSymbol[],
  source: string,
  line: number,
  column: number,
): FunctionSymbol | undefined {
  const offset = new LineTable(source).start(line - 1) + column - 1;
  let best: FunctionSymbol | undefined;
  for (const s of symbols) {
    if (s.start <= offset && offset < s.end && (best === undefined || s.start > best.start)) best = s;
  }
  return best;
}

export function run(node: string, args: readonly string[], options: { cwd?: string } = {}): string {
  return execFileSync(node, args, { encoding: 'utf8', maxBuffer: 64 << 20, ...options });
}
