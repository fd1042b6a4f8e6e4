/**
 * Functions whose edit puts other scopes around the functions in them. V8 compares the scopes around each function of the old text and
 * the new one, and where they differ it does not take one for the other: closures that were made before keep their old text, and what is
 * made while the edit is there is not put back with it, and goes on calling its hooks (src/debug/liveedit.cc, HasChangedScope()).
 *
 * What changes scopes: what a body declares by let, const, class or function is in a block of its own once the body is enclosed; the
 * arguments object of a sloppy function makes all parameters variables of closures, and so does eval() with every variable, ours too.
 */
import type { FunctionSite } from './instrument-rewrite.ts';
import { type BodyFacts, unlabelled } from './instrument-scan.ts';
import type { Node } from './symbols-parse.ts';

/** What an edit puts into a function. */
export interface ScopeUse {
  /** The body is enclosed, to see its ways out. */
  readonly encloses: boolean;
  /** `arguments` is named. */
  readonly names: boolean;
}

/** Names may be written with escapes. */
const EVAL = /\beval\b|\\u/;

/** Whether the edit changes the scopes around functions in the body. `text`: the function's. */
export function changesScopes(
  { node, strict }: FunctionSite,
  facts: BodyFacts,
  text: string,
  { encloses, names }: ScopeUse,
): boolean {
  if (encloses && (EVAL.test(text) || declaresInBlock(node.body))) return true;
  if (!names || strict || facts.usesArguments || node.params.length === 0) return false;
  return node.params.every(({ type }) => type === 'Identifier');
}

function declaresInBlock(body: Node): boolean {
  if (body.type !== 'BlockStatement') return false;
  return (body['body'] as readonly Node[]).some((statement) => {
    const { type, kind } = unlabelled(statement) as Node & { readonly kind?: string };
    if (type === 'VariableDeclaration') return kind !== 'var';
    return type === 'ClassDeclaration' || type === 'FunctionDeclaration';
  });
}
