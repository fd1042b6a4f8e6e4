/** Objects of clang on a process: their kprobe, tracepoint and raw tracepoint programs run where it works. */

import type { PrintkCall } from '../agent/protocol.ts';
import { fileFilter, SymbolIndex } from '../arch/v8/match.ts';
import type { ArmReport, ArmWay } from '../arch/v8/types.ts';
import {
  BpfError,
  type BpfObject,
  type BtfValue,
  type CompiledObject,
  decodeValue,
  formatText,
  jitProgram,
  type LoadObjectOptions,
  layoutMemory,
  type MapEntry,
  type MapSpec,
  type ObjectMapSpec,
  type ProgramSpec,
  type VerifiedProgram,
  verifyProgram,
} from '../bpf/index.ts';
import { TraplineError } from '../errors.ts';
import { kprobeProgram } from '../kernel/trace/bpf-trace.ts';
import { JS_KFUNC_DECLS, JS_KFUNCS, type PropertyPath } from '../kernel/trace/js-kfuncs.ts';
import { CHANNEL_FIELDS, matchEvents, rawTracepoint } from '../kernel/tracepoint/event-list.ts';
import { argsProgram, type ContextProgram, recordProgram } from '../kernel/tracepoint/record-program.ts';
import type { EventField } from '../kernel/tracepoint/runtime-events.ts';
import { attach } from './attach.ts';
import { selfSession } from './self.ts';
import type {
  AttachRequest,
  DetachReport,
  EventPlace,
  LoadedProgram,
  ProcessEvents,
  SessionEvents,
  TraceSession,
} from './session.ts';
import { eventPlace } from './trace-arch-events.ts';

/** Threads that a per-CPU map has values of: the application's main thread and the agent's worker. */
const NCPU = 2;
/** Bytes of a text in a record, its NUL among them. */
const MAX_STRING = 256;
/** Bytes of the ring that a session has where the object has none. */
const RING_BYTES = 4096;
/** What the agent's thread gives programs, beside what is inside of them. */
const HELPERS: ReadonlySet<string> = new Set([
  'ktime_get_ns',
  'get_prandom_u32',
  'get_current_pid_tgid',
  'get_current_uid_gid',
  'get_current_comm',
  'probe_read',
  'probe_read_kernel',
  'probe_read_user',
  'probe_read_str',
  'probe_read_kernel_str',
  'probe_read_user_str',
  'trace_printk',
]);

export interface AttachObjectOptions
  extends Pick<
    LoadObjectOptions,
    'programs' | 'types' | 'attachTo' | 'mapSpecs' | 'kconfig' | 'kernelVersion' | 'targetBtf'
  > {
  readonly way?: 'auto' | ArmWay;
  /** The longest stop of the process that arming may cause, in ms; 100 by default. */
  readonly maxPauseMs?: number;
  /** A line of bpf_trace_printk(), without its newline. */
  readonly onPrint?: (line: string) => void;
  /** A record of the object's ring buffer; the bytes are the caller's. */
  readonly onRecord?: (record: Uint8Array) => void;
  /** Records that found no room, and lines of bpf_trace_printk() that were too many (undefined: how many is not known). */
  readonly onLost?: (count: number | undefined) => void;
  readonly onWarning?: (message: string) => void;
  /** The process exited, or the connection broke. */
  readonly onGone?: (reason: string) => void;
}

/** A map of an object in a process. */
export interface ProcessMap {
  readonly name: string;
  readonly spec: MapSpec;
  readonly object: ObjectMapSpec;
  /** Every entry; a per-CPU map has a value for the application's thread, and one for the agent's. */
  entries(): Promise<readonly MapEntry[]>;
  lookup(key: Uint8Array): Promise<Uint8Array | undefined>;
  /** 0 or -errno. */
  update(key: Uint8Array, value: Uint8Array, flags?: number): Promise<number>;
  delete(key: Uint8Array): Promise<number>;
}

/** A program, and the places that it runs at. */
export interface AttachedProgram {
  readonly spec: ProgramSpec;
  /** `server.js:handle`, `tracepoint:shop:checkout`. */
  readonly places: readonly string[];
}

/** An object on a process, until detach(). */
export class AttachedObject implements AsyncDisposable {
  readonly session: TraceSession;
  readonly programs: readonly AttachedProgram[];
  /** By name; `.bss` is a section of variables. */
  readonly maps: ReadonlyMap<string, ProcessMap>;
  readonly #object: BpfObject;
  #detached: Promise<DetachReport> | undefined;

  constructor(
    session: TraceSession,
    object: BpfObject,
    programs: readonly AttachedProgram[],
    maps: ReadonlyMap<string, ProcessMap>,
  ) {
    this.#object = object;
    this.session = session;
    this.programs = programs;
    this.maps = maps;
  }

  /** A global variable as it is in the process now: a value of its type, bytes where the object has none. OBJ_NO_GLOBAL. */
  async get(name: string): Promise<BtfValue> {
    const { globals, spec } = this.#object;
    const { map, offset, size, typeId } = globals.variable(name);
    const section = (await this.maps.get(map)?.lookup(new Uint8Array(4))) ?? new Uint8Array(offset + size);
    const bytes = section.subarray(offset, offset + size);
    return spec.btf === undefined || typeId === 0 ? bytes : decodeValue(spec.btf, typeId, bytes, name);
  }

  /** Everything that was hit before has been told when this resolves. */
  async flush(): Promise<void> {
    await this.session.flush();
  }

  /** Programs run no more; maps can be read until detach(). */
  async disable(): Promise<void> {
    await this.session.disable?.();
  }

  /** Takes everything out of the process. */
  detach(): Promise<DetachReport> {
    this.#detached ??= (async () => {
      await this.session.flush().catch(() => undefined);
      return await this.session.detach();
    })();
    return this.#detached;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.detach();
  }
}

/**
 * Runs an object's programs in a process (the own one, by its pid, too): `SEC("kprobe/FILE:FUNCTION")`, `kretprobe`,
 * `SEC("tracepoint/SYSTEM/NAME")` and `SEC("raw_tp/NAME")`. Errors: those of attach() and of object.load(); ENOTSUP for what a
 * process has not (map and program types, helpers), ENOENT for a place that it has not, EACCES for a tracepoint program that reads behind
 * its event's fields. Nothing stays in the process then.
 */
export async function attachObject(
  pid: number,
  object: BpfObject,
  options: AttachObjectOptions = {},
): Promise<AttachedObject> {
  const {
    programs,
    types,
    attachTo,
    mapSpecs,
    kconfig,
    kernelVersion,
    targetBtf,
    maxPauseMs = 100,
  } = options;
  const compiled = object.compile({
    ncpu: NCPU,
    kfuncs: JS_KFUNC_DECLS,
    ...(programs === undefined ? {} : { programs }),
    ...(types === undefined ? {} : { types }),
    ...(attachTo === undefined ? {} : { attachTo }),
    ...(mapSpecs === undefined ? {} : { mapSpecs }),
    ...(kconfig === undefined ? {} : { kconfig }),
    ...(kernelVersion === undefined ? {} : { kernelVersion }),
    ...(targetBtf === undefined ? {} : { targetBtf }),
  });
  // What can be refused is refused before the process is touched.
  const plans = compiled.programs.map(({ spec, verified }) => planOf(spec, verified, attachTo?.[spec.name]));
  const maps = mapsOf(compiled);
  checkPrograms(compiled, maps.specs);
  let closing = false;
  const events: SessionEvents = {
    onRecord: (record) =>
      options.onRecord?.(new Uint8Array(record.buffer, record.byteOffset, record.byteLength).slice()),
    onArmed: ({ name, way, note }: ArmReport) => {
      if (way === undefined && !closing)
        options.onWarning?.(`${name} is not traced any more: ${note ?? 'no reason given'}`);
    },
    onLost: (count) => options.onLost?.(count),
    onWarning: (message) => options.onWarning?.(message),
    onPrint: (call) => {
      if (call === undefined) options.onLost?.(undefined);
      else options.onPrint?.(printed(call));
    },
    onGone: (reason) => options.onGone?.(reason),
  };
  const session = pid === process.pid ? await selfSession(events) : await attach(pid, events);
  try {
    const places = await findPlaces(session, plans, maxPauseMs);
    const loaded = contexts(session, plans, places, maps.specs);
    await session.load({
      maps: loaded.maps,
      ring: maps.ring,
      programs: loaded.programs,
      paths: loaded.paths,
      usesAsyncId: false,
    });
    const live = new Map<string, ProcessMap>();
    for (const [index, { name, value, object: declared }] of compiled.maps.entries()) {
      const map = processMap(session, index, name, maps.specs[index]!, declared);
      live.set(name, map);
      if (value === undefined) continue;
      const errno = await map.update(new Uint8Array(4), value);
      if (errno !== 0)
        throw new TraplineError('EINVAL', `map ${name}: its initial value was refused (${errno})`);
    }
    const requests = plans.flatMap(({ event }, i) =>
      places[i]!.map(({ at }): AttachRequest => ({ program: loaded.numbers[i]!, event, cookie: 0, at })),
    );
    await session.attach(requests, { way: options.way ?? 'auto', maxPauseMs, maxactive: 0 });
    const attached = plans.map(({ spec }, i) => ({ spec, places: places[i]!.map(({ name }) => name) }));
    return new AttachedObject(session, object, attached, live);
  } catch (error) {
    closing = true;
    await session.detach().catch(() => undefined);
    throw error;
  }
}

/** A line of bpf_trace_printk(). */
function printed({ format, args, texts }: PrintkCall): string {
  const values = args.map(BigInt);
  const text = formatText(format, values, {
    string: (address) => texts[values.findIndex((value, i) => value === address && texts[i] !== undefined)],
    bytes: () => undefined,
  });
  const line = typeof text === 'number' ? format : text;
  return Buffer.from(line.replace(/\n$/, ''), 'latin1').toString('utf8');
}

/** What a program is to be attached to. */
type Plan = { readonly spec: ProgramSpec; readonly verified: VerifiedProgram } & (
  | { readonly kind: 'function'; readonly event: 'entry' | 'return'; readonly target: string }
  | { readonly kind: 'tracepoint' | 'raw'; readonly event: 'entry'; readonly target: string }
);

function planOf(spec: ProgramSpec, verified: VerifiedProgram, attachTo = spec.attachTo): Plan {
  const { name, section } = spec;
  const base = { spec, verified };
  const target = (hint: string): string => {
    if (attachTo === undefined || attachTo === '')
      throw new TraplineError('EINVAL', `program ${name}: SEC("${section}") names no place`, { hint });
    return attachTo;
  };
  switch (verified.type) {
    case 'kprobe': {
      if (!/^k(ret)?probe(\.multi)?(\/|$)/.test(section)) break;
      const event = section.startsWith('kret') ? 'return' : 'entry';
      return { ...base, kind: 'function', event, target: target('such as SEC("kprobe/server.js:handle")') };
    }
    case 'tracepoint': {
      const place = target('such as SEC("tracepoint/http/server_request_start")').replace('/', ':');
      return { ...base, kind: 'tracepoint', event: 'entry', target: place };
    }
    case 'raw_tracepoint':
      return { ...base, kind: 'raw', event: 'entry', target: target('such as SEC("raw_tp/shop:checkout")') };
  }
  throw new TraplineError('ENOTSUP', `program ${name}: SEC("${section}") has no place in a process`, {
    hint: 'kprobe/FILE:FUNCTION, kretprobe/FILE:FUNCTION, tracepoint/SYSTEM/NAME and raw_tp/NAME have',
  });
}

interface Maps {
  /** The object's, then a ring where it has none. */
  readonly specs: readonly MapSpec[];
  readonly ring: number;
}

const MAP_TYPES: ReadonlySet<string> = new Set(['array', 'percpu_array', 'hash', 'percpu_hash', 'ringbuf']);

function mapsOf({ maps }: CompiledObject): Maps {
  const specs = maps.map(({ spec }) => spec);
  for (const { name, spec } of maps) {
    if (MAP_TYPES.has(spec.type)) continue;
    throw new TraplineError('ENOTSUP', `map ${name}: a process has no maps of type ${spec.type}`, {
      hint: `it has ${[...MAP_TYPES].join(', ')}`,
    });
  }
  const rings = maps.filter(({ spec }) => spec.type === 'ringbuf');
  if (rings.length > 1) {
    const names = rings.map(({ name }) => name).join(', ');
    throw new TraplineError('ENOTSUP', `a process has one ring buffer, and not ${names}`);
  }
  const ring = specs.findIndex(({ type }) => type === 'ringbuf');
  if (ring >= 0) return { specs, ring };
  const own: MapSpec = { name: 'ring', type: 'ringbuf', keySize: 0, valueSize: 0, maxEntries: RING_BYTES };
  return { specs: [...specs, own], ring: specs.length };
}

/** ENOTSUP for a helper or kernel function that the agent does not have. */
function checkPrograms({ programs }: CompiledObject, maps: readonly MapSpec[]): void {
  const layout = layoutMemory(maps, { ncpu: NCPU });
  const kfuncs = new Set<string>(Object.keys(JS_KFUNCS));
  for (const { spec, verified } of programs) {
    const module = new WebAssembly.Module(jitProgram(verified, layout).wasm as Uint8Array<ArrayBuffer>);
    for (const { module: space, name } of WebAssembly.Module.imports(module)) {
      const known = space === 'helper' ? HELPERS.has(name) : space === 'kfunc' ? kfuncs.has(name) : true;
      if (known) continue;
      throw new TraplineError(
        'ENOTSUP',
        `program ${spec.name} calls bpf_${name}(), which a process does not have`,
        {
          hint: 'docs/objects.md lists what there is',
        },
      );
    }
  }
}

interface Place {
  readonly name: string;
  readonly at: AttachRequest['at'];
  /** Of an event. */
  readonly fields: readonly EventField[];
}

async function findPlaces(
  session: TraceSession,
  plans: readonly Plan[],
  maxPauseMs: number,
): Promise<readonly (readonly Place[])[]> {
  const events = plans.some(({ kind }) => kind !== 'function') ? await session.events?.() : undefined;
  const functions = plans.filter(({ kind }) => kind === 'function');
  let index: SymbolIndex | undefined;
  if (functions.length > 0) {
    const filters = functions.map(({ target }) => fileFilter(target));
    const wanted = (path: string): boolean => filters.some((filter) => filter(path));
    const { cwd } = session.info;
    index = new SymbolIndex(await session.functions(wanted, { maxPauseMs }), { cwd });
  }
  return plans.map((plan) => {
    if (plan.kind !== 'function') return [eventPlaceOf(plan, events ?? { events: [], channels: [] })];
    return index!.match(plan.target).map(({ name, symbol, at }): Place => {
      if (at !== undefined)
        throw new TraplineError(
          'ENOTSUP',
          `program ${plan.spec.name}: ${plan.target} is a line, no function`,
        );
      return { name, at: { kind: 'function', symbol }, fields: [] };
    });
  });
}

function eventPlaceOf({ kind, target, spec }: Plan, { events }: ProcessEvents): Place {
  const place = (event: EventPlace, fields: readonly EventField[]): Place => ({
    name: event.name,
    at: { kind: 'event', event },
    fields,
  });
  if (kind === 'tracepoint') {
    const [event, more] = matchEvents(events, target);
    if (event === undefined || more !== undefined)
      throw new TraplineError('EINVAL', `program ${spec.name}: ${target} is more than one tracepoint`);
    return place(eventPlace(event), event.fields);
  }
  const found = rawTracepoint(events, target);
  if (found === undefined) {
    throw new TraplineError('ENOENT', `program ${spec.name}: there is no raw tracepoint ${target}`, {
      hint: 'it is SYSTEM:NAME of an event, or a channel of node:diagnostics_channel (rawtracepoint:NAME)',
    });
  }
  return place(eventPlace(found), 'channel' in found ? CHANNEL_FIELDS : found.fields);
}

/** The programs that make contexts, in front of those that have one; the number of each plan's program. */
function contexts(
  session: TraceSession,
  plans: readonly Plan[],
  places: readonly (readonly Place[])[],
  maps: readonly MapSpec[],
): {
  readonly maps: readonly MapSpec[];
  readonly programs: readonly LoadedProgram[];
  readonly paths: readonly PropertyPath[];
  readonly numbers: readonly number[];
} {
  const all = [...maps];
  const programs: LoadedProgram[] = [];
  const paths: PropertyPath[] = [{ keys: [], position: 0 }];
  const path = (keys: readonly string[]): number => {
    const known = paths.findIndex((one) => JSON.stringify(one.keys) === JSON.stringify(keys));
    return known >= 0 ? known : paths.push({ keys, position: 0 }) - 1;
  };
  const numbers = plans.map((plan, i) => {
    if (plan.kind === 'function') {
      return programs.push(plan.verified) - 1;
    }
    const { fields } = places[i]![0]!;
    const map = all.length;
    const options = { fields, map, maxString: MAX_STRING, path, pid: session.info.pid };
    const context = plan.kind === 'tracepoint' ? recordProgram(options) : argsProgram(options);
    all.push({ name: 'context', type: 'array', keySize: 4, valueSize: context.size, maxEntries: 1 });
    checkReads(plan, context);
    const by = programs.push(verifyProgram(kprobeProgram('context', context.insns, all))) - 1;
    return programs.push({ ...plan.verified, context: { by, map } }) - 1;
  });
  return { maps: all, programs, paths, numbers };
}

/** EACCES, as perf_event_attach_bpf_prog() answers to a program that reads behind the event's fields. */
function checkReads({ spec, verified, target }: Plan, { fixedSize }: ContextProgram): void {
  const last = Math.max(-1, ...verified.ctxReads);
  if (last < fixedSize) return;
  throw new TraplineError(
    'EACCES',
    `program ${spec.name} reads offset ${last} of its context; ${target} has ${fixedSize} bytes`,
    { hint: `its format is in events/${target.replace(':', '/')}/format of trapline tracefs` },
  );
}

function processMap(
  session: TraceSession,
  index: number,
  name: string,
  spec: MapSpec,
  object: ObjectMapSpec,
): ProcessMap {
  const { updateMap, deleteKey } = session;
  if (updateMap === undefined || deleteKey === undefined)
    throw new TraplineError('ENOTSUP', 'this session has no maps that can be written');
  const check = (what: string, bytes: Uint8Array, size: number): void => {
    if (bytes.length !== size)
      throw new BpfError('EINVAL', `map ${name}: a ${what} of ${bytes.length} bytes, not ${size}`);
  };
  return {
    name,
    spec,
    object,
    entries: async () => (spec.type === 'ringbuf' ? [] : await session.readMap(index)),
    async lookup(key) {
      check('key', key, spec.keySize);
      const found = (await session.readMap(index)).find((entry) => Buffer.compare(entry.key, key) === 0);
      return found?.values[0];
    },
    async update(key, value, flags = 0) {
      check('key', key, spec.keySize);
      check('value', value, spec.valueSize);
      return await updateMap.call(session, index, key, value, flags);
    },
    async delete(key) {
      check('key', key, spec.keySize);
      return await deleteKey.call(session, index, key);
    },
  };
}
