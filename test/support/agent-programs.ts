import type { ProgramImage } from '../../src/agent/protocol.ts';
import { ProgramBuilder, R0, R1, R2, R3, R4, R6, R7, R8 } from '../../src/bpf/builder.ts';
import { HELPERS } from '../../src/bpf/helpers/helpers.ts';
import { jitProgram } from '../../src/bpf/jit/jit.ts';
import { createMemory, layoutMemory } from '../../src/bpf/layout.ts';
import { initMemory } from '../../src/bpf/maps/map.ts';
import type { MapSpec } from '../../src/bpf/maps/map-layout.ts';
import type { VerifiedProgram } from '../../src/bpf/verifier/types.ts';
import { JS_KFUNCS, type JsKfuncName } from '../../src/kernel/trace/js-kfuncs.ts';
import { PT_REGS, READS } from '../../src/kernel/trace/pt-regs.ts';

/** Bytes of one record, and where its fields are. The harness in test/agent/fixtures decodes them. */
export const RECORD = {
  size: 512,
  most: 512,
  cookie: 0,
  registers: { di: 8, si: 16, dx: 24, cx: 32, r8: 40, r9: 48, r10: 56, ax: 64, r11: 72, r12: 80, ip: 88 },
  /** js_str() of argument 0 by path 1, and its result as s32 */
  textResult: 96,
  text: 104,
  textSize: 64,
  /** js_value() of argument 0 by path 1, of the return value, of the error */
  value: 168,
  retval: 296,
  error: 376,
  valueSize: 128,
  smallSize: 80,
  stack: 456,
  asyncId: 464,
  length: 472,
  truthy: 480,
  id: 488,
  arg7: 496,
  comm: 168,
  commSize: 24,
} as const;

export const MAPS: readonly MapSpec[] = [
  { name: 'log', type: 'array', keySize: 4, valueSize: 8 + RECORD.size * RECORD.most, maxEntries: 1 },
  { name: 'count', type: 'array', keySize: 4, valueSize: 8, maxEntries: 1 },
];

/** Every test program takes registers and kfuncs as the JIT compiles them; no verifier stands before these. */
function compile(
  index: number,
  reads: number,
  kfuncs: readonly JsKfuncName[],
  helpers: readonly string[],
  emit: (builder: ProgramBuilder) => void,
): ProgramImage {
  const builder = new ProgramBuilder();
  emit(builder);
  const insns = builder.build();
  const verified: VerifiedProgram = {
    name: `test${index}`,
    type: 'kprobe',
    insns,
    maps: MAPS,
    ctxReads: new Set(),
    kfuncsUsed: kfuncs.map((name) => JS_KFUNCS[name]),
    helpersUsed: helpers,
    stackDepth: 512,
    subprogs: [0],
    reachable: insns.map(() => true),
    verifiedInsns: insns.length,
    memoryKinds: new Map(),
    log: '',
  };
  return { index, reads, wasm: Buffer.from(jitProgram(verified, testLayout).wasm).toString('base64') };
}

export const testLayout = layoutMemory(MAPS, { ncpu: 2 });

/** r7 = address of the next record; the count in the log's first word goes up. */
function nextRecord(b: ProgramBuilder): void {
  const room = b.newLabel('room');
  b.mov(R6, R1).ldMapValue(R8, 0, 0).ldx(8, R7, R8, 0);
  b.jcond('<', R7, RECORD.most, room).mov(R0, 0).exit().label(room);
  b.mov(R0, R7).add(R0, 1).stx(8, R8, 0, R0);
  b.mul(R7, RECORD.size).add(R7, R8).add(R7, 8);
}

function storeRegisters(b: ProgramBuilder, names: readonly (keyof typeof RECORD.registers)[]): void {
  for (const name of names) b.ldx(8, R0, R6, PT_REGS[name]).stx(8, R7, RECORD.registers[name], R0);
  b.ldx(8, R0, R6, PT_REGS.bx).stx(8, R7, RECORD.cookie, R0);
}

function read(
  b: ProgramBuilder,
  kfunc: 'js_str' | 'js_value' | 'js_buf',
  from: keyof typeof RECORD.registers,
  at: number,
  size: number,
  path: number,
): void {
  b.mov(R1, R7).add(R1, at).mov(R2, size).ldx(8, R3, R6, PT_REGS[from]).mov(R4, path);
  b.kcall(JS_KFUNCS[kfunc].id);
}

/** The programs of the harness by name. */
export const PROGRAM = {
  /** Registers only. */
  registers: 0,
  /** Registers, js_value of the return value and the error. */
  outcome: 1,
  /** js_str, js_value, js_len and js_truthy of argument 0 by path 1. */
  read: 2,
  /** js_stackid(16) */
  stack: 3,
  /** js_asyncid() */
  asyncId: 4,
  /** Reads nothing, adds 1 to the count. */
  count: 5,
  /** Divides through unreachable: a Wasm trap. */
  trap: 6,
  /** js_buf of argument 0 by path 1 into `text`. */
  buf: 7,
  /** js_arg(7) and js_id(argument 0). */
  more: 8,
  /** js_stackid(3) */
  shortStack: 9,
  /** Every helper that the module imports; probe_read_kernel_str of argument 0 into `text`, comm into `comm`. */
  helpers: 10,
} as const;

const allRegisters = Object.keys(RECORD.registers) as (keyof typeof RECORD.registers)[];
const everything =
  READS.args | READS.this | READS.retval | READS.error | READS.argc | READS.ip | READS.cookie;
const few = ['ip', 'r12'] as const;

export function testPrograms(): ProgramImage[] {
  return [
    compile(PROGRAM.registers, everything, [], [], (b) => {
      nextRecord(b);
      storeRegisters(b, allRegisters);
      b.mov(R0, 0).exit();
    }),
    compile(PROGRAM.outcome, everything, ['js_value'], [], (b) => {
      nextRecord(b);
      storeRegisters(b, allRegisters);
      read(b, 'js_value', 'ax', RECORD.retval, RECORD.smallSize, 0);
      read(b, 'js_value', 'r11', RECORD.error, RECORD.smallSize, 0);
      b.mov(R0, 0).exit();
    }),
    compile(
      PROGRAM.read,
      READS.ip | READS.argc | READS.cookie | 1,
      ['js_value', 'js_str', 'js_len', 'js_truthy', 'js_path'],
      [],
      (b) => {
        nextRecord(b);
        storeRegisters(b, [...few, 'di']);
        read(b, 'js_str', 'di', RECORD.text, RECORD.textSize, 1);
        b.stx(8, R7, RECORD.textResult, R0);
        read(b, 'js_value', 'di', RECORD.value, RECORD.valueSize, 1);
        b.ldx(8, R1, R6, PT_REGS.di).mov(R2, 1).kcall(JS_KFUNCS.js_len.id).stx(8, R7, RECORD.length, R0);
        b.ldx(8, R1, R6, PT_REGS.di).mov(R2, 1).kcall(JS_KFUNCS.js_truthy.id).stx(8, R7, RECORD.truthy, R0);
        b.ldx(8, R1, R6, PT_REGS.di).mov(R2, 1).kcall(JS_KFUNCS.js_path.id);
        b.stx(8, R7, RECORD.registers.ax, R0);
        b.mov(R0, 0).exit();
      },
    ),
    compile(PROGRAM.stack, READS.cookie | READS.ip | READS.argc, ['js_stackid'], [], (b) => {
      nextRecord(b);
      storeRegisters(b, few);
      b.mov(R1, 16).kcall(JS_KFUNCS.js_stackid.id).stx(8, R7, RECORD.stack, R0).mov(R0, 0).exit();
    }),
    compile(PROGRAM.asyncId, READS.cookie | READS.ip | READS.argc | 1, ['js_asyncid', 'js_str'], [], (b) => {
      nextRecord(b);
      storeRegisters(b, few);
      b.kcall(JS_KFUNCS.js_asyncid.id).stx(8, R7, RECORD.asyncId, R0);
      read(b, 'js_str', 'di', RECORD.text, RECORD.textSize, 0);
      b.mov(R0, 0).exit();
    }),
    compile(PROGRAM.count, 0, [], [], (b) => {
      b.ldMapValue(R1, 1, 0).ldx(8, R0, R1, 0).add(R0, 1).stx(8, R1, 0, R0).mov(R0, 0).exit();
    }),
    // Out of the memory's bounds: a Wasm trap, as a defect in verifier or JIT would give.
    compile(PROGRAM.trap, 0, [], [], (b) => {
      b.lddw(R1, 0x7fff_0000).ldx(8, R0, R1, 0).exit();
    }),
    compile(PROGRAM.buf, READS.cookie | READS.ip | READS.argc | 1, ['js_buf'], [], (b) => {
      nextRecord(b);
      storeRegisters(b, [...few, 'di']);
      read(b, 'js_buf', 'di', RECORD.text, RECORD.textSize, 1);
      b.stx(8, R7, RECORD.textResult, R0).mov(R0, 0).exit();
    }),
    compile(
      PROGRAM.more,
      READS.cookie | READS.ip | READS.argc | READS.allArgs | 1,
      ['js_arg', 'js_id'],
      [],
      (b) => {
        nextRecord(b);
        storeRegisters(b, [...few, 'di']);
        b.mov(R1, 7).kcall(JS_KFUNCS.js_arg.id).stx(8, R7, RECORD.arg7, R0);
        b.ldx(8, R1, R6, PT_REGS.di).kcall(JS_KFUNCS.js_id.id).stx(8, R7, RECORD.id, R0).mov(R0, 0).exit();
      },
    ),
    compile(PROGRAM.shortStack, READS.cookie | READS.ip | READS.argc, ['js_stackid'], [], (b) => {
      nextRecord(b);
      storeRegisters(b, few);
      b.mov(R1, 3).kcall(JS_KFUNCS.js_stackid.id).stx(8, R7, RECORD.stack, R0).mov(R0, 0).exit();
    }),
    compile(
      PROGRAM.helpers,
      READS.cookie | READS.ip | READS.argc | 1,
      [],
      [
        'ktime_get_ns',
        'get_prandom_u32',
        'get_current_pid_tgid',
        'get_current_uid_gid',
        'get_current_comm',
        'probe_read_kernel_str',
        'probe_read_kernel',
      ],
      (b) => {
        nextRecord(b);
        storeRegisters(b, few);
        b.call(HELPERS.ktime_get_ns.id).stx(8, R7, RECORD.registers.di, R0);
        b.call(HELPERS.get_prandom_u32.id).stx(8, R7, RECORD.registers.si, R0);
        b.call(HELPERS.get_current_pid_tgid.id).stx(8, R7, RECORD.registers.dx, R0);
        b.call(HELPERS.get_current_uid_gid.id).stx(8, R7, RECORD.registers.cx, R0);
        b.mov(R1, R7).add(R1, RECORD.comm).mov(R2, RECORD.commSize).call(HELPERS.get_current_comm.id);
        b.stx(8, R7, RECORD.registers.r8, R0);
        b.mov(R1, R7).add(R1, RECORD.text).mov(R2, RECORD.textSize).ldx(8, R3, R6, PT_REGS.di);
        b.call(HELPERS.probe_read_kernel_str.id).stx(8, R7, RECORD.textResult, R0);
        b.mov(R1, R7).add(R1, RECORD.retval).mov(R2, 8).mov(R3, 64).call(HELPERS.probe_read_kernel.id);
        b.stx(8, R7, RECORD.registers.r9, R0).mov(R0, 0).exit();
      },
    ),
  ];
}

/** Everything a process needs to run the agent: JSON. */
export function harnessInput(): Record<string, unknown> {
  const memory = createMemory(testLayout);
  initMemory(memory, testLayout);
  const bytes = new Uint8Array(memory.buffer);
  // What initMemory() wrote: sparse, as [offset, byte] pairs.
  const initial: [number, number][] = [];
  for (let i = 0; i < bytes.length; i++) if (bytes[i] !== 0) initial.push([i, bytes[i]!]);
  const log = testLayout.maps[0]!;
  const count = testLayout.maps[1]!;
  return {
    layout: testLayout,
    initial,
    programs: testPrograms(),
    RECORD,
    PROGRAM,
    log: log.address + log.geometry.data,
    count: count.address + count.geometry.data,
    handle: { hi16: 0x7e57 },
  };
}
