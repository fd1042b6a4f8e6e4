/**
 * The agent's parts for the main thread, compiled on this one: V8 keeps what it made of a text, of the functions that were called
 * too, as a code cache that the main thread only has to read (the same V8 with the same flags). So each part is made once here,
 * for nothing but that; what it compiles then, the main thread does not.
 */

import { Script } from 'node:vm';
import type { CreateAgent } from '../agent-main.ts';
import type { Arming, ArmingOptions } from '../arming/arming.ts';
import type { AgentFile } from '../inject/config.ts';
import { OWN_MARK } from '../protocol.ts';
import type { LoadParams } from './requests.ts';
import type { MainSession } from './session.ts';

/** What a part is called in V8: nothing, as what an inspector evaluates. */
const FILENAME = '';
const SITE = 1;

export interface Part {
  readonly text: string;
  readonly code: Uint8Array;
}

export function compileParts(file: AgentFile, memory: WebAssembly.Memory, params: LoadParams): [Part, Part] {
  const texts = { agent: OWN_MARK + file.agent, arming: OWN_MARK + file.arming };
  const agent = new Script(texts.agent, { filename: FILENAME });
  const arming = new Script(texts.arming, { filename: FILENAME });
  try {
    rehearse(agent.runInThisContext() as CreateAgent, arming.runInThisContext(), memory, params);
  } catch {
    // of a function that was not called the main thread makes the code itself
  }
  return [
    { text: texts.agent, code: agent.createCachedData() },
    { text: texts.arming, code: arming.createCachedData() },
  ];
}

/** A part that is loaded only when it is needed: compiled here, its functions when they are called. */
export function compilePart(text: string): Part {
  const marked = OWN_MARK + text;
  const script = new Script(marked, { filename: FILENAME });
  return { text: marked, code: script.createCachedData() };
}

/** Has the main thread read a part. */
export async function sendPart(session: MainSession, what: string, part: Part): Promise<void> {
  const { buffer } = part.code;
  const transfer = buffer instanceof ArrayBuffer ? [buffer] : [];
  await session.errandWith(what, { of: 'half', method: 'readPart', args: [part] }, transfer);
}

/** What the main thread will call, with a function of this thread and no program. The memory's content is made anew after that. */
function rehearse(
  createAgent: CreateAgent,
  createArming: (options: ArmingOptions) => Arming,
  memory: WebAssembly.Memory,
  { layout, paths }: LoadParams,
): void {
  const builtin = (id: string): unknown => process.getBuiltinModule(id);
  const agent = createAgent({ memory, layout, prefix: '$rehearsal', require: builtin });
  try {
    const arming = createArming({ agent, require: builtin, notify: () => {} });
    agent.setPaths(paths);
    for (const isAsync of [false, true]) {
      const { maxactive, isGenerator } = { maxactive: 0, isGenerator: false };
      agent.setSites([{ site: SITE, address: '0', name: '', programs: [], maxactive, isAsync, isGenerator }]);
      agent.enable([SITE]);
      agent.installHooks([SITE], []);
      (agent.wrap(SITE, function rehearsed() {}) as () => void)();
    }
    arming.armSite({ kind: 'nop', site: SITE, url: '', index: 0, ends: false });
    arming.undo([SITE]);
    agent.removeHooks([SITE]);
    agent.disable([SITE]);
    agent.siteStats();
    agent.stacks(0);
    agent.faults();
  } finally {
    agent.dispose();
  }
}
