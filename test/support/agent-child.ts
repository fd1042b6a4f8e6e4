import { spawn } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { agentBundle } from './agent-bundle.ts';
import { harnessInput } from './agent-programs.ts';

const fixtures = path.join(path.dirname(path.dirname(fileURLToPath(import.meta.url))), 'agent', 'fixtures');

export interface ChildCheck {
  readonly name: string;
  /** undefined where it passed. */
  readonly error?: string;
}

/** Runs the checks of test/agent/fixtures/`scenario` with the agent in a process of its own. */
export async function runScenario(
  node: string,
  scenario: string,
  flags: readonly string[] = [],
): Promise<ChildCheck[]> {
  const input = JSON.stringify({ ...harnessInput(), agent: await agentBundle() });
  const child = spawn(node, [...flags, path.join(fixtures, scenario)], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  let out = '';
  let problems = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    problems += text;
  });
  child.stdin.end(input);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  const line = out.split('\n').find((text) => text.startsWith('RESULT '));
  if (code !== 0 || line === undefined) {
    throw new Error(`${scenario} on ${node} ended with ${code}:\n${out}\n${problems}`);
  }
  return JSON.parse(line.slice('RESULT '.length)) as ChildCheck[];
}
