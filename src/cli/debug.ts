import { SymbolIndex } from '../arch/v8/match.ts';
import { jitProgram, layoutMemory } from '../bpf/index.ts';
import { type Compilation, type CompiledScript, dumpStage } from '../lang/index.ts';
import { connect } from './connect.ts';
import type { STAGES } from './options.ts';
import { compileText, parseText, type ScriptText, verifyScript } from './pipeline.ts';
import { EventRelay } from './tracee.ts';

type Stage = (typeof STAGES)[number];

/**
 * Text of a stage of compilation. With a process, against its functions; without, as if every function that a probe
 * names were there.
 */
export async function showStage(
  stage: Stage,
  program: { script: string; file: string; params: readonly string[] },
  pids: readonly number[],
  maxPauseMs: number,
): Promise<string> {
  const text = parseText(program);
  const compilation = await compiled(text, pids, maxPauseMs);
  const { script } = compilation;
  const parts: string[] = [];
  const show = (name: Stage, title: string, content: () => string) => {
    if (stage !== name && stage !== 'all') return;
    if (stage === 'all') parts.push(`${title}\n${'-'.repeat(title.length)}\n`);
    parts.push(`${content().trimEnd()}\n`, stage === 'all' ? '\n' : '');
  };
  show('ast', 'Tree', () => dumpStage('ast', compilation));
  show('maps', 'Maps', () => mapsText(script));
  show('codegen', 'eBPF', () => dumpStage('codegen', compilation));
  show('verifier', 'Verifier', () =>
    verifyScript(script, 1)
      .map(({ name, log }) => `${name}:\n${log}\n`)
      .join('\n'),
  );
  show('wasm', 'WebAssembly', () => wasmText(script));
  return parts.join('');
}

async function compiled(text: ScriptText, pids: readonly number[], maxPauseMs: number): Promise<Compilation> {
  if (pids.length === 0 || !text.needsSymbols) return compileText(text, undefined);
  const [session] = await connect({ pids: pids.slice(0, 1) }, () => new EventRelay());
  try {
    const index = new SymbolIndex(await session!.functions(undefined, { maxPauseMs }), {
      cwd: session!.info.cwd,
    });
    return compileText(text, index);
  } finally {
    await session?.detach();
  }
}

function mapsText(script: CompiledScript): string {
  const rows = script.maps.map(({ name, spec, value }) => {
    const { type, keySize, valueSize, maxEntries } = spec;
    return `${name ?? `(${spec.name})`}: ${type}, key ${keySize}, value ${valueSize} (${value.kind}), ${maxEntries} entries\n`;
  });
  return rows.join('');
}

/** Each module as WebAssembly tools read it back: its size and what it imports. */
function wasmText(script: CompiledScript): string {
  const layout = layoutMemory(
    script.maps.map(({ spec }) => spec),
    { ncpu: 2 },
  );
  const rows = verifyScript(script).map((program) => {
    const { wasm, imports } = jitProgram(program, layout);
    const names = imports.map(({ module, name }) => `${module}.${name}`).join(' ');
    return `${program.name}: ${program.insns.length} instructions, ${wasm.length} bytes, imports ${names}\n`;
  });
  return rows.join('');
}
