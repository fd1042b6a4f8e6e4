/** A loaded script, as V8's debugger reports it, with what its source map adds. */
export interface ScriptInfo {
  readonly scriptId: string;
  /** file:// URL, path, node: name or empty. */
  readonly url: string;
  readonly isModule: boolean;
  /** Source length in UTF-16 units. */
  readonly length: number;
  readonly sourceMapURL: string;
  readonly executionContextId: number;
  readonly hash: string;
}

export type FunctionKind =
  | 'function'
  | 'arrow'
  | 'method'
  | 'getter'
  | 'setter'
  | 'constructor'
  | 'derived-constructor'
  | 'async'
  | 'async-arrow'
  | 'async-method'
  | 'generator'
  | 'async-generator';

/** How a function can be reached by name from a pause inside its module, and how its binding can be replaced. */
export type Binding =
  /** function declaration or let/var/const in module, script or function scope */
  | {
      readonly via: 'variable';
      readonly name: string;
      readonly constant: boolean;
      readonly topLevel: boolean;
    }
  /** a method of a class or object literal: the holder is reached from `this` or by the class's name */
  | {
      readonly via: 'property';
      readonly key: string;
      readonly isStatic: boolean;
      readonly className: string | undefined;
      readonly private: boolean;
      readonly accessor: 'get' | 'set' | undefined;
    }
  /** an inline callback, an anonymous default export, …: no name to replace */
  | { readonly via: 'none' };

/**
 * One function of one script. Offsets are UTF-16 units into the text that V8 runs (behind Node's CommonJS wrapper, if any);
 * lines and columns count from 0, as the inspector's.
 */
export interface FunctionSymbol {
  readonly scriptId: string;
  /** Index within its script, in order of appearance. */
  readonly index: number;
  /** As V8 shows it in stack traces: `handle`, `Cart.total`, `get size`; '' becomes `<anonymous>`. */
  readonly name: string;
  /** The original file (through source maps), as the user types its end. */
  readonly file: string;
  /** Original position, lines and columns from 1. */
  readonly line: number;
  readonly column: number;
  /** Original position just behind the function's last character, from 1. */
  readonly endLine: number;
  readonly endColumn: number;
  readonly kind: FunctionKind;
  readonly isAsync: boolean;
  readonly isGenerator: boolean;
  readonly isArrow: boolean;
  readonly isStatic: boolean;
  /** As the text that V8 runs has them; undefined for a pattern. */
  readonly params: readonly (string | undefined)[];
  /** As the original file has them, where a source map says so. */
  readonly originalParams?: readonly (string | undefined)[];
  /** Every parameter is a plain identifier (no default, pattern or rest). */
  readonly simpleParams: boolean;
  /** The whole function, from its first token (`async`, `function`, a method's name) to its end. */
  readonly start: number;
  readonly end: number;
  /** The body: a block's braces included, or an arrow's expression. */
  readonly bodyStart: number;
  readonly bodyEnd: number;
  readonly expressionBody: boolean;
  /** Just behind the directives of a block body: where an entry site goes. */
  readonly entry: number;
  readonly binding: Binding;
  /** Index of the enclosing function, -1 at top level. */
  readonly parent: number;
  /** Address in Trapline's 64-bit text space. */
  readonly address: bigint;
}

/** Where a site sits, in the order the cost model prefers them. */
export type ArmWay = 'nop' | 'property' | 'bind' | 'edit' | 'break';

/** What `-v` shows of one probe. Times in milliseconds. */
export interface ArmReport {
  readonly name: string;
  /** Undefined: the probe is not armed, or not any more; `note` says why. */
  readonly way: ArmWay | 'event' | undefined;
  /**
   * The longest stop for it, estimated and as it was: enabling the debugger, too, where its function was found by that. `longest`: what
   * the estimate is of.
   */
  readonly estimateMs: number;
  readonly pauseMs: number;
  readonly longest?: string;
  /** For so much of the longest pause the main thread waited for a processor that other programs used: no estimate has that. */
  readonly waitedMs?: number;
  /** Calls per second above which a breakpoint probe stops counting each hit; undefined for the others. */
  readonly rateLimit?: number;
  /** Calls that reached the function by a reference that was not replaced, where that was measured. */
  readonly escaped?: number;
  /** Where calls escape: a live edit, which would tell them, is estimated to stop the process for so long, which was not allowed. */
  readonly editMs?: number;
  /** Hits that a breakpoint probe has missed since the report before, by the rate of those that it counted. */
  readonly missed?: number;
  /** So many scripts of V8's have the function's file and text (it was loaded again, and compiled anew): the calls of one count. */
  readonly copies?: number;
  readonly note?: string;
}
