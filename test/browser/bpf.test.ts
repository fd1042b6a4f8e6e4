import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseDataFile } from '../conformance/suites.mjs';
import { unless } from '../support/skip.ts';
import type { Trapline, Vector } from './page.ts';

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '../..');
const executable = process.env['CHROMIUM'] ?? '/usr/bin/chromium';
const reason = existsSync(executable)
  ? undefined
  : `there is no Chromium at ${executable} (CHROMIUM names another)`;

const ARGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

async function bundle(entry: string, minify: boolean): Promise<{ text: string; inputs: string[] }> {
  const { outputFiles, metafile } = await build({
    entryPoints: [path.join(root, entry)],
    absWorkingDir: root,
    bundle: true,
    write: false,
    format: 'esm',
    platform: 'browser',
    target: 'chrome110',
    minify,
    metafile: true,
    logLevel: 'silent',
  });
  return { text: outputFiles[0]!.text, inputs: Object.keys(metafile.inputs) };
}

const uncommented = (text: string | undefined): string => (text ?? '').replace(/#.*$/gm, '').trim();
const words = (text: string): string[] => (text === '' ? [] : text.split(/\s+/));

function readVectors(): Vector[] {
  const folder = path.join(root, 'test/conformance/bpf_conformance');
  return readdirSync(folder)
    .filter((name) => name.endsWith('.data'))
    .map((name) => {
      const sections = parseDataFile(readFileSync(path.join(folder, name), 'utf8'));
      const raw = words(uncommented(sections.get('raw')));
      const result = uncommented(sections.get('result'));
      return {
        name,
        asm: sections.get('asm'),
        raw: raw.length === 0 ? undefined : raw,
        memory: words(uncommented(sections.get('mem'))).map((byte) => Number.parseInt(byte, 16)),
        result: result === '' ? undefined : `0x${BigInt.asUintN(64, BigInt(result)).toString(16)}`,
      };
    });
}

test.each(['src/bpf/index.ts', 'src/bpf/testing/index.ts'])(
  '%s bundles for a browser: nothing but itself, nothing of Node',
  async (entry) => {
    // esbuild fails where a module of Node is asked for.
    const { inputs, text } = await bundle(entry, true);
    expect(inputs.filter((file) => !file.startsWith('src/bpf/'))).toEqual([]);
    expect(text).not.toMatch(/\brequire\(|\bprocess\.|\bBuffer\./);
  },
);

describe('in headless Chromium', unless(reason), () => {
  let server: Server;
  let browser: Browser;
  let page: Page;
  const complaints: string[] = [];

  beforeAll(async () => {
    const { text } = await bundle('test/browser/page.ts', false);
    server = createServer(({ url }, response) => {
      // Shared memory is for isolated pages only.
      response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
      response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp');
      if (url === '/page.js') response.setHeader('Content-Type', 'text/javascript').end(text);
      else {
        response
          .setHeader('Content-Type', 'text/html')
          .end('<!doctype html><script type="module" src="/page.js"></script>');
      }
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    browser = await chromium.launch({ executablePath: executable, args: ARGS });
    page = await browser.newPage();
    page.on('pageerror', (error) => complaints.push(String(error)));
    await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
    await page.waitForFunction('globalThis.trapline !== undefined');
  }, 60_000);

  afterAll(async () => {
    await browser?.close();
    await new Promise((resolve) => server.close(resolve));
  });

  /** A method of page.ts, in the page. */
  function call<Name extends keyof Trapline>(
    name: Name,
    ...args: Parameters<Trapline[Name]>
  ): Promise<Awaited<ReturnType<Trapline[Name]>>> {
    return page.evaluate(
      ([method, values]) =>
        (globalThis as unknown as { trapline: Record<string, (...list: unknown[]) => unknown> }).trapline[
          method as string
        ]!(...(values as unknown[])),
      [name, args] as const,
    ) as Promise<Awaited<ReturnType<Trapline[Name]>>>;
  }

  test('all 313 vectors of bpf_conformance, by the interpreter and the JIT', async () => {
    const vectors = readVectors();
    expect(vectors).toHaveLength(313);
    expect(await call('conformance', vectors)).toEqual({ problems: [], runs: 626 });
  });

  test('maps against a model', async () => {
    expect(await call('maps')).toEqual([]);
  });

  test('programs with a map in both engines; one is refused', async () => {
    expect(await call('programs')).toEqual({
      retvals: [2, 2],
      count: 20,
      refused: 'invalid bpf_context access off=4096 size=8',
      same: 8,
    });
  });

  test('an object of clang, and the testing companion', async () => {
    const bytes = [...readFileSync(path.join(root, 'examples/bpf-testing/bpf/firewall.bpf.o'))];
    expect(await call('object', bytes)).toEqual({
      programs: ['firewall', 'answer_ping'],
      verdicts: [2, 1],
      hits: 1,
      reports: 1,
    });
  });

  test('two workers add to one map', async () => {
    expect(await call('threads', '/page.js', 50_000)).toBe(100_000);
    expect(complaints).toEqual([]);
  });
});
