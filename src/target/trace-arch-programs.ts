/** The programs of probes in a process: what each fetches, and what is done there with its hits. */

import { BpfError, type MapSpec, type VerifiedProgram, verifyProgram } from '../bpf/index.ts';
import { TraplineError } from '../errors.ts';
import { KernelError } from '../kernel/errno.ts';
import { kprobeProgram } from '../kernel/trace/bpf-trace.ts';
import type { FilterPredicate } from '../kernel/trace/filter/predicate.ts';
import type { HitConsumers } from '../kernel/trace/hit-plan.ts';
import type { PropertyPath } from '../kernel/trace/js-kfuncs.ts';
import type { FetchInsn } from '../kernel/trace/probe/fetch-insn.ts';
import { type FetchProgram, fetchProgram } from '../kernel/trace/probe/fetch-program.ts';
import type { HitStageOptions, StagedHist } from '../kernel/trace/probe/hit-stage.ts';
import type { ProbeHit } from '../kernel/trace/trace-arch.ts';
import type { EventTrigger } from '../kernel/trace/trace-event-file.ts';
import type { TraceField } from '../kernel/trace/trace-field.ts';
import type { HitCounts } from './hit-counts.ts';
import type { TraceSession } from './session.ts';

/** The maps of the ring, and of counters. */
export const RING = 0;
export const COUNTERS = 1;
/** Frames of a stack. */
export const STACK_FRAMES = 64;
/** Programs that a probe may have, one for each set of filters and hists. */
const MAX_VERSIONS = 64;

/** A program of a probe: with other consumers of its hits it is another one. */
export interface Version {
  readonly probe: Probe;
  readonly program: FetchProgram;
  /** Hists that it counts. */
  readonly counted: ReadonlySet<EventTrigger>;
  /** Its number among the session's programs. */
  readonly index: number;
}

/** An armed event probe. */
export interface Probe {
  readonly name: string;
  readonly hit: ProbeHit;
  readonly code: readonly (readonly FetchInsn[])[];
  readonly consumers: HitConsumers | undefined;
  /** Whether somebody wants its stacks now. */
  readonly wantsStack: () => boolean;
  /** The function that it is on; undefined of an event. */
  readonly address: bigint | undefined;
  /** Counts hits that made no record; undefined where there was none of that, or no room. */
  unsent: number | undefined;
  readonly maxactive: number;
  /** What it may run, by its instructions. */
  readonly versions: Map<string, Version>;
  current: Version | undefined;
  /** It was told of a change that is not made yet. */
  changing: boolean;
  /** It could not be armed. */
  refused: boolean;
  active: boolean;
}

export interface ProbeProgramsOptions {
  readonly session: TraceSession;
  readonly maps: readonly MapSpec[];
  readonly paths: PropertyPath[];
  readonly counts: HitCounts;
  /** Bytes of a fetched string, NUL included. */
  readonly maxString: number;
}

export class ProbePrograms {
  readonly #options: ProbeProgramsOptions;
  readonly #session: TraceSession;
  readonly #counts: HitCounts;
  readonly #pathNumbers = new Map<string, number>([['[]', 0]]);
  /** By the number in their records. */
  readonly #versions: Version[] = [];

  constructor(options: ProbeProgramsOptions) {
    this.#options = options;
    this.#session = options.session;
    this.#counts = options.counts;
  }

  /** The program whose record this is. */
  of(record: DataView): Version | undefined {
    return this.#versions[record.getUint32(0, true)];
  }

  /** E2BIG: a probe that fetches too much. */
  check(probe: Probe): void {
    this.#verify(probe.name, this.#make(probe, 0, undefined));
  }

  #make(probe: Probe, number: number, stage: HitStageOptions | undefined, stack = false): FetchProgram {
    return fetchProgram({
      probe: number,
      code: probe.code,
      ring: RING,
      maxString: this.#options.maxString,
      path: (keys) => this.#path(keys),
      ...(stage === undefined ? {} : { stage }),
      ...(stack ? { stack: STACK_FRAMES } : {}),
    });
  }

  /** The program that serves those who want the probe's hits now, loaded. */
  async version(probe: Probe): Promise<Version> {
    // Programs stay in the process: after so many changes the tracer does it.
    const stage = probe.versions.size < MAX_VERSIONS ? await this.#stage(probe) : undefined;
    const stack = probe.wantsStack();
    let draft = this.#make(probe, 0, stage, stack);
    let key = keyOf(draft);
    const known = probe.versions.get(key);
    if (known !== undefined) return known;
    const number = this.#versions.length;
    let program = this.#make(probe, number, stage, stack);
    let verified: VerifiedProgram;
    try {
      verified = this.#verify(probe.name, program);
    } catch (error) {
      if (!(error instanceof KernelError) || stage === undefined) throw error;
      // Too much to do at the hit: it is done with the record.
      draft = this.#make(probe, 0, undefined, stack);
      key = keyOf(draft);
      const plain = probe.versions.get(key);
      if (plain !== undefined) return plain;
      program = this.#make(probe, number, undefined, stack);
      verified = this.#verify(probe.name, program);
    }
    if (this.#session.addPrograms === undefined || this.#session.attachSite === undefined)
      throw new TraplineError('ENOTSUP', 'this session takes no programs later');
    const counted = new Set([...program.counted].map(({ hist: { trigger } }) => trigger));
    // Its number is taken before anybody else may ask for one.
    const version = { probe, program, counted, index: -1 };
    this.#versions.push(version);
    version.index = await this.#session.addPrograms([verified], this.#options.paths);
    probe.versions.set(key, version);
    return version;
  }

  /** What is done in front of a record; undefined where every hit makes one and no more. */
  async #stage(probe: Probe): Promise<HitStageOptions | undefined> {
    const { consumers } = probe;
    const plan = consumers?.plan();
    if (consumers === undefined || plan === undefined) return undefined;
    if (plan.wanted === undefined && plan.hists.length === 0) return undefined;
    probe.unsent ??= this.#counts.counter();
    const { unsent } = probe;
    if (unsent === undefined) return undefined;
    const hists: StagedHist[] = [];
    let wanted = plan.wanted;
    for (const hist of plan.hists) {
      const staged = await this.#counts.hist(hist);
      if (staged !== undefined) hists.push(staged);
      else if (hist.filter === undefined || wanted === undefined) wanted = undefined;
      else wanted = [...wanted, hist.filter];
    }
    if (wanted === undefined && hists.length === 0) return undefined;
    const field = (one: TraceField) => consumers.field(one);
    const decide = (predicate: FilterPredicate) => consumers.decide(predicate);
    return { wanted, hists, counters: COUNTERS, unsent, field, decide };
  }

  #verify(name: string, { insns }: FetchProgram): VerifiedProgram {
    try {
      return verifyProgram(kprobeProgram(name, insns, this.#options.maps));
    } catch (error) {
      if (!(error instanceof BpfError)) throw error;
      throw new KernelError('E2BIG', `the event fetches too much: ${error.message}`, { cause: error });
    }
  }

  #path(keys: readonly (string | number)[]): number {
    const key = JSON.stringify(keys);
    let number = this.#pathNumbers.get(key);
    if (number === undefined) {
      number = this.#options.paths.push({ keys, position: 0 }) - 1;
      this.#pathNumbers.set(key, number);
    }
    return number;
  }
}

/** What a program does, its number aside. */
function keyOf({ insns, counted }: FetchProgram): string {
  const hists = [...counted].map(({ hits }) => hits);
  return JSON.stringify([hists, insns.map(({ code, dst, src, off, imm }) => [code, dst, src, off, imm])]);
}
