/**
 * The arming planner: which ways a probe can be armed, in the order of their cost, and why others cannot. Pure: what it
 * needs to know of the target is given to it.
 */

import type { SiteEvent } from '../../agent/protocol.ts';
import { longestOf, type ScriptCost, type Stop, stopsOf, type TargetCost } from './arm-cost.ts';
import type { ArmWay, FunctionSymbol } from './types.ts';

export interface PlannedSite {
  readonly symbol: FunctionSymbol;
  /** A statement inside the function, not its entry. */
  readonly line: boolean;
  readonly events: readonly SiteEvent[];
}

export interface PlanContext {
  readonly target: TargetCost;
  readonly script: ScriptCost;
  /** The function's compiled-in site: 0 none, 1 entry only, 2 and 3 ends too; undefined when its script has none. */
  readonly compiledIn: number | undefined;
  /** The debugger knows the script: its text can be changed and breakpoints can be set. */
  readonly debuggable: boolean;
  /** CommonJS: exports and prototypes can be reached without a debugger. */
  readonly commonJs: boolean;
  /** Key of the module's exports that is the only way to the function (exports.ts). */
  readonly exportedAs: string | undefined;
  /** Throwing compiled code away, in ms, where a replaced variable needs that; 0: it does not, or may not. */
  readonly deoptimizeMs: number;
  /** Why its script is not edited (closures-hazard.ts). */
  readonly editHazard: string | undefined;
}

export interface Candidate {
  readonly way: ArmWay;
  /** Of its longest stop. */
  readonly estimateMs: number;
  /** What that stop is. */
  readonly longest: string;
}

export interface Plan {
  readonly candidates: readonly Candidate[];
  /** Ways that cannot serve this probe, each with its reason. */
  readonly excluded: ReadonlyMap<ArmWay, string>;
}

/** Preference of the cost model: each is dearer, while armed or to arm, than the one before. */
const ORDER = ['nop', 'property', 'bind', 'edit', 'break'] as const satisfies readonly ArmWay[];

export function planSite(site: PlannedSite, context: PlanContext): Plan {
  const excluded = new Map<ArmWay, string>();
  const candidates: Candidate[] = [];
  for (const way of ORDER) {
    const reason =
      context.debuggable || way === 'nop' || way === 'property'
        ? objection(way, site, context)
        : 'the debugger is not in use';
    if (reason !== undefined) excluded.set(way, reason);
    else {
      const { ms, what } = longestStop(way, site, context);
      candidates.push({ way, estimateMs: ms, longest: what });
    }
  }
  return { candidates, excluded };
}

function longestStop(
  way: ArmWay,
  { symbol }: PlannedSite,
  { target, script, deoptimizeMs }: PlanContext,
): Stop {
  const stops = stopsOf(way, target, script);
  if (way === 'bind' && symbol.binding.via === 'variable')
    stops.push({ what: 'throwing compiled code away', ms: deoptimizeMs });
  return longestOf(stops);
}

function objection(way: ArmWay, site: PlannedSite, context: PlanContext): string | undefined {
  switch (way) {
    case 'nop':
      return nopObjection(site, context.compiledIn);
    case 'property':
      return propertyObjection(site, context);
    case 'bind':
      return bindObjection(site);
    case 'edit':
      return context.editHazard ?? editObjection(site);
    case 'break':
      return site.events.some((event) => event !== 'entry')
        ? 'a breakpoint sees calls begin, not how they end'
        : undefined;
  }
}

/** To see its end, text goes behind an arrow's expression: where the function ends too, V8 does not follow. */
function editObjection({ symbol, events }: PlannedSite): string | undefined {
  if (!symbol.expressionBody || events.every((event) => event === 'entry')) return undefined;
  return "V8 does not see an edit at the end of an arrow's expression";
}

function nopObjection({ line, events }: PlannedSite, form: number | undefined): string | undefined {
  if (form === undefined) return 'its script has no compiled-in sites (node --import trapline/register)';
  if (line) return 'compiled-in sites are at function entries';
  if (form === 0) return 'the function is too small to have got a site';
  return form === 1 && events.some((event) => event !== 'entry') ? 'its site tells only entries' : undefined;
}

const METHODS: ReadonlySet<FunctionSymbol['kind']> = new Set(['method', 'async-method', 'getter', 'setter']);

/** `Cart.prototype.total = function`. */
const isOnPrototype = (binding: FunctionSymbol['binding']): boolean =>
  binding.via === 'property' && !binding.isStatic && binding.className !== undefined;

/** Methods of a class or object literal are on one shared holder; what an instance's field holds is not. */
const isMethod = ({ kind, isGenerator }: FunctionSymbol): boolean => METHODS.has(kind) || isGenerator;

/** Whether the property that leads to a function of a CommonJS module is all that has to be replaced: no debugger is needed then. */
export const isProperty = (symbol: FunctionSymbol): boolean => unreachable(symbol) === undefined;

function propertyObjection({ symbol, line }: PlannedSite, context: PlanContext): string | undefined {
  if (line) return 'a line is inside the function';
  if (!context.commonJs) return 'only CommonJS exports can be reached without a debugger';
  return context.exportedAs !== undefined && symbol.parent === -1 ? undefined : unreachable(symbol);
}

function unreachable(symbol: FunctionSymbol): string | undefined {
  const { binding } = symbol;
  if (symbol.parent !== -1) return 'it is made anew by every call of the function around it';
  if (binding.via === 'property') {
    if (binding.private) return 'a private member is no property';
    if (isMethod(symbol) || isOnPrototype(binding)) return undefined;
    return 'calls may come by other references than its property';
  }
  // every call inside the module goes through the variable, which no property reaches
  return 'calls inside its module go through a variable';
}

function bindObjection({ symbol, line }: PlannedSite): string | undefined {
  if (line) return 'a line is inside the function';
  const { binding, kind } = symbol;
  if (kind === 'constructor' || kind === 'derived-constructor')
    return 'a class cannot be replaced by a wrapper';
  if (binding.via === 'none') return 'no name leads to it';
  if (symbol.parent !== -1) return 'each call of the function around it makes a new one';
  if (binding.via === 'variable') return binding.topLevel ? undefined : 'it is not at the top of its module';
  if (binding.private) return 'a private member is no property';
  return isMethod(symbol) ? undefined : 'it is a field of each instance';
}
