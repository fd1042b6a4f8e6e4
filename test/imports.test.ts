import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

/**
 * Who may import whom. A file belongs to the first layer whose folder holds it. `types` may be imported with
 * `import type` only: such an import leaves nothing behind in the built file.
 */
interface Layer {
  readonly name: string;
  readonly folders: readonly string[];
  readonly imports: readonly string[];
  readonly types?: readonly string[];
  /** npm packages and `node:` modules; undefined is any. */
  readonly packages?: readonly string[];
  readonly reason: string;
}

const LAYERS: readonly Layer[] = [
  {
    name: 'errors',
    folders: ['src/errors.ts', 'src/similar.ts', 'src/arguments.ts'],
    imports: ['bpf'],
    packages: [],
    reason:
      'the common error type, the nearest name for its hints, and the check of arguments stand below everything but the machine, whose they are made of',
  },
  {
    name: 'bpf-vitest',
    folders: ['src/bpf/testing/vitest.ts'],
    imports: ['bpf'],
    packages: ['vitest'],
    reason: 'vitest matchers add themselves to vitest; everything else of the companion knows no framework',
  },
  {
    name: 'bpf',
    folders: ['src/bpf'],
    imports: [],
    packages: [],
    reason: 'the eBPF machine runs in Node, a worker and a browser: it imports nothing outside itself',
  },
  {
    name: 'kernel',
    folders: ['src/kernel'],
    imports: ['bpf', 'errors'],
    packages: [],
    reason: 'the tracing core uses the eBPF machine and no API of Node',
  },
  {
    name: 'agent-protocol',
    folders: [
      'src/agent/protocol.ts',
      'src/agent/knock-protocol.ts',
      'src/agent/launch-protocol.ts',
      'src/agent/errand.ts',
      'src/agent/agent-main.ts',
      'src/agent/inject/config.ts',
    ],
    imports: [],
    types: ['kernel', 'bpf', 'agent-protocol'],
    packages: [],
    reason: 'what tracer and agent say to each other is types and constants',
  },
  {
    name: 'agent-holder',
    folders: ['src/agent/holder.ts'],
    imports: [],
    packages: [],
    reason: 'runs on both threads of the agent',
  },
  {
    name: 'agent-main',
    folders: ['src/agent/main'],
    imports: ['kernel', 'agent-protocol'],
    types: ['bpf'],
    packages: [],
    reason:
      "the part on the application's main thread is small: kernel constants, and of bpf only the memory layout's types",
  },
  {
    name: 'agent-arming',
    folders: ['src/agent/arming'],
    imports: ['agent-protocol', 'kernel', 'stale-code'],
    types: ['agent-worker', 'bpf'],
    packages: [],
    reason: 'the third text in the traced process replaces bindings; it knows the others by their types',
  },
  {
    name: 'agent-events',
    folders: ['src/agent/events'],
    imports: ['agent-protocol'],
    packages: [],
    reason: "events of the process are told by Node's own modules, which the agent is handed",
  },
  {
    name: 'agent-inject',
    folders: ['src/agent/inject'],
    imports: ['agent-holder', 'agent-protocol', 'kernel'],
    types: ['agent-main', 'agent-arming', 'agent-events', 'agent-worker', 'bpf', 'typescript'],
    packages: [],
    reason: 'what evaluations run: it starts the others from their texts',
  },
  {
    name: 'agent-worker',
    folders: ['src/agent/worker'],
    imports: ['agent-holder', 'bpf', 'kernel', 'agent-protocol', 'errors', 'stale-code', 'typescript'],
    types: ['agent-main', 'agent-arming', 'agent-inject', 'arch'],
    reason: 'the worker reads maps and drains rings itself, and is told the rest',
  },
  {
    name: 'stale-code',
    folders: ['src/arch/v8/stale-code.ts'],
    imports: [],
    packages: [],
    reason: 'what who edits texts has to know of V8, in the own process and in the agent',
  },
  {
    name: 'typescript',
    folders: ['src/arch/v8/typescript.ts'],
    imports: [],
    packages: ['node:module'],
    reason: 'what Node makes of TypeScript is asked where it is loaded and, for its symbols, by the agent',
  },
  {
    name: 'arch',
    folders: ['src/arch'],
    imports: ['kernel', 'bpf', 'errors', 'stale-code'],
    types: ['agent-protocol'],
    reason: 'V8 is the architecture below the tracing core; it knows no sessions and no language',
  },
  {
    name: 'register',
    folders: ['src/register'],
    imports: ['arch', 'agent-protocol', 'agent-inject', 'kernel', 'errors', 'typescript'],
    types: ['bpf', 'agent-main', 'agent-arming', 'agent-worker'],
    reason:
      'preparing a process rewrites modules as they load; it neither compiles scripts nor opens sessions',
  },
  {
    name: 'own-events',
    folders: ['src/target/runtime-events.ts'],
    imports: ['agent-events', 'kernel'],
    types: ['agent-protocol'],
    packages: ['node:module'],
    reason: 'the own process has its events by the same sources that the agent brings along',
  },
  {
    name: 'target',
    folders: ['src/target'],
    imports: ['arch', 'agent-protocol', 'kernel', 'bpf', 'errors'],
    types: ['agent-main', 'agent-worker'],
    reason:
      'a session talks to the agent through the protocol only: the agent is another bundle in another process',
  },
  {
    name: 'tracefs-fuse',
    folders: ['src/tracefs/fuse'],
    imports: ['tracefs', 'kernel', 'errors'],
    reason: 'mounting knows the tree in memory and what answers for it, and no process that is traced',
  },
  {
    name: 'tracefs',
    folders: ['src/tracefs'],
    imports: ['kernel', 'errors'],
    packages: [],
    reason: 'the tracing folder is a tree in memory over the tracing core; mounting it is another matter',
  },
  {
    name: 'export',
    folders: ['src/export'],
    imports: ['kernel', 'errors'],
    types: ['tracefs'],
    packages: ['node:fs', 'node:zlib'],
    reason: 'files of traces are made from a tracing folder and read without one; no process is known here',
  },
  {
    name: 'lang',
    folders: ['src/lang'],
    imports: ['bpf', 'kernel', 'errors'],
    packages: [],
    reason: 'the language compiles without any process at hand',
  },
  {
    name: 'output',
    folders: ['src/output'],
    imports: ['lang', 'kernel', 'errors'],
    packages: [],
    reason: 'printers turn bytes into text; where the bytes come from is not their business',
  },
  {
    name: 'cli',
    folders: ['src/cli', 'src/index.ts'],
    imports: [
      'output',
      'lang',
      'own-events',
      'target',
      'tracefs',
      'tracefs-fuse',
      'export',
      'arch',
      'agent-protocol',
      'register',
      'kernel',
      'bpf',
      'errors',
    ],
    reason: 'the top of the stack',
  },
];

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

interface ImportStatement {
  readonly line: number;
  readonly specifier: string;
  readonly typeOnly: boolean;
}

/** Import, export-from and import() of a TypeScript file. Comments and strings are blanked before the search. */
function importsOf(text: string): ImportStatement[] {
  const found: ImportStatement[] = [];
  const clean = text.replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, (comment) => comment.replace(/[^\n]/g, ' '));
  const add = (index: number, specifier: string, typeOnly: boolean) =>
    found.push({ line: clean.slice(0, index).split('\n').length, specifier, typeOnly });
  for (const match of clean.matchAll(
    /^[ \t]*(?:import|export)\s+(type\s+)?([\w$*{][^'";]*?\s+from\s+)?['"]([^'"\n]+)['"]/gm,
  )) {
    const names = /\{([^}]*)\}/.exec(match[2] ?? '')?.[1];
    const everyNameIsType =
      names !== undefined &&
      names.trim() !== '' &&
      /^\s*\{/.test(match[2] ?? '') &&
      names.split(',').every((name) => name.trim() === '' || /^\s*type\s/.test(name));
    add(match.index, match[3]!, match[1] !== undefined || everyNameIsType);
  }
  for (const match of clean.matchAll(/\b(typeof\s+)?import\(\s*['"]([^'"\n]+)['"]\s*\)/g)) {
    // `import('…').Name` and `typeof import('…')` stand in type positions.
    add(match.index, match[2]!, match[1] !== undefined || clean[match.index + match[0].length] === '.');
  }
  return found;
}

function layerOf(file: string): Layer | undefined {
  return LAYERS.find(({ folders }) =>
    folders.some((folder) => file === folder || file.startsWith(`${folder}/`)),
  );
}

/**
 * Where files may import each other in a circle. Everywhere else there is none, types included; with `types` only those made of types are
 * fine.
 */
const CIRCLES: readonly { readonly folder: string; readonly types?: true; readonly reason: string }[] = [
  {
    folder: 'src/kernel',
    types: true,
    reason:
      'an event, its instance, its triggers and all of tracing name each other, as the structures of the kernel do',
  },
  {
    folder: 'src/lang/codegen',
    reason: 'expressions hold expressions: each part of the generator may come to any other',
  },
  {
    folder: 'src/agent/worker',
    types: true,
    reason: 'a log of bindings and its windows know each other',
  },
];

/** Groups of files that all import each other, directly or through others (Tarjan). */
function circlesIn(imports: ReadonlyMap<string, readonly string[]>): string[][] {
  const found: string[][] = [];
  const order = new Map<string, number>();
  const lowest = new Map<string, number>();
  const stack: string[] = [];
  const visit = (file: string): number => {
    const at = order.size;
    order.set(file, at);
    lowest.set(file, at);
    stack.push(file);
    for (const to of imports.get(file) ?? []) {
      if (!order.has(to)) lowest.set(file, Math.min(lowest.get(file)!, visit(to)));
      else if (stack.includes(to)) lowest.set(file, Math.min(lowest.get(file)!, order.get(to)!));
    }
    if (lowest.get(file) === at) {
      const circle = stack.splice(stack.indexOf(file));
      if (circle.length > 1 || imports.get(file)?.includes(file)) found.push(circle.sort());
    }
    return lowest.get(file)!;
  };
  for (const file of imports.keys()) if (!order.has(file)) visit(file);
  return found;
}

/** Imports of other source files, by file. */
function graphOf(files: ReadonlyMap<string, string>, withTypes: boolean): Map<string, string[]> {
  const graph = new Map<string, string[]>();
  for (const [file, text] of files) {
    const to = importsOf(text)
      .filter(({ specifier, typeOnly }) => specifier.startsWith('.') && (withTypes || !typeOnly))
      .map(({ specifier }) => path.posix.join(path.posix.dirname(file), specifier));
    graph.set(file, to);
  }
  return graph;
}

/** Circles that stand where there is to be none. */
function strayCircles(files: ReadonlyMap<string, string>): string[] {
  return [false, true].flatMap((withTypes) =>
    circlesIn(graphOf(files, withTypes))
      .filter(
        (circle) =>
          !CIRCLES.some(
            ({ folder, types }) =>
              (withTypes || types !== true) && circle.every((file) => file.startsWith(`${folder}/`)),
          ),
      )
      .map((circle) => `${withTypes ? 'types' : 'values'}: ${circle.join(' ⇄ ')}`),
  );
}

/** Complaints about one file, each with the offending path. */
function check(file: string, text: string): string[] {
  const layer = layerOf(file);
  if (layer === undefined) return [`${file}: belongs to no layer of test/imports.test.ts`];
  const complaints: string[] = [];
  for (const { line, specifier, typeOnly } of importsOf(text)) {
    const complain = (target: string) =>
      complaints.push(
        `${file}:${line} → ${target}${typeOnly ? ' (type)' : ''}: ${layer.name}: ${layer.reason}`,
      );
    if (!specifier.startsWith('.')) {
      if (layer.packages !== undefined && !typeOnly && !layer.packages.includes(specifier))
        complain(specifier);
      continue;
    }
    const target = path.posix.join(path.posix.dirname(file), specifier);
    if (!/\.(ts|json)$/.test(specifier))
      complaints.push(`${file}:${line} → ${specifier}: imports name the .ts file`);
    const to = layerOf(target)?.name;
    if (to === layer.name || (to !== undefined && layer.imports.includes(to))) continue;
    if (typeOnly && to !== undefined && layer.types?.includes(to)) continue;
    complain(target);
  }
  return complaints;
}

function sourceFiles(folder: string): string[] {
  return readdirSync(path.join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const name = `${folder}/${entry.name}`;
    if (entry.isDirectory()) return sourceFiles(name);
    return name.endsWith('.ts') && !name.endsWith('.d.ts') ? [name] : [];
  });
}

describe('import rules', () => {
  test('every source file imports only what its layer may', () => {
    const complaints = sourceFiles('src').flatMap((file) =>
      check(file, readFileSync(path.join(root, file), 'utf8')),
    );
    expect(complaints).toEqual([]);
  });

  test('no file imports itself through others, types included', () => {
    const files = new Map(
      sourceFiles('src').map((file) => [file, readFileSync(path.join(root, file), 'utf8')]),
    );
    expect(strayCircles(files)).toEqual([]);
  });

  test('every exception from that is needed', () => {
    const files = new Map(
      sourceFiles('src').map((file) => [file, readFileSync(path.join(root, file), 'utf8')]),
    );
    const circles = circlesIn(graphOf(files, true));
    for (const { folder } of CIRCLES) {
      expect(
        circles.some((circle) => circle.every((file) => file.startsWith(`${folder}/`))),
        `${folder} has no circle any more`,
      ).toBe(true);
    }
  });

  test('the check finds circles, of types too, and through a third file', () => {
    const files = new Map([
      ['src/bpf/a.ts', "import { b } from './b.ts';"],
      ['src/bpf/b.ts', "import { c } from './sub/c.ts';"],
      ['src/bpf/sub/c.ts', "import type { A } from '../a.ts';"],
      ['src/bpf/d.ts', "import { a } from './a.ts';"],
      ['src/kernel/e.ts', "import { f } from './f.ts';"],
      ['src/kernel/f.ts', "import { e } from './e.ts';"],
      ['src/kernel/g.ts', "import type { h } from './h.ts';"],
      ['src/kernel/h.ts', "import { g } from './g.ts';"],
    ]);
    expect(strayCircles(files)).toEqual([
      'values: src/kernel/e.ts ⇄ src/kernel/f.ts',
      'types: src/bpf/a.ts ⇄ src/bpf/b.ts ⇄ src/bpf/sub/c.ts',
    ]);
  });

  test('the rules point one way', () => {
    const order = LAYERS.map(({ name }) => name);
    for (const layer of LAYERS) {
      for (const name of layer.imports) {
        expect(order, `${layer.name} imports an unknown layer`).toContain(name);
        expect(LAYERS.find((other) => other.name === name)!.imports).not.toContain(layer.name);
      }
    }
  });

  test('the check finds each form of import, and tells types from values', () => {
    const text = [
      "import { a } from '../target/session.ts';",
      "import type { B } from '../lang/script.ts';",
      "import {\n  type C,\n  type D,\n} from '../agent/agent-main.ts';",
      "export * from '../cli/main.ts';",
      "import './side-effect.ts';",
      "const lazy = await import('node:fs');",
      "let e: import('../output/model.ts').E;",
      "let vm: typeof import('node:vm');",
      "// import { no } from 'comment';",
    ].join('\n');
    expect(
      importsOf(text).map(({ line, specifier, typeOnly }) => `${line} ${specifier} ${typeOnly}`),
    ).toEqual([
      '1 ../target/session.ts false',
      '2 ../lang/script.ts true',
      '3 ../agent/agent-main.ts true',
      '7 ../cli/main.ts false',
      '8 ./side-effect.ts false',
      '9 node:fs false',
      '10 ../output/model.ts true',
      '11 node:vm true',
    ]);
    expect(check('src/bpf/x.ts', "import fs from 'node:fs';")).toHaveLength(1);
    expect(check('src/lang/x.ts', "import type { TraceSession } from '../target/session.ts';")).toHaveLength(
      1,
    );
    expect(check('src/agent/main/x.ts', "import type { MemoryLayout } from '../../bpf/index.ts';")).toEqual(
      [],
    );
    expect(check('src/agent/main/x.ts', "import { layoutMemory } from '../../bpf/index.ts';")).toHaveLength(
      1,
    );
  });
});
