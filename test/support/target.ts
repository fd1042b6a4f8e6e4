import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ArmReport, FunctionSymbol } from '../../src/arch/v8/types.ts';
import { ProgramBuilder, R0, R1, R2, R6, R10 } from '../../src/bpf/builder.ts';
import { type MapSpec, type VerifiedProgram, verifyProgram } from '../../src/bpf/index.ts';
import { PT_REGS, PT_REGS_SIZE } from '../../src/kernel/trace/pt-regs.ts';
import { attach } from '../../src/target/attach.ts';
import type { AttachRequest, SessionEvents, TraceSession } from '../../src/target/session.ts';

/** Maps of the counting program: 256 counters, one a cookie; the ring that a session needs. */
export const COUNT_MAPS: readonly MapSpec[] = [
  { name: 'counts', type: 'percpu_array', keySize: 4, valueSize: 8, maxEntries: 256 },
  { name: 'ring', type: 'ringbuf', keySize: 0, valueSize: 0, maxEntries: 1 << 16 },
];
export const COUNTS = 0;
export const RING = 1;

const verify = (name: string, builder: ProgramBuilder): VerifiedProgram =>
  verifyProgram({
    name,
    type: 'kprobe',
    insns: builder.build(),
    maps: COUNT_MAPS,
    ctx: { size: PT_REGS_SIZE, access: (_off, _size, write) => (write ? undefined : 'scalar') },
  });

/** Adds 1 to the counter that the cookie names. */
export function countProgram(): VerifiedProgram {
  const b = new ProgramBuilder();
  b.ldx(8, R6, R1, PT_REGS.bx).stx(4, R10, -4, R6);
  b.ldMap(R1, COUNTS).mov(R2, R10).add(R2, -4).call(1);
  const end = b.newLabel('end');
  b.jcond('==', R0, 0, end).mov(R1, 1).atomicAdd(8, R0, 0, R1).label(end).mov(R0, 0).exit();
  return verify('count', b);
}

/** Sends its cookie as a record of 16 bytes: u64 7, u64 cookie. */
export function recordProgram(): VerifiedProgram {
  const b = new ProgramBuilder();
  b.ldx(8, R6, R1, PT_REGS.bx).stx(8, R10, -8, R6).st(8, R10, -16, 7);
  b.ldMap(R1, RING).mov(R2, R10).add(R2, -16);
  b.mov({ reg: 3 }, 16).mov({ reg: 4 }, 0).call(130).mov(R0, 0).exit();
  return verify('record', b);
}

export interface Recorded extends SessionEvents {
  readonly armed: ArmReport[];
  readonly warnings: string[];
  readonly gone: string[];
  /** Cookies of records, in order. */
  readonly records: number[];
  lost: number;
}

export function recorder(): Recorded {
  const recorded: Recorded = {
    armed: [],
    warnings: [],
    gone: [],
    records: [],
    lost: 0,
    onRecord: (record) => recorded.records.push(Number(record.getBigUint64(8, true))),
    onArmed: (report) => recorded.armed.push(report),
    onLost: (count) => {
      recorded.lost += count;
    },
    onWarning: (message) => recorded.warnings.push(message),
    onGone: (reason) => recorded.gone.push(reason),
  };
  return recorded;
}

/** Programs that `openSession` loads. */
export const PROGRAM = { count: 0, record: 1 } as const;

/** A session with both programs loaded. */
export async function openSession(pid: number): Promise<{ session: TraceSession; events: Recorded }> {
  const events = recorder();
  const session = await attach(pid, events);
  try {
    await loadPrograms(session);
  } catch (error) {
    await session.detach().catch(() => undefined);
    throw error;
  }
  return { session, events };
}

export async function loadPrograms(session: TraceSession): Promise<void> {
  await session.load({
    maps: COUNT_MAPS,
    programs: [countProgram(), recordProgram()],
    paths: [{ keys: [], position: 0 }],
    usesAsyncId: false,
  });
}

/** The innermost function around the first occurrence of a marker in a file. */
export function functionAround(
  symbols: readonly FunctionSymbol[],
  file: string,
  marker: string,
): FunctionSymbol {
  const offset = readFileSync(file, 'utf8').indexOf(marker);
  if (offset === -1) throw new Error(`${file} has no ${marker}`);
  let best: FunctionSymbol | undefined;
  for (const symbol of symbols) {
    if (symbol.file !== file || symbol.start > offset || symbol.end <= offset) continue;
    if (best === undefined || symbol.end - symbol.start < best.end - best.start) best = symbol;
  }
  if (best === undefined) throw new Error(`no function of ${file} is around ${marker}`);
  return best;
}

export function entryOf(symbol: FunctionSymbol, cookie = 0, program: number = PROGRAM.count): AttachRequest {
  return { program, event: 'entry', cookie, at: { kind: 'function', symbol } };
}

/** Counters by cookie, summed over CPUs. */
export async function readCounts(session: TraceSession): Promise<number[]> {
  const counts: number[] = [];
  for (const { key, values } of await session.readMap(COUNTS)) {
    const cookie = new DataView(key.buffer, key.byteOffset).getUint32(0, true);
    counts[cookie] = values.reduce(
      (sum, value) => sum + Number(new DataView(value.buffer, value.byteOffset).getBigUint64(0, true)),
      0,
    );
  }
  return counts;
}

/** Waits until a condition holds; fails with what it is about. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  ms = 30_000,
): Promise<void> {
  const deadline = Date.now() + ms;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`still not: ${what}`);
    await sleep(10);
  }
}
