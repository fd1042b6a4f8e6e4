/** Events as sources of hits: the part on the main thread (../events), loaded when the first one is asked for, and its undo log. */

import { compilePart, sendPart } from './parts.ts';
import type { EventInfo, EventItem } from './requests.ts';
import { InspectorError, type MainSession } from './session.ts';

export interface EventSourcesOptions {
  readonly session: MainSession;
  /** The part's text. */
  readonly text: string;
}

export class EventSources {
  readonly #options: EventSourcesOptions;
  readonly #started = new Set<number>();
  #part: Promise<unknown> | undefined;

  constructor(options: EventSourcesOptions) {
    this.#options = options;
  }

  /** The part, loaded piece by piece as the others are. */
  #load(): Promise<unknown> {
    this.#part ??= (async () => {
      const { session, text } = this.#options;
      const piece = (what: string, method: string, ...args: unknown[]): Promise<unknown> =>
        session.errand(what, 'half', method, ...args);
      await sendPart(session, 'load events', compilePart(text));
      await piece('run events', 'runPart', 'events');
      await piece('make events', 'makeEvents');
    })();
    return this.#part;
  }

  async start({ site, event }: EventItem): Promise<number> {
    const { session } = this.#options;
    await this.#load();
    this.#started.add(site);
    const { ms } = await session.errand('start event', 'events', 'start', site, event);
    return ms;
  }

  /** Ends what was started for the chosen sites; answers with those where that failed. */
  async stop(chosen: (site: number) => boolean): Promise<number[]> {
    const sites = [...this.#started].filter(chosen);
    if (sites.length === 0) return [];
    const { session } = this.#options;
    await this.#load();
    for (const site of sites) this.#started.delete(site);
    const { value } = await session.errand<number[]>('stop events', 'events', 'stop', sites);
    return value;
  }

  async defined(): Promise<readonly EventInfo[]> {
    const { session } = this.#options;
    return (await session.errand<EventInfo[]>('defined events', 'half', 'definedEvents')).value;
  }

  /** Node keeps the channels to itself: V8 is asked for the objects of their class. */
  async channels(): Promise<readonly string[]> {
    const { session } = this.#options;
    const names = new Set<string>();
    for (const kind of [0, 1]) {
      const prototype = await session.callRaw('half', 'channelPrototype', [{ value: kind }], false);
      if (prototype.objectId === undefined) throw new InspectorError('channels have no prototype');
      const { objects } = (
        await session.stopping('find channels', () =>
          session.post('Runtime.queryObjects', { prototypeObjectId: prototype.objectId }),
        )
      ).value as { objects: { objectId: string } };
      const found = await session.callRaw('half', 'channelNames', [{ objectId: objects.objectId }], true);
      for (const name of found.value as string[]) names.add(name);
      await session.post('Runtime.releaseObject', { objectId: objects.objectId });
    }
    return [...names].sort();
  }
}
