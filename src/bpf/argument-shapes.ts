/** Shapes of the machine's own things: told by members that each of them has, so that nothing is imported here. */
import {
  aBigint,
  aNumber,
  anInteger,
  anObject,
  aRecord,
  aString,
  atLeast,
  having,
  listOf,
  optional,
  type Shape,
  shape,
  stringOf,
} from './arguments.ts';
import type { MapSpec } from './maps/map-spec.ts';

export const aBtf = having('a Btf, as parseBtf() gives it', 'kind', 'startId', 'typeCount');
/** Which ids there are is the types' to say. */
export const aTypeId = aNumber;
export const aMachine = having(
  'a machine, as createMachine() gives it',
  'memory',
  'createMap',
  'loadProgram',
);
export const aMap = having('a map, as createMap() gives it', 'spec', 'placed');
export const aMemory = having('a WebAssembly.Memory', 'buffer', 'grow');
export const aLayout = having('a layout, as layoutMemory() gives it', 'ncpu', 'maps', 'byteLength');
export const aPlacedMap = having('the place of a map in a layout', 'spec', 'address', 'geometry');
/** There are many of them: each property is read by its name, which is faster than `having`. */
export const anInsn = shape('an instruction, as assemble() gives it', (value) => {
  const { code, dst, src, off, imm } = (value ?? {}) as Record<string, unknown>;
  return (
    code !== undefined && dst !== undefined && src !== undefined && off !== undefined && imm !== undefined
  );
});
export const insnList = listOf(anInsn);
export const aVerifiedProgram = having('a verified program, as verify() gives it', 'insns', 'maps', 'type');
export const anObjectFile = having('an object, as openObject() gives it', 'load', 'spec');
export const aFilter = listOf(having('an instruction of a classic filter', 'code', 'jt', 'jf', 'k'));
export const aDataView = shape('a DataView', (value) => value instanceof DataView);

/** The sizes and types themselves are checked as the kernel does it. */
export const aMapSpec: Shape = aRecord<MapSpec>(
  {
    name: aString,
    type: stringOf("a map's type: 'hash', 'array', 'ringbuf', …"),
    keySize: atLeast(0),
    valueSize: atLeast(0),
    maxEntries: atLeast(0),
    flags: optional(anInteger(0, 0xffff_ffff)),
    numaNode: optional(anInteger()),
    mapExtra: optional(aBigint),
    innerMap: optional(anObject),
    keyTypeId: optional(aTypeId),
    valueTypeId: optional(aTypeId),
    record: optional(anObject),
  },
  "a map's spec: { name, type, keySize, valueSize, maxEntries }",
);
