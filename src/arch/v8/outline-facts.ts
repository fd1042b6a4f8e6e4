/** What a function's text says that decides which site it can have: gathered while its outline is read. */
import type { BodyFacts } from './instrument-scan.ts';

/** All but what only rewritten returns and live edits depend on. */
export type SiteFacts = Omit<BodyFacts, 'guardedReturn' | 'holdsThis'>;

export class FunctionFacts {
  readonly outer: FunctionFacts | undefined;
  readonly isArrow: boolean;
  /** Its returns and awaits are kept: ends of async functions are told by them. */
  readonly keepsReturns: boolean;
  #functions: Set<string> | undefined;
  #vars: Set<string> | undefined;
  #lexical: Set<string> | undefined;
  #inner: Set<string> | undefined;
  usesArguments = false;
  usesThis = false;
  directEval = false;

  constructor(outer: FunctionFacts | undefined, isArrow: boolean, keepsReturns: boolean) {
    this.outer = outer;
    this.isArrow = isArrow;
    this.keepsReturns = keepsReturns;
  }

  // Made when there is something in them: most functions declare nothing.

  get functions(): Set<string> {
    this.#functions ??= new Set();
    return this.#functions;
  }

  get vars(): Set<string> {
    this.#vars ??= new Set();
    return this.#vars;
  }

  get lexical(): Set<string> {
    this.#lexical ??= new Set();
    return this.#lexical;
  }

  /** Function declarations in inner blocks. */
  get inner(): Set<string> {
    this.#inner ??= new Set();
    return this.#inner;
  }

  /** At the function's end: what an arrow function takes of the call that it runs in, the function around it does. */
  done(): SiteFacts {
    const { outer, usesArguments, usesThis, directEval } = this;
    if (outer !== undefined && this.isArrow) {
      outer.usesArguments ||= usesArguments;
      outer.usesThis ||= usesThis;
    }
    const functions = this.#functions ?? NOTHING;
    for (const name of this.#inner ?? NOTHING) this.vars.add(name);
    const vars = this.#vars ?? NOTHING;
    const lexical = this.#lexical ?? NOTHING;
    let varClash: string | undefined;
    for (const name of functions) if (directEval || vars.has(name)) varClash = name;
    return {
      functions,
      varClash,
      declared: vars.size === 0 ? lexical : lexical.size === 0 ? vars : new Set([...vars, ...lexical]),
      usesArguments,
      usesThis: directEval || usesThis,
      declaresArguments: vars.has('arguments') || lexical.has('arguments'),
      directEval,
    };
  }
}

const NOTHING: ReadonlySet<string> = new Set();
