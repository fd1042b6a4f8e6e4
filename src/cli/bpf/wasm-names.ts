/** Names of WebAssembly instructions by opcode, and what stands behind each in the binary. */

/** The immediate operands of an instruction. */
export type Immediate =
  | 'none'
  | 'block'
  | 'index'
  | 'table'
  | 'memarg'
  | 'i32'
  | 'i64'
  | 'f32'
  | 'f64'
  | 'zero'
  | 'indirect';

export interface WasmOp {
  readonly name: string;
  readonly immediate: Immediate;
}

const ops = new Map<number, WasmOp>();

function add(first: number, immediate: Immediate, names: string): void {
  for (const [n, name] of names.split(' ').entries()) ops.set(first + n, { name, immediate });
}

add(0x00, 'none', 'unreachable nop');
add(0x02, 'block', 'block loop if');
add(0x05, 'none', 'else');
add(0x0b, 'none', 'end');
add(0x0c, 'index', 'br br_if');
add(0x0e, 'table', 'br_table');
add(0x0f, 'none', 'return');
add(0x10, 'index', 'call');
add(0x11, 'indirect', 'call_indirect');
add(0x12, 'index', 'return_call');
add(0x13, 'indirect', 'return_call_indirect');
add(0x1a, 'none', 'drop select');
add(0x20, 'index', 'local.get local.set local.tee global.get global.set');
add(0x25, 'index', 'table.get table.set');
add(
  0x28,
  'memarg',
  'i32.load i64.load f32.load f64.load i32.load8_s i32.load8_u i32.load16_s i32.load16_u i64.load8_s i64.load8_u i64.load16_s i64.load16_u i64.load32_s i64.load32_u i32.store i64.store f32.store f64.store i32.store8 i32.store16 i64.store8 i64.store16 i64.store32',
);
add(0x3f, 'zero', 'memory.size memory.grow');
add(0x41, 'i32', 'i32.const');
add(0x42, 'i64', 'i64.const');
add(0x43, 'f32', 'f32.const');
add(0x44, 'f64', 'f64.const');
const INT_TESTS = 'eqz eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u';
const FLOAT_TESTS = 'eq ne lt gt le ge';
const INT_OPS = 'clz ctz popcnt add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr';
const FLOAT_OPS = 'abs neg ceil floor trunc nearest sqrt add sub mul div min max copysign';
const of = (type: string, names: string): string =>
  names
    .split(' ')
    .map((name) => `${type}.${name}`)
    .join(' ');
add(
  0x45,
  'none',
  [of('i32', INT_TESTS), of('i64', INT_TESTS), of('f32', FLOAT_TESTS), of('f64', FLOAT_TESTS)].join(' '),
);
add(
  0x67,
  'none',
  [of('i32', INT_OPS), of('i64', INT_OPS), of('f32', FLOAT_OPS), of('f64', FLOAT_OPS)].join(' '),
);
add(
  0xa7,
  'none',
  'i32.wrap_i64 i32.trunc_f32_s i32.trunc_f32_u i32.trunc_f64_s i32.trunc_f64_u i64.extend_i32_s i64.extend_i32_u i64.trunc_f32_s i64.trunc_f32_u i64.trunc_f64_s i64.trunc_f64_u f32.convert_i32_s f32.convert_i32_u f32.convert_i64_s f32.convert_i64_u f32.demote_f64 f64.convert_i32_s f64.convert_i32_u f64.convert_i64_s f64.convert_i64_u f64.promote_f32 i32.reinterpret_f32 i64.reinterpret_f64 f32.reinterpret_i32 f64.reinterpret_i64 i32.extend8_s i32.extend16_s i64.extend8_s i64.extend16_s i64.extend32_s',
);

add(0xd1, 'none', 'ref.is_null');

/** One-byte opcodes. */
export const WASM_OPS: ReadonlyMap<number, WasmOp> = ops;

/** Behind 0xfc; `zeros` bytes follow, or, where that is -1, the index of a table. */
export const WASM_FC: ReadonlyMap<number, { name: string; zeros: number }> = new Map(
  'i32.trunc_sat_f32_s i32.trunc_sat_f32_u i32.trunc_sat_f64_s i32.trunc_sat_f64_u i64.trunc_sat_f32_s i64.trunc_sat_f32_u i64.trunc_sat_f64_s i64.trunc_sat_f64_u memory.init data.drop memory.copy memory.fill table.init elem.drop table.copy table.grow table.size table.fill'
    .split(' ')
    .map((name, code) => [code, { name, zeros: code === 10 ? 2 : code === 11 ? 1 : code > 11 ? -1 : 0 }]),
);

const WIDTHS = ['i32', 'i64', 'i32:8', 'i32:16', 'i64:8', 'i64:16', 'i64:32'];

/** Behind 0xfe: names and bytes that are accessed. */
export const WASM_FE: ReadonlyMap<number, { name: string; bytes: number }> = new Map([
  [0x00, { name: 'memory.atomic.notify', bytes: 4 }],
  [0x01, { name: 'memory.atomic.wait32', bytes: 4 }],
  [0x02, { name: 'memory.atomic.wait64', bytes: 8 }],
  ...atomics(0x10, 'load'),
  ...atomics(0x17, 'store'),
  ...['add', 'sub', 'and', 'or', 'xor', 'xchg', 'cmpxchg'].flatMap((name, n) =>
    atomics(0x1e + n * 7, `rmw.${name}`),
  ),
]);

function atomics(first: number, what: string): [number, { name: string; bytes: number }][] {
  return WIDTHS.map((width, n) => {
    const [type, bits] = width.split(':') as [string, string?];
    const bytes = bits === undefined ? (type === 'i32' ? 4 : 8) : Number(bits) / 8;
    const suffix = bits === undefined || what === 'store' ? '' : '_u';
    const op = what.startsWith('rmw.') ? `rmw${bits ?? ''}${what.slice(3)}` : `${what}${bits ?? ''}`;
    return [first + n, { name: `${type}.atomic.${op}${suffix}`, bytes }];
  });
}
