/** Decodes protocol buffers by a schema in the language of .proto files: what a compiler of them would read, and nothing of the writer's. */

interface FieldType {
  readonly name: string;
  readonly type: string;
  readonly repeated: boolean;
}
export type Decoded = Record<string, unknown>;
export type Schema = ReadonlyMap<string, ReadonlyMap<number, FieldType>>;

/** Messages and their fields; enums are numbers. `oneof` groups are read as the fields in them. */
export function parseProto(text: string): Schema {
  const schema = new Map<string, Map<number, FieldType>>();
  const stack: string[] = [];
  for (const line of text.replace(/\/\/.*$/gm, '').split('\n')) {
    const open = /^\s*(message|oneof|enum)\s+(\w+)\s*\{/.exec(line);
    if (open !== null) {
      stack.push(open[1] === 'message' ? (open[2] as string) : `:${open[1]}`);
      if (open[1] === 'message') schema.set(open[2] as string, new Map());
    } else if (/^\s*\}/.test(line)) stack.pop();
    else {
      const field = /^\s*(?:(optional|repeated)\s+)?(\w+)\s+(\w+)\s*=\s*(\d+)/.exec(line);
      if (field === null || stack.at(-1) === ':enum') continue;
      const message = stack.findLast((one) => !one.startsWith(':')) as string;
      const [, label, type = '', name = '', number] = field;
      schema.get(message)?.set(Number(number), { name, type, repeated: label === 'repeated' });
    }
  }
  return schema;
}

const VARINTS = new Set([
  'uint32',
  'uint64',
  'int32',
  'int64',
  'bool',
  'Type',
  'BuiltinClock',
  'ChromeThreadType',
]);
const decoder = new TextDecoder('utf-8', { fatal: true });

/** A message; unknown fields and wrong wire types are errors. */
export function decode(schema: Schema, message: string, bytes: Uint8Array): Decoded {
  const fields = schema.get(message);
  if (fields === undefined) throw new Error(`no message ${message}`);
  const result: Decoded = {};
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++];
      if (byte === undefined || shift > 63n) throw new Error(`${message}: a number has no end`);
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
  };
  while (at < bytes.length) {
    const tag = Number(varint());
    const field = fields.get(tag >>> 3);
    if (field === undefined) throw new Error(`${message} has no field ${tag >>> 3}`);
    const { name, type, repeated } = field;
    let value: unknown;
    if (VARINTS.has(type)) {
      if ((tag & 7) !== 0) throw new Error(`${message}.${name} has wire type ${tag & 7}`);
      const raw = varint();
      value = type.startsWith('int') ? BigInt.asIntN(64, raw) : raw;
    } else {
      if ((tag & 7) !== 2) throw new Error(`${message}.${name} has wire type ${tag & 7}`);
      const length = Number(varint());
      if (at + length > bytes.length) throw new Error(`${message}.${name} reaches over the end`);
      const part = bytes.subarray(at, at + length);
      at += length;
      value = type === 'string' ? decoder.decode(part) : decode(schema, type, part);
    }
    if (repeated) result[name] = [...((result[name] as unknown[]) ?? []), value];
    else if (name in result) throw new Error(`${message}.${name} is there twice`);
    else result[name] = value;
  }
  return result;
}
