/** The arguments of an entry hook: `this`, and what of the function's arguments the programs read. */
import { READS } from '../../kernel/trace/pt-regs.ts';
import type { FunctionSite } from './instrument-rewrite.ts';
import { type BodyFacts, bound } from './instrument-scan.ts';
import type { IdentifierNode, Node } from './symbols-parse.ts';

export interface HookArguments {
  /** Between the parentheses; '' where no program reads a value. */
  readonly text: string;
  readonly notes: readonly string[];
}

const NOTHING = 'void 0';

/**
 * Plain parameters are passed by name: that costs nothing. `arguments` is used where a name does not hold what the caller
 * passed (patterns, defaults, a function declaration of the same name), or where there are fewer parameters than are read.
 * Arrow functions have no `arguments`: what their parameters do not hold is passed as undefined, with a note.
 */
export function hookArguments(site: FunctionSite, facts: BodyFacts, reads: number): HookArguments {
  const notes: string[] = [];
  const { params } = site.node;
  const arrow = site.node.type === 'ArrowFunctionExpression';
  const all = (reads & (READS.allArgs | READS.argc)) !== 0;
  const highest = 32 - Math.clz32(reads & READS.args);
  if ((reads & (READS.args | READS.this | READS.allArgs | READS.argc)) === 0) return { text: '', notes };

  let self = NOTHING;
  if ((reads & READS.this) !== 0) {
    // An arrow function that begins to use the `this` around it changes the scopes around it: V8 would say Ok to the edit,
    // and leave every living closure as it was.
    if (arrow && !facts.holdsThis) notes.push('an arrow function that does not use `this` cannot tell it');
    else if (site.thisUnsafe) notes.push('`this` does not exist before super()');
    else self = 'this';
  }
  if (!all && highest === 0) return { text: self, notes };

  const names = new Map<number, string>();
  let rest: { from: number; name: string } | undefined;
  const seen = new Map<string, number>();
  params.forEach((param, i) => {
    const name = plainName(param, arrow);
    if (name !== undefined) {
      names.set(i, name);
      seen.set(name, (seen.get(name) ?? 0) + 1);
    } else if (param.type === 'RestElement' && (param['argument'] as Node).type === 'Identifier') {
      rest = { from: i, name: (param['argument'] as IdentifierNode).name };
    }
  });
  const trusted = (name: string): boolean => seen.get(name) === 1 && !facts.functions.has(name);

  if (!arrow && !hasOwnArguments(site, facts)) {
    if (all) return { text: `${self},...arguments`, notes };
    const values: string[] = [];
    for (let i = 0; i < highest; i++) {
      const name = names.get(i);
      if (((reads >> i) & 1) === 0) values.push(NOTHING);
      else values.push(name !== undefined && trusted(name) ? name : `arguments[${i}]`);
    }
    return { text: [self, ...values].join(','), notes };
  }

  const values: string[] = [];
  const count = all ? params.length : highest;
  for (let i = 0; i < count; i++) {
    const name = names.get(i);
    if (!all && ((reads >> i) & 1) === 0) values.push(NOTHING);
    else if (name !== undefined && (trusted(name) || arrow)) values.push(name);
    else if (rest !== undefined && i >= rest.from) {
      if (all) {
        values.push(`...${rest.name}`);
        break;
      }
      values.push(`${rest.name}[${i - rest.from}]`);
    } else {
      const what = i < params.length ? 'is destructured' : 'has no parameter';
      notes.push(`argument ${i} ${what}, and an arrow function has no other way to it`);
      values.push(NOTHING);
    }
  }
  return { text: [self, ...values].join(','), notes };
}

/** The name that holds the argument; a default's too where there is no `arguments` to take the raw value from. */
function plainName(param: Node, arrow: boolean): string | undefined {
  if (param.type === 'Identifier') return (param as IdentifierNode).name;
  if (!arrow || param.type !== 'AssignmentPattern') return undefined;
  const left = param['left'] as Node;
  return left.type === 'Identifier' ? (left as IdentifierNode).name : undefined;
}

/** Whether the function declares a name `arguments` of its own. */
function hasOwnArguments(site: FunctionSite, facts: BodyFacts): boolean {
  if (facts.functions.has('arguments')) return true;
  if (!facts.usesArguments) return false;
  const names = new Set<string>();
  for (const param of site.node.params) bound(param, names);
  return names.has('arguments') || facts.declaresArguments;
}
