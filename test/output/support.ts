import type { ScriptMap, ScriptType } from '../../src/lang/script.ts';
import type { DecodeContext } from '../../src/output/index.ts';

export const context: DecodeContext = {
  funcName: (address) => `func_${address}`,
  probeName: (program, cookie) => `kprobe:p${program}:${cookie}`,
  stack: (id) => (id === 7 ? ['inner (a.js:1:2)', 'outer (b.js:3:4)'] : undefined),
  realtimeNs: (ns) => 1_700_000_000_000_000_000n + ns,
  strftimeFormat: () => '%H:%M:%S',
};

export function u64s(...values: (bigint | number)[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(values.map((value) => BigInt.asUintN(64, BigInt(value)))).buffer);
}

export function text(value: string, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  bytes.set(new TextEncoder().encode(value).subarray(0, size));
  return bytes;
}

export function view(...parts: Uint8Array[]): DataView {
  const bytes = concat(...parts);
  return new DataView(bytes.buffer);
}

export function concat(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    bytes.set(part, offset);
    offset += part.length;
  }
  return bytes;
}

/** struct js_value */
export function jsValue(tag: number, data: Uint8Array, length = data.length, size = 40): Uint8Array {
  const bytes = new Uint8Array(size);
  new DataView(bytes.buffer).setUint32(0, tag, true);
  new DataView(bytes.buffer).setUint32(4, length, true);
  bytes.set(data.subarray(0, size - 8), 8);
  return bytes;
}

export const U64: ScriptType = { kind: 'int', size: 8, signed: false };
export const S64: ScriptType = { kind: 'int', size: 8, signed: true };
export const STR16: ScriptType = { kind: 'string', size: 16 };

export function scriptMap(
  name: string,
  value: ScriptMap['value'],
  key: readonly ScriptType[] = [],
): ScriptMap {
  let offset = 0;
  const fields = key.map((type) => {
    const field = { offset, type };
    offset += type.size;
    return field;
  });
  return {
    name,
    key: fields,
    value,
    spec: { name: name.slice(1), type: 'hash', keySize: Math.max(offset, 4), valueSize: 8, maxEntries: 16 },
  };
}
