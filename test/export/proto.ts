/** Decodes protocol buffers by a schema in the language of .proto files: what a compiler of them would read, and nothing of the writer's. */

interface FieldType {
  readonly name: string;
  readonly type: string;
  readonly repeated: boolean;
  /** The `oneof` that it is in: of its fields one is there. */
  readonly group: string | undefined;
}
export type Decoded = Record<string, unknown>;
export interface Schema {
  readonly messages: ReadonlyMap<string, ReadonlyMap<number, FieldType>>;
  /** Numbers of enums, by their names. */
  readonly enums: ReadonlyMap<string, ReadonlySet<number>>;
}

/** Messages with their fields, and enums; names are not qualified. */
export function parseProto(text: string): Schema {
  const messages = new Map<string, Map<number, FieldType>>();
  const enums = new Map<string, Set<number>>();
  const stack: string[] = [];
  for (const line of text.replace(/\/\/.*$/gm, '').split('\n')) {
    const open = /^\s*(message|oneof|enum)\s+(\w+)\s*\{/.exec(line);
    if (open !== null) {
      stack.push(open[1] === 'message' ? (open[2] as string) : `:${open[1]} ${open[2]}`);
      if (open[1] === 'message') messages.set(open[2] as string, new Map());
      if (open[1] === 'enum') enums.set(open[2] as string, new Set());
    } else if (/^\s*\}/.test(line)) stack.pop();
    else {
      const inside = /^:(\w+) (\w+)$/.exec(stack.at(-1) ?? '');
      const value = /^\s*\w+\s*=\s*(\d+);/.exec(line)?.[1];
      if (inside?.[1] === 'enum') {
        if (value !== undefined) enums.get(inside[2] as string)?.add(Number(value));
        continue;
      }
      const field = /^\s*(?:(optional|repeated)\s+)?(\w+)\s+(\w+)\s*=\s*(\d+)/.exec(line);
      if (field === null || stack.length === 0) continue;
      const message = stack.findLast((one) => !one.startsWith(':')) as string;
      const [, label, type = '', name = '', number] = field;
      const group = inside?.[1] === 'oneof' ? inside[2] : undefined;
      messages.get(message)?.set(Number(number), { name, type, repeated: label === 'repeated', group });
    }
  }
  return { messages, enums };
}

const VARINTS = new Set(['uint32', 'uint64', 'int32', 'int64', 'bool']);
const decoder = new TextDecoder('utf-8', { fatal: true });

/** A message; unknown fields and numbers of enums, wrong wire types and two fields of a `oneof` are errors. */
export function decode(schema: Schema, message: string, bytes: Uint8Array): Decoded {
  const fields = schema.messages.get(message);
  if (fields === undefined) throw new Error(`no message ${message}`);
  const result: Decoded = {};
  const groups = new Set<string>();
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
    const { name, type, repeated, group } = field;
    if (group !== undefined) {
      if (groups.has(group)) throw new Error(`${message} has two of ${group}`);
      groups.add(group);
    }
    let value: unknown;
    const numbers = schema.enums.get(type);
    if (VARINTS.has(type) || numbers !== undefined) {
      if ((tag & 7) !== 0) throw new Error(`${message}.${name} has wire type ${tag & 7}`);
      const raw = varint();
      if (numbers?.has(Number(raw)) === false) throw new Error(`${message}.${name} is no ${type}: ${raw}`);
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
