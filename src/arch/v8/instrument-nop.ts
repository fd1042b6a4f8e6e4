/**
 * Sites compiled in when a module is loaded: the nop that ftrace has the compiler put in front of every function.
 *
 * Each script has a *gate*, a global that is undefined while nothing in the script is armed. V8 takes such a global for a
 * constant, so optimized code has nothing left of the test, and is thrown away when the gate is set: a static key.
 *
 * | form | text | tells |
 * | --- | --- | --- |
 * | entry | `GATE!==void 0&&GATE.e(id,this,a);` | entry |
 * | self | `if(GATE!==void 0&&GATE(id,ROOT,new.target,this,a))return GATE.v;` | everything: the gate calls the function again, through ROOT |
 * | body | `let v;const i=GATE!==void 0?GATE.b(id,this,a):void 0;try{…return v=X…}catch(x){…}finally{…}` | everything |
 *
 * `self` needs a name that leads to the function and cannot be shadowed or uninitialised; whether it still does is checked
 * when it is used, and a call that is followed has the gate's frame below it. `body` is for async functions (calling one again
 * would settle its promise later), and for the rest only on request: its rethrow moves the line that Node prints for an
 * uncaught error, also while nothing is armed.
 */

import { type FunctionPlan, type FunctionSite, rewrite, textStart } from './instrument-rewrite.ts';
import { bodyFacts, bound } from './instrument-scan.ts';
import { outlineFacts } from './outline.ts';
import type { SiteFacts } from './outline-facts.ts';
import { scanProgram } from './symbols.ts';
import { type IdentifierNode, type Node, parseScript } from './symbols-parse.ts';
import type { FunctionSymbol } from './types.ts';

/** Everything that is put in stands between these, so that taking them out gives the original text back. */
export const NOP_OPEN = '/*{tl*/';
export const NOP_CLOSE = '/*tl}*/';

export const NOP_FORMS = { none: 0, entry: 1, self: 2, body: 3 } as const;
export type NopForm = (typeof NOP_FORMS)[keyof typeof NOP_FORMS];

export interface NopOptions {
  /** The gate's name: a valid identifier that the text does not contain. */
  readonly gate: string;
  /** Synchronous functions with less text than this get no site: a site would cost them more than they do. */
  readonly minLength: number;
  readonly ends: NopEnds;
}

/**
 * Which functions tell their ends. `named`: those that have `self`, and async ones; `all`: by `body` where there is no `self`, too;
 * `body`: the same, by `body` wherever that is possible: no call has a frame of the gate below it then.
 */
export type NopEnds = 'named' | 'all' | 'body';

/** How `self` finds the function from ROOT. */
export interface SelfPath {
  /** Own properties to follow; the last one leads to the function. */
  readonly keys: readonly string[];
  readonly accessor?: 'get' | 'set';
  /** Length of the function's own text. */
  readonly length: number;
}

/** Plain data, kept with the rewritten text in the cache. */
export interface NopScript {
  readonly source: string;
  /** By function, in order of appearance: FunctionSymbol.index. */
  readonly forms: readonly NopForm[];
  readonly selves: Readonly<Record<number, SelfPath>>;
}

/** The text without its sites. */
export function stripNops(text: string): string {
  let from = text.indexOf(NOP_OPEN);
  if (from === -1) return text;
  let result = text.slice(0, from);
  while (from !== -1) {
    const end = text.indexOf(NOP_CLOSE, from);
    if (end === -1) break;
    const next = text.indexOf(NOP_OPEN, end);
    result += next === -1 ? text.slice(end + NOP_CLOSE.length) : text.slice(end + NOP_CLOSE.length, next);
    from = next;
  }
  return result;
}

/** Puts a site into every function that can have one. Throws ParseFailure; undefined where there is nothing to do. */
export function compileNops(source: string, isModule: boolean, options: NopOptions): NopScript | undefined {
  if (source.includes(NOP_OPEN) || source.includes(options.gate)) return undefined;
  const program = programOf(source, isModule, options.ends !== 'named');
  if (program === undefined) return undefined;
  const { symbols } = scanProgram(program, NO_SCRIPT, source, 0n);
  if (symbols.length === 0) return undefined;
  const byBody = new Map(symbols.map((symbol) => [symbol.bodyStart, symbol]));
  const forms = new Array<NopForm>(symbols.length).fill(NOP_FORMS.none);
  const selves: Record<number, SelfPath> = {};
  const planFor = (site: FunctionSite): FunctionPlan | undefined => {
    const symbol = byBody.get(site.node.body.start);
    if (symbol === undefined || site.inWith) return undefined;
    const { node } = site;
    const isAsync = node.async && !node.generator;
    if (!isAsync && node.end - node.start < options.minLength) return undefined;
    const facts = (node['facts'] as SiteFacts | undefined) ?? bodyFacts(node);
    const values = passedValues(site, facts);
    if (values === undefined) return undefined;
    const { gate } = options;
    const hasBody = !node.generator && (isAsync || options.ends !== 'named') && facts.varClash === undefined;
    const self =
      isAsync || node.generator || (hasBody && options.ends === 'body')
        ? undefined
        : selfPath(source, site, symbol, facts);
    if (self !== undefined) {
      forms[symbol.index] = NOP_FORMS.self;
      selves[symbol.index] = self.path;
      // Without `this` in it, a function called by `new` gives the same when it is called without
      const target = facts.usesThis && isConstructible(site) ? 'new.target' : 'void 0';
      const call = `${gate}(${symbol.index},${self.root},${target},${values})`;
      return { entry: `if(${gate}!==void 0&&${call})return ${gate}.v;` };
    }
    if (hasBody) {
      forms[symbol.index] = NOP_FORMS.body;
      return bodyPlan(gate, symbol.index, values, site);
    }
    forms[symbol.index] = NOP_FORMS.entry;
    return { entry: `${gate}!==void 0&&${gate}.e(${symbol.index},${values});` };
  };
  const { source: text } = rewrite(source, program, isModule, planFor, undefined, [NOP_OPEN, NOP_CLOSE]);
  return { source: text, forms, selves };
}

/** The outline will do, but for ends of functions that are not async: those need every return. Throws ParseFailure. */
function programOf(source: string, isModule: boolean, allEnds: boolean): Node | undefined {
  const outline = allEnds ? undefined : outlineFacts(source, isModule);
  if (outline !== undefined) return outline;
  const parsed = parseScript(source, isModule);
  return parsed.isModule === isModule ? parsed.program : undefined;
}

const NO_SCRIPT = {
  scriptId: '',
  url: '',
  isModule: false,
  length: 0,
  sourceMapURL: '',
  executionContextId: 0,
  hash: '',
};

function bodyPlan(gate: string, id: number, values: string, site: FunctionSite): FunctionPlan {
  const [i, v, x, a] = [`${gate}i`, `${gate}v`, `${gate}x`, `${gate}a`];
  const waits = site.node.async;
  // In a constructor that has not called super(), `this` throws: inside the try, as it would without
  const nothing = site.isConstructor ? `${v}=this` : `${v}=void 0`;
  return {
    entry: `let ${v}${waits ? `,${a}` : ''};const ${i}=${gate}!==void 0?${gate}.b(${id},${values}):void 0;`,
    body: {
      ret: [`${v}=`, ''],
      retNothing: nothing,
      end: nothing,
      handlers: `catch(${x}){if(${i}!==void 0)${i}.t(${x});throw ${x}}finally{if(${i}!==void 0)${i}.r(${v})}`,
      wait: waits ? [`(${a}=`, `,${i}!==void 0&&${i}.s(),${a})`] : undefined,
    },
  };
}

/** `this` and the arguments; undefined where the parameters' names do not hold them. */
function passedValues(site: FunctionSite, facts: SiteFacts): string | undefined {
  const { node } = site;
  const arrow = node.type === 'ArrowFunctionExpression';
  // An arrow function that names `this` would make the function around it keep it
  const self = arrow || site.thisUnsafe ? 'void 0' : 'this';
  if (!arrow && (facts.usesArguments || facts.directEval)) {
    return facts.declaresArguments || facts.functions.has('arguments') ? self : `${self},...arguments`;
  }
  const values: string[] = [self];
  const seen = new Set<string>();
  for (const param of node.params) {
    const inner = param.type === 'AssignmentPattern' ? (param['left'] as Node) : param;
    if (inner.type === 'Identifier') {
      const { name } = inner as IdentifierNode;
      if (seen.has(name) || facts.functions.has(name) || name === 'arguments') return undefined;
      seen.add(name);
      values.push(name);
    } else if (param.type === 'RestElement' && (param['argument'] as Node).type === 'Identifier') {
      values.push(`...${(param['argument'] as IdentifierNode).name}`);
    } else values.push('void 0');
  }
  return values.join(',');
}

/** Parameters for which calling the function again with what they hold runs no code and gives the same. */
function canRepeat(param: Node): boolean {
  if (param.type === 'Identifier') return true;
  if (param.type === 'RestElement') return (param['argument'] as Node).type === 'Identifier';
  if (param.type !== 'AssignmentPattern' || (param['left'] as Node).type !== 'Identifier') return false;
  return (param['right'] as Node).type === 'Literal';
}

function isConstructible({ node, owner }: FunctionSite): boolean {
  return node.type !== 'ArrowFunctionExpression' && owner === undefined && !node.async && !node.generator;
}

/** A name that leads to the function wherever its body runs, and the way from there. */
function selfPath(
  source: string,
  site: FunctionSite,
  symbol: FunctionSymbol,
  facts: SiteFacts,
): { root: string; path: SelfPath } | undefined {
  const { node, owner, inClass } = site;
  if (site.isConstructor || !node.params.every(canRepeat)) return undefined;
  const length = node.end - textStart(source, node, owner);
  const { binding } = symbol;
  let names: readonly string[];
  let accessor: 'get' | 'set' | undefined;
  if (node.id !== null && node.id !== undefined) names = [node.id.name];
  else if (binding.via === 'variable') names = [binding.name];
  else if (binding.via === 'property') {
    if (binding.private) return undefined;
    const holder = inClass === undefined ? binding.className : classRoot(inClass, binding.className);
    if (holder === undefined) return undefined;
    accessor = binding.accessor;
    names = [...holder.split('.'), ...(binding.isStatic ? [] : ['prototype']), binding.key];
  } else return undefined;
  const [root, ...keys] = names;
  if (root === undefined || !/^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u.test(root)) return undefined;
  // Inside, the name may mean something else, or a variable that has no value yet
  if (facts.functions.has(root) || facts.declared.has(root)) return undefined;
  const own = new Set<string>();
  for (const param of node.params) bound(param, own);
  if (own.has(root)) return undefined;
  return { root, path: { keys, length, ...(accessor === undefined ? {} : { accessor }) } };
}

/** The class's own name; else the variable's it goes to, if none of its functions can run before that has its value. */
function classRoot(node: Node, outer: string | undefined): string | undefined {
  const id = node['id'] as IdentifierNode | null;
  if (id !== null) return id.name;
  const elements = (node['body'] as Node)['body'] as readonly Node[];
  const runsCode = elements.some(
    (e) => e.type === 'StaticBlock' || (e.type === 'PropertyDefinition' && e['static'] === true),
  );
  return runsCode ? undefined : outer;
}
