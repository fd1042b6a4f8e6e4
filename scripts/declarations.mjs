// What the build adds to the declarations that tsc has emitted.

import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';

/**
 * What declarations name of WebAssembly, for projects without TypeScript's DOM library. Interfaces, so that they merge with its own
 * where it is there.
 */
const WEBASSEMBLY = `declare namespace WebAssembly {
  interface Memory {
    readonly buffer: ArrayBuffer;
  }
  interface Module {}
  interface Instance {}
  interface Table {}
  interface Global {}
}
`;
const WEBASSEMBLY_FILE = 'webassembly.d.ts';

/** Has declarations say which libraries they need: a project that imports them may have none but ES2022. */
export async function referToLibraries(folder) {
  await mkdir(folder, { recursive: true });
  await writeFile(path.join(folder, WEBASSEMBLY_FILE), WEBASSEMBLY);
  const files = await readdir(folder, { recursive: true });
  for (const name of files.filter((name) => name.endsWith('.d.ts') && name !== WEBASSEMBLY_FILE)) {
    const file = path.join(folder, name);
    const text = await readFile(file, 'utf8');
    const references = [];
    if (/\bWebAssembly\./.test(text)) {
      const to = path.relative(path.dirname(file), path.join(folder, WEBASSEMBLY_FILE)).replaceAll('\\', '/');
      references.push(`/// <reference path="${to}" />\n`);
    }
    if (/\b(Async)?Disposable\b/.test(text)) references.push('/// <reference lib="esnext.disposable" />\n');
    if (references.length > 0) await writeFile(file, references.join('') + text);
  }
}
