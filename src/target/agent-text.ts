/** The agent's bundled texts (scripts/build.mjs), read once. */

import { readFileSync } from 'node:fs';
import { TraplineError } from '../errors.ts';

export interface AgentTexts {
  readonly main: string;
  readonly arming: string;
  readonly events: string;
  readonly inject: string;
  readonly half: string;
  readonly worker: string;
}

let texts: AgentTexts | undefined;

/** From dist/agent; run from src, from .cache/agent, which the tests build (`node scripts/build.mjs --agent`). */
export function agentTexts(): AgentTexts {
  if (texts !== undefined) return texts;
  const folder = import.meta.url.endsWith('.ts') ? '../../.cache/agent/' : '../agent/';
  const read = (name: string): string => {
    const url = new URL(`${folder}${name}.js`, import.meta.url);
    try {
      return readFileSync(url, 'utf8');
    } catch (error) {
      throw new TraplineError('ENOENT', `the agent is not built: ${url.pathname}`, {
        hint: 'npm run build',
        cause: error,
      });
    }
  };
  texts = {
    main: read('main'),
    arming: read('arming'),
    events: read('events'),
    inject: read('inject'),
    half: read('half'),
    worker: read('worker'),
  };
  return texts;
}
