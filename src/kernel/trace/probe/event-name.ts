import { isAlnum, isAlpha } from '../c-text.ts';
import type { ProbeLog } from './probe-log.ts';

export const MAX_EVENT_NAME_LEN = 64;

export interface EventName {
  /** Undefined where the text names none: the caller's default. */
  readonly group: string | undefined;
  /** Undefined where a group stands alone (`p:grp/`): a name is made. */
  readonly event: string | undefined;
}

/** traceprobe_parse_event_name(): `[GRP/]EVENT`, also `GRP.EVENT`; `offset` is where it begins in the current word. */
export function parseEventName(text: string, offset: number, log: ProbeLog): EventName {
  let slash = text.indexOf('/');
  if (slash < 0) slash = text.indexOf('.');
  let group: string | undefined;
  if (slash >= 0) {
    if (slash === 0) log.reject(offset, 'NO_GROUP_NAME');
    if (slash + 1 > MAX_EVENT_NAME_LEN) log.reject(offset, 'GROUP_TOO_LONG');
    group = text.slice(0, slash);
    if (!isGoodName(group, true)) log.reject(offset, 'BAD_GROUP_NAME');
  }
  const event = text.slice(slash + 1);
  const at = offset + slash + 1;
  if (event.length === 0) {
    if (group === undefined) log.reject(at, 'NO_EVENT_NAME');
    return { group, event: undefined };
  }
  if (event.length >= MAX_EVENT_NAME_LEN) log.reject(at, 'EVENT_TOO_LONG');
  if (!isGoodName(event)) log.reject(at, 'BAD_EVENT_NAME');
  return { group, event };
}

/** is_good_name(), and is_good_system_name() with `dash`: what may name an event, a field, a group. */
export function isGoodName(name: string, dash = false): boolean {
  if (!isAlpha(name) && name[0] !== '_' && !(dash && name[0] === '-')) return false;
  for (let i = 1; i < name.length; i++) {
    if (!isAlnum(name, i) && name[i] !== '_' && !(dash && name[i] === '-')) return false;
  }
  return true;
}

/** sanitize_event_name(): a made-up name; its first character is never looked at. */
export function sanitizeEventName(name: string): string {
  return name.slice(0, 1) + name.slice(1).replace(/[:.*]/g, '_');
}
