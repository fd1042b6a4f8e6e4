import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { BtfBuilder, BtfError, btfKinds, parseBtf, validateBtf } from '../../src/bpf/btf/index.ts';
import { unless } from '../support/skip.ts';
import { kernelBtfCheck } from './support-btf-kernel.ts';
import { everyKind, mutate, randomizer } from './support-btf-samples.ts';

const VMLINUX = '/sys/kernel/btf/vmlinux';
const kernel = kernelBtfCheck();

function verdict(bytes: Uint8Array): BtfError | undefined {
  try {
    validateBtf(parseBtf(bytes));
    return undefined;
  } catch (error) {
    if (error instanceof BtfError) return error;
    throw error;
  }
}

test('every kind, as it should be', () => {
  expect(verdict(everyKind().toBytes())).toBeUndefined();
  expect(verdict(everyKind().toBytes(false))).toBeUndefined();
});

/** Each refusal of btf_check_meta and btf_resolve: id, message, and what makes it. Types 1 and 2 are an int and a struct. */
type Refusal = readonly [message: string, make: (b: BtfBuilder) => void, errno?: string];

const REFUSALS: readonly Refusal[] = [
  ['type [3] INT i: nr_bits exceeds type_size', (b) => b.int('i', 2, { bits: 17 })],
  ['type [3] INT i: nr_bits exceeds 128', (b) => b.int('i', 16, { bits: 128, bitOffset: 1 })],
  ['type [3] INT i: Unsupported encoding', (b) => b.int('i', 4, { signed: true, bool: true }), 'ENOTSUPP'],
  ['type [3] PTR name: Invalid name', (b) => b.raw('name', btfKinds.makeInfo(btfKinds.BTF_KIND_PTR), 1)],
  ['type [3] PTR (anon): vlen != 0', (b) => b.raw('', btfKinds.makeInfo(btfKinds.BTF_KIND_PTR, 1), 1)],
  ['type [3] TYPEDEF a-b: Invalid name', (b) => b.typedef('a-b', 1)],
  ['type [3] TYPEDEF (anon): Invalid name', (b) => b.typedef('', 1)],
  ['type [3] FWD f: type != 0', (b) => b.raw('f', btfKinds.makeInfo(btfKinds.BTF_KIND_FWD), 1)],
  ['type [3] ARRAY (anon): Invalid index', (b) => b.array(1, 2, 1)],
  ['type [3] ARRAY (anon): Invalid elem', (b) => b.array(0, 1, 1)],
  ['type [3] ARRAY (anon): Array size overflows U32_MAX', (b) => b.array(2, 1, 0x8000_0000)],
  ['type [3] FLOAT f: Invalid type_size', (b) => b.float('f', 3)],
  ['type [3] ENUM e: Unexpected size', (b) => b.enum('e', [], 3)],
  ['type [3] ENUM e: Invalid name of enumerator 0', (b) => b.enum('e', [{ name: '', value: 1 }])],
  ['type [3] FUNC f: Invalid type_id', (b) => b.func('f', 1)],
  ['type [4] FUNC f: Invalid func linkage', (b) => b.func('f', b.funcProto(0, []), 'extern')],
  ['type [4] FUNC f: Invalid arg#1', (b) => b.func('f', b.funcProto(0, [{ name: '', type: 1 }]))],
  ['type [4] FUNC_PROTO (anon): Invalid return type', (b) => b.funcProto(b.fwd('f'), [])],
  ['type [4] FUNC_PROTO (anon): Invalid arg#1', (b) => b.funcProto(0, [{ name: 'a', type: b.fwd('f') }])],
  ['type [3] VAR v: Linkage not supported', (b) => b.var('v', 1, 'extern')],
  ['type [4] VAR v: Invalid type_id', (b) => b.var('v', b.fwd('f'))],
  ['type [3] DATASEC .s: size == 0', (b) => b.datasec('.s', 0, [])],
  [
    'type [3] DATASEC .s: Not a VAR kind member',
    (b) => b.datasec('.s', 4, [{ type: 1, offset: 0, size: 4 }]),
  ],
  [
    'type [4] DATASEC .s: Invalid offset of variable 0',
    (b) => b.datasec('.s', 4, [{ type: b.var('v', 1), offset: 4, size: 4 }]),
  ],
  [
    'type [4] DATASEC .s: Invalid size of variable 0',
    (b) => b.datasec('.s', 4, [{ type: b.var('v', 1), offset: 0, size: 2 }]),
  ],
  ['type [3] DECL_TAG t: Invalid type_id', (b) => b.declTag('t', 1)],
  ['type [3] DECL_TAG t: Invalid component_idx', (b) => b.declTag('t', 2, 2)],
  [
    'type [3] STRUCT s: Member exceeds struct_size: member 0',
    (b) => b.struct('s', 3, [{ name: 'a', type: 1, bitOffset: 0 }]),
  ],
  [
    'type [3] STRUCT s: Member is not byte aligned: member 0',
    (b) => b.struct('s', 16, [{ name: 'a', type: 2, bitOffset: 4 }]),
  ],
  [
    'type [3] STRUCT s: Invalid member bits_offset of member 1',
    (b) =>
      b.struct('s', 8, [
        { name: 'a', type: 1, bitOffset: 32 },
        { name: 'b', type: 1, bitOffset: 0 },
      ]),
  ],
  [
    'type [3] UNION u: Invalid member bits_offset of member 0',
    (b) => b.union('u', 8, [{ name: 'a', type: 1, bitOffset: 32 }]),
  ],
  [
    'type [3] STRUCT s: Invalid member bitfield_size: member 0',
    (b) => b.struct('s', 8, [{ name: 'a', type: 1, bitOffset: 0, bitSize: 33 }]),
  ],
  [
    'type [3] STRUCT s: Loop detected',
    (b) => b.struct('s', 8, [{ name: 'a', type: 3, bitOffset: 0 }]),
    'EEXIST',
  ],
  ['type [3] PTR (anon): Loop detected', (b) => b.ptr(3), 'EEXIST'],
  ['type [3] TYPEDEF t: Loop detected', (b) => b.typedef('t', b.nextId + 1) && b.const(3), 'EEXIST'],
  [
    'Exceeded max resolving depth:32',
    (b) => {
      for (let i = 0; i < 40; i++) b.ptr(b.nextId + 1);
      b.ptr(1);
    },
    'E2BIG',
  ],
  [
    "type [5] TYPE_TAG a: Type tags don't precede modifiers",
    (b) => b.ptr(b.const(b.nextId + 2)) && b.typeTag('a', 1),
  ],
];

function refusal(make: (b: BtfBuilder) => void): Uint8Array {
  const b = new BtfBuilder();
  b.int('int', 4, { signed: true });
  b.struct('pair', 8, [
    { name: 'a', type: 1, bitOffset: 0 },
    { name: 'b', type: 1, bitOffset: 32 },
  ]);
  make(b);
  return b.toBytes();
}

describe('each refusal names the type and what is wrong', () => {
  test.each(REFUSALS)('%s', (...row) => {
    const [message, make, errno = 'EINVAL'] = row as unknown as Refusal;
    const error = verdict(refusal(make));
    expect(error?.message).toContain(message.replace(/^type \[5\] TYPE_TAG a: /, ''));
    expect(error?.errnoName).toBe(errno);
    if (!message.startsWith('Exceeded')) expect(error?.message).toMatch(/^type \[\d+\] [A-Z_0-9]+ /);
  });
});

describe(
  'against the running kernel',
  unless(kernel === undefined ? 'it needs root and bpf(2)' : undefined),
  () => {
    test('it refuses each of these for the same reason', () => {
      for (const [message, make] of REFUSALS) {
        const answer = kernel!(refusal(make));
        expect(answer, message).toBeDefined();
        const ours = verdict(refusal(make))!;
        expect(answer!.errno, message).toBe(ours.errno);
        const reason = message
          .replace(/^type \[\d+\] \S+ \S+: /, '')
          .replace(/( of|:) (member|variable|enumerator) \d+$/, '');
        expect(answer!.log).toContain(reason);
      }
    });

    test('its own types', unless(existsSync(VMLINUX) ? undefined : 'the kernel has no BTF'), () => {
      const bytes = new Uint8Array(readFileSync(VMLINUX));
      expect(kernel!(bytes, 0)).toBeUndefined();
      expect(verdict(bytes)).toBeUndefined();
    });

    test('4,000 mutations: taken here exactly where they are taken there', () => {
      const bytes = everyKind().toBytes();
      expect(kernel!(bytes)).toBeUndefined();
      const random = randomizer(2024);
      let taken = 0;
      for (let i = 0; i < 4000; i++) {
        const mutation = mutate(bytes, random);
        const theirs = kernel!(mutation);
        const ours = verdict(mutation);
        if (theirs === undefined) taken++;
        if ((theirs === undefined) !== (ours === undefined)) {
          expect.fail(
            `mutation ${i}: kernel ${theirs?.log ?? 'takes it'}; here ${ours?.message ?? 'it is taken'}`,
          );
        }
      }
      expect(taken).toBeGreaterThan(400);
      expect(taken).toBeLessThan(3600);
    });
  },
);
