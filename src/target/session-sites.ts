/** The sites of a session: one for each place that requests name, numbered from 1 on. */

import type { SiteEvent, SiteSpec } from '../agent/protocol.ts';
import { functionName, shownPath } from '../arch/v8/match.ts';
import { TraplineError } from '../errors.ts';
import type { ArmSite } from './armer-job.ts';
import type { ArmOptions, AttachRequest, EventPlace } from './session.ts';

/** A site that an event of the process calls. */
export interface EventSite {
  readonly spec: SiteSpec;
  readonly event: EventPlace;
  readonly events: readonly SiteEvent[];
}

export type Site = ArmSite | EventSite;

export const isEvent = (site: Site): site is EventSite => 'event' in site;

export class SessionSites {
  readonly #cwd: string;
  /** The READS mask of each program. */
  readonly #reads: readonly number[];
  #next = 1;
  /** What messages call each site. */
  readonly #names = new Map<number, string>();

  constructor(cwd: string, reads: readonly number[]) {
    this.#cwd = cwd;
    this.#reads = reads;
  }

  /** Their numbers. */
  get all(): number[] {
    return Array.from({ length: this.#next - 1 }, (_, index) => index + 1);
  }

  name(site: number): string {
    return this.#names.get(site) ?? `site ${site}`;
  }

  /** Requests on the same place share a site. */
  make(requests: readonly AttachRequest[], options: ArmOptions): Site[] {
    const groups = new Map<string, AttachRequest[]>();
    for (const request of requests) {
      const { at } = request;
      if (at.kind === 'event') {
        const key = `event ${at.event.source}`;
        groups.set(key, [...(groups.get(key) ?? []), request]);
        continue;
      }
      const place = at.kind === 'line' ? `:${at.line}:${at.column}` : '';
      const key = `${at.symbol.address}${place}`;
      const group = groups.get(key);
      if (group === undefined) groups.set(key, [request]);
      else group.push(request);
    }
    return [...groups.values()].map((group): Site => {
      const { at } = group[0]!;
      if (at.kind === 'event') return this.#eventSite(at.event, group);
      const { symbol } = at;
      const file = shownPath(symbol.file, this.#cwd);
      const name = at.kind === 'line' ? `${file}:${at.line}` : `${file}:${functionName(symbol)}`;
      const spec: SiteSpec = {
        site: this.#next++,
        address: String(symbol.address),
        name,
        programs: group.map(({ program, event, cookie }) => ({ program, event, cookie })),
        maxactive: options.maxactive,
        isAsync: symbol.isAsync,
        isGenerator: symbol.isGenerator,
      };
      this.#names.set(spec.site, name);
      const events = [...new Set(group.map(({ event }) => event))];
      if (at.kind === 'line' && events.some((event) => event !== 'entry')) {
        throw new TraplineError(
          'EINVAL',
          `${name}: a line has no ${events.find((event) => event !== 'entry')} event`,
        );
      }
      const reads = group.reduce((mask, { program }) => mask | (this.#reads[program] ?? 0), 0);
      const line = at.kind === 'line' ? { line: at.line, column: at.column } : undefined;
      return { spec, symbol, events, reads, line };
    });
  }

  #eventSite(event: EventPlace, group: readonly AttachRequest[]): EventSite {
    const spec: SiteSpec = {
      site: this.#next++,
      address: '0',
      name: event.name,
      programs: group.map(({ program, event: when, cookie }) => ({ program, event: when, cookie })),
      maxactive: 0,
      isAsync: false,
      isGenerator: false,
    };
    this.#names.set(spec.site, event.name);
    return { spec, event, events: ['entry'] };
  }
}
