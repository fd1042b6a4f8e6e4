/** Brings the agent's parts and its programs to the main thread, piece by piece: none of them takes longer than about a millisecond there. */

import type { MessagePort } from 'node:worker_threads';
import type { AgentFile } from '../inject/config.ts';
import type { DataPlane } from './data.ts';
import { compileParts, sendPart } from './parts.ts';
import type { LoadParams } from './requests.ts';
import type { MainSession } from './session.ts';

/** Object ids on the main thread. */
export interface LoadedParts {
  readonly agent: string;
  readonly arming: string;
}

export class Loader {
  readonly #session: MainSession;
  readonly #port: MessagePort;
  readonly #texts: AgentFile;
  /** The main thread's half. */
  readonly #state: string;

  constructor(session: MainSession, port: MessagePort, texts: AgentFile, state: string) {
    this.#session = session;
    this.#port = port;
    this.#texts = texts;
    this.#state = state;
  }

  async load(data: DataPlane, params: LoadParams): Promise<LoadedParts> {
    const piece = (what: string, method: string, ...args: unknown[]): Promise<unknown> =>
      this.#session.errand(what, 'half', method, ...args);
    const [agentPart, armingPart] = compileParts(this.#texts, data.memory, params);
    // the smaller one first: with it comes what Node compiles for its vm module
    sendPart(this.#port, armingPart);
    await piece('load arming', 'readPart');
    await piece('run arming', 'runPart', 'arming');
    sendPart(this.#port, agentPart);
    await piece('load agent', 'readPart');
    await piece('run agent', 'runPart', 'agent');
    this.#port.postMessage({ memory: data.memory, layout: params.layout });
    await piece('map memory', 'readMemory');
    await piece('make agent', 'makeAgent');
    await piece('make arming', 'makeArming');
    const agent = await this.#made('getAgent');
    for (const sloppy of [false, true]) {
      await this.#session.errand('compile sites', 'agent', 'prepareSites', sloppy);
    }
    const arming = await this.#made('getArming');
    await this.loadPrograms(data.modules, params);
    if (params.usesAsyncId) {
      await this.#session.errand('track contexts', 'agent', 'trackAsync', true);
    }
    return { agent, arming };
  }

  async #made(getter: string): Promise<string> {
    return (await this.#session.callRaw(this.#state, getter, [], false)).objectId ?? '';
  }

  async loadPrograms(
    modules: readonly WebAssembly.Module[],
    { programs, paths }: Pick<LoadParams, 'programs' | 'paths'>,
  ): Promise<void> {
    await this.#session.errand('set paths', 'agent', 'setPaths', paths);
    // WebAssembly is compiled on the worker's thread: the main one only makes instances
    this.#port.postMessage([...modules]);
    const images = programs.map(({ wasm: _, ...image }) => image);
    await this.#session.errand('load programs', 'half', 'loadPrograms', images);
  }
}
