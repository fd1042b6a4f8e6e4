/** What a function's text says that decides which site it can have: gathered while its outline is read. */
import type { BodyFacts } from './instrument-scan.ts';

/** All but what only rewritten returns depend on. */
export type SiteFacts = Omit<BodyFacts, 'guardedReturn'>;

export class FunctionFacts {
  readonly outer: FunctionFacts | undefined;
  readonly isArrow: boolean;
  /** Its returns and awaits are kept: ends of async functions are told by them. */
  readonly keepsReturns: boolean;
  readonly functions = new Set<string>();
  readonly vars = new Set<string>();
  readonly lexical = new Set<string>();
  /** Function declarations in inner blocks. */
  readonly inner = new Set<string>();
  usesArguments = false;
  usesThis = false;
  directEval = false;

  constructor(outer: FunctionFacts | undefined, isArrow: boolean, keepsReturns: boolean) {
    this.outer = outer;
    this.isArrow = isArrow;
    this.keepsReturns = keepsReturns;
  }

  /** At the function's end: what an arrow function takes of the call that it runs in, the function around it does. */
  done(): SiteFacts {
    const { outer, functions, vars, lexical, usesArguments, usesThis, directEval } = this;
    if (outer !== undefined && this.isArrow) {
      outer.usesArguments ||= usesArguments;
      outer.usesThis ||= usesThis;
    }
    for (const name of this.inner) if (!functions.has(name)) vars.add(name);
    let varClash: string | undefined;
    for (const name of functions) if (vars.has(name)) varClash = name;
    return {
      functions,
      varClash,
      declared: new Set([...vars, ...lexical]),
      usesArguments,
      usesThis: directEval || usesThis,
      declaresArguments: vars.has('arguments') || lexical.has('arguments'),
      directEval,
    };
  }
}
