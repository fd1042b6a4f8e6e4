import { type FileOps, textFile } from '../file-operations.ts';
import { numberFromUser } from '../kstrto.ts';
import type { FunctionCall } from '../trace-arch.ts';
import type { Files } from '../trace-files.ts';
import type { Tracing } from '../tracing.ts';
import { CallStack } from './call-stack.ts';
import { FunctionUse } from './function-use.ts';
import { graphDuration } from './graph-output.ts';

/** `struct ftrace_profile` */
interface Profile {
  hits: bigint;
  time: bigint;
  timeSquared: bigint;
}

/** `function_profile_enabled` and `trace_stat/function*` (kernel/trace/ftrace.c, function_profile_call()). */
class FunctionProfiler {
  readonly #tracing: Tracing;
  readonly #profiles: Map<bigint, Profile>[];
  readonly #stacks: CallStack<undefined>[];
  #use: FunctionUse | undefined;

  constructor(tracing: Tracing) {
    this.#tracing = tracing;
    const cpus = Array.from({ length: tracing.arch.ncpu });
    this.#profiles = cpus.map(() => new Map());
    this.#stacks = cpus.map(() => new CallStack());
  }

  get enabled(): boolean {
    return this.#use !== undefined;
  }

  set enabled(on: boolean) {
    if (on === this.enabled) return;
    if (!on) {
      this.#use?.stop();
      this.#use = undefined;
      return;
    }
    for (const profile of this.#profiles) profile.clear();
    this.#use = new FunctionUse(this.#tracing.globalTrace, { returns: true, hit: (call) => this.#hit(call) });
  }

  #hit(call: FunctionCall): void {
    const stack = this.#stacks[call.cpu];
    const profiles = this.#profiles[call.cpu];
    if (stack === undefined || profiles === undefined) return;
    if (call.what === 'entry') {
      stack.begin(call, undefined);
      this.#profile(profiles, call.address).hits++;
      return;
    }
    const ended = stack.end(call);
    if (ended === undefined) return;
    const { frame } = ended;
    const graph = this.#tracing.tracers.find(({ name }) => name === 'function_graph');
    const inclusive = graph === undefined || this.#tracing.globalTrace.tracerOption(graph, 'graph-time');
    const time = call.ts - frame.calltime - (inclusive ? 0n : frame.inner);
    const profile = this.#profile(profiles, call.address);
    profile.time += time;
    profile.timeSquared += time * time;
  }

  #profile(profiles: Map<bigint, Profile>, address: bigint): Profile {
    let profile = profiles.get(address);
    if (profile === undefined) {
      profile = { hits: 0n, time: 0n, timeSquared: 0n };
      profiles.set(address, profile);
    }
    return profile;
  }

  /** function_stat_show(): what took longest first. */
  show(cpu: number): string {
    const { arch, tracingThresh } = this.#tracing;
    let text =
      '  Function                               Hit    Time            Avg             s^2\n' +
      '  --------                               ---    ----            ---             ---\n';
    const rows = [...(this.#profiles[cpu] ?? [])].filter(([, { hits }]) => hits > 0n);
    rows.sort(([, a], [, b]) => (a.time > b.time ? -1 : a.time < b.time ? 1 : 0));
    for (const [address, { hits, time, timeSquared }] of rows) {
      const average = time / hits;
      if (tracingThresh > 0n && average < tracingThresh) continue;
      const scale = hits * (hits - 1n) * 1000n;
      const variance = scale === 0n ? 0n : (hits * timeSquared - time * time) / scale;
      const name = arch.lookupAddress(address)?.name ?? `0x${address.toString(16)}`;
      const columns = [time, average, variance].map(graphDuration).join('    ');
      text += `  ${name.slice(0, 30).padEnd(30)}  ${String(hits).padStart(10)}    ${columns}\n`;
    }
    return text;
  }
}

export function functionProfileFiles(tracing: Tracing): Files {
  const profiler = new FunctionProfiler(tracing);
  const stats = Array.from({ length: tracing.arch.ncpu }, (_, cpu): [string, FileOps] => [
    `trace_stat/function${cpu}`,
    textFile({ mode: 0o440, show: () => profiler.show(cpu) }),
  ]);
  return {
    function_profile_enabled: textFile({
      mode: 0o640,
      show: () => `${profiler.enabled ? 1 : 0}\n`,
      store(text) {
        profiler.enabled = numberFromUser(text) !== 0n;
        return undefined;
      },
    }),
    ...Object.fromEntries(stats),
  };
}
