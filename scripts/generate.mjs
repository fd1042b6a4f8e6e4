/** `npm run generate`: writes docs/cli.md and the shell completions from the option table, docs/helpers.md from the table of helpers. Needs a build. */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { helpersPage } from '../dist/bpf/helpers/docs.js';
import { generatedFiles } from '../dist/cli/generate.js';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
for (const [file, text] of [...generatedFiles(), ['docs/helpers.md', helpersPage()]]) {
  mkdirSync(path.dirname(path.join(root, file)), { recursive: true });
  writeFileSync(path.join(root, file), text);
}
