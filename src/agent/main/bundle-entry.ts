/** What the bundle evaluates to: the factory. */
export { createAgentMain as default } from './agent.ts';
