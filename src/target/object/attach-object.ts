/** Objects of clang on a process: their kprobe, tracepoint and raw tracepoint programs run where it works. */

import type { PrintkCall } from '../../agent/protocol.ts';
import type { ArmReport, ArmWay } from '../../arch/v8/types.ts';
import { anObject, checkArgument, having, optional } from '../../arguments.ts';
import {
  type BpfObject,
  type BtfValue,
  type CompiledObject,
  decodeValue,
  formatText,
  type LoadObjectOptions,
  type ProgramSpec,
} from '../../bpf/index.ts';
import { TraplineError } from '../../errors.ts';
import { JS_KFUNC_DECLS } from '../../kernel/trace/js-kfuncs.ts';
import { programId } from '../../kernel/trace/prog-array.ts';
import { aPid, attach } from '../attach.ts';
import { selfSession } from '../self.ts';
import type { AttachRequest, DetachReport, SessionEvents, TraceSession } from '../session.ts';
import { FrameAddresses } from './frames.ts';
import { arrayOwners, NCPU, type ProcessMap, placedMaps, processMap } from './maps.ts';
import { findPlaces, type Plan, planOf } from './places.ts';
import { checkPrograms, contexts } from './programs.ts';

/** Bytes of a perf event array's buffer: what perf_buffer__new() is given by most tools. */
const PERF_BYTES = 1 << 18;

export interface AttachObjectOptions
  extends Pick<
    LoadObjectOptions,
    'programs' | 'types' | 'attachTo' | 'mapSpecs' | 'kconfig' | 'kernelVersion' | 'targetBtf'
  > {
  readonly way?: 'auto' | ArmWay;
  /** The longest stop of the process that arming may cause, in ms; 100 by default. */
  readonly maxPauseMs?: number;
  /** What bpf_get_attach_cookie() answers, by the names of programs: whole numbers from 0 to 2^53 - 1. Default 0. */
  readonly cookies?: Readonly<Record<string, number | bigint>>;
  /** A line of bpf_trace_printk(), without its newline. */
  readonly onPrint?: (line: string) => void;
  /** A record of a ring buffer or perf event array, whose name follows; the bytes are the caller's. */
  readonly onRecord?: (record: Uint8Array, map: string) => void;
  /** Bytes of each perf event array's buffer: a power of two from 4096 on, 262,144 by default. */
  readonly perfBytes?: number;
  /** Records that found no room, and lines of bpf_trace_printk() that were too many (undefined: how many is not known). */
  readonly onLost?: (count: number | undefined) => void;
  readonly onWarning?: (message: string) => void;
  /** The process exited, or the connection broke. */
  readonly onGone?: (reason: string) => void;
}

/** A program, and the places that it runs at. */
export interface AttachedProgram {
  readonly spec: ProgramSpec;
  /** `server.js:handle`, `tracepoint:shop:checkout`; none of a program that tail calls lead to. */
  readonly places: readonly string[];
  /** Names of the kernel's helpers that it calls. */
  readonly helpers: readonly string[];
  /** What a program array holds for it, as four bytes. */
  readonly id: number;
}

/** An object on a process, until detach(). */
export class AttachedObject implements AsyncDisposable {
  readonly session: TraceSession;
  readonly programs: readonly AttachedProgram[];
  /** By name; `.bss` is a section of variables. */
  readonly maps: ReadonlyMap<string, ProcessMap>;
  readonly object: BpfObject;
  readonly #addresses: FrameAddresses;
  readonly #functions: ReadonlyMap<bigint, string>;
  #detached: Promise<DetachReport> | undefined;

  constructor(
    session: TraceSession,
    object: BpfObject,
    programs: readonly AttachedProgram[],
    maps: ReadonlyMap<string, ProcessMap>,
    addresses: FrameAddresses,
    functions: ReadonlyMap<bigint, string>,
  ) {
    this.#functions = functions;
    this.object = object;
    this.#addresses = addresses;
    this.session = session;
    this.programs = programs;
    this.maps = maps;
  }

  /** A global variable as it is in the process now: a value of its type, bytes where the object has none. OBJ_NO_GLOBAL. */
  async get(name: string): Promise<BtfValue> {
    const { globals, spec } = this.object;
    const { map, offset, size, typeId } = globals.variable(name);
    const section = (await this.maps.get(map)?.lookup(new Uint8Array(4))) ?? new Uint8Array(offset + size);
    const bytes = section.subarray(offset, offset + size);
    return spec.btf === undefined || typeId === 0 ? bytes : decodeValue(spec.btf, typeId, bytes, name);
  }

  /**
   * What an address of a stack map or of bpf_get_stack() stands for, `name (file:line:column)`, or one of bpf_get_func_ip(),
   * `server.js:handle`. Stacks are known after flush().
   */
  frame(address: bigint): string | undefined {
    return this.#functions.get(address) ?? this.#addresses.all().get(address);
  }

  /** All of them. */
  frames(): ReadonlyMap<bigint, string> {
    return new Map([...this.#functions, ...this.#addresses.all()]);
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
  checkArgument('attachObject()', 'pid', pid, aPid);
  checkArgument(
    'attachObject()',
    'object',
    object,
    having('an object, as openObject() gives it', 'load', 'compile'),
  );
  checkArgument('attachObject()', 'options', options, optional(anObject));
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
  const mayBeCalled = compiled.maps.some(({ spec }) => spec.type === 'prog_array');
  const plans = compiled.programs.map(({ spec, verified }) =>
    planOf(spec, verified, attachTo?.[spec.name] ?? spec.attachTo, mayBeCalled),
  );
  const specs = placedMaps(compiled, options.perfBytes ?? PERF_BYTES);
  checkPrograms(compiled, specs);
  const cookies = cookiesOf(plans, options.cookies ?? {});
  const owners = arrayOwners(compiled);
  let closing = false;
  const events: SessionEvents = {
    onRecord: (record, ring) =>
      options.onRecord?.(
        new Uint8Array(record.buffer, record.byteOffset, record.byteLength).slice(),
        compiled.maps[ring]!.name,
      ),
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
    const loaded = contexts(session, plans, places, specs);
    await session.load({
      maps: loaded.maps,
      programs: loaded.programs,
      paths: loaded.paths,
      usesAsyncId: false,
    });
    const addresses = new FrameAddresses((id) => session.stack(id));
    const attached = plans.map(
      ({ spec, verified }, i): AttachedProgram => ({
        spec,
        helpers: verified.helpersUsed,
        places: places[i]!.map(({ name }) => name),
        id: programId(loaded.numbers[i]!),
      }),
    );
    const types = new Map<number, string>(
      plans.map(({ verified }, i) => [programId(loaded.numbers[i]!), verified.type]),
    );
    const live = new Map(
      compiled.maps.map((map, index) => {
        const programsOf = { types, owner: owners.get(index) };
        return [map.name, processMap(session, index, map, addresses, programsOf)];
      }),
    );
    await fillMaps(compiled, live, new Map(attached.map(({ spec, id }) => [spec.name, id])));
    const requests = plans.flatMap((plan, i) =>
      places[i]!.map(
        ({ at }): AttachRequest => ({
          program: loaded.numbers[i]!,
          event: 'event' in plan ? plan.event : 'entry',
          cookie: cookies.get(plan.spec.name) ?? 0,
          at,
        }),
      ),
    );
    await session.attach(requests, { way: options.way ?? 'auto', maxPauseMs, maxactive: 0 });
    const functions = new Map(
      places.flat().flatMap(({ name, at }) => (at.kind === 'function' ? [[at.symbol.address, name]] : [])),
    );
    return new AttachedObject(session, object, attached, live, addresses, functions);
  } catch (error) {
    closing = true;
    await session.detach().catch(() => undefined);
    throw error;
  }
}

/** ENOENT for a program that is not attached to a place; EINVAL for a number that a site does not hold. */
function cookiesOf(
  plans: readonly Plan[],
  given: Readonly<Record<string, number | bigint>>,
): ReadonlyMap<string, number> {
  const names = plans.filter(({ kind }) => kind !== 'called').map(({ spec }) => spec.name);
  return new Map(
    Object.entries(given).map(([name, cookie]) => {
      if (!names.includes(name))
        throw new TraplineError('ENOENT', `a cookie for ${name}: no such program is attached to a place`, {
          hint: `there are: ${names.join(', ')}`,
        });
      const number = Number(cookie);
      if (number < 0 || !Number.isSafeInteger(number))
        throw new TraplineError('EINVAL', `program ${name}: the cookie ${cookie} is not from 0 to 2^53 - 1`);
      return [name, number];
    }),
  );
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

/** First contents: of sections of variables, and of program arrays. */
async function fillMaps(
  { maps }: CompiledObject,
  live: ReadonlyMap<string, ProcessMap>,
  ids: ReadonlyMap<string, number>,
): Promise<void> {
  for (const { name, value, spec, object } of maps) {
    const put = async (index: number, bytes: Uint8Array): Promise<void> => {
      const errno = await live.get(name)!.update(u32(index), bytes);
      if (errno !== 0)
        throw new TraplineError('EINVAL', `map ${name}: its initial value was refused (${errno})`);
    };
    if (value !== undefined) await put(0, value);
    if (spec.type !== 'prog_array') continue;
    for (const [index, program] of object.slots) {
      const id = ids.get(program);
      if (id !== undefined) await put(index, u32(id));
    }
  }
}

const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
