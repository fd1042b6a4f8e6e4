/** What a histogram's action is, and how it is shown (struct action_data, print_actions of kernel/trace/trace_events_hist.c). */
import type { SynthEvent } from '../probe/synth-event.ts';
import type { HistData } from './hist-data.ts';
import type { HistField } from './hist-field.ts';

export type ActionKind = 'save' | 'snapshot' | 'trace';

/** A field that an action's parameter names, kept in a variable (`struct field_var`). */
export interface FieldVar {
  readonly variable: HistField;
  readonly value: HistField;
}

/** `struct action_data` */
export interface HistAction {
  readonly handler: 'onmatch' | 'onmax' | 'onchange';
  readonly kind: ActionKind;
  /** What stands in front of the parentheses: `save`, `trace`, the name of a synthetic event. */
  readonly name: string;
  readonly params: readonly string[];
  /** The event of `trace(EVENT, ...)`; undefined where the action's name is the event's. */
  readonly traceEvent: string | undefined;
  /** Of onmatch(). */
  readonly match: { readonly system: string; readonly event: string } | undefined;
  /** Of onmax() and onchange(): the variable with its `$`, and what was made of it. */
  readonly varText: string | undefined;
  varRef: HistField | undefined;
  trackVar: HistField | undefined;
  /** Of trace(). */
  synthEvent: SynthEvent | undefined;
  /** For each parameter, which of the hist's references gives its value. */
  readonly varRefIdx: number[];
}

/** print_actions_spec() */
export function actionsText(histData: HistData): string {
  let text = '';
  for (const action of histData.actions) {
    const { match } = action;
    const head = match === undefined ? action.varText : `${match.system}.${match.event}`;
    const params =
      action.kind === 'save'
        ? histData.saveVars.map(({ variable }) => variable.varName)
        : action.kind === 'trace'
          ? [...(action.traceEvent === undefined ? [] : [action.traceEvent]), ...action.params]
          : [];
    text += `:${action.handler}(${head}).${action.name}(${params.join(',')})`;
  }
  return text;
}
