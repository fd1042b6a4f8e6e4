import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { attach } from '../../src/target/attach.ts';
import { fileText } from '../../src/target/text-space.ts';
import { nodeBinaries } from '../support/nodes.ts';
import { recorder } from '../support/target.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'trapline-file-text-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const WAIT = 'setInterval(() => {}, 1000); console.log("ready");';

describe.each(nodeBinaries())('texts of scripts with Node $version', ({ path: node, version }) => {
  test('are those that V8 runs, whatever their files say by now', async () => {
    const same = path.join(folder, `same-${version}.cjs`);
    const changed = path.join(folder, `changed-${version}.cjs`);
    const text = (name: string) => `function ${name}() { return 'é\u{1f600}'; }\n`;
    writeFileSync(same, text('kept'));
    writeFileSync(changed, text('older'));
    const main = path.join(folder, `main-${version}.cjs`);
    writeFileSync(main, `require(${JSON.stringify(same)}); require(${JSON.stringify(changed)}); ${WAIT}`);
    const child = spawn(node, ['--inspect-port=0', main], { stdio: ['ignore', 'pipe', 'ignore'] });
    try {
      await new Promise((resolve) => child.stdout.once('data', resolve));
      writeFileSync(changed, text('newer'));
      const session = await attach(child.pid!, recorder());
      try {
        const found = await session.functions((file) => file.startsWith(folder), { maxPauseMs: 60_000 });
        const names = (file: string) => found.filter((f) => f.file === file).map(({ name }) => name);
        expect(names(same)).toEqual(['kept']);
        expect(names(changed)).toEqual(['older']);
      } finally {
        await session.detach();
      }
    } finally {
      child.kill('SIGKILL');
    }
  });
});

test('a file is taken for a text only where V8 says that it is the same', () => {
  const file = path.join(folder, 'text.cjs');
  const text = 'exports.a = "\u{1f600}é";\n';
  writeFileSync(file, text);
  const info = {
    scriptId: '1',
    url: file,
    isModule: false,
    length: text.length,
    sourceMapURL: '',
    executionContextId: 1,
    hash: createHash('sha256').update(text).digest('hex'),
  };
  expect(fileText(info)).toBe(text);
  expect(fileText({ ...info, url: `file://${file}`, isModule: true })).toBe(text);
  expect(fileText({ ...info, hash: info.hash.replaceAll(/[0-7]/g, '8') })).toBeUndefined();
  expect(fileText({ ...info, length: text.length + 1 })).toBeUndefined();
  expect(fileText({ ...info, url: path.join(folder, 'none.cjs') })).toBeUndefined();
  expect(fileText({ ...info, url: 'evalmachine.<anonymous>' })).toBeUndefined();
});
