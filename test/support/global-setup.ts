import path from 'node:path';
import { bundleAgent, root } from '../../scripts/build.mjs';

/** Tests run from src: the agent that they inject is bundled once before them. */
export default async function setup(): Promise<void> {
  await bundleAgent(path.join(root, '.cache', 'agent'));
}
