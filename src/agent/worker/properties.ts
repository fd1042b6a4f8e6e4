/** Ways that need no debugger: a site that is compiled in, and a property that leads to the function. */

import { type ArmContext, reasonOf } from './arm-context.ts';
import type { ArmResult, NopItem, PropertyItem } from './requests.ts';
import { InspectorError } from './session.ts';

/** How many properties are looked for in one stop, and what that may take. */
const FIRST_AT_ONCE = 4;
const MOST_AT_ONCE = 64;
const BATCH_MS = 5;

export class Properties {
  readonly #context: ArmContext;
  // the undo log
  readonly #nops = new Map<number, NopItem>();
  readonly #properties = new Map<number, PropertyItem>();

  constructor(context: ArmContext) {
    this.#context = context;
  }

  /** Strikes sites out of the log, for the caller to undo. */
  take(chosen: (site: number) => boolean): number[] {
    const sites: number[] = [];
    for (const log of [this.#nops, this.#properties]) {
      for (const site of log.keys()) {
        if (!chosen(site)) continue;
        sites.push(site);
        log.delete(site);
      }
    }
    return sites;
  }

  async nop(item: NopItem): Promise<number> {
    this.#nops.set(item.site, item);
    const { value, ms } = await this.#context.session.errand('arm site', 'arming', 'armSite', item);
    if (value === true) return ms;
    this.#nops.delete(item.site);
    throw new InspectorError('no site is compiled in there');
  }

  /** Some at a time, each time a step of its own. Not to be called inside a step. */
  async replace(all: readonly PropertyItem[]): Promise<ArmResult[]> {
    const results: ArmResult[] = [];
    const queue = [...all];
    while (queue.length > 0) {
      const some = queue.splice(0, this.#atOnce);
      results.push(...(await this.#context.serial(() => this.#replace(some))));
    }
    return results;
  }

  async #replace(items: readonly PropertyItem[]): Promise<ArmResult[]> {
    const { session, closed } = this.#context;
    const refused = (item: PropertyItem, reason: string): ArmResult => {
      return { kind: 'property', sites: [item.site], ok: false, pauseMs: 0, reason };
    };
    if (closed) return items.map((item) => refused(item, 'the session ends'));
    try {
      const sites = items.map(({ site }) => site);
      const found = await session.errand<boolean[]>('find property', 'arming', 'find', items);
      const isFound = found.value;
      const isThere = await Promise.all(
        items.map((item, index) => isFound[index] && (item.scriptId === undefined || this.#isAt(item))),
      );
      const there = items.filter((_, index) => isThere[index]);
      for (const item of there) this.#properties.set(item.site, item);
      const replaced = await session.errand<boolean[]>(
        'replace property',
        'arming',
        'bindProperty',
        sites.filter((_, index) => isThere[index]),
      );
      const done = new Set(there.filter((_, index) => replaced.value[index]));
      for (const item of there) if (!done.has(item)) this.#properties.delete(item.site);
      const longest = found.ms > replaced.ms ? found : replaced;
      const { ms: pauseMs, waitedMs } = longest;
      this.#learn(items.length, pauseMs - waitedMs);
      return items.map((item, index): ArmResult => {
        if (!isFound[index]) return refused(item, 'no property of its module leads to it');
        if (!isThere[index]) return refused(item, 'another function is there');
        if (!done.has(item)) return refused(item, 'the property is frozen');
        return { kind: 'property', sites: [item.site], ok: true, pauseMs, waitedMs };
      });
    } catch (error) {
      return items.map((item) => refused(item, reasonOf(error)));
    }
  }

  #atOnce = FIRST_AT_ONCE;

  #learn(count: number, ms: number): void {
    const fit = Math.floor((count * BATCH_MS) / Math.max(ms, 0.1));
    this.#atOnce = Math.max(1, Math.min(MOST_AT_ONCE, 2 * this.#atOnce, fit));
  }

  /** V8's own word for where a function is, which needs no debugger. */
  async #isAt(item: PropertyItem): Promise<boolean> {
    const candidate = await this.#context.session.callRaw(
      this.#context.main,
      'candidate',
      [{ value: item.site }],
      false,
    );
    if (candidate.objectId === undefined) return false;
    const { internalProperties = [] } = (await this.#context.session.post('Runtime.getProperties', {
      objectId: candidate.objectId,
      ownProperties: true,
    })) as { internalProperties?: { name: string; value?: { value?: { scriptId?: string } } }[] };
    const location = internalProperties.find(({ name }) => name === '[[FunctionLocation]]');
    return location?.value?.value?.scriptId === item.scriptId;
  }
}
