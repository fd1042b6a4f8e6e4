/** Ways that need no debugger: a site that is compiled in, and a property that leads to the function. */

import type { ArmContext } from './arm-context.ts';
import type { NopItem, PropertyItem } from './requests.ts';
import { InspectorError } from './session.ts';

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
    const { value, ms } = await this.#context.session.stopping('arm site', () =>
      this.#context.session.call(this.#context.main, 'armSite', item),
    );
    if (value === true) return ms;
    this.#nops.delete(item.site);
    throw new InspectorError('no site is compiled in there');
  }

  async property(item: PropertyItem): Promise<number> {
    const found = await this.#context.session.stopping('find property', () =>
      this.#context.session.call(this.#context.main, 'find', item),
    );
    if (found.value !== true) throw new InspectorError('no property of its module leads to it');
    if (item.scriptId !== undefined && !(await this.#isAt(item)))
      throw new InspectorError('another function is there');
    this.#properties.set(item.site, item);
    const bound = await this.#context.session.stopping('replace property', () =>
      this.#context.session.call(this.#context.main, 'bindProperty', item.site),
    );
    if (bound.value !== true) {
      this.#properties.delete(item.site);
      throw new InspectorError('the property is frozen');
    }
    return Math.max(found.ms, bound.ms);
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
