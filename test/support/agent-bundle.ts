import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));
let text: Promise<string> | undefined;

/** The agent's main-thread bundle as the build makes it: one expression whose value is createAgentMain(). */
export function agentBundle(): Promise<string> {
  text ??= build({
    absWorkingDir: root,
    entryPoints: ['src/agent/main/bundle-entry.ts'],
    bundle: true,
    write: false,
    platform: 'node',
    target: 'node20',
    charset: 'utf8',
    format: 'iife',
    globalName: 'agent',
    minifySyntax: true,
    minifyWhitespace: true,
    logLevel: 'silent',
  }).then(({ outputFiles }) => `(()=>{${outputFiles[0]!.text.trim()}\nreturn agent.default})()`);
  return text;
}
