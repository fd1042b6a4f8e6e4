import type { Trouble } from '../agent/protocol.ts';
import { isProperty } from '../arch/v8/arm.ts';
import {
  fileFilter,
  functionName,
  namesFile,
  SymbolIndex,
  shownPath,
  type TargetMatch,
} from '../arch/v8/match.ts';
import type { ArmReport, FunctionSymbol } from '../arch/v8/types.ts';
import type { VerifiedProgram } from '../bpf/index.ts';
import { TraplineError } from '../errors.ts';
import type { AttachPoint, CompiledScript, ScriptProgram } from '../lang/script.ts';
import { type DecodeContext, type RawMapEntry, RecordDecoder, type RecordEvent } from '../output/index.ts';
import type { ArmOptions, AttachRequest, SessionEvents, TraceSession } from '../target/session.ts';
import { SourceFrames } from '../target/source-frames.ts';
import type { EventMatch } from './events.ts';
import { compileFor, type ScriptText } from './pipeline.ts';

const EVENT_OF = {
  kprobe: 'entry',
  kretprobe: 'return',
  throw: 'throw',
  settle: 'settle',
  tracepoint: 'entry',
  rawtracepoint: 'entry',
} as const;

/** One attachment of a program: what a probe's cookie counts. */
interface Attachment {
  readonly point: AttachPoint;
  readonly match: TargetMatch | EventMatch | undefined;
}

/** Reads that failed at one place of the script. */
export interface PlacedFault {
  /** An index of the script's positions. */
  readonly position: number;
  readonly errno: number;
  readonly count: number;
  readonly trouble: Trouble | undefined;
}

/** A process with the script compiled for it: what has to be known to load, attach and decode. */
export class Tracee {
  readonly session: TraceSession;
  readonly script: CompiledScript;
  readonly programs: readonly VerifiedProgram[];
  readonly context: DecodeContext;
  readonly #attachments: readonly (readonly Attachment[])[];
  readonly #decoder: RecordDecoder;
  readonly #seen = new Map<number, readonly RawMapEntry[]>();
  #loaded = false;

  private constructor(
    session: TraceSession,
    script: CompiledScript,
    programs: readonly VerifiedProgram[],
    index: SymbolIndex | undefined,
    otherProbes: number,
  ) {
    this.session = session;
    this.script = script;
    this.programs = programs;
    this.#attachments = script.programs.map(attachmentsOf);
    // The compiler may add a BEGIN of its own, so what is no function is counted in the text.
    const armed = this.#attachments.flat().filter(({ match }) => match !== undefined).length;
    this.probeCount = otherProbes + armed;
    this.arms = armed > 0;
    this.context = this.#makeContext(index);
    this.#decoder = new RecordDecoder(script, this.context);
  }

  /** Compiles and verifies a script against the functions of a process. Nothing of the process is changed. */
  static async prepare(
    session: TraceSession,
    text: ScriptText,
    { way = 'auto', maxPauseMs = 100 }: Partial<Pick<ArmOptions, 'way' | 'maxPauseMs'>> = {},
  ): Promise<Tracee> {
    const { cwd } = session.info;
    const events = text.needsEvents ? await session.events?.() : undefined;
    const prepared = (index: SymbolIndex | undefined): Tracee => {
      const { script, programs } = compileFor(text, index, events);
      return new Tracee(session, script, programs, index, text.otherProbes);
    };
    if (!text.needsSymbols) return prepared(undefined);
    const filters = text.targets.map(fileFilter);
    const wanted = (path: string): boolean => filters.some((filter) => filter(path));
    const byProperty = (way === 'auto' || way === 'property') && text.targets.every(namesFile);
    const enough = (symbols: readonly FunctionSymbol[]): boolean => {
      const index = new SymbolIndex(symbols, { cwd });
      return text.targets.every((target) => {
        const found = index.find(target);
        return found.length > 0 && found.every(({ symbol }) => isProperty(symbol));
      });
    };
    const options = { maxPauseMs, ...(byProperty ? { enough } : {}) };
    try {
      return prepared(new SymbolIndex(await session.functions(wanted, options), { cwd }));
    } catch (error) {
      if (!(error instanceof TraplineError) || error.code !== 'ENOENT') throw error;
      // all of them, for what the hint proposes
      return prepared(new SymbolIndex(await session.functions(undefined, { maxPauseMs }), { cwd }));
    }
  }

  /** Probes as the user counts them: functions and lines matched, and the others one each. */
  readonly probeCount: number;
  /** Functions, lines or events are among its probes. */
  readonly arms: boolean;

  async load(): Promise<void> {
    const { maps, programs, paths } = this.script;
    await this.session.load({
      maps: maps.map(({ spec }) => spec),
      programs: this.programs,
      paths,
      usesAsyncId: programs.some(({ usesAsyncId }) => usesAsyncId),
    });
    this.#loaded = true;
  }

  /** Runs the programs of BEGIN or END. */
  async runSpecial(type: 'BEGIN' | 'END'): Promise<void> {
    if (!this.#loaded) return;
    for (const [program, attachments] of this.#attachments.entries()) {
      for (const { point } of attachments) if (point.type === type) await this.session.runOnce(program);
    }
  }

  /** Arms every function and line probe, then starts profiles. */
  async attach(options: ArmOptions): Promise<readonly ArmReport[]> {
    const requests: AttachRequest[] = [];
    for (const [program, attachments] of this.#attachments.entries()) {
      for (const [cookie, { point, match }] of attachments.entries()) {
        if (match === undefined) continue;
        requests.push({
          program,
          event: EVENT_OF[point.type as keyof typeof EVENT_OF],
          cookie,
          at: placeOf(match),
        });
      }
    }
    const reports = requests.length === 0 ? [] : await this.session.attach(requests, options);
    for (const [program, attachments] of this.#attachments.entries()) {
      for (const [cookie, { point }] of attachments.entries()) {
        if (point.type === 'profile') await this.session.startProfile(program, point.periodNs ?? 0, cookie);
      }
    }
    return reports;
  }

  async startIntervals(): Promise<void> {
    for (const [program, attachments] of this.#attachments.entries()) {
      for (const [cookie, { point }] of attachments.entries()) {
        if (point.type === 'interval') await this.session.startInterval(program, point.periodNs ?? 0, cookie);
      }
    }
  }

  /** The entries of a map, or what was last seen of them when the process has gone. */
  async readMap(index: number, gone: boolean): Promise<readonly RawMapEntry[]> {
    if (gone) return this.#seen.get(index) ?? [];
    const entries = await this.session.readMap(index);
    return entries.map((entry) => ({ ...entry, context: this.context }));
  }

  /** Keeps a copy of every map that can be printed: a process that ends takes its maps with it. */
  async keepMaps(): Promise<void> {
    for (const [index, map] of this.script.maps.entries()) {
      if (map.name !== undefined) this.#seen.set(index, await this.readMap(index, false));
    }
  }

  /** Whether flush() has to fetch frames of stacks before the record can be shown. */
  lacksFrames(record: DataView): boolean {
    return this.#decoder.lacksFrames(record);
  }

  decode(record: DataView): RecordEvent {
    return this.#decoder.decode(record);
  }

  /** Places where reads failed since the last call, with the errno and how often. */
  async faults(): Promise<readonly PlacedFault[]> {
    if (!this.#loaded) return [];
    const faults = await this.session.faults();
    return faults.map(([path, errno, count, trouble]) => ({
      position: this.script.paths[path]?.position ?? 0,
      errno,
      count,
      trouble,
    }));
  }

  /** Attach points none of whose functions was in a file that the process has loaded as it was prepared. */
  async unloaded(): Promise<AttachPoint[]> {
    const functions = this.#attachments
      .flat()
      .flatMap(({ point, match }) => (match !== undefined && 'symbol' in match ? [{ point, ...match }] : []));
    const symbols = functions.map(({ symbol }) => symbol);
    const unloaded = new Set(await this.session.unloaded?.(symbols));
    const loaded = new Set(functions.filter(({ symbol }) => !unloaded.has(symbol)).map(({ point }) => point));
    return [...new Set(functions.map(({ point }) => point))].filter((point) => !loaded.has(point));
  }

  #makeContext(index: SymbolIndex | undefined): DecodeContext {
    const names = new Map<bigint, string>();
    if (index !== undefined) {
      for (const { match } of this.#attachments.flat()) {
        if (match !== undefined && 'symbol' in match)
          names.set(match.symbol.address, functionName(match.symbol));
      }
    }
    const { session, script } = this;
    const frames = new SourceFrames();
    return {
      funcName: (address) => names.get(address) ?? (address === 0n ? '' : `0x${address.toString(16)}`),
      probeName: (program, cookie) => {
        const attachment = this.#attachments[program]?.[cookie];
        return attachment === undefined ? '' : attachmentName(attachment);
      },
      stack: (id) => session.stack(id)?.map((frame) => shortFrame(frames.original(frame), session.info.cwd)),
      realtimeNs: (ns) => ns + session.info.monotonicToRealtimeNs,
      strftimeFormat: (number) => {
        const action = script.actions[number];
        return action?.kind === 'strftime' ? action.format : '';
      },
    };
  }
}

/** Events of a session go to whoever set the handlers; a session needs them before it exists. */
export class EventRelay implements SessionEvents {
  handlers: Partial<SessionEvents> = {};

  onRecord(record: DataView, ring: number): void {
    this.handlers.onRecord?.(record, ring);
  }
  onArmed(report: ArmReport): void {
    this.handlers.onArmed?.(report);
  }
  onLost(count: number): void {
    this.handlers.onLost?.(count);
  }
  onWarning(message: string): void {
    this.handlers.onWarning?.(message);
  }
  onGone(reason: string): void {
    this.handlers.onGone?.(reason);
  }
}

/** `name (file:1:2)` with the file as probes name it. */
function shortFrame(frame: string, cwd: string): string {
  const place = /\((?:file:\/\/)?(\/.*?)((?::\d+){0,2})\)$/.exec(frame);
  if (place === null) return frame;
  return `${frame.slice(0, place.index)}(${shownPath(place[1]!, cwd)}${place[2]})`;
}

function attachmentsOf(program: ScriptProgram): Attachment[] {
  return program.attach.flatMap(({ point, targets }): Attachment[] =>
    point.type in EVENT_OF
      ? // The compiler hands back the very targets that the resolver gave it.
        targets.map((target) => ({ point, match: target as TargetMatch | EventMatch }))
      : [{ point, match: undefined }],
  );
}

function placeOf(match: TargetMatch | EventMatch): AttachRequest['at'] {
  if ('event' in match) return { kind: 'event', event: match.event };
  const { symbol, at } = match;
  return at === undefined ? { kind: 'function', symbol } : { kind: 'line', symbol, ...at };
}

function attachmentName({ point, match }: Attachment): string {
  if (match !== undefined) return `${point.type}:${match.name}`;
  return point.target === '' ? point.type : `${point.type}:${point.target}`;
}
