/** The parameters of a hist command (parse_hist_trigger_attrs(), kernel/trace/trace_events_hist.c). Texts are byte strings. */

import { KernelError } from '../../errno.ts';
import { strip, Tokens } from '../c-text.ts';
import { kstrtoull } from '../kstrto.ts';
import type { TraceArray } from '../trace-array.ts';
import { invalid } from '../trigger/trigger-command.ts';
import { histError } from './hist-errors.ts';
import { TRACING_MAP_BITS_MAX, TRACING_MAP_BITS_MIN, TRACING_MAP_VARS_MAX } from './tracing-map.ts';

const HIST_ACTIONS_MAX = 8;

export interface HistAttrs {
  keys: string;
  vals?: string;
  sort?: string;
  /** With `name=` in front, as it is shown. */
  name?: string;
  clock: string;
  pause: boolean;
  cont: boolean;
  clear: boolean;
  noHitcount: boolean;
  tsInUsecs: boolean;
  mapBits?: number;
  readonly assignments: string[];
  readonly actions: string[];
}

export function parseHistAttrs(tr: TraceArray, text: string): HistAttrs {
  const attrs: Omit<HistAttrs, 'keys' | 'clock'> & Partial<Pick<HistAttrs, 'keys' | 'clock'>> = {
    pause: false,
    cont: false,
    clear: false,
    noHitcount: false,
    tsInUsecs: false,
    assignments: [],
    actions: [],
  };
  const tokens = new Tokens(text);
  for (let str = tokens.next(':'); str !== undefined; str = tokens.next(':')) {
    const equals = str.indexOf('=');
    if (equals === str.length - 1 && equals >= 0) {
      histError(tr, 'EMPTY_ASSIGNMENT', str);
      throw invalid('nothing is assigned');
    }
    if (equals >= 0) parseAssignment(tr, str, attrs);
    else if (str === 'nohitcount' || str === 'NOHC') attrs.noHitcount = true;
    else if (str === 'pause') attrs.pause = true;
    else if (str === 'cont' || str === 'continue') attrs.cont = true;
    else if (str === 'clear') attrs.clear = true;
    else if (attrs.actions.length < HIST_ACTIONS_MAX && /^on(match|max|change)\(/.test(str))
      attrs.actions.push(str);
    else throw invalid('a parameter of hist is unknown');
  }
  const { keys } = attrs;
  if (keys === undefined) throw invalid('a hist needs keys');
  return { ...attrs, keys, clock: attrs.clock ?? 'global' };
}

function parseAssignment(
  tr: TraceArray,
  str: string,
  attrs: Partial<HistAttrs> & Pick<HistAttrs, 'assignments'>,
): void {
  const match = /^(keys?|vals?|values|sort|name|clock|size)=/.exec(str);
  const value = match === null ? '' : str.slice(match[0].length);
  switch (match?.[1]) {
    case 'key':
    case 'keys':
      attrs.keys = value;
      return;
    case 'val':
    case 'vals':
    case 'values':
      attrs.vals = value;
      return;
    case 'sort':
      attrs.sort = value;
      return;
    case 'name':
      attrs.name = str;
      return;
    case 'clock':
      attrs.clock = strip(value);
      return;
    case 'size':
      attrs.mapBits = parseMapSize(value);
      return;
  }
  if (attrs.assignments.length === TRACING_MAP_VARS_MAX) {
    histError(tr, 'TOO_MANY_VARS', str);
    throw invalid('there are too many variables');
  }
  attrs.assignments.push(str);
}

/** parse_map_size(): rounded up to a power of two. */
function parseMapSize(text: string): number {
  const size = kstrtoull(text);
  if (typeof size === 'string') throw new KernelError(size, 'the size is no number');
  const bits = size > 1n ? (size - 1n).toString(2).length : 0;
  if (bits < TRACING_MAP_BITS_MIN || bits > TRACING_MAP_BITS_MAX)
    throw invalid('the size is not between 2^7 and 2^17');
  return bits;
}
