/** Brings the agent's parts and its programs to the main thread, piece by piece: none of them takes longer than about a millisecond there. */

import type { AgentFile } from '../inject/config.ts';
import type { DataPlane } from './data.ts';
import { compileParts, sendPart } from './parts.ts';
import type { LoadParams } from './requests.ts';
import type { MainSession } from './session.ts';

export class Loader {
  readonly #session: MainSession;
  readonly #texts: AgentFile;

  constructor(session: MainSession, texts: AgentFile) {
    this.#session = session;
    this.#texts = texts;
  }

  async load(data: DataPlane, params: LoadParams): Promise<void> {
    const piece = (what: string, method: string, ...args: unknown[]): Promise<unknown> =>
      this.#session.errand(what, 'half', method, ...args);
    const [agentPart, armingPart] = compileParts(this.#texts, data.memory, params);
    // the smaller one first: with it comes what Node compiles for its vm module
    await sendPart(this.#session, 'load arming', armingPart);
    await piece('run arming', 'runPart', 'arming');
    await sendPart(this.#session, 'load agent', agentPart);
    await piece('run agent', 'runPart', 'agent');
    await piece('make agent', 'makeAgent', data.memory, params.layout);
    await piece('make arming', 'makeArming');
    for (const sloppy of [false, true]) {
      await this.#session.errand('compile sites', 'agent', 'prepareSites', sloppy);
    }
    await this.loadPrograms(data.modules, params);
    if (params.usesAsyncId) {
      await this.#session.errand('track contexts', 'agent', 'trackAsync', true);
    }
  }

  async loadPrograms(
    modules: readonly WebAssembly.Module[],
    { programs, paths }: Pick<LoadParams, 'programs' | 'paths'>,
  ): Promise<void> {
    await this.#session.errand('set paths', 'agent', 'setPaths', paths);
    // WebAssembly is compiled on the worker's thread: the main one only makes instances
    const images = programs.map(({ wasm: _, ...image }) => image);
    await this.#session.errand('load programs', 'half', 'loadPrograms', images, modules);
  }
}
