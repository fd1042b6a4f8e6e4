/** Compiles a script and runs it under the real agent, on functions of this process: values are read as in a traced process. */
import { createRequire } from 'node:module';
import type { AgentMain } from '../../src/agent/agent-main.ts';
import { createAgentMain } from '../../src/agent/main/agent.ts';
import type { SiteEvent } from '../../src/agent/protocol.ts';
import {
  createMemory,
  initMemory,
  layoutMemory,
  openMap,
  RingBufferConsumer,
  verifyProgram,
} from '../../src/bpf/index.ts';
import { kprobeProgram } from '../../src/kernel/trace/bpf-trace.ts';
import { type CompiledScript, compileScript } from '../../src/lang/index.ts';
import { printedMap, RecordDecoder } from '../../src/output/index.ts';
import { programImages } from '../../src/target/images.ts';
import { context } from './engine.ts';
import { show } from './show.ts';

const EVENTS: Record<string, SiteEvent> = {
  kprobe: 'entry',
  kretprobe: 'return',
  throw: 'throw',
  settle: 'settle',
};

export class Live {
  readonly script: CompiledScript;
  readonly agent: AgentMain;
  readonly #layout;
  readonly #memory;
  readonly #consumer: RingBufferConsumer;

  constructor(source: string) {
    this.script = compileScript(source, {
      file: 'test.bt',
      resolver: { resolve: ({ target }) => [{ name: target, params: ['req', 'res'] }] },
    });
    const specs = this.script.maps.map(({ spec }) => spec);
    this.#layout = layoutMemory(specs, { ncpu: 2 });
    this.#memory = createMemory(this.#layout);
    initMemory(this.#memory, this.#layout);
    this.#consumer = new RingBufferConsumer(this.#memory, this.#layout.maps[this.script.ring]!);
    const verified = this.script.programs.map(({ insns }, i) =>
      verifyProgram(kprobeProgram(`p${i}`, insns, specs)),
    );
    this.agent = createAgentMain({
      layout: this.#layout,
      memory: this.#memory,
      prefix: '__live',
      require: createRequire(import.meta.url),
    });
    this.agent.load(programImages(verified, this.#layout));
    this.agent.setPaths(this.script.paths);
  }

  /** `original` with the script's programs attached to it. */
  probe<F>(original: F, isAsync = false): F {
    const programs = this.script.programs.map(({ attach }, program) => ({
      event: EVENTS[attach[0]!.point.type]!,
      program,
      cookie: 0,
    }));
    const site = { site: 1, address: '4096', name: 'f', programs, maxactive: 0, isAsync, isGenerator: false };
    this.agent.setSites([site]);
    this.agent.enable([1]);
    return this.agent.wrap(1, original) as F;
  }

  /** Printed values since the last call. */
  printed(): string[] {
    const shown: string[] = [];
    const decoder = new RecordDecoder(this.script, context);
    this.#consumer.drain((view, offset, length) => {
      const bytes = new Uint8Array(new Uint8Array(view.buffer, view.byteOffset + offset, length));
      const event = decoder.decode(new DataView(bytes.buffer));
      shown.push(
        event.kind === 'value' ? show(event.value) : event.kind === 'printf' ? event.text : event.kind,
      );
    });
    return shown;
  }

  map(name: string): [string, string][] {
    const index = this.script.maps.findIndex((map) => map.name === name);
    const entries = [...openMap(this.#memory, this.#layout, index).entries()].map((entry) => ({
      ...entry,
      context,
    }));
    const { entries: shown } = printedMap(this.script.maps[index]!, entries);
    return shown.map(({ key, value }) => [key.map(show).join(), show(value)]);
  }
}
