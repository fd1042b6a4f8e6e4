/** Stacks of the own process, where a tracepoint is hit. */

import { fileURLToPath } from 'node:url';
import type { KallsymsSymbol } from '../kernel/trace/trace-arch.ts';
import { StackSymbols } from './stack-symbols.ts';
import { ProcessSymbols } from './trace-arch-symbols.ts';

/** Frames of a stack. */
const DEPTH = 64;
/** What lies in this package has no frame. */
const OWN = new URL('..', import.meta.url).href;
const OWN_PATH = fileURLToPath(OWN);

export class OwnStacks {
  readonly #symbols: StackSymbols;

  constructor() {
    const none = new ProcessSymbols([], process.cwd());
    this.#symbols = new StackSymbols({ stack: () => undefined, symbols: () => none, cwd: process.cwd() });
  }

  /** Addresses of the frames that called this package, the innermost first. */
  addresses(): readonly bigint[] {
    return this.#symbols.ofFrames(frames());
  }

  lookup(address: bigint): KallsymsSymbol | undefined {
    return this.#symbols.lookup(address);
  }
}

/** `name (file:line:column)`. What the application has set of Error is put back, and not called. */
function frames(): string[] {
  const { stackTraceLimit, prepareStackTrace } = Error;
  let sites: NodeJS.CallSite[] = [];
  try {
    Error.stackTraceLimit = DEPTH + 32;
    Error.prepareStackTrace = (_, found) => {
      sites = found;
      return '';
    };
    const holder: { stack?: string } = {};
    Error.captureStackTrace(holder, frames);
    void holder.stack;
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
    Error.prepareStackTrace = prepareStackTrace;
  }
  // Code that this package has made of text is its own, too.
  const isOwn = (site: NodeJS.CallSite): boolean =>
    [site.getScriptNameOrSourceURL(), site.getEvalOrigin()].some(
      (where) => where !== null && where !== undefined && (where.includes(OWN) || where.includes(OWN_PATH)),
    );
  return sites
    .filter((site) => !isOwn(site))
    .slice(0, DEPTH)
    .map((site) => {
      const file = site.getScriptNameOrSourceURL() ?? (site.isNative() ? 'native' : '<anonymous>');
      const path = file.startsWith('file://') ? fileURLToPath(file) : file;
      const type = site.isToplevel() ? null : site.getTypeName();
      const name = site.getFunctionName() ?? '<anonymous>';
      const shown = type === null || name.startsWith(`${type}.`) ? name : `${type}.${name}`;
      return `${shown} (${path}:${site.getLineNumber() ?? 0}:${site.getColumnNumber() ?? 0})`;
    });
}
