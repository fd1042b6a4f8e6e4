/** The worker's and the agent's texts in the session's folder, where the worker reads them. */

import { closeSync, constants, fchmodSync, fstatSync, openSync, statSync, writeSync } from 'node:fs';
import path from 'node:path';
import { AGENT_FILE, type AgentFile } from '../agent/inject/config.ts';
import { agentTexts } from './agent-text.ts';

/** Into a folder that belongs to the process, whoever we are; never through a link of somebody else's. */
export function writeAgent(pid: number, folder: string): void {
  const { worker, main, arming, events } = agentTexts();
  const texts: AgentFile = { worker, agent: main, arming, events };
  const { O_DIRECTORY, O_NOFOLLOW, O_CREAT, O_EXCL, O_WRONLY } = constants;
  const linux = process.platform === 'linux';
  const directory = openSync(folder, O_DIRECTORY | O_NOFOLLOW);
  try {
    if (linux && fstatSync(directory).uid !== statSync(`/proc/${pid}`).uid) {
      throw new Error('it is not of the process');
    }
    const file = path.join(linux ? `/proc/self/fd/${directory}` : folder, AGENT_FILE);
    const fd = openSync(file, O_CREAT | O_EXCL | O_WRONLY, 0o644);
    try {
      // whatever our umask: the process may be another user's, and nobody else gets into the folder
      fchmodSync(fd, 0o644);
      const text = Buffer.from(JSON.stringify(texts));
      for (let at = 0; at < text.length; ) at += writeSync(fd, text, at);
    } finally {
      closeSync(fd);
    }
  } finally {
    closeSync(directory);
  }
}
